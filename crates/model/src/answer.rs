//! Answers: JSON for everything, errors too.

use bytes::Bytes;
use clunk_core::error::ErrorCode;
use clunk_dialects::cog::validate::Violation;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::lane::Refusal;
use crate::request::Refused;
use crate::webhook::FOLLOWED_MAX;

pub type Answer = Response<Body>;

/// When a client that was refused may come again.
const RETRY_AFTER_S: &str = "1";

pub fn text(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

pub fn raw(status: StatusCode, body: impl Into<Body>) -> Answer {
    text(status, "application/json", body)
}

pub fn json(status: StatusCode, body: &Value) -> Answer {
    raw(status, Bytes::from(body.to_string()))
}

pub fn error(status: StatusCode, code: ErrorCode, message: &str) -> Answer {
    json(status, &json!({"code": code, "error": message}))
}

/// As [`error`], in the form of a prediction that has failed.
pub fn failed(status: StatusCode, code: ErrorCode, message: &str) -> Answer {
    json(status, &json!({"code": code, "error": message, "status": "failed"}))
}

pub fn violations(found: &[Violation]) -> Answer {
    json(StatusCode::UNPROCESSABLE_ENTITY, &json!({"detail": found}))
}

pub fn refused(refused: &Refused) -> Answer {
    match refused {
        Refused::Syntax(text) => error(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, text),
        Refused::Violations(found) => violations(found),
    }
}

pub fn refusal(refusal: &Refusal) -> Answer {
    let (answer, later) = match refusal {
        Refusal::NotReady { reason, later } => {
            (failed(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::StartFailed, reason), *later)
        }
        Refusal::Taken => {
            let text = "a prediction with this id and another input waits or runs; choose another id, or cancel that one";
            (failed(StatusCode::CONFLICT, ErrorCode::BadRequest, text), false)
        }
        Refusal::Full => {
            let text = "the queue is full: more predictions wait than CLUNK_QUEUE_MAX allows";
            (failed(StatusCode::TOO_MANY_REQUESTS, ErrorCode::QueueFull, text), true)
        }
    };
    if later { come_again(answer) } else { answer }
}

/// The receivers of webhooks are so slow that one more prediction's could not be promised.
pub fn too_many_webhooks() -> Answer {
    let text = format!(
        "the webhooks of {FOLLOWED_MAX} predictions are not told to their end yet; come again, or ask without one"
    );
    come_again(failed(StatusCode::TOO_MANY_REQUESTS, ErrorCode::QueueFull, &text))
}

fn come_again(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    answer
}

pub fn not_allowed(method: &str, path: &str, allowed: &'static str) -> Answer {
    let text = format!("{path} does not take {method}, but {allowed}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, &text);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
