//! Who asks, and by which address this server is known to them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use clunk_dialects::replicate::objects::Links;
use clunk_dialects::replicate::sse::Lines;

use super::ROOT;
use crate::address;
use crate::server::Server;

/// A client, by what it calls itself. The official ones wrap file outputs only when the address begins with `https:` or
/// `data:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Python1,
    /// `use()` of the beta opens `http:` addresses as well, and takes a data URL for a text.
    Python2,
    JavaScript,
    Other,
}

pub struct Caller {
    /// The server's URL as the caller knows it, without a slash at the end.
    pub base: String,
    pub client: Client,
    /// How it splits the lines of a stream.
    pub lines: Lines,
}

impl Caller {
    pub fn new(server: &Server, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let base = address::base_url(server, headers);
        Self { client: client(agent), lines: Lines::of_client(agent), base }
    }

    pub fn links(&self) -> Links<'_> {
        Links { base: &self.base }
    }

    /// The address of a list under this API, to hang parameters on.
    pub fn list(&self, path: &str) -> String {
        format!("{}{ROOT}{path}", self.base)
    }
}

fn client(agent: &str) -> Client {
    match agent {
        _ if agent.starts_with("replicate-python/") => Client::Python1,
        // The name of its class, and it has several: `Replicate/Python 2.0.0`.
        _ if agent.contains("/Python 2") => Client::Python2,
        _ if agent.starts_with("replicate-javascript/") => Client::JavaScript,
        _ => Client::Other,
    }
}

impl FromRequestParts<Arc<Server>> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Infallible> {
        Ok(Self::new(server, &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_clients_are_known() {
        assert_eq!(client("replicate-python/1.0.7"), Client::Python1);
        assert_eq!(client("Replicate/Python 2.0.0-beta.4"), Client::Python2);
        assert_eq!(client("_ModuleClient/Python 2.0.0-beta.4"), Client::Python2);
        assert_eq!(client("replicate-javascript/1.4.0"), Client::JavaScript);
        assert_eq!(client("curl/8"), Client::Other);
    }
}
