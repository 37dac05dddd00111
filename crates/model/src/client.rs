//! The HTTP client for webhooks and uploads, made when the first of them is due: it reads the system's certificates.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

/// A host that cannot be reached in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Client {
    agent: Arc<str>,
    made: Arc<OnceCell<reqwest::Client>>,
}

impl Client {
    pub fn new(agent: &str) -> Self {
        Self { agent: agent.into(), made: Arc::default() }
    }

    pub async fn get(&self) -> Result<reqwest::Client, String> {
        let agent = self.agent.clone();
        let make = || async move {
            let made = tokio::task::spawn_blocking(move || {
                // Another part of the program may have chosen one already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let builder = reqwest::Client::builder().user_agent(&*agent).connect_timeout(CONNECT_TIMEOUT);
                builder.build().map_err(|error| reason(&error))
            });
            made.await.unwrap_or_else(|error| Err(error.to_string()))
        };
        self.made.get_or_try_init(make).await.cloned()
    }
}

/// What went wrong, with the cause below it, which is the part that helps.
pub fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
