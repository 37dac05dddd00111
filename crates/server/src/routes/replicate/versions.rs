//! Versions of a model.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use clunk_core::Digest;
use clunk_core::model::{ModelName, Version, Visibility};
use clunk_dialects::replicate::page::{self, PAGE_SIZE};
use clunk_dialects::replicate::{Problem, objects};

use super::caller::Caller;
use super::models::Paged;
use super::{Answer, Object, is_missing, name, query, version_id};
use crate::server::Server;

impl Server {
    /// A version that a path names together with its model.
    pub(super) async fn version_of(&self, model: &ModelName, id: Digest) -> Answer<Version> {
        match self.models.version(id).await {
            Ok(version) if version.model == *model => return Ok(version),
            Err(error) if !is_missing(&error) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        let missing = Problem::not_found(format_args!("version {model}:{id}"));
        Err(self.with_versions(missing, model).await.into())
    }

    /// With the newest versions of a model in its hint.
    pub(super) async fn with_versions(&self, problem: Problem, model: &ModelName) -> Problem {
        match self.models.newest_versions(model).await {
            Some(text) => problem.hint(text),
            None => problem,
        }
    }
}

pub async fn list(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Object {
    let model = name(&owner, &model, "model")?;
    server.models.model(&model).await?;
    let paged: Paged = query(&uri)?;
    let page = server.models.versions(&model, paged.cursor.as_deref(), PAGE_SIZE).await?;
    let url = caller.list(&format!("/models/{model}/versions"));
    Ok(Json(page::of(&url, &page, objects::version)))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path((owner, model, version)): Path<(String, String, String)>,
) -> Object {
    let (model, version) = (name(&owner, &model, "model")?, version_id(&version)?);
    Ok(Json(objects::version(&server.version_of(&model, version).await?)))
}

/// Accepted: its containers end behind the answer.
pub async fn delete(
    State(server): State<Arc<Server>>,
    Path((owner, model, version)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let (model, version) = (name(&owner, &model, "model")?, version_id(&version)?);
    server.version_of(&model, version).await?;
    only_private(&server, &model).await?;
    server.models.delete_version(&model, version).await?;
    Ok(StatusCode::ACCEPTED)
}

/// What others may rely on is not taken away by one request.
pub(super) async fn only_private(server: &Server, model: &ModelName) -> Answer<()> {
    match server.models.model(model).await?.visibility {
        Visibility::Private => Ok(()),
        Visibility::Public => {
            let problem = Problem::new(
                403,
                format!("{model} is public: only private models and their versions can be deleted"),
            );
            Err(problem
                .hint("make it private first: PATCH the model with {\"visibility\": \"private\"}")
                .into())
        }
    }
}
