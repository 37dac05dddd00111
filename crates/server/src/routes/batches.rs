//! Batches: calls that were submitted as one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use clunk_agent::Payload;
use clunk_agent::replica::now_ms;
use clunk_core::api::{BatchRecord, CancelCall};
use clunk_core::error::ErrorBody;
use clunk_core::id::BatchId;
use clunk_store::CancelScope;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::Instant;

use super::calls::finished;
use super::{frames, id, json_or_default, query};
use crate::answer::{Failure, not_found};
use crate::engine::live::{End, Sink};
use crate::engine::outbox;
use crate::server::Server;

/// Calls that are looked up at a time.
const PAGE: u64 = 256;
/// How long one look at a call waits; then it looks again.
const LOOK: Duration = Duration::from_secs(55);

async fn record(server: &Server, batch: BatchId) -> Result<BatchRecord, Failure> {
    server.engine.store.flush().await?;
    let record = server.engine.store.batch(batch).await?;
    record.ok_or_else(|| not_found(format_args!("batch {batch}")))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<BatchRecord>, Failure> {
    Ok(Json(record(&server, id(&text)?).await?))
}

pub async fn cancel(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<BatchRecord>, Failure> {
    let batch: BatchId = id(&text)?;
    let asked: CancelCall = json_or_default(body).await?;
    let found = record(&server, batch).await?;
    let engine = &server.engine;
    // Disk first: what is loaded afterwards has ended there.
    let why = "call-canceled: the batch was canceled";
    engine.store.cancel_queued(CancelScope::Batch(found.id), why, now_ms()).await?;
    if let Some(pool) = engine.function(found.function_id) {
        let ours = |sink: &Sink| matches!(sink, Sink::Durable { batch: Some((id, _)) } if *id == batch);
        pool.cancel_all(|live| ours(&live.sink), asked.terminate_containers);
    }
    engine.waiters.wake_all();
    Ok(Json(record(&server, batch).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    #[serde(default)]
    from: u64,
    to: Option<u64>,
}

struct Reading {
    server: Arc<Server>,
    batch: BatchId,
    next: u64,
    to: u64,
    page: std::collections::VecDeque<clunk_core::api::CallRecord>,
    over: bool,
}

/// The results in order, each as soon as it is there.
pub async fn results(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Response, Failure> {
    let batch: BatchId = id(&text)?;
    let span: Span = query(&uri)?;
    let inputs = record(&server, batch).await?.inputs;
    let to = span.to.unwrap_or(inputs).min(inputs);
    let reading = Reading { server, batch, next: span.from, to, page: Default::default(), over: false };
    let answers = stream::unfold(reading, |mut reading| async move {
        if reading.over {
            return None;
        }
        let (kind, index, payload) = reading.next().await;
        Some((frames::frame(kind, index, payload), reading))
    });
    Ok(frames::answer(answers.flatten()))
}

impl Reading {
    async fn next(&mut self) -> (u8, u64, Payload) {
        let index = self.next;
        if index >= self.to {
            self.over = true;
            return (outbox::DONE, index, Payload::from(&b""[..]));
        }
        self.next += 1;
        let (kind, payload) = match self.end(index).await {
            Ok(end) => outbox::content(end),
            Err(error) => outbox::content(End::Failed(error)),
        };
        (kind, index, payload)
    }

    async fn end(&mut self, index: u64) -> Result<End, ErrorBody> {
        let engine = &self.server.engine;
        if self.page.is_empty() {
            let page = engine.store.batch_calls(self.batch, index, (index + PAGE).min(self.to)).await;
            self.page = page.map_err(|error| crate::answer::store_error(&error))?.into();
        }
        let Some(call) = self.page.pop_front() else {
            return Err(not_found(format_args!("call {index} of batch {}", self.batch)).0);
        };
        loop {
            if let Ok((finished, _)) = finished(engine, call.id, Instant::now() + LOOK).await? {
                return Ok(finished.end);
            }
        }
    }
}
