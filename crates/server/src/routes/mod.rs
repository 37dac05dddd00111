//! One file per resource; [`crate::endpoints`] lists them all.

pub mod apps;
pub mod batches;
pub mod blobs;
pub mod calls;
pub mod containers;
pub mod files;
pub mod frames;
pub mod functions;
pub mod images;
pub mod logs;
pub mod models;
pub mod payloads;
pub mod predictions;
pub mod replicate;
pub mod serve;
pub mod shell;
pub mod status;
pub mod trees;
pub mod usage;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::Uri;
use axum::response::Response;
use clunk_core::api::NDJSON_TYPE;
use clunk_core::error::{ErrorBody, ErrorCode};
use futures_util::Stream;
use serde::de::DeserializeOwned;

use crate::answer::Failure;

/// Bytes of a JSON body; the largest is a tree of 200,000 files.
const MAX_JSON: usize = 64 << 20;

/// Reads a JSON body. What is wrong with it is said with its line and column.
pub async fn json<T: DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let bytes = axum::body::to_bytes(body, MAX_JSON).await.map_err(|error| {
        ErrorBody::new(ErrorCode::PayloadTooLarge, format!("could not read the body: {error}"))
            .hint(format!("a JSON body has at most {MAX_JSON} bytes"))
    })?;
    Ok(serde_json::from_slice(&bytes)
        .map_err(|error| ErrorBody::new(ErrorCode::BadRequest, format!("the body does not fit: {error}")))?)
}

/// Reads a JSON body that may be left out.
pub async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Failure> {
    if axum::body::HttpBody::is_end_stream(&body) { Ok(T::default()) } else { json(body).await }
}

/// Reads the parameters behind the `?`.
pub fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    let found = Query::try_from_uri(uri).map(|Query(found)| found);
    Ok(found.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.body_text()))?)
}

/// Reads an id out of a path.
pub fn id<T: std::str::FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    Ok(text.parse().map_err(|error: T::Err| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?)
}

/// An answer of JSON lines that come as they come.
pub fn lines<S>(stream: S) -> Response
where
    S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
{
    Response::builder()
        .header("content-type", NDJSON_TYPE)
        .header("cache-control", "no-store")
        .body(Body::from_stream(stream))
        .expect("valid headers")
}
