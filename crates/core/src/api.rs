//! Requests and answers of the native HTTP API; `docs/api.md` tells the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Digest;
use crate::error::ErrorBody;
use crate::function::FunctionSpec;
use crate::id::{AppId, CallId, FunctionId, ImageId, ReplicaId};
use crate::recipe::Recipe;
use crate::tree::TreeFile;

/// Header in which a client says who it is: `python/0.1.0`.
pub const CLIENT_HEADER: &str = "clunk-client";
/// Header that names the call of an answer.
pub const CALL_HEADER: &str = "clunk-call";
/// Header that tells a raised exception from a failure: `exception` or `failure`.
pub const OUTCOME_HEADER: &str = "clunk-outcome";
/// Header with the number of a call's log events on its app's event stream.
pub const LOGS_HEADER: &str = "clunk-logs";
pub const PICKLE_TYPE: &str = "application/x-python-pickle";
pub const JSON_TYPE: &str = "application/json";
pub const NDJSON_TYPE: &str = "application/x-ndjson";
/// The local server's port; the letters C L U N K on a telephone.
pub const DEFAULT_PORT: u16 = 25865;

/// In the state folder: a Unix socket with the same API, for clients of the same machine.
pub const SOCKET_FILE: &str = "clunk.sock";

/// `{"error": {...}}`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorAnswer {
    pub error: ErrorBody,
}

/// What a server writes into `server.json` in its state folder, for clients of the same machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerFile {
    pub url: String,
    pub pid: u32,
    pub version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Health {
    pub status: String,
    pub version: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub url: String,
    pub state_dir: String,
    pub uptime_s: u64,
    /// Resident memory of the server process, in bytes.
    pub memory_bytes: u64,
    pub apps_running: usize,
    pub replicas: usize,
    pub calls_running: usize,
    pub calls_queued: usize,
    pub calls_ended: u64,
    pub images: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTree {
    pub files: Vec<TreeFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TreeAnswer {
    pub tree: Digest,
    /// Blobs to upload before asking again.
    pub missing: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BlobsAnswer {
    pub stored: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateImage {
    pub recipe: Recipe,
    /// Build every step again.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImageRecord {
    pub id: ImageId,
    /// One line: the base and the steps.
    pub title: String,
    /// Version of the image's Python; none when it has none.
    pub python: Option<String>,
    /// Bytes of all its layers, shared ones as well.
    pub size_bytes: u64,
    /// Bytes that only this image has.
    pub own_bytes: u64,
    pub layers: usize,
    pub created_ms: u64,
    /// By a running app.
    pub in_use: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ImageDetail {
    pub id: ImageId,
    pub recipe: Recipe,
    pub python: Option<String>,
    pub size_bytes: u64,
    pub created_ms: u64,
    pub in_use: bool,
    /// The lowest first.
    pub layers: Vec<LayerRecord>,
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LayerRecord {
    /// The step it was built by.
    pub title: String,
    pub size_bytes: u64,
    /// Another image has it as well.
    pub shared: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PruneAnswer {
    pub freed_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    #[serde(default)]
    pub name: String,
    pub functions: Vec<FunctionSpec>,
    /// The app ends when its event stream closes. The only kind there is so far.
    #[serde(default = "yes")]
    pub ephemeral: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreateAppAnswer {
    pub app: AppId,
    pub functions: BTreeMap<String, FunctionId>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppRecord {
    pub id: AppId,
    pub name: String,
    /// `running` or `stopped`.
    pub state: String,
    pub created_ms: u64,
    pub stopped_ms: Option<u64>,
    pub functions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallRecord {
    pub id: CallId,
    pub app: AppId,
    pub function_id: FunctionId,
    pub function: String,
    /// `queued`, `running`, `succeeded`, `failed`, `timed_out`, `canceled` or `expired`.
    pub state: String,
    pub attempts: u32,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    /// Code and text of what went wrong.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ContainerRecord {
    pub replica: ReplicaId,
    pub app: AppId,
    pub function: String,
    /// `starting`, `idle` or `busy`.
    pub state: String,
    pub pid: u32,
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    pub started_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenShell {
    /// An image to build first.
    #[serde(default)]
    pub recipe: Option<Recipe>,
    /// An image that exists, or the state before a failed step.
    #[serde(default)]
    pub image: Option<ImageId>,
    /// Trees laid over it.
    #[serde(default)]
    pub trees: Vec<Digest>,
    #[serde(default)]
    pub block_network: bool,
    #[serde(default)]
    pub memory_limit_mib: Option<u64>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default = "rows")]
    pub rows: u16,
    #[serde(default = "columns")]
    pub columns: u16,
    /// TERM of the caller's terminal.
    #[serde(default)]
    pub term: String,
}

fn rows() -> u16 {
    24
}

fn columns() -> u16 {
    80
}

/// One line of an app's event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AppEvent {
    Log(LogEvent),
    Replica {
        time_ms: u64,
        replica: ReplicaId,
        function: String,
        /// `starting`, `ready`, `failed` or `stopped`.
        state: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    App {
        time_ms: u64,
        state: String,
    },
    Ping,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEvent {
    pub time_ms: u64,
    pub function: String,
    pub replica: ReplicaId,
    /// The call that printed it, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Text as it was written; not always whole lines.
    pub text: String,
}
