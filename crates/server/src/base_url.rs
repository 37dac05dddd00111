//! The server's URL as whoever asks knows it.

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};

/// What `CLUNK_PUBLIC_URL` says; it counts more than what a request came with.
static PUBLIC_URL: LazyLock<Option<String>> = LazyLock::new(|| {
    let given = std::env::var("CLUNK_PUBLIC_URL").ok()?;
    let given = given.trim().trim_end_matches('/').to_owned();
    (!given.is_empty()).then_some(given)
});

/// Without a slash at its end. `fallback` is for requests that name no host.
pub fn of(headers: &HeaderMap, fallback: &str) -> String {
    PUBLIC_URL.clone().unwrap_or_else(|| from(headers, fallback))
}

fn from(headers: &HeaderMap, fallback: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    let host = text(header::HOST.as_str()).filter(|host| !host.is_empty() && host.bytes().all(named));
    let secure = text("x-forwarded-proto").is_some_and(|scheme| scheme.trim().eq_ignore_ascii_case("https"));
    match host {
        Some(host) => format!("{}://{host}", if secure { "https" } else { "http" }),
        None => fallback.trim_end_matches('/').into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_that_was_asked() {
        let url = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            from(&pairs.collect(), "http://127.0.0.1:5800")
        };
        assert_eq!(url(&[("host", "[::1]:80")]), "http://[::1]:80");
        assert_eq!(url(&[("host", "ai.example"), ("x-forwarded-proto", "https")]), "https://ai.example");
        assert_eq!(url(&[("host", "a'b")]), "http://127.0.0.1:5800");
        assert_eq!(url(&[]), "http://127.0.0.1:5800");
    }
}
