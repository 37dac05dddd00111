//! Containers that run now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clunk_core::api::ContainerRecord;

use crate::server::Server;

pub async fn list(State(server): State<Arc<Server>>) -> Json<Vec<ContainerRecord>> {
    Json(server.engine.containers())
}
