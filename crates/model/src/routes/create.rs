//! A new prediction or training: waited for, followed by events, or left to itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clunk_core::error::ErrorCode;
use clunk_dialects::cog::validate::Violation;
use futures_util::FutureExt;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::answer::{self, Answer};
use crate::body::Body;
use crate::lane::{Attached, Kind, Lane};
use crate::prediction::Prediction;
use crate::request::{self, Asked, Refused};
use crate::server::ModelServer;
use crate::sse::Subscription;
use crate::webhook::Trace;

/// Bytes of a body.
pub const BODY_MAX: usize = 100 << 20;
/// A client that sends nothing of its body for so long is gone.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies from this size on are read by a thread of their own: the others need not wait for that.
const LARGE: usize = 256 << 10;
/// Connections that wait for one prediction.
const ATTACHED_MAX: u32 = 1024;
/// Headers that go along with webhooks.
const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// How long a client wants to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    ToTheEnd,
    None,
    AtMost(Duration),
}

/// Reads `Prefer` (RFC 7240): `respond-async`, `wait`, `wait=5`, both.
fn patience(headers: &HeaderMap) -> Patience {
    let mut patience = Patience::ToTheEnd;
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    for wish in values.flat_map(|value| value.split([',', ';'])).map(str::trim) {
        let (name, value) = wish.split_once('=').unwrap_or((wish, ""));
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok();
        match (name.trim().to_ascii_lowercase().as_str(), seconds) {
            ("respond-async", _) if patience == Patience::ToTheEnd => patience = Patience::None,
            ("wait", Some(seconds)) => patience = Patience::AtMost(Duration::from_secs(seconds.into())),
            _ => {}
        }
    }
    patience
}

pub fn wants_events(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| {
        let mut words = part.split(';').map(str::trim);
        let named = words.next() == Some("text/event-stream");
        let weight = words.find_map(|word| word.strip_prefix("q=").or(word.strip_prefix("Q=")));
        named && weight.and_then(|weight| weight.trim().parse().ok()) != Some(0.0)
    })
}

pub async fn create(
    server: &ModelServer,
    lane: &Arc<Lane>,
    id: Option<String>,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let events = wants_events(&head.headers);
    if events && !lane.plan.streaming {
        return cannot_stream(lane);
    }
    let mut asked = match read(lane, &head.headers, body, id.is_some()).await {
        Ok(asked) => asked,
        Err(answer) => return answer,
    };
    if let Some(id) = id {
        if asked.id.as_ref().is_some_and(|other| *other != id) {
            let text = "prediction ID must match the ID supplied in the URL";
            return answer::violations(&[Violation::of_request("id", text)]);
        }
        (asked.id, asked.idempotent) = (Some(id), true);
    }
    let patience = patience(&head.headers);
    let hook = asked.hook.take();
    // Before it is taken: a prediction whose end nobody would be told of is refused.
    let place = hook.as_ref().and_then(|_| server.webhooks.place());
    if hook.is_some() && place.is_none() {
        return answer::too_many_webhooks();
    }
    let detached = patience != Patience::ToTheEnd && !events;
    let submitted = match lane.submit(asked, detached) {
        Ok(submitted) => submitted,
        Err(refusal) => return answer::refusal(&refusal),
    };
    let prediction = submitted.prediction;
    if detached {
        prediction.detach();
    }
    if let (Some(hook), Some(place), true) = (hook, place, submitted.created) {
        server.webhooks.follow(place, prediction.clone(), hook, trace(&head.headers));
    }
    if events {
        return self::events(lane, prediction);
    }
    match patience {
        Patience::ToTheEnd => wait(lane, prediction).await,
        Patience::None => {
            let json = submitted.first.unwrap_or_else(|| prediction.json());
            answer::raw(StatusCode::ACCEPTED, json)
        }
        Patience::AtMost(limit) => {
            prediction.ended_within(limit).await;
            let status = if prediction.is_ended() { StatusCode::OK } else { StatusCode::ACCEPTED };
            answer::raw(status, prediction.json())
        }
    }
}

/// A prediction that everybody has left is canceled, when this future is dropped too.
async fn wait(lane: &Arc<Lane>, prediction: Arc<Prediction>) -> Answer {
    let Some(attached) = Attached::new(lane, prediction, ATTACHED_MAX) else { return too_many() };
    attached.prediction.ended().await;
    answer::raw(StatusCode::OK, attached.prediction.json())
}

