//! Health, status and stopping.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use clunk_core::api::{Health, Status};

use crate::server::Server;

pub async fn health(State(server): State<Arc<Server>>) -> Response {
    let stopping = server.stopping.is_cancelled();
    let status = if stopping { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let text = if stopping { "stopping" } else { "ok" };
    (status, Json(Health { status: text.into(), version: crate::VERSION.into() })).into_response()
}

pub async fn status(State(server): State<Arc<Server>>) -> Json<Status> {
    let counts = server.engine.counts();
    let room = &server.engine.room;
    Json(Status {
        version: crate::VERSION.into(),
        pid: std::process::id(),
        url: server.url.clone(),
        state_dir: server.state_dir.display().to_string(),
        uptime_s: server.started.elapsed().as_secs(),
        memory_bytes: resident_bytes(),
        apps_running: counts.apps,
        replicas: counts.replicas,
        calls_running: counts.running,
        calls_queued: counts.queued as usize,
        calls_ended: counts.ended,
        images: server.engine.images.list().len(),
        gpus: room.gpus(),
        gpu_driver: room.gpu_driver(),
    })
}

pub async fn stop(State(server): State<Arc<Server>>) -> StatusCode {
    server.stopping.cancel();
    StatusCode::ACCEPTED
}

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * rustix::param::page_size() as u64
}
