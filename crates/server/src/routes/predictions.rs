//! Predictions: their events as they happen, and their webhooks once more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use clunk_core::model::PredictionId;
use futures_util::stream;
use serde_json::{Value, json};

use super::id;
use crate::answer::Failure;
use crate::models::{Event, Followed, Models};
use crate::server::Server;

/// A quiet stream says something this often, so that both ends notice when the other is gone.
const PING: Duration = Duration::from_secs(15);

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
    let models = server.models.clone();
    let events = stream::unfold((follow, models, base_url), |(mut follow, models, base_url)| async move {
        let text = match tokio::time::timeout(PING, follow.next()).await {
            Ok(None) => return None,
            Ok(Some(followed)) => written(&models, &followed, &base_url),
            Err(_) => ":\n\n".into(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (follow, models, base_url)))
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
        Event::Done(prediction) => ("done", models.shown(prediction)),
    };
    event(followed.number, name, &data)
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