/// Follows a prediction.
pub fn events(lane: &Arc<Lane>, prediction: Arc<Prediction>) -> Answer {
    if !lane.plan.streaming {
        return cannot_stream(lane);
    }
    let Some(attached) = Attached::new(lane, prediction, ATTACHED_MAX) else { return too_many() };
    let mut answer = Response::new(Body::Events(Box::new(Subscription::new(attached))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    headers.insert("cache-control", http::HeaderValue::from_static("no-cache"));
    answer
}

fn too_many() -> Answer {
    let text = format!("{ATTACHED_MAX} connections wait for this prediction already");
    answer::error(StatusCode::TOO_MANY_REQUESTS, ErrorCode::QueueFull, &text)
}

fn cannot_stream(lane: &Lane) -> Answer {
    let text = match lane.plan.kind {
        Kind::Prediction => {
            "This model does not support streaming responses. Add @cog.streaming to predict() to enable SSE."
        }
        Kind::Training => "Trainings do not support streaming responses.",
    };
    answer::error(StatusCode::NOT_ACCEPTABLE, ErrorCode::BadRequest, text)
}

fn trace(headers: &HeaderMap) -> Trace {
    let value = |name: &'static str| Some((name, headers.get(name)?.to_str().ok()?.to_owned()));
    Trace(TRACE_HEADERS.into_iter().filter_map(value).collect())
}

/// Reads what is asked for, or answers why it cannot be.
async fn read(lane: &Arc<Lane>, headers: &HeaderMap, body: Incoming, named: bool) -> Result<Asked, Answer> {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let refuse = |refused: Refused| answer::refused(&refused);
    let parse = |body: &Bytes| request::read(body, lane.plan.schema.as_ref(), named);
    match media_type {
        None if body.is_end_stream() => return parse(&Bytes::from_static(b"{}")).map_err(refuse),
        Some(media_type) if is_json(media_type) => {}
        _ => {
            let text = "Expected request with `Content-Type: application/json`";
            return Err(answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, text));
        }
    }
    if let Some(coding) =
        headers.get(CONTENT_ENCODING).filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        let coding = coding.to_str().unwrap_or_default();
        let text = format!("the body has `Content-Encoding: {coding}`; send it without, not compressed");
        return Err(answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::BadRequest, &text));
    }
    let body = whole(body).await?;
    if body.len() < LARGE {
        return parse(&body).map_err(refuse);
    }
    let lane = lane.clone();
    let parsed = tokio::task::spawn_blocking(move || {
        let mut asked = request::read(&body, lane.plan.schema.as_ref(), named)?;
        // One that fails is tried again, and told, where it is needed.
        let _ = asked.arguments();
        Ok(asked)
    });
    match parsed.await {
        Ok(parsed) => parsed.map_err(refuse),
        Err(error) => {
            Err(answer::error(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, &error.to_string()))
        }
    }
}

fn is_json(media_type: &str) -> bool {
    if media_type == "application/json" {
        return true;
    }
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The whole body; not copied when it comes in one piece.
async fn whole(mut body: Incoming) -> Result<Bytes, Answer> {
    let too_large = || {
        let text = format!("the body is larger than {} MiB; pass large inputs as URLs", BODY_MAX >> 20);
        answer::error(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::PayloadTooLarge, &text)
    };
    let expected = body.size_hint().lower();
    if expected > BODY_MAX as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = next(&mut body).await? {
        let Ok(data) = frame.into_data() else { continue };
        let so_far = rest.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > BODY_MAX {
            return Err(too_large());
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut whole = BytesMut::with_capacity(expected as usize);
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&data);
                rest = Some(whole);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

async fn next(body: &mut Incoming) -> Result<Option<hyper::body::Frame<Bytes>>, Answer> {
    let mut frame = std::pin::pin!(std::future::poll_fn(|context| {
        std::pin::Pin::new(&mut *body).poll_frame(context)
    }));
    // Most bodies are there already: no timer is made for them.
    let frame = match frame.as_mut().now_or_never() {
        Some(frame) => frame,
        None => tokio::time::timeout(BODY_TIMEOUT, frame).await.map_err(|_| {
            let text = format!("nothing of the body came for {} s", BODY_TIMEOUT.as_secs());
            answer::error(StatusCode::REQUEST_TIMEOUT, ErrorCode::BadRequest, &text)
        })?,
    };
    frame.transpose().map_err(|error| {
        let text = format!("the body could not be read: {error}");
        answer::error(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, &text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_in_every_form() {
        let read = |value: &str| {
            patience(&[("prefer".parse().unwrap(), value.parse().unwrap())].into_iter().collect())
        };
        let five = Patience::AtMost(Duration::from_secs(5));
        for (value, want) in [
            ("respond-async", Patience::None),
            ("Respond-Async", Patience::None),
            ("wait", Patience::ToTheEnd),
            ("wait=5", five),
            ("respond-async, wait=5", five),
            ("wait=5; respond-async", five),
            ("handling=lenient", Patience::ToTheEnd),
            ("", Patience::ToTheEnd),
        ] {
            assert_eq!(read(value), want, "{value}");
        }
    }

    #[test]
    fn events_are_wanted_by_who_says_so() {
        let wants = |value: &str| wants_events(&[(ACCEPT, value.parse().unwrap())].into_iter().collect());
        for yes in ["text/event-stream", "a/b, text/event-stream; q=0.5", "text/event-stream;charset=utf-8"] {
            assert!(wants(yes), "{yes}");
        }
        // Cog's server tells capitals apart.
        let no = [
            "text/event-stream;q=0",
            "text/event-stream; Q=0.000",
            "TEXT/EVENT-STREAM",
            "text/event-streams",
        ];
        for no in no.into_iter().chain(["*/*", ""]) {
            assert!(!wants(no), "{no}");
        }
    }

    #[test]
    fn media_types_of_json() {
        assert!(
            ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
                .iter()
                .all(|text| is_json(text))
        );
        assert!(!["text/plain", "application/jsonx", ""].iter().any(|text| is_json(text)));
    }
}
