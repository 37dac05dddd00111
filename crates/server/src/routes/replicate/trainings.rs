//! Trainings: runs of a version's `train`, whose result is a version of another model.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use clunk_core::model::{Kind, ModelName, Source};
use clunk_dialects::replicate::body;
use clunk_dialects::replicate::{Problem, objects};

use super::caller::Caller;
use super::predictions::Terms;
use super::present::Files;
use super::{Answer, Object, is_missing, name, read, version_id};
use crate::models::NewTraining;
use crate::server::Server;

pub async fn create(
    State(server): State<Arc<Server>>,
    Path((owner, model, version)): Path<(String, String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let terms = Terms::read(&headers)?;
    let (model, version) = (name(&owner, &model, "model")?, version_id(&version)?);
    server.version_of(&model, version).await?;
    let asked = body::create_training(&read(body).await?)?;
    let destination = destination(&server, &asked.destination).await?;
    let new = NewTraining {
        model,
        version,
        destination,
        input: asked.input.into(),
        source: Source::Api,
        webhook: asked.webhook,
        cancel_after: terms.cancel_after,
        base_url: caller.base.clone(),
    };
    let record = server.models.create_training(new).await?;
    let shown = server.shown(&objects::as_starting(record), &caller, Files::Links).await?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// The model that gets the version, which must be there.
async fn destination(server: &Server, text: &str) -> Answer<ModelName> {
    let missing = || {
        let problem =
            Problem { title: None, ..Problem::new(404, "The specified training destination does not exist") };
        problem.hint("make the model first, POST /models; destination is its owner/name")
    };
    let destination = text.parse::<ModelName>().map_err(|_| missing())?;
    match server.models.model(&destination).await {
        Ok(_) => Ok(destination),
        Err(error) if is_missing(&error) => Err(missing().into()),
        Err(error) => Err(error.into()),
    }
}

pub async fn show(State(server): State<Arc<Server>>, Path(id): Path<String>, caller: Caller) -> Object {
    let record = server.record(&id, Some(Kind::Training)).await?;
    Ok(Json(server.shown(&record, &caller, Files::Links).await?))
}

pub async fn cancel(State(server): State<Arc<Server>>, Path(id): Path<String>, caller: Caller) -> Object {
    let record = server.record(&id, Some(Kind::Training)).await?;
    server.end(record, &caller).await
}
