//! Where things are: the state folder, the running server, the user's cache.

use std::path::PathBuf;

use clunk_core::api::ServerFile;
use clunk_core::error::ErrorCode;

use crate::ui;

/// `CLUNK_HOME`; else `/var/lib/clunk` for root and the user's data folder for others.
pub fn state_dir() -> PathBuf {
    if let Some(home) = std::env::var_os("CLUNK_HOME").filter(|home| !home.is_empty()) {
        return std::path::absolute(&home).unwrap_or_else(|_| home.into());
    }
    if rustix::process::geteuid().is_root() {
        return "/var/lib/clunk".into();
    }
    match std::env::var_os("XDG_DATA_HOME").filter(|home| !home.is_empty()) {
        Some(data) => PathBuf::from(data).join("clunk"),
        None => home().join(".local/share/clunk"),
    }
}

/// The folder that the GPUs' driver lies below.
pub fn driver_root() -> PathBuf {
    match std::env::var_os("CLUNK_DRIVER_ROOT").filter(|root| !root.is_empty()) {
        Some(root) => std::path::absolute(&root).unwrap_or_else(|_| root.into()),
        None => "/".into(),
    }
}

/// The user's cache folder for Clunk.
pub fn cache_dir() -> PathBuf {
    match std::env::var_os("XDG_CACHE_HOME").filter(|home| !home.is_empty()) {
        Some(cache) => PathBuf::from(cache).join("clunk"),
        None => home().join(".cache/clunk"),
    }
}

fn home() -> PathBuf {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A server to talk to.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub token: String,
}

/// The server named by `CLUNK_SERVER_URL`, or the local one when it runs.
pub fn find_server() -> anyhow::Result<Option<Target>> {
    if let Ok(url) = std::env::var("CLUNK_SERVER_URL") {
        let token = match std::env::var("CLUNK_TOKEN") {
            Ok(token) => token,
            Err(_) => read_token()?,
        };
        return Ok(Some(Target { url: url.trim_end_matches('/').into(), token }));
    }
    match local_server() {
        Some(server) => Ok(Some(Target { url: server.url, token: read_token()? })),
        None => Ok(None),
    }
}

/// What the local server says of itself, if its process is alive.
pub fn local_server() -> Option<ServerFile> {
    let text = std::fs::read(state_dir().join("server.json")).ok()?;
    let server: ServerFile = serde_json::from_slice(&text).ok()?;
    is_alive(server.pid).then_some(server)
}

/// The process that holds the state folder, also while it starts or stops.
pub fn lock_holder() -> Option<u32> {
    let pid = std::fs::read_to_string(state_dir().join("lock")).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // A number of long ago may be another process's by now.
    let ours = command.split(|byte| *byte == 0).any(|word| word == b"--foreground");
    (ours && is_alive(pid)).then_some(pid)
}

/// Whether a process runs. One that has ended and was not waited for yet does not.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state is the word behind the name, which may hold anything.
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    !matches!(state, Some("Z" | "X") | None)
}

/// The server, or the error that says how to start one.
pub fn need_server() -> anyhow::Result<Target> {
    find_server()?
        .ok_or_else(|| ui::error(ErrorCode::NotFound, "no server is running here", "start one: clunk up"))
}

fn read_token() -> anyhow::Result<String> {
    let path = state_dir().join("token");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().into()),
        Err(error) => Err(ui::error(
            ErrorCode::Unauthorized,
            format!("could not read the server's token {}: {error}", path.display()),
            "run as the user who started the server, or set CLUNK_TOKEN",
        )),
    }
}
