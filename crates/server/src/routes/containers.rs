//! Containers that run now.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use clunk_agent::Replica;
use clunk_core::api::ContainerRecord;
use clunk_core::id::ReplicaId;

use super::{id, shell};
use crate::answer::{Failure, not_found};
use crate::server::Server;

pub async fn list(State(server): State<Arc<Server>>) -> Json<Vec<ContainerRecord>> {
    Json(server.engine.containers())
}

fn replica(server: &Server, text: &str) -> Result<Arc<Replica>, Failure> {
    let replica: ReplicaId = id(text)?;
    let found = server.engine.pools().iter().find_map(|pool| pool.replica(replica));
    found.ok_or_else(|| not_found(format_args!("running container {text}")))
}

/// Ends it; what ran there is given to others.
pub async fn stop(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<StatusCode, Failure> {
    replica(&server, &text)?.kill();
    Ok(StatusCode::ACCEPTED)
}

pub async fn exec(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    request: Request,
) -> Result<Response, Failure> {
    let replica = replica(&server, &text)?;
    shell::exec(replica, request).await
}
