//! Who may pass: the token, the client's version, and what is no endpoint at all.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use clunk_core::api::CLIENT_HEADER;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};

use crate::answer::{Failure, not_found};
use crate::routes::replicate;
use crate::server::Server;

/// A container of this app speaks, over a connection that its agent made.
#[derive(Debug, Clone, Copy)]
pub struct FromContainer(pub AppId);

/// Lets the owner pass, and a container to what belongs to its app.
pub async fn container(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let allowed = match request.extensions().get::<FromContainer>() {
        Some(FromContainer(app)) => belongs(&server, *app, request.uri()).await,
        None => check(&server, request.headers()),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// Whether the thing that a path names is of this app. What is another's does not exist for it.
async fn belongs(server: &Server, app: AppId, uri: &Uri) -> Result<(), Failure> {
    let text = uri.path().split('/').nth(3).unwrap_or_default();
    let engine = &server.engine;
    let owner = match text.split('-').next() {
        Some(AppId::PREFIX) => text.parse().ok(),
        Some(FunctionId::PREFIX) => text.parse().ok().and_then(|id| engine.function(id)).map(|pool| pool.app),
        Some(CallId::PREFIX) => match text.parse() {
            Ok(id) => engine.call(id).await.ok().map(|record| record.app),
            Err(_) => None,
        },
        Some(BatchId::PREFIX) => match text.parse() {
            Ok(id) => engine.store.batch(id).await?.map(|record| record.app),
            Err(_) => None,
        },
        _ => None,
    };
    if owner == Some(app) { Ok(()) } else { Err(not_found(format_args!("{text} in this app"))) }
}

pub async fn owner(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if request.extensions().get::<FromContainer>().is_some() {
        return Failure(not_for_containers(request.uri())).into_response();
    }
    match check(&server, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// Lets the owner pass, and whoever has a signed URL: containers as well, which read inputs by it.
pub async fn signed(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if server.models.is_signed(request.uri()) {
        return next.run(request).await;
    }
    owner(State(server), request, next).await
}

fn not_for_containers(uri: &Uri) -> ErrorBody {
    ErrorBody::new(ErrorCode::NotFound, format!("there is no {} for a container", uri.path()))
        .hint("a container may call the functions of its own app")
}

/// What a request carries in `Authorization: SCHEME TOKEN`, under one of these schemes.
pub fn given_token<'a>(headers: &'a HeaderMap, schemes: &[&str]) -> Option<&'a str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)).then(|| token.trim())
}

fn check(server: &Server, headers: &HeaderMap) -> Result<(), Failure> {
    match given_token(headers, &["bearer"]) {
        Some(token) if server.token.matches(token) => {}
        Some(_) => {
            let error = ErrorBody::new(ErrorCode::Unauthorized, "the token is not this server's");
            return Err(error
                .hint("the right one is in the file `token` of the server's state folder")
                .into());
        }
        None => {
            let error = ErrorBody::new(ErrorCode::Unauthorized, "a token is needed");
            return Err(error
                .hint("send `Authorization: Bearer TOKEN`; the token is in the server's state folder")
                .into());
        }
    }
    match headers.get(CLIENT_HEADER).and_then(|value| value.to_str().ok()) {
        Some(client) => check_version(client),
        None => Ok(()),
    }
}

/// Clients of the same minor version (before 1.0) are understood; the patch does not matter.
fn check_version(client: &str) -> Result<(), Failure> {
    let version = client.rsplit('/').next().unwrap_or_default();
    let minor =
        |text: &str| text.split('.').take(2).map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().ok();
    let (Some(theirs), Some(ours)) = (minor(version), minor(crate::VERSION)) else {
        let text = format!("the client says it is `{client}`, which names no version");
        return Err(ErrorBody::new(ErrorCode::BadRequest, text).into());
    };
    let hint = match theirs.cmp(&ours) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => {
            "use the SDK of this server: `clunk run` brings it along, `make wheel` packs it"
        }
        std::cmp::Ordering::Greater => "restart the server with the newer clunk: clunk down, then clunk up",
    };
    let text = format!("client {version} and server {} do not understand each other", crate::VERSION);
    Err(ErrorBody::new(ErrorCode::VersionMismatch, text).hint(hint).into())
}

pub async fn unknown(State(server): State<Arc<Server>>, headers: HeaderMap, uri: Uri) -> Response {
    if uri.path().starts_with(replicate::ROOT) {
        return replicate::unknown(&uri);
    }
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|text| text.contains("text/html")) {
        return crate::pages::unknown(&server, &headers, &uri);
    }
    let error = ErrorBody::new(ErrorCode::NotFound, format!("there is no {}", uri.path()));
    Failure(error.hint("docs/openapi.json lists what there is")).into_response()
}

pub async fn wrong_method(method: Method, uri: Uri) -> Response {
    if uri.path().starts_with(replicate::ROOT) {
        return replicate::wrong_method(&method, &uri);
    }
    let text = format!("{} does not take {method}", uri.path());
    let mut response = Failure(ErrorBody::new(ErrorCode::BadRequest, text)).into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_minor_version_is_understood() {
        assert!(check_version("python/0.1.99").is_ok());
        for (client, hint) in [("python/0.0.9", "use the SDK"), ("python/9.0.0", "restart the server")] {
            let Failure(error) = check_version(client).unwrap_err();
            assert_eq!(error.code, ErrorCode::VersionMismatch);
            assert!(error.hint.unwrap().contains(hint));
        }
        assert!(check_version("curl").is_err());
    }
}
