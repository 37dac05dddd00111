//! Trees: which files, by content.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use clunk_core::api::{CreateTree, TreeAnswer};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::tree::Tree;

use super::json;
use crate::answer::Failure;
use crate::server::Server;

/// Says which blobs are missing; registers the tree when none is.
pub async fn create(State(server): State<Arc<Server>>, body: Body) -> Result<Json<TreeAnswer>, Failure> {
    let request: CreateTree = json(body).await?;
    let tree =
        Tree::new(request.files).map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    let answer = tokio::task::spawn_blocking(move || {
        // What is found here is not removed before somebody can refer to it.
        let (_keep, blobs) = (server.engine.removing.blocking_read(), &server.blobs);
        let mut missing: Vec<_> =
            tree.blobs().filter(|(digest, size)| !blobs.is_sound(*digest, *size)).collect();
        missing.sort_unstable();
        missing.dedup();
        let digest = tree.digest();
        let text = serde_json::to_vec(&tree).expect("a tree has a JSON form");
        if missing.is_empty() && !blobs.is_sound(digest, text.len() as u64) {
            blobs.put(&text)?;
        }
        let missing = missing.into_iter().map(|(digest, _)| digest).collect();
        Ok::<_, clunk_store::StoreError>(TreeAnswer { tree: digest, missing })
    });
    let answer = answer.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    Ok(Json(answer?))
}
