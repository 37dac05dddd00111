//! Requests to the server.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use clunk_core::api::{CLIENT_HEADER, ErrorAnswer};
use clunk_core::error::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::home::Target;
use crate::ui;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer that is read whole.
const MAX_ANSWER: u64 = 256 << 20;

/// A connection to one server.
pub struct Client {
    agent: Agent,
    target: Target,
}

impl Client {
    pub fn new(target: Target) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_LIMIT))
            .user_agent(concat!("clunk/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, target }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.agent.get(format!("{}{path}", self.target.url));
        let answer =
            request.header("authorization", self.bearer()).header(CLIENT_HEADER, client_name()).call();
        read(self.check(answer)?)
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: &str) -> anyhow::Result<bool> {
        let request = self.agent.get(format!("{}{path}", self.target.url));
        match request.header("authorization", self.bearer()).header(CLIENT_HEADER, client_name()).call() {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => Ok(false),
            answer => self.check(answer).map(|_| true),
        }
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.agent.delete(format!("{}{path}", self.target.url));
        let answer =
            request.header("authorization", self.bearer()).header(CLIENT_HEADER, client_name()).call();
        read(self.check(answer)?)
    }

    pub fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Response<Body>> {
        let request = self.agent.post(format!("{}{path}", self.target.url));
        let answer = request
            .header("authorization", self.bearer())
            .header(CLIENT_HEADER, client_name())
            .send_json(body);
        self.check(answer)
    }

    pub fn post_for<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        read(self.post(path, body)?)
    }

    /// The lines of an answer, as they come.
    pub fn lines(&self, path: &str) -> anyhow::Result<impl Iterator<Item = std::io::Result<String>> + use<>> {
        let request = self.agent.get(format!("{}{path}", self.target.url));
        let answer =
            request.header("authorization", self.bearer()).header(CLIENT_HEADER, client_name()).call();
        Ok(BufReader::new(self.check(answer)?.into_body().into_reader()).lines())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.target.token)
    }

    fn check(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let answer = answer.map_err(|error| {
            let text = format!("the server {} does not answer: {error}", self.target.url);
            ui::error(
                ErrorCode::Internal,
                text,
                "`clunk logs --server` shows its log, `clunk up` starts it again",
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let mut text = Vec::new();
        answer.into_body().into_reader().take(MAX_ANSWER).read_to_end(&mut text)?;
        match serde_json::from_slice::<ErrorAnswer>(&text) {
            Ok(answer) => Err(answer.error.into()),
            Err(_) => anyhow::bail!("the server answered {status}: {}", String::from_utf8_lossy(&text)),
        }
    }
}

pub fn client_name() -> &'static str {
    concat!("cli/", env!("CARGO_PKG_VERSION"))
}

fn read<T: DeserializeOwned>(answer: Response<Body>) -> anyhow::Result<T> {
    let reader = answer.into_body().into_reader().take(MAX_ANSWER);
    Ok(serde_json::from_reader(reader)?)
}
