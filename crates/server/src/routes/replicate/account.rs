//! What there is beside models: the account, hardware, collections, search, the secret of webhooks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use clunk_core::model::Visibility;
use clunk_dialects::replicate::page::{self, PAGE_SIZE};
use clunk_dialects::replicate::{Problem, objects};
use serde::Deserialize;
use serde_json::json;

use super::caller::Caller;
use super::{Object, bounded, query};
use crate::models::ModelSort;
use crate::server::Server;

/// Models that a search gives, and at most.
const DEFAULT_FOUND: u32 = 20;
const MAX_FOUND: u32 = 50;
/// Models of a collection, which is not paged; each brings its schema along.
const MAX_COLLECTED: usize = 1000;

pub async fn show(State(server): State<Arc<Server>>) -> Object {
    Ok(Json(objects::account(&server.replicate.settings.account)))
}

pub async fn hardware(State(server): State<Arc<Server>>) -> Object {
    Ok(Json(objects::hardware(&server.models.hardware())))
}

pub async fn collections(caller: Caller) -> Object {
    Ok(Json(page::body(&caller.list("/collections"), None, None, vec![objects::collection(None)])))
}

pub async fn collection(
    State(server): State<Arc<Server>>,
    Path(slug): Path<String>,
    caller: Caller,
) -> Object {
    if slug != objects::ALL_MODELS {
        return Err(Problem::not_found(format_args!("collection {slug}")).into());
    }
    let (mut found, mut cursor) = (vec![], None);
    while found.len() < MAX_COLLECTED {
        let page =
            server.models.models(ModelSort::LatestVersion, false, cursor.as_deref(), PAGE_SIZE).await?;
        found.extend(page.results.into_iter().filter(|model| model.visibility == Visibility::Public));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    found.truncate(MAX_COLLECTED);
    Ok(Json(objects::collection(Some(server.model_objects(&found, &caller).await?))))
}

#[derive(Debug, Deserialize)]
pub struct Search {
    query: Option<String>,
    limit: Option<u32>,
}

pub async fn search(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let asked: Search = query(&uri)?;
    let text = asked.query.ok_or_else(|| {
        Problem::new(400, "query is required").hint("for example GET /search?query=blur&limit=5")
    })?;
    let limit = bounded(asked.limit, DEFAULT_FOUND, MAX_FOUND)?;
    let found = server.models.search_models(&text, limit).await?;
    Ok(Json(objects::found(&text, server.model_objects(&found, &caller).await?)))
}

pub async fn webhook_secret(State(server): State<Arc<Server>>) -> Object {
    Ok(Json(json!({"key": server.models.webhook_secret().text()})))
}
