//! What was used, by function and time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clunk_agent::replica::now_ms;
use clunk_core::api::UsageRow;
use clunk_core::error::{ErrorBody, ErrorCode};
use serde::Deserialize;

use super::query;
use crate::answer::Failure;
use crate::server::Server;

const DAY_MS: u64 = 86_400_000;
/// Usage is stored by the minute.
const MIN_STEP_MS: u64 = 60_000;
/// Steps of one answer.
const MAX_STEPS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    since_ms: Option<u64>,
    until_ms: Option<u64>,
    step_ms: Option<u64>,
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri) -> Result<Json<Vec<UsageRow>>, Failure> {
    let span: Span = query(&uri)?;
    let until = span.until_ms.unwrap_or_else(now_ms);
    let since = span.since_ms.unwrap_or(until.saturating_sub(DAY_MS));
    let step = span.step_ms.unwrap_or(until.saturating_sub(since)).max(MIN_STEP_MS);
    if since > until || (until - since) / step > MAX_STEPS {
        let text = format!("from {since} to {until} in steps of {step} ms gives no sensible number of steps");
        return Err(ErrorBody::new(ErrorCode::BadRequest, text).hint("give a larger step_ms").into());
    }
    server.engine.record_usage().await;
    Ok(Json(server.engine.store.usage(since, until, step).await?))
}
