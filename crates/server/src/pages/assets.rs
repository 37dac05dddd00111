//! What pages load beside themselves: style and scripts, out of the binary.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clunk_core::Digest;

macro_rules! assets {
    ($($name:literal $kind:literal)*) => {
        const ASSETS: &[(&str, &str, &str)] =
            &[$(($name, $kind, include_str!(concat!("../../../../web/", $name))),)*];
    };
}

assets! {
    "style.css" "text/css; charset=utf-8"
    "page.js" "text/javascript; charset=utf-8"
    "form.js" "text/javascript; charset=utf-8"
    "live.js" "text/javascript; charset=utf-8"
    "icon.svg" "image/svg+xml"
}

/// Names this build's assets: what lies below it never changes.
static EDITION: LazyLock<String> = LazyLock::new(|| {
    let all: Vec<_> = ASSETS.iter().flat_map(|(_, _, content)| content.bytes()).collect();
    Digest::of(&all).to_string().chars().take(16).collect()
});

/// A third of the bytes: over a slow line, the first visit is mostly this.
static PACKED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let pack = |content: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed
            .write_all(content.as_bytes())
            .and_then(|()| packed.finish())
            .expect("memory takes what is written")
    };
    ASSETS.iter().map(|(_, _, content)| pack(content)).collect()
});

pub fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *EDITION)
}

/// `GET /assets/{edition}/{name}`
pub async fn show(Path((edition, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(place) = ASSETS.iter().position(|(known, _, _)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (_, kind, content) = ASSETS[place];
    // A page of another build may still ask for its own.
    let cache = if edition == *EDITION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|text| text.contains("gzip")) {
        (common, [(header::CONTENT_ENCODING, "gzip")], PACKED[place].as_slice()).into_response()
    } else {
        (common, content).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the page itself, what a first visit loads; the promise is 30 kB.
    #[test]
    fn style_and_scripts_are_small() {
        let bytes: usize = PACKED.iter().map(Vec::len).sum();
        assert!(bytes < 12_000, "{bytes} bytes");
    }
}
