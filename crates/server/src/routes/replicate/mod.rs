//! Replicate's HTTP API v1 under `/replicate/v1`: the part that knows HTTP. Translation is in `clunk_dialects::replicate`.

pub mod account;
mod caller;
pub mod deployments;
pub mod files;
mod form;
pub mod gate;
pub mod models;
pub mod predictions;
mod present;
mod refused;
mod settings;
pub mod stream;
pub mod trainings;
pub mod versions;

pub use present::webhook_presenter;
pub use settings::{Dialect, Settings};

pub(crate) use refused::{Refused, unknown, wrong_method};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::Uri;
use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::FileId;
use clunk_core::model::{ModelName, PredictionId};
use clunk_dialects::replicate::{Problem, reference};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::status;

/// An answer, or why there is none.
pub(crate) type Answer<T> = Result<T, Refused>;
pub(crate) type Object = Answer<Json<Value>>;

/// Where the API begins.
pub const ROOT: &str = "/replicate/v1";

/// Bytes of a JSON body. Files beyond it are uploaded.
const MAX_BODY: usize = 64 << 20;

/// Reads a body. Its content type is not asked for: the clients send JSON under several.
async fn read(body: Body) -> Answer<Bytes> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
        let problem = if too_large {
            Problem::new(413, format!("the body has more than {MAX_BODY} bytes"))
                .hint("upload large files first, POST /files, and put their addresses into the input")
        } else {
            Problem::new(400, format!("could not read the body: {error}"))
        };
        problem.into()
    })
}

/// Reads the parameters behind the `?`.
fn query<T: DeserializeOwned>(uri: &Uri) -> Answer<T> {
    let found = axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(found)| found);
    found.map_err(|error| Problem::new(400, error.body_text()).into())
}

/// The model or deployment that a path names; what is no name does not exist.
fn name(owner: &str, name: &str, what: &str) -> Answer<ModelName> {
    ModelName::new(owner, name).map_err(|_| Problem::not_found(format_args!("{what} {owner}/{name}")).into())
}

fn version_id(text: &str) -> Answer<Digest> {
    reference::version(text).ok_or_else(|| Problem::not_found(format_args!("version {text}")).into())
}

fn prediction_id(text: &str, what: &str) -> Answer<PredictionId> {
    text.parse().map_err(|_| Problem::not_found(format_args!("{what} {text}")).into())
}

fn file_id(text: &str) -> Answer<FileId> {
    let whole = format!("{}-{text}", FileId::PREFIX);
    whole.parse().map_err(|_| Problem::not_found(format_args!("file {text}")).into())
}

/// A number of entries, in the bounds of what the API takes.
fn bounded(limit: Option<u32>, standard: u32, most: u32) -> Answer<u32> {
    match limit.unwrap_or(standard) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        limit => Err(Problem::new(400, format!("limit must be from 1 to {most}, not {limit}")).into()),
    }
}

/// An error of the core as a problem.
fn problem(error: ErrorBody) -> Problem {
    Problem::from_error(status(error.code).as_u16(), error)
}

fn is_missing(error: &ErrorBody) -> bool {
    error.code == ErrorCode::NotFound
}
