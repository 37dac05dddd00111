//! The container's HTTP API: which request is answered by what.

mod create;
mod pages;

use std::convert::Infallible;
use std::sync::Arc;

use clunk_core::error::ErrorCode;
use clunk_dialects::cog::validate::Violation;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::lane::{Kind, Lane};
use crate::request::wrong_id;
use crate::server::ModelServer;

/// Answers one request.
pub async fn handle(server: Arc<ModelServer>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    if path == "/predictions"
        && request.method() == Method::POST
        && let Some(lane) = server.lane(Kind::Prediction)
    {
        let lane = lane.clone();
        return Ok(create::create(&server, &lane, None, request).await);
    }
    Ok(route(&server, request).await)
}

async fn route(server: &Arc<ModelServer>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let reads = method == Method::GET || method == Method::HEAD;
    let parts: Vec<&str> = path[1.min(path.len())..].split('/').collect();
    let (allowed, answer) = match parts[..] {
        [""] => ("GET,HEAD", reads.then(|| pages::index(server))),
        ["health-check"] if reads => ("GET,HEAD", Some(pages::health(server).await)),
        ["health-check"] => ("GET,HEAD", None),
        ["openapi.json"] => ("GET,HEAD", reads.then(|| pages::openapi(server))),
        ["docs"] => ("GET,HEAD", reads.then(|| pages::docs(server))),
        ["metrics"] => ("GET,HEAD", reads.then(|| pages::metrics(server))),
        ["shutdown"] => ("POST", (method == Method::POST).then(|| shutdown(server))),
        ["predictions", ref rest @ ..] if rest.len() < 3 && !rest.contains(&"") => {
            return work(server, Kind::Prediction, rest, request).await;
        }
        ["trainings", ref rest @ ..] if rest.len() < 3 && !rest.contains(&"") => {
            return work(server, Kind::Training, rest, request).await;
        }
        _ => {
            let text = format!("there is no {path} here; GET / lists what there is");
            return answer::error(StatusCode::NOT_FOUND, ErrorCode::NotFound, &text);
        }
    };
    answer.unwrap_or_else(|| answer::not_allowed(method.as_str(), &path, allowed))
}

/// Whatever is below `/predictions` and `/trainings`.
async fn work(server: &Arc<ModelServer>, kind: Kind, rest: &[&str], request: Request<Incoming>) -> Answer {
    let Some(lane) = server.lane(kind) else {
        let text = match kind {
            Kind::Training => "this model cannot be trained: its cog.yaml has no `train`",
            Kind::Prediction => "this server was started for trainings alone",
        };
        return answer::error(StatusCode::NOT_FOUND, ErrorCode::NotFound, text);
    };
    let lane = lane.clone();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = rest.first().map_or(Some(String::new()), |part| decoded(part));
    let wrong = match &id {
        Some(id) if !rest.is_empty() => wrong_id(id),
        Some(_) => None,
        None => Some("an id is UTF-8".into()),
    };
    if let Some(wrong) = wrong {
        return answer::violations(&[Violation::of_request("id", wrong)]);
    }
    let id = id.unwrap_or_default();
    match (method.as_str(), rest) {
        ("POST", []) => create::create(server, &lane, None, request).await,
        ("PUT", [_]) => create::create(server, &lane, Some(id), request).await,
        ("GET" | "HEAD", [_]) => show(&lane, &id, &request),
        ("POST", [_, "cancel"]) => cancel(&lane, &id),
        (_, []) => answer::not_allowed(method.as_str(), &path, "POST"),
        (_, [_]) => answer::not_allowed(method.as_str(), &path, "GET,HEAD,PUT"),
        (_, [_, "cancel"]) => answer::not_allowed(method.as_str(), &path, "POST"),
        _ => {
            let text = format!("there is no {path} here; GET / lists what there is");
            answer::error(StatusCode::NOT_FOUND, ErrorCode::NotFound, &text)
        }
    }
}

fn show(lane: &Arc<Lane>, id: &str, request: &Request<Incoming>) -> Answer {
    let Some(prediction) = lane.find(id) else { return unknown(lane, id) };
    if create::wants_events(request.headers()) {
        return create::events(lane, prediction);
    }
    answer::raw(StatusCode::OK, prediction.json())
}

fn cancel(lane: &Arc<Lane>, id: &str) -> Answer {
    let Some(prediction) = lane.find(id).filter(|found| !found.is_ended()) else { return unknown(lane, id) };
    lane.cancel(&prediction);
    answer::json(StatusCode::OK, &json!({}))
}

fn unknown(lane: &Lane, id: &str) -> Answer {
    let text = format!(
        "no {} with the id {id:?} waits or runs; the last ones that ended can be read",
        lane.plan.kind.name()
    );
    answer::error(StatusCode::NOT_FOUND, ErrorCode::NotFound, &text)
}

fn shutdown(server: &ModelServer) -> Answer {
    tracing::info!("asked to shut down");
    server.stopping.cancel();
    answer::json(StatusCode::OK, &json!({}))
}

/// A part of a path without its percent signs; None: it is no text.
fn decoded(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}
