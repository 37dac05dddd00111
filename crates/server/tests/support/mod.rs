//! A server on a runtime that starts nothing.

use std::sync::Arc;

use clunk_runtime::FakeRuntime;
use clunk_server::{Bound, Server, StateDir};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub struct World {
    pub server: Arc<Server>,
    pub token: String,
    _folder: TempDir,
    _state: StateDir,
}

pub async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::take(folder.path()).unwrap();
    let bound = Bound::bind("127.0.0.1", 0).unwrap();
    let runner = folder.path().join("runner");
    std::fs::create_dir(&runner).unwrap();
    let runtime = Arc::new(FakeRuntime::new(|_| async { clunk_runtime::ExitReason::Code(0) }));
    let server = Server::open(&state, &bound.url, runtime, runner, CancellationToken::new()).await.unwrap();
    let token = std::fs::read_to_string(folder.path().join("token")).unwrap().trim().into();
    World { server, token, _folder: folder, _state: state }
}
