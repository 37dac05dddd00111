//! Predictions: create, show, cancel, their events as they happen, and their webhooks once more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{CreatePrediction, ModelName, Prediction, PredictionId, Source, Webhook};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{id, json as read_json, query};
use crate::address::base_url;
use crate::answer::{Failure, not_found};
use crate::models::{Event, Followed, Models, NewPrediction, Target};
use crate::server::Server;

/// A quiet stream says something this often, so that both ends notice when the other is gone.
const PING: Duration = Duration::from_secs(15);

/// How long a request waits for an end, in seconds.
const MAX_WAIT_S: u64 = 60;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    #[serde(default)]
    wait_s: u64,
}

impl Wait {
    fn until(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.wait_s.min(MAX_WAIT_S))
    }
}

pub async fn create(
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let wait: Wait = query(&uri)?;
    let asked: CreatePrediction = read_json(body).await?;
    let model = ModelName::new(&owner, &name)
        .map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    let target = match asked.version {
        Some(id) => Target::Version(version(&server, &model, id).await?),
        None => Target::Model(model),
    };
    let new = NewPrediction {
        target,
        input: asked.input,
        context: asked.context,
        source: Source::Api,
        webhook: asked.webhook.map(|url| Webhook { url, events: asked.webhook_events }),
        cancel_after: asked.cancel_after_s.map(Duration::from_secs),
        base_url: base_url(&server, &headers),
    };
    let made = server.models.create(new).await.map_err(ErrorBody::from)?;
    let made = if wait.wait_s > 0 { server.models.wait(made.id, wait.until()).await? } else { made };
    Ok((StatusCode::CREATED, Json(server.models.shown(&made))).into_response())
}

/// A version, if it is one of this model.
async fn version(server: &Server, model: &ModelName, id: Digest) -> Result<Digest, Failure> {
    match server.models.version(id).await {
        Ok(version) if version.model == *model => return Ok(id),
        Err(error) if error.code != ErrorCode::NotFound => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    let Failure(missing) = not_found(format_args!("version {} of {model}", id.short()));
    Err(match server.models.newest_versions(model).await {
        Some(text) => missing.hint(text).into(),
        None => missing.into(),
    })
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Json<Value>, Failure> {
    let wait: Wait = query(&uri)?;
    let found = match wait.wait_s {
        0 => server.models.prediction(id(&text)?).await?,
        _ => server.models.wait(id(&text)?, wait.until()).await?,
    };
    Ok(Json(server.models.shown(&found)))
}

pub async fn cancel(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Failure> {
    let found = server.models.cancel(id(&text)?).await?;
    Ok(Json(server.models.shown(&found)))
}

/// Events from the start, or behind the one that `Last-Event-ID` names.
pub async fn events(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let prediction: PredictionId = id(&text)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    let base_url = server.models.prediction(prediction).await?.base_url;
    let follow = server.models.follow(prediction, last).await?;
    let events = stream::unfold((follow, server, base_url), |(mut follow, server, base_url)| async move {
        let text = tokio::select! {
            followed = follow.next() => written(&server.models, &followed?, &base_url),
            () = tokio::time::sleep(PING) => ":\n\n".into(),
            () = server.stopping.cancelled() => return None,
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (follow, server, base_url)))
    });
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::from_stream(events))
        .expect("valid headers"))
}

fn written(models: &Models, followed: &Followed, base_url: &str) -> String {
    let (name, data) = match &followed.event {
        Event::Status(status) => ("status", json!({"status": status})),
        Event::Logs(text) => ("logs", json!({"text": text})),
        Event::Output { index, output } => {
            ("output", json!({"index": index, "output": models.with_urls(output, base_url)}))
        }
        Event::Metric { name, value } => ("metric", json!({"name": name, "value": value})),
        Event::Done(prediction) => ("done", done(models, prediction)),
    };
    event(followed.number, name, &data)
}

/// The whole prediction, for whoever has the address: where its webhook goes is its caller's matter.
fn done(models: &Models, prediction: &Prediction) -> Value {
    let mut shown = models.shown(prediction);
    shown.as_object_mut().map(|members| members.shift_remove("webhook"));
    shown
}

fn event(number: u64, name: &str, data: &Value) -> String {
    format!("id: {number}\nevent: {name}\ndata: {data}\n\n")
}

pub async fn redeliver(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<StatusCode, Failure> {
    server.models.redeliver(id(&text)?).await?;
    Ok(StatusCode::ACCEPTED)
}
