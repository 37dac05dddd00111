//! A model server in this process, with a real interpreter behind it, and plain HTTP to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clunk_model::host::HostConfig;
use clunk_model::{Model, ModelServer, Settings};
use clunk_runtime::ProcessRuntime;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A test that waits longer for anything has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A server that takes longer to end waits for something that does not come.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at a state.
const LOOK: Duration = Duration::from_millis(5);

pub struct Rig {
    pub folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    stopping: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub json: Value,
    pub text: String,
}

impl Rig {
    /// Serves `Predictor` of this source, and `train` when it has one.
    pub async fn new(source: &str, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("predict.py"), source).unwrap();
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/python").canonicalize().unwrap();
        let train =
            source.contains("\ndef train").then(|| json!({"module": "predict.py", "qualname": "train"}));
        let config: HostConfig = serde_json::from_value(json!({
            "python": python(), "runner": sdk, "source_root": folder.path(),
            "module": "predict.py", "qualname": "Predictor", "train": train,
            "concurrency": settings.concurrency.unwrap_or(1),
        }))
        .unwrap();
        let (predict, train) = config.programs(&[("PATH".into(), std::env::var("PATH").unwrap())]);
        let model = Model {
            name: "test".into(),
            version: None,
            cog_version: String::new(),
            python: None,
            schema: None,
            predict,
            train,
        };
        let stopping = CancellationToken::new();
        let runtime = Arc::new(ProcessRuntime::new());
        let server = ModelServer::new(model, settings, runtime, None, stopping.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { folder, address, stopping, serving: tokio::spawn(server.serve(listener)) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{kind}{headers}content-length: {length}\r\n\r\n{body}"
        );
        let asked = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        let text = tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let json = serde_json::from_str(body).unwrap_or(Value::Null);
        Answer { status, head: head.to_lowercase(), json, text: body.into() }
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, "", &Value::Null).await.json
    }

    pub async fn post(&self, path: &str, headers: &str, body: Value) -> Answer {
        self.ask("POST", path, headers, &body).await
    }

    pub async fn health(&self, want: &str) -> Value {
        self.until(|| self.get("/health-check"), |health| health["status"] == want, want).await
    }

    pub async fn ended(&self, id: &str) -> Value {
        let path = format!("/predictions/{id}");
        self.until(
            || self.get(&path),
            |found| !["starting", "processing"].contains(&found["status"].as_str().unwrap()),
            id,
        )
        .await
    }

    pub async fn processing(&self, id: &str) {
        let path = format!("/predictions/{id}");
        self.until(|| self.get(&path), |found| found["status"] == "processing", id).await;
    }

    pub async fn logs(&self, id: &str, want: &str) {
        let path = format!("/predictions/{id}");
        self.until(|| self.get(&path), |found| found["logs"] == want, id).await;
    }

    /// A page of text has this line.
    pub async fn get_until(&self, path: &str, line: &str) {
        let has = async || {
            let text = self.ask("GET", path, "", &Value::Null).await.text;
            json!(text.lines().any(|found| found == line))
        };
        self.until(has, |found| found == true, line).await;
    }

    pub async fn holds(&self, what: &str, condition: impl Fn() -> bool) {
        self.until(async || json!(condition()), |found| found == true, what).await;
    }

    async fn until<F: Future<Output = Value>>(
        &self,
        look: impl Fn() -> F,
        done: impl Fn(&Value) -> bool,
        what: &str,
    ) -> Value {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = look().await;
            if done(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < end, "never {what}: {found}");
            tokio::time::sleep(LOOK).await;
        }
    }

    pub fn shut_down(&self) {
        self.stopping.cancel();
    }

    /// Stops the server, which ends by itself.
    pub async fn stop(self) {
        self.shut_down();
        while_it_ends(self.serving).await.unwrap();
    }
}

/// Something that a server does while it ends.
pub async fn while_it_ends<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(STOP_PATIENCE, what).await.expect("it ends")
}

fn python() -> String {
    std::env::var("CLUNK_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into())
}
