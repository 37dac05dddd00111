//! Models: the catalogue.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use clunk_core::model::{Model, Prediction};
use clunk_dialects::replicate::page::{self, PAGE_SIZE};
use clunk_dialects::replicate::{Problem, body, objects};
use serde::Deserialize;
use serde_json::Value;

use super::caller::Caller;
use super::present::Files;
use super::versions::only_private;
use super::{Answer, Object, name, query, read, refused};
use crate::models::{ModelSort, NewModel};
use crate::server::Server;

/// Models that a search by `QUERY /models` gives.
const MAX_FOUND: u32 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Paged {
    pub cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listed {
    sort_by: Option<String>,
    sort_direction: Option<String>,
    cursor: Option<String>,
}

/// Who owns the models that `clunk run DIR` keeps for folders: nobody looks for those here.
const FOLDERS: &str = "local";

impl Server {
    pub(super) async fn model_object(&self, record: &Model, caller: &Caller) -> Answer<Value> {
        let latest = match record.latest_version {
            Some(id) => self.models.version(id).await.ok(),
            None => None,
        };
        // An example may be gone; the model is there all the same.
        let example = match record.default_example {
            Some(id) => self.models.prediction(id).await.ok(),
            None => None,
        };
        let example = match &example {
            Some(example) => Some(self.example(example, caller).await?),
            None => None,
        };
        Ok(objects::model(record, latest.as_ref().map(objects::version), example, caller.links()))
    }

    async fn example(&self, record: &Prediction, caller: &Caller) -> Answer<Value> {
        self.shown(record, caller, Files::Links).await
    }

    /// Entries of a list or a search.
    pub(super) async fn model_objects(&self, records: &[Model], caller: &Caller) -> Answer<Vec<Value>> {
        let mut objects = Vec::with_capacity(records.len());
        for record in records.iter().filter(|record| record.name.owner() != FOLDERS) {
            objects.push(self.model_object(record, caller).await?);
        }
        Ok(objects)
    }
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let asked: Listed = query(&uri)?;
    let sort = match asked.sort_by.as_deref() {
        None | Some("latest_version_created_at") => ModelSort::LatestVersion,
        Some("model_created_at") => ModelSort::Created,
        Some(other) => {
            let rule = "sort_by must be model_created_at or latest_version_created_at";
            return Err(Problem::new(400, format!("{rule}, not {other:?}")).into());
        }
    };
    let ascending = match asked.sort_direction.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(other) => {
            return Err(
                Problem::new(400, format!("sort_direction must be asc or desc, not {other:?}")).into()
            );
        }
    };
    let page = server.models.models(sort, ascending, asked.cursor.as_deref(), PAGE_SIZE).await?;
    let by = if sort == ModelSort::Created { "model_created_at" } else { "latest_version_created_at" };
    let direction = if ascending { "asc" } else { "desc" };
    let url = caller.list(&format!("/models?sort_by={by}&sort_direction={direction}"));
    let results = server.model_objects(&page.results, &caller).await?;
    Ok(Json(page::body(&url, page.next.as_deref(), page.previous.as_deref(), results)))
}

/// `QUERY /models` searches; no other method comes here that the table does not name.
pub async fn search(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    caller: Caller,
    body: Body,
) -> Answer<Response> {
    if method.as_str() != "QUERY" {
        return Ok(refused::wrong_method(&method, &uri));
    }
    let query = body::search(&read(body).await?)?;
    let found = server.models.search_models(&query, MAX_FOUND).await?;
    let results = server.model_objects(&found, &caller).await?;
    Ok(Json(page::body(&caller.list("/models"), None, None, results)).into_response())
}

pub async fn create(State(server): State<Arc<Server>>, caller: Caller, body: Body) -> Answer<Response> {
    let asked = body::create_model(&read(body).await?)?;
    let new = NewModel {
        name: asked.name,
        visibility: asked.visibility,
        hardware: Some(asked.hardware),
        texts: asked.texts,
    };
    let record = server.models.create_model(new).await?;
    let object = server.model_object(&record, &caller).await?;
    Ok((StatusCode::CREATED, Json(object)).into_response())
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
    caller: Caller,
) -> Object {
    let record = server.models.model(&name(&owner, &model, "model")?).await?;
    Ok(Json(server.model_object(&record, &caller).await?))
}

pub async fn update(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
    caller: Caller,
    body: Body,
) -> Object {
    let model = name(&owner, &model, "model")?;
    server.models.model(&model).await?;
    let (texts, visibility) = body::update_model(&read(body).await?)?;
    let record = server.models.update_model(&model, texts, visibility).await?;
    Ok(Json(server.model_object(&record, &caller).await?))
}

pub async fn delete(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let model = name(&owner, &model, "model")?;
    only_private(&server, &model).await?;
    server.models.delete_model(&model).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn readme(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
) -> Answer<Response> {
    let record = server.models.model(&name(&owner, &model, "model")?).await?;
    let readme = record.texts.readme.filter(|text| !text.is_empty());
    let missing = || Problem::not_found(format_args!("readme of {}", record.name));
    let readme = readme.ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], readme).into_response())
}

pub async fn examples(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Object {
    let model = name(&owner, &model, "model")?;
    server.models.model(&model).await?;
    let paged: Paged = query(&uri)?;
    let page = server.models.examples(&model, paged.cursor.as_deref(), PAGE_SIZE).await?;
    let mut results = Vec::with_capacity(page.results.len());
    for record in &page.results {
        results.push(server.example(record, &caller).await?);
    }
    let url = caller.list(&format!("/models/{model}/examples"));
    Ok(Json(page::body(&url, page.next.as_deref(), page.previous.as_deref(), results)))
}
