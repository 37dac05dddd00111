//! Apps: create, list, follow, stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use clunk_agent::{LogReader, LogStart};
use clunk_core::api::{AppRecord, CreateApp, CreateAppAnswer, FunctionRecord, Lifetime};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::AppId;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{id, json as read_json, lines, query};
use crate::answer::{Failure, io_error, not_found};
use crate::engine::{AppPlan, Haste, Lease};
use crate::server::Server;

/// A quiet stream says something this often, so that both ends notice when the other is gone.
const PING: Duration = Duration::from_secs(15);
/// Bytes of the name of an app or a workspace.
const MAX_NAME: usize = 255;
/// Apps in a list.
const MAX_LISTED: u32 = 200;

pub async fn create(State(server): State<Arc<Server>>, body: Body) -> Result<Json<CreateAppAnswer>, Failure> {
    let request: CreateApp = read_json(body).await?;
    if !request.ephemeral {
        let text = "only ephemeral and detached apps can be made so far";
        return Err(ErrorBody::new(ErrorCode::BadRequest, text).hint("leave `ephemeral` out").into());
    }
    let workspace = request.workspace;
    for (what, name) in [("a workspace", &workspace), ("an app", &request.name)] {
        if name.len() > MAX_NAME
            || name.chars().any(char::is_control)
            || (name.is_empty() && what != "an app")
        {
            let text =
                format!("{name:?} cannot be the name of {what}: at most {MAX_NAME} bytes, none of control");
            return Err(ErrorBody::new(ErrorCode::BadRequest, text).into());
        }
    }
    let (name, functions) = (request.name, request.functions);
    let lifetime = if request.detach { Lifetime::Detached } else { Lifetime::Leased };
    let plan = AppPlan { name, workspace, lifetime, functions };
    let app = server.engine.create_app(plan).await?;
    Ok(Json(CreateAppAnswer { app: app.id, functions: app.named() }))
}

/// The functions that the app was made with.
pub async fn functions(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<Vec<FunctionRecord>>, Failure> {
    let id: AppId = id(&text)?;
    let app = server.engine.app(id).ok_or_else(|| not_found(format_args!("running app {text}")))?;
    let named = app.named();
    let pools = app.pools();
    let records =
        pools.iter().filter(|pool| named.get(&pool.spec.name) == Some(&pool.id)).map(|pool| pool.record());
    Ok(Json(records.collect()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Events that the reader has already.
    #[serde(default)]
    skip: u64,
}

pub async fn list(State(server): State<Arc<Server>>) -> Result<Json<Vec<AppRecord>>, Failure> {
    Ok(Json(server.engine.store.apps(MAX_LISTED).await?))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<AppRecord>, Failure> {
    let app: AppId = id(&text)?;
    let record = server.engine.store.app(app).await?;
    record.map(Json).ok_or_else(|| not_found(format_args!("app {text}")))
}

/// The app's events from its start. The first reader's stream is the app's lease.
pub async fn events(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Response, Failure> {
    let id: AppId = id(&text)?;
    let Follow { skip } = query(&uri)?;
    let app = server.engine.app(id).ok_or_else(|| not_found(format_args!("running app {text}")))?;
    let reader = server
        .engine
        .logs
        .read(id, LogStart::Line(skip), true)
        .map_err(|error| io_error("read the log", &error))?;
    let reader = reader.ok_or_else(|| not_found(format_args!("log of app {text}")))?;
    Ok(follow(reader, app.lease()))
}

/// An answer that follows a log and holds a lease as long as somebody reads.
pub fn follow(reader: LogReader, lease: Option<Lease>) -> Response {
    let stream = stream::unfold((reader, lease), |(mut reader, lease)| async move {
        let chunk = match tokio::time::timeout(PING, reader.next()).await {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(chunk))) => Ok(Bytes::from(chunk)),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Bytes::from_static(b"{\"type\":\"ping\"}\n")),
        };
        Some((chunk, (reader, lease)))
    });
    lines(stream)
}

pub async fn stop(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<Value>, Failure> {
    let id: AppId = id(&text)?;
    match server.engine.app(id) {
        // Its versions would never be served again.
        Some(app) if app.lifetime == Lifetime::Deployed => {
            let text = format!("app {id} serves {}, for as long as that exists", app.name);
            return Err(ErrorBody::new(ErrorCode::InUse, text)
                .hint("idle, it has no container; to end one: clunk container stop; to end all: clunk model delete")
                .into());
        }
        Some(app) => app.stop(Haste::Orderly).await,
        None if server.engine.store.app(id).await?.is_some() => {}
        None => return Err(not_found(format_args!("app {text}"))),
    }
    Ok(Json(json!({"app": id, "state": "stopped"})))
}
