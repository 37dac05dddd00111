//! Requests and answers of the native HTTP API; `docs/api.md` tells the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Digest;
use crate::error::ErrorBody;
use crate::function::{FunctionSpec, Method, Policy, Resources};
use crate::id::{AppId, BatchId, CallId, FunctionId, ImageId, ReplicaId};
use crate::placement::GpuGroup;
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
/// Header with the digest of an image that is sent as an archive: `sha256:…`.
pub const IMAGE_DIGEST_HEADER: &str = "clunk-image-digest";
/// Headers of a call: the method of a class, its priority (higher is sooner), milliseconds it may wait in the queue.
pub const METHOD_HEADER: &str = "clunk-method";
pub const PRIORITY_HEADER: &str = "clunk-priority";
pub const EXPIRES_HEADER: &str = "clunk-expires-ms";
/// The batch to put calls into: an id, or `new`.
pub const BATCH_HEADER: &str = "clunk-batch";
/// What makes a request that is sent again harmless: any text of at most 255 bytes.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Several inputs or outputs, each behind a header, as `docs/api.md` has them.
pub const FRAMES_TYPE: &str = "application/x-clunk-frames";
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
    /// NVIDIA GPUs of this machine, by kind.
    #[serde(default)]
    pub gpus: Vec<GpuGroup>,
    /// Version of their driver, when one is loaded.
    #[serde(default)]
    pub gpu_driver: Option<String>,
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

/// What an image for other engines has beside the built one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExportImage {
    /// `name[:tag]`, as engines will show it.
    pub name: Option<String>,
    /// Trees of files laid over the image, the last one on top.
    pub trees: Vec<Digest>,
    /// Texts by their absolute paths in the image.
    pub files: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Ports that the image listens on.
    pub ports: Vec<u16>,
    /// Settings of a model's server. With them the image starts that server; without, what it starts anyway.
    pub model: Option<serde_json::Value>,
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
    /// The app outlives its event stream, and ends when its last call has.
    #[serde(default)]
    pub detach: bool,
    /// Whose it is: queues, fair shares and usage are counted by it.
    #[serde(default = "default_workspace")]
    pub workspace: String,
}

/// What keeps an app running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Its client's event stream.
    #[default]
    Leased,
    /// Its calls: it ends when the last one has.
    Detached,
    /// Nothing but a stop ends it; it runs again under every next server.
    Deployed,
}

/// The workspace of whoever names none.
pub fn default_workspace() -> String {
    "main".into()
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
    /// How often it was given to a replica.
    pub attempts: u32,
    pub created_ms: u64,
    /// Of the last attempt.
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    /// Code and text of what went wrong.
    pub error: Option<String>,
    /// Of a class, the method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// What it was submitted with, and its place there, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Higher is sooner.
    #[serde(default)]
    pub priority: i8,
    /// It was accepted on disk, and its result is kept.
    #[serde(default)]
    pub durable: bool,
    /// Microseconds of processor time, as its runner counted them.
    #[serde(default)]
    pub cpu_us: u64,
}

/// Calls that were submitted as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchRecord {
    pub id: BatchId,
    pub app: AppId,
    pub function_id: FunctionId,
    pub function: String,
    pub created_ms: u64,
    /// Calls in it.
    pub inputs: u64,
    pub ended: u64,
    pub succeeded: u64,
}

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpawnAnswer {
    /// In the order of the inputs; left out when they went into a batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Calls that were accepted, by this request or, with the same idempotency key, by the one before.
    pub accepted: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct CancelCall {
    /// End the containers that run it as well.
    pub terminate_containers: bool,
}

/// A function as it differs from the one it is made from: `with_options` and a class's parameters. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateVariant {
    /// Of a class: pickled, in base 64.
    pub parameters: Option<String>,
    pub resources: Option<Resources>,
    pub policy: Option<Policy>,
    /// Added to the function's own.
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FunctionRecord {
    pub id: FunctionId,
    pub app: AppId,
    pub name: String,
    pub is_generator: bool,
    /// Of a class.
    pub methods: BTreeMap<String, Method>,
    pub scaling: Scaling,
    /// Calls that wait, in memory and on disk.
    pub queued: u64,
    pub running: u64,
    pub replicas: u32,
}

/// How many replicas there may be. In a request, what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    pub min_containers: Option<u32>,
    pub max_containers: Option<u32>,
    pub buffer_containers: Option<u32>,
    pub scaledown_window_s: Option<u64>,
}

/// A call has changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallEvent {
    pub id: CallId,
    pub app: AppId,
    pub function: String,
    pub state: String,
    pub attempts: u32,
    pub time_ms: u64,
}

/// What was used in one span of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    pub workspace: String,
    pub app: String,
    /// The app's name.
    pub app_name: String,
    pub function: String,
    /// Begin of the span.
    pub from_ms: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// GiB of memory times seconds: what was set aside or used, whichever is more.
    pub memory_gib_s: f64,
    /// GPUs times seconds.
    pub gpu_s: f64,
    /// Containers times seconds.
    pub container_s: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ContainerRecord {
    pub replica: ReplicaId,
    pub app: AppId,
    #[serde(default)]
    pub app_name: String,
    pub function: String,
    /// `starting`, `idle`, `busy` or `ending`.
    pub state: String,
    /// Inputs it works on.
    #[serde(default)]
    pub running: u32,
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

/// A Cog model to serve as its own container would, for as long as the answer is read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeModel {
    pub name: String,
    /// Address of this machine to listen on. None: `127.0.0.1`.
    #[serde(default)]
    pub host: Option<String>,
    /// 0: any.
    pub port: u16,
    /// Runs predictions.
    #[serde(default)]
    pub function: Option<FunctionSpec>,
    /// Runs trainings.
    #[serde(default)]
    pub train: Option<FunctionSpec>,
    /// What inputs are held against, and `/openapi.json` answers.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub openapi_schema: Option<serde_json::Value>,
    #[serde(default)]
    pub cog_version: String,
    /// Output files are put below this address; without it they become data URLs.
    #[serde(default)]
    pub upload_url: Option<String>,
}

/// One line about a model that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServeEvent {
    Listening { url: String },
    Log { stream: String, text: String },
    Ping,
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
