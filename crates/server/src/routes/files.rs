//! Files by their URLs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clunk_core::id::FileId;

use super::id;
use super::payloads::file_part;
use crate::answer::{Failure, io_error};
use crate::server::Server;

/// Content comes from models and their callers: a browser that shows it runs nothing of it, and believes its type.
const SANDBOX: &str =
    "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'";

/// The content; the name is for people.
pub async fn fetch(
    State(server): State<Arc<Server>>,
    Path((text, _name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    content(&server, id(&text)?, &headers).await
}

/// The content of a file, or the part of it that is asked for.
pub async fn content(server: &Server, file: FileId, headers: &HeaderMap) -> Result<Response, Failure> {
    let (record, content) = server.models.open_file(file).await?;
    let etag = format!("\"{}\"", record.sha256);
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes());
    if fresh {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let media =
        if is_header(&record.content_type) { &record.content_type } else { "application/octet-stream" };
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, media)
        .header(header::ETAG, etag)
        .header(header::CACHE_CONTROL, "private, max-age=3600")
        .header(header::CONTENT_SECURITY_POLICY, SANDBOX)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(header::ACCEPT_RANGES, "bytes");
    let whole = record.size;
    let asked = headers.get(header::RANGE).and_then(|value| range(value.to_str().ok()?, whole));
    let (from, len) = match asked {
        Some(Ok((from, to))) => {
            let said = format!("bytes {from}-{to}/{whole}");
            response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, said);
            (from, to - from + 1)
        }
        Some(Err(())) => {
            let said = [(header::CONTENT_RANGE, format!("bytes */{whole}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, said).into_response());
        }
        None => (0, whole),
    };
    let content = Arc::new(content);
    let body = Body::from_stream(file_part(content, from, len));
    let response = response.header(header::CONTENT_LENGTH, len).body(body);
    Ok(response.map_err(|error| io_error("answer with a file", &std::io::Error::other(error)))?)
}

fn is_header(text: &str) -> bool {
    !text.is_empty() && axum::http::HeaderValue::from_str(text).is_ok()
}

/// First and last byte that are asked for. None: the whole, as for what is no range of one piece. `Err`: nothing is there.
fn range(text: &str, whole: u64) -> Option<Result<(u64, u64), ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    let (from, to) = match (first, last) {
        ("", last) => (whole.saturating_sub(last.parse().ok()?), whole.checked_sub(1)),
        (first, "") => (first.parse().ok()?, whole.checked_sub(1)),
        (first, last) => {
            let last: u64 = last.parse().ok()?;
            (first.parse().ok()?, whole.checked_sub(1).map(|end| end.min(last)))
        }
    };
    Some(to.filter(|to| from <= *to).map(|to| (from, to)).ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_piece_are_understood() {
        for (text, found) in [
            ("bytes=0-0", Some(Ok((0, 0)))),
            ("bytes=2-", Some(Ok((2, 9)))),
            ("bytes=-3", Some(Ok((7, 9)))),
            ("bytes=5-99", Some(Ok((5, 9)))),
            ("bytes=-99", Some(Ok((0, 9)))),
            ("bytes=10-", Some(Err(()))),
            ("bytes=5-4", Some(Err(()))),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
        ] {
            assert_eq!(range(text, 10), found, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Some(Err(())));
    }
}
