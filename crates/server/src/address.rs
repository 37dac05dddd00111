//! The server's URL as somebody outside knows it.

use axum::http::{HeaderMap, header};

use crate::server::Server;

/// Set to the URL under which clients reach the server, when it stands behind something that changes it.
pub const PUBLIC_URL: &str = "CLUNK_PUBLIC_URL";

/// Without a slash at the end: what the operator set, else what the request says, else where the server listens.
pub fn base_url(server: &Server, headers: &HeaderMap) -> String {
    if let Some(url) = &server.public_url {
        return url.clone();
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(header::HOST.as_str()).filter(|host| is_host(host)) else {
        return server.url.clone();
    };
    // Of several proxies the first one spoke with the client.
    let forwarded = text("x-forwarded-proto").and_then(|value| value.split(',').next()).map(str::trim);
    let scheme =
        if forwarded.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// What the environment says, checked.
pub fn public_url_from_env() -> Result<Option<String>, clunk_core::error::ErrorBody> {
    let Some(url) = std::env::var(PUBLIC_URL).ok().filter(|url| !url.is_empty()) else { return Ok(None) };
    let url = url.trim_end_matches('/').to_owned();
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_some_and(|rest| is_host(rest.split('/').next().unwrap_or_default()))
        && !url.contains(['?', '#', ' '])
    {
        return Ok(Some(url));
    }
    let text = format!("{PUBLIC_URL} must begin with https:// or http:// and name a host, not {url:?}");
    Err(clunk_core::error::ErrorBody::new(clunk_core::error::ErrorCode::BadRequest, text)
        .hint("for example CLUNK_PUBLIC_URL=https://clunk.example"))
}

/// Whether this can stand in an address as it is: a header may say anything.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_taken_for_hosts() {
        for good in ["localhost:25865", "clunk.example", "[::1]:80"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a/b", "a b", "evil\"", "x@y", "a?b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
