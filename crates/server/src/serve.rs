//! How a server process starts, and how it stops.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use clunk_core::api::SOCKET_FILE;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_runtime::Runtime;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::answer::{io_error, store_error};
use crate::server::{Server, ServerError};
use crate::state::{Bound, StateDir};
use crate::{VERSION, door, endpoints, janitor, leftovers};

/// How long apps may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long open connections may take to end after the apps have stopped.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Serves until `stopping` is cancelled. `ready` is called once requests are answered. The folder and the port are
/// taken by the caller, before anything else.
pub async fn serve(
    state: StateDir,
    bound: Bound,
    runtime: Arc<dyn Runtime>,
    runner_dir: PathBuf,
    stopping: CancellationToken,
    ready: impl FnOnce(&str),
) -> Result<(), ServerError> {
    let swept = runtime.sweep().await.map_err(|error| runtime_error(&error))?;
    if swept != clunk_runtime::Swept::default() {
        tracing::info!(?swept, "removed what a killed server left");
    }
    let server = Server::open(&state, &bound.url, runtime, runner_dir, stopping.clone()).await?;
    bound.listener.set_nonblocking(true).map_err(|error| io_error("listen", &error))?;
    let listener =
        tokio::net::TcpListener::from_std(bound.listener).map_err(|error| io_error("listen", &error))?;
    let listener = listener.tap_io(|socket| {
        // A small answer must not wait for a full packet.
        let _ = socket.set_nodelay(true);
    });
    let drained = CancellationToken::new();
    let router = endpoints::router(server.clone());
    let inside = router.clone();
    server
        .engine
        .set_door(Box::new(move |app, socket, place| door::serve(inside.clone(), app, socket, place)));
    server.engine.restore().await.map_err(|error| store_error(&error))?;
    server.models.start().await?;
    tokio::spawn(janitor::sweep(server.clone()));
    tokio::spawn(leftovers::sweep(server.clone()));
    let socket = bind_socket(&state.path);
    let local = socket.map(|socket| serve_local(socket, router.clone(), drained.clone()));
    let remote = axum::serve(listener, router).with_graceful_shutdown(drained.clone().cancelled_owned());
    let mut serving = vec![tokio::spawn(remote.into_future())];
    serving.extend(local);
    state.announce(&bound.url).map_err(|error| io_error("write server.json", &error))?;
    ready(&bound.url);
    stopping.cancelled().await;
    shut_down(&server, &state, drained, serving).await;
    Ok(())
}

/// The same API for clients of this machine, on a socket in the state folder: large payloads travel in half the time.
/// None when the path is too long for a socket; clients then use the port.
fn bind_socket(state: &Path) -> Option<UnixListener> {
    let path = state.join(SOCKET_FILE);
    let _ = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).inspect_err(|error| tracing::info!(%error, "no local socket"));
    let socket = socket.ok()?;
    // The token is asked for here as well; this only keeps strangers from connecting at all.
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, private).ok().map(|()| socket)
}

fn serve_local(
    socket: UnixListener,
    router: axum::Router,
    drained: CancellationToken,
) -> JoinHandle<std::io::Result<()>> {
    tokio::spawn(axum::serve(socket, router).with_graceful_shutdown(drained.cancelled_owned()).into_future())
}

/// In order: health fails (it reads `stopping`), apps and their containers end, connections drain, the store is synced.
async fn shut_down(
    server: &Server,
    state: &StateDir,
    drained: CancellationToken,
    serving: Vec<JoinHandle<std::io::Result<()>>>,
) {
    state.withdraw();
    tracing::info!(version = VERSION, "stopping");
    if tokio::time::timeout(STOP_LIMIT, server.engine.stop_all()).await.is_err() {
        tracing::error!("some apps did not stop; the runtime ends their containers");
    }
    server.engine.runtime.shutdown().await;
    drained.cancel();
    if tokio::time::timeout(DRAIN_LIMIT, futures_util::future::join_all(serving)).await.is_err() {
        tracing::info!("some clients kept their connections open; closing them");
    }
    if let Err(error) = server.engine.store.flush().await {
        tracing::error!(%error, "the last records could not be written");
    }
}

fn runtime_error(error: &clunk_runtime::RuntimeError) -> ErrorBody {
    let code = match error {
        clunk_runtime::RuntimeError::NotPermitted(_) => ErrorCode::ContainersNotPermitted,
        clunk_runtime::RuntimeError::DiskFull(_) => ErrorCode::DiskFull,
        _ => ErrorCode::StartFailed,
    };
    ErrorBody::new(code, error.to_string()).hint("`clunk doctor` shows what this machine can do")
}
