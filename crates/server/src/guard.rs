//! Who may pass: the token, the client's version, and what is no endpoint at all.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use clunk_core::api::CLIENT_HEADER;
use clunk_core::error::{ErrorBody, ErrorCode};

use crate::answer::Failure;
use crate::server::Server;

pub async fn owner(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    match check(&server, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check(server: &Server, headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let given =
        given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match given {
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

pub async fn unknown(uri: Uri) -> Failure {
    let error = ErrorBody::new(ErrorCode::NotFound, format!("there is no {}", uri.path()));
    error.hint("docs/openapi.json lists what there is").into()
}

pub async fn wrong_method(method: Method, uri: Uri) -> Response {
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
