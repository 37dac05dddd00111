//! Deployments: a lasting name for a version on instances of its own.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use clunk_core::Digest;
use clunk_core::model::{Deployment, ModelName};
use clunk_dialects::replicate::page::{self, PAGE_SIZE};
use clunk_dialects::replicate::{body, objects};
use serde_json::Value;

use super::caller::Caller;
use super::models::Paged;
use super::{Answer, Object, name, query, read};
use crate::models::{DeploymentChanges, NewDeployment};
use crate::server::Server;

fn object(server: &Server, record: &Deployment) -> Value {
    objects::deployment(record, &server.replicate.settings.account)
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let paged: Paged = query(&uri)?;
    let page = server.models.deployments(paged.cursor.as_deref(), PAGE_SIZE).await?;
    Ok(Json(page::of(&caller.list("/deployments"), &page, |record| object(&server, record))))
}

pub async fn create(State(server): State<Arc<Server>>, body: Body) -> Answer<Response> {
    let asked = body::create_deployment(&read(body).await?)?;
    fits(&server, &asked.model, asked.version).await?;
    let account = &server.replicate.settings.account;
    let new = NewDeployment {
        name: name(account, &asked.name, "deployment")?,
        model: asked.model,
        version: asked.version,
        configuration: asked.configuration,
    };
    let record = server.models.create_deployment(new).await?;
    Ok((StatusCode::CREATED, Json(object(&server, &record))).into_response())
}

/// A version that a body names must be one of the model's.
async fn fits(server: &Server, model: &ModelName, version: Digest) -> Answer<()> {
    server.known(Some(model), version).await.map(drop)
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path((owner, deployment)): Path<(String, String)>,
) -> Object {
    let record = server.models.deployment(&name(&owner, &deployment, "deployment")?).await?;
    Ok(Json(object(&server, &record)))
}

pub async fn update(
    State(server): State<Arc<Server>>,
    Path((owner, deployment)): Path<(String, String)>,
    body: Body,
) -> Object {
    let deployment = name(&owner, &deployment, "deployment")?;
    let record = server.models.deployment(&deployment).await?;
    let asked = body::update_deployment(&read(body).await?)?;
    if let Some(version) = asked.version {
        fits(&server, &record.current.model, version).await?;
    }
    let changes = DeploymentChanges {
        version: asked.version,
        hardware: asked.hardware,
        min_instances: asked.min_instances,
        max_instances: asked.max_instances,
    };
    let record = server.models.update_deployment(&deployment, changes).await?;
    Ok(Json(object(&server, &record)))
}

pub async fn delete(
    State(server): State<Arc<Server>>,
    Path((owner, deployment)): Path<(String, String)>,
) -> Answer<StatusCode> {
    server.models.delete_deployment(&name(&owner, &deployment, "deployment")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
