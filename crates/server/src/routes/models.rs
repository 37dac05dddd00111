//! Models: push a version, configure.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Configuration, ModelName, PushAnswer, PushVersion};

use super::json;
use crate::answer::Failure;
use crate::server::Server;

fn named((owner, name): &(String, String)) -> Result<ModelName, Failure> {
    let named = ModelName::new(owner, name);
    Ok(named.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?)
}

pub async fn push(
    State(server): State<Arc<Server>>,
    Path(path): Path<(String, String)>,
    body: Body,
) -> Result<Json<PushAnswer>, Failure> {
    let (name, push): (_, PushVersion) = (named(&path)?, json(body).await?);
    Ok(Json(server.models.push(&name, push).await?))
}

pub async fn configure(
    State(server): State<Arc<Server>>,
    Path(path): Path<(String, String)>,
    body: Body,
) -> Result<Json<Configuration>, Failure> {
    let name = named(&path)?;
    let configuration = json(body).await?;
    Ok(Json(server.models.configure_model(&name, configuration).await?.configuration))
}
