//! Errors of this API on their way out: `application/problem+json`.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use clunk_core::error::ErrorBody;
use clunk_dialects::replicate::problem::PROBLEM_TYPE;
use clunk_dialects::replicate::{InvalidField, Problem};

use crate::answer::Failure;
use crate::models::Refusal;

/// Seconds after which a client that was refused for now may come again.
const RETRY_AFTER_S: u64 = 1;

#[derive(Debug)]
pub struct Refused {
    problem: Problem,
    retry_after_s: Option<u64>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let retry_after_s = matches!(problem.status, 429 | 503).then_some(RETRY_AFTER_S);
        Self { problem, retry_after_s }
    }
}

impl From<ErrorBody> for Refused {
    fn from(error: ErrorBody) -> Self {
        super::problem(error).into()
    }
}

impl From<Failure> for Refused {
    fn from(Failure(error): Failure) -> Self {
        error.into()
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let problems = match refusal {
            Refusal::Failed(error) => return error.into(),
            Refusal::Input(problems) => problems,
        };
        let field = |problem: clunk_core::model::InputProblem| {
            let is_missing = problem.kind.ends_with(".missing");
            let (parent, last) = match problem.place.split_last() {
                Some((last, parent)) if is_missing => (parent, Some(last)),
                _ => (problem.place.as_slice(), None),
            };
            let place = std::iter::once("input").chain(parent.iter().map(String::as_str));
            let text = match last {
                Some(last) => format!("{last} is required"),
                None => problem.message,
            };
            let kind = if is_missing { "required" } else { "invalid" };
            InvalidField::new(kind, place.collect::<Vec<_>>().join("."), text)
        };
        Problem::invalid(problems.into_iter().map(field).collect()).into()
    }
}

impl Refused {
    pub fn throttled(resets_s: u64) -> Self {
        Self { problem: Problem::throttled(resets_s), retry_after_s: Some(resets_s) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).expect("a problem has a JSON form");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// What there is no endpoint for.
pub fn unknown(uri: &Uri) -> Response {
    let problem = Problem::not_found(format_args!("{}", uri.path()));
    Refused::from(problem.hint("docs/replicate.md lists what there is")).into_response()
}

pub fn wrong_method(method: &Method, uri: &Uri) -> Response {
    Refused::from(Problem::new(405, format!("{} does not take {method}", uri.path()))).into_response()
}
