//! A prediction as server-sent events, under an address that needs no token.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use clunk_core::model::{Output, PredictionId, Status};
use clunk_dialects::replicate::sse;
use futures_util::stream;
use serde_json::{Value, json};

use super::caller::{Caller, Client};
use super::settings::Streams;
use super::{Answer, ROOT, prediction_id};
use crate::models::{Event, Follow, Followed, Models};
use crate::server::Server;

/// How long a stream's address is good: as long as anything of a prediction is kept by default.
const LIFETIME: Duration = Duration::from_secs(86_400);
/// Silence after which a comment is sent. Python's client gives up after 30 seconds, some proxies too.
const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Under this, the JavaScript client takes every output for a file's address and makes a file object of it.
pub const OF_FILES: &str = "/v1/files";

/// The address of a prediction's stream, for a day; none of what comes in one piece.
pub fn url(models: &Models, id: PredictionId, streams: Streams, base: &str) -> Option<String> {
    let path = match streams {
        Streams::Nothing => return None,
        Streams::Values => format!("{ROOT}/predictions/{id}/stream"),
        Streams::Files => format!("{OF_FILES}/{id}"),
    };
    Some(format!("{base}{}", models.sign_path(&path, LIFETIME)))
}

struct Reader {
    server: Arc<Server>,
    caller: Caller,
    follow: Follow,
}

pub async fn read(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer<Response> {
    let id = prediction_id(&id, "prediction")?;
    let follow = server.models.follow(id, last_number(&headers)).await?;
    let reader = Reader { server, caller, follow };
    let events = stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        let stopping = reader.server.stopping.clone();
        let text = tokio::select! {
            event = reader.follow.next() => match event {
                // The last event closes the stream.
                Some(Followed { number, time_ms, event: Event::Done(record) }) => {
                    let text = reader.end(number, time_ms, record.status, record.error.as_deref());
                    return Some((Ok::<_, Infallible>(text), None));
                }
                Some(event) => reader.event(event).await,
                None => return None,
            },
            () = tokio::time::sleep(KEEP_ALIVE) => sse::KEEP_ALIVE.into(),
            () = stopping.cancelled() => return None,
        };
        Some((Ok(text), Some(reader)))
    });
    let head =
        [("content-type", "text/event-stream"), ("cache-control", "no-store"), ("x-accel-buffering", "no")];
    Ok((head, Body::from_stream(events)).into_response())
}

/// A reader that comes back says what it has: `<ms>:<number>`.
fn last_number(headers: &HeaderMap) -> u64 {
    let text = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    text.and_then(|text| text.rsplit(':').next()?.parse().ok()).unwrap_or(0)
}

impl Reader {
    async fn event(&self, followed: Followed) -> String {
        let (number, time_ms) = (followed.number, followed.time_ms);
        match followed.event {
            Event::Output { output, .. } => {
                sse::event("output", time_ms, number, &self.text(&output).await, self.caller.lines)
            }
            Event::Logs(text) => sse::event("logs", time_ms, number, &text, self.caller.lines),
            // The clients know four events, and one of them fails on any other.
            Event::Status(_) | Event::Metric { .. } | Event::Done(_) => sse::KEEP_ALIVE.into(),
        }
    }

    /// Texts as they are, everything else as JSON.
    async fn text(&self, output: &Output) -> String {
        let inline = self.caller.client == Client::Python1 && self.caller.base.starts_with("http://");
        match self.server.output(output, &self.caller, inline).await {
            Ok(Value::String(text)) => text,
            Ok(value) => value.to_string(),
            Err(_) => "null".into(),
        }
    }

    fn end(&self, number: u64, time_ms: u64, status: Status, error: Option<&str>) -> String {
        let event =
            |name: &str, data: Value| sse::event(name, time_ms, number, &data.to_string(), self.caller.lines);
        match status {
            Status::Failed => {
                let detail = error.unwrap_or("the prediction failed");
                event("error", json!({"detail": detail})) + &event("done", json!({"reason": "error"}))
            }
            Status::Canceled | Status::Aborted => event("done", json!({"reason": "canceled"})),
            Status::Succeeded | Status::Starting | Status::Processing => event("done", json!({})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_comes_back() {
        let headers =
            |id: &str| HeaderMap::from_iter([("last-event-id".parse().unwrap(), id.parse().unwrap())]);
        assert_eq!(last_number(&headers("1690212292000:17")), 17);
        assert_eq!(last_number(&headers("nonsense")), 0);
        assert_eq!(last_number(&HeaderMap::new()), 0);
    }
}
