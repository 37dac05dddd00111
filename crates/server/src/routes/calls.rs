//! Calls: what became of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use clunk_core::api::CallRecord;
use clunk_core::id::{AppId, CallId};
use clunk_store::CallFilter;
use serde::Deserialize;

use super::{id, query};
use crate::answer::{Failure, not_found};
use crate::server::Server;

const DEFAULT_LISTED: u32 = 50;
const MAX_LISTED: u32 = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    app: Option<String>,
    limit: Option<u32>,
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri) -> Result<Json<Vec<CallRecord>>, Failure> {
    let filter: Filter = query(&uri)?;
    let app = filter.app.as_deref().map(id::<AppId>).transpose()?;
    let limit = filter.limit.unwrap_or(DEFAULT_LISTED).min(MAX_LISTED);
    server.engine.store.flush().await?;
    Ok(Json(server.engine.store.calls(CallFilter { app, limit, ..CallFilter::default() }).await?))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<CallRecord>, Failure> {
    let call: CallId = id(&text)?;
    server.engine.store.flush().await?;
    let record = server.engine.store.call(call).await?;
    record.map(Json).ok_or_else(|| not_found(format_args!("call {text}")))
}
