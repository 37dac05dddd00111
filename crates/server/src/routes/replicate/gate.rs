//! Who may pass here: the token under either scheme, or a signed address; and how often.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use clunk_dialects::replicate::Problem;
use clunk_dialects::replicate::limit::Standing;

use super::{ROOT, Refused};
use crate::guard::{FromContainer, given_token};
use crate::server::Server;

/// The owner, counted.
pub async fn owner(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    if request.extensions().get::<FromContainer>().is_some() {
        // A container reads the files that it was given, and nothing else.
        return match is_file(request.method(), request.uri().path()) {
            true => next.run(request).await,
            false => Refused::from(Problem::not_found(request.uri().path())).into_response(),
        };
    }
    if !has_token(&server, request.headers()) {
        return Refused::from(Problem::unauthenticated()).into_response();
    }
    if !is_text(request.uri().path()) {
        return Refused::from(Problem::new(400, "the path is not valid UTF-8")).into_response();
    }
    let standing = server.replicate.count(creates(request.method(), request.uri().path()));
    let mut response = match standing.allowed {
        true => next.run(request).await,
        false => Refused::throttled(standing.reset_s).into_response(),
    };
    say(&mut response, standing);
    response
}

/// Whoever has a signed address, or the token.
pub async fn signed(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let is_container = request.extensions().get::<FromContainer>().is_some();
    if server.models.is_signed(request.uri()) || (!is_container && has_token(&server, request.headers())) {
        return next.run(request).await;
    }
    if is_container {
        return Refused::from(Problem::not_found(request.uri().path())).into_response();
    }
    let problem = Problem::unauthenticated()
        .hint("the address is not signed, or its time is over: GET the prediction again for a new one");
    Refused::from(problem).into_response()
}

/// `Authorization: Bearer TOKEN`, or `Token TOKEN` as older clients send it.
pub fn has_token(server: &Server, headers: &HeaderMap) -> bool {
    given_token(headers, &["bearer", "token"]).is_some_and(|given| server.token.matches(given))
}

/// Whether a path, its escapes resolved, is UTF-8.
fn is_text(path: &str) -> bool {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    std::str::from_utf8(&decoded).is_ok()
}

fn is_file(method: &Method, path: &str) -> bool {
    let id = path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix("/files/"));
    method == Method::GET && id.is_some_and(|id| !id.contains('/'))
}

/// Making predictions has a limit of its own.
fn creates(method: &Method, path: &str) -> bool {
    method == Method::POST && (path.ends_with("/predictions") || path.ends_with("/trainings"))
}

fn say(response: &mut Response, standing: Standing) {
    let headers = response.headers_mut();
    headers.insert("ratelimit-remaining", HeaderValue::from(standing.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(standing.reset_s));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_text() {
        for good in ["/a/b", "/a%20b", "/%C3%A9", "/100%", "/%zz"] {
            assert!(is_text(good), "{good}");
        }
        for bad in ["/%ff", "/a/%C3/b"] {
            assert!(!is_text(bad), "{bad}");
        }
    }
}
