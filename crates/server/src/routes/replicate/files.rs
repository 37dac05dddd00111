//! Files: uploaded for inputs, kept for a day.

use std::sync::Arc;

use axum::Json;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clunk_agent::replica::now_ms;
use clunk_core::model::File;
use clunk_dialects::replicate::page::{self, PAGE_SIZE};
use clunk_dialects::replicate::{Problem, objects};
use serde::Deserialize;
use serde_json::Value;

use super::caller::Caller;
use super::form::Form;
use super::models::Paged;
use super::{Answer, Object, file_id, query};
use crate::answer::io_error;
use crate::guard::FromContainer;
use crate::routes::files::content;
use crate::seal;
use crate::server::Server;

/// A file's object, with an address under which everybody may fetch it until it expires.
fn object(server: &Server, file: &File, caller: &Caller) -> Value {
    let (id, owner) = (objects::file_id(file), &server.replicate.settings.account);
    let expiry = file.expires_ms / 1000;
    let signature = STANDARD.encode(signed(server, owner, &id, expiry));
    let signature = page::escape(&signature);
    let query = format!("expiry={expiry}&owner={owner}&signature={signature}");
    objects::file(file, caller.links(), &format!("{}/download?{query}", caller.links().file(&id)))
}

pub async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    form: Result<Multipart, MultipartRejection>,
) -> Answer<Response> {
    let form = form.map_err(|error| {
        let problem = Problem::new(415, format!("an upload is a form: {}", error.body_text()));
        problem.hint("send multipart/form-data with a part `content`, as `curl -F content=@cat.png` does")
    })?;
    let form = Form::read(&server, form).await?;
    let (new, content) =
        form.into_stream().await.map_err(|error| io_error("read an upload again", &error))?;
    let file = server.models.upload(new, content).await?;
    Ok((StatusCode::CREATED, Json(object(&server, &file, &caller))).into_response())
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let paged: Paged = query(&uri)?;
    let page = server.models.files(paged.cursor.as_deref(), PAGE_SIZE).await?;
    Ok(Json(page::of(&caller.list("/files"), &page, |file| object(&server, file, &caller))))
}

/// What is said about a file; to a container, which was given this address in an input, the file itself.
pub async fn show(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer<Response> {
    let id = file_id(&id)?;
    if request.extensions().get::<FromContainer>().is_some() {
        return Ok(content(&server, id, request.headers()).await?);
    }
    let file = server.models.file(id).await?;
    Ok(Json(object(&server, &file, &caller)).into_response())
}

pub async fn delete(State(server): State<Arc<Server>>, Path(id): Path<String>) -> Answer<StatusCode> {
    server.models.delete_file(file_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub struct Download {
    expiry: Option<u64>,
    owner: Option<String>,
    signature: Option<String>,
}

/// For whoever has the signature: base 64 of HMAC-SHA256 over `OWNER ID EXPIRY`.
pub async fn download(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let asked: Download = query(&uri)?;
    let (Some(expiry), Some(owner), Some(signature)) = (asked.expiry, asked.owner, asked.signature) else {
        return Err(Problem::new(400, "expiry, owner and signature are required").into());
    };
    if now_ms() / 1000 > expiry {
        return Err(Problem::new(403, "the time of this address is over").into());
    }
    // A plus sign that was not escaped arrives as a space.
    let given = STANDARD.decode(signature.replace(' ', "+")).unwrap_or_default();
    let expected = signed(&server, &owner, &id, expiry);
    if !seal::same(expected, given) || owner != server.replicate.settings.account {
        return Err(Problem::new(403, "the signature does not fit owner, id and expiry").into());
    }
    Ok(content(&server, file_id(&id)?, &headers).await?)
}

fn signed(server: &Server, owner: &str, id: &str, expiry: u64) -> [u8; 32] {
    server.models.link_secret().sign(objects::download_text(owner, id, expiry).as_bytes())
}
