//! Models, their versions, and what is run on them: predictions, trainings, deployments, files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::Digest;
use crate::function::FunctionSpec;
use crate::id::{AppId, CallId, FileId, FunctionId};

mod life;
mod name;

pub use life::{Cause, Status, StatusEvent};
pub use name::{ModelName, NameError};

/// The public id of a prediction or a training: its call's id without the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredictionId(pub CallId);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no id of a prediction (want 26 letters or digits)")]
pub struct PredictionIdError(String);

impl fmt::Display for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string()[CallId::PREFIX.len() + 1..])
    }
}

impl fmt::Debug for PredictionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PredictionId {
    type Err = PredictionIdError;

    fn from_str(text: &str) -> Result<Self, PredictionIdError> {
        let call = format!("{}-{text}", CallId::PREFIX).parse();
        call.map(Self).map_err(|_| PredictionIdError(text.into()))
    }
}

impl Serialize for PredictionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PredictionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may see a model: those with the token, or everybody who reaches the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Public,
    #[default]
    Private,
}

/// On what, and how many times at once, a model or a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Configuration {
    /// The `sku` of a [`Hardware`].
    pub hardware: String,
    pub min_instances: u32,
    /// 0: as many as the machine carries.
    pub max_instances: u32,
}

/// What a model can be run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hardware {
    pub name: String,
    pub sku: String,
}

/// The words and links that stand on a model's page. In a change, what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ModelTexts {
    pub description: Option<String>,
    pub readme: Option<String>,
    pub github_url: Option<String>,
    pub paper_url: Option<String>,
    pub license_url: Option<String>,
    pub weights_url: Option<String>,
    pub cover_image_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub name: ModelName,
    pub visibility: Visibility,
    pub texts: ModelTexts,
    pub configuration: Configuration,
    /// Predictions and trainings that were ever accepted.
    pub run_count: u64,
    pub default_example: Option<PredictionId>,
    pub created_ms: u64,
    pub latest_version: Option<Digest>,
    pub latest_version_ms: Option<u64>,
}

/// What an author pushed. Never changed; its id is the digest of all that it is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    pub id: Digest,
    pub model: ModelName,
    pub created_ms: u64,
    /// Of the Cog whose schema it has.
    pub cog_version: String,
    pub openapi_schema: Value,
    /// `cog.yaml`, normalised.
    pub config: Value,
    pub predict: FunctionSpec,
    pub train: Option<FunctionSpec>,
    /// Where its functions are served.
    pub app: AppId,
    pub predict_function: FunctionId,
    pub train_function: Option<FunctionId>,
    /// The training that made it.
    pub training: Option<PredictionId>,
}

impl Version {
    /// Those that serve it.
    pub fn functions(&self) -> impl Iterator<Item = FunctionId> + use<> {
        [Some(self.predict_function), self.train_function].into_iter().flatten()
    }
}

impl Version {
    /// Whether an output comes in parts.
    pub fn is_iterator(&self) -> bool {
        self.predict.entry.is_generator
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Prediction,
    Training,
}

/// How a prediction was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Api,
    Web,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookEvent {
    Start,
    Output,
    Logs,
    Completed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub url: String,
    /// Empty: the default, `output` and `completed`.
    pub events: Vec<WebhookEvent>,
}

impl Webhook {
    pub fn wants(&self, event: WebhookEvent) -> bool {
        match self.events.as_slice() {
            [] => matches!(event, WebhookEvent::Output | WebhookEvent::Completed),
            events => events.contains(&event),
        }
    }
}

/// A file in an output: the JSON has null where the pointer says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// A JSON pointer; empty: the value itself.
    pub pointer: String,
    pub file: FileId,
    pub name: String,
    pub media_type: String,
}

/// What a model gave, with files by reference; a server puts their URLs in when somebody reads it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub value: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OutputFile>,
}

/// A run of a version, or a training: a durable call with what its author and its caller care about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub id: PredictionId,
    pub kind: Kind,
    pub model: ModelName,
    pub version: Digest,
    /// The deployment it went to, and its release.
    pub deployment: Option<(ModelName, u32)>,
    pub source: Source,
    pub input: Value,
    /// What the client adds for the model: Cog's `context`.
    #[serde(default)]
    pub context: Map<String, Value>,
    /// Of an iterator, the list of what it gave so far.
    pub output: Option<Output>,
    pub logs: String,
    pub error: Option<String>,
    pub status: Status,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub completed_ms: Option<u64>,
    /// What the model recorded, with `predict_time` and `total_time` in seconds once it has ended.
    pub metrics: Map<String, Value>,
    pub webhook: Option<Webhook>,
    /// When it is canceled, or aborted when it has not started.
    pub deadline_ms: Option<u64>,
    /// Input, output, logs and files are gone.
    pub data_removed: bool,
    /// The server's URL as its caller knows it, without a slash at the end.
    pub base_url: String,
    /// Of a training: the model that gets the new version, and that version.
    pub destination: Option<ModelName>,
    pub trained: Option<Digest>,
}

/// One deployment of a model: a name that stays, over releases that do not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub name: ModelName,
    pub created_ms: u64,
    pub current: Release,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// From 1.
    pub number: u32,
    pub model: ModelName,
    pub version: Digest,
    pub configuration: Configuration,
    pub created_ms: u64,
    pub app: AppId,
    pub function: FunctionId,
}

/// Content that was uploaded, or that a prediction gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub id: FileId,
    pub name: String,
    pub content_type: String,
    pub size: u64,
    pub sha256: Digest,
    /// 32 hex digits.
    pub md5: String,
    pub metadata: Map<String, Value>,
    pub created_ms: u64,
    pub expires_ms: u64,
    /// The prediction that gave it.
    pub prediction: Option<PredictionId>,
}

/// What is wrong with one place of an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputProblem {
    /// The place, such as `["prompt"]`; empty: the input itself.
    pub place: Vec<String>,
    pub message: String,
    /// `value_error.missing` or `value_error`.
    pub kind: String,
}

/// A part of a list, newest first, with the cursors of the parts around it.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub results: Vec<T>,
    pub next: Option<String>,
    pub previous: Option<String>,
}

/// `POST /api/models/{owner}/{name}/versions`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushVersion {
    /// `cog.yaml`, normalised.
    #[serde(default)]
    pub config: Value,
    pub openapi_schema: Value,
    pub predict: FunctionSpec,
    #[serde(default)]
    pub train: Option<FunctionSpec>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub readme: Option<String>,
    #[serde(default)]
    pub visibility: Option<Visibility>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushAnswer {
    pub id: Digest,
    /// False: this content was there already.
    pub created: bool,
    /// `owner/name`
    pub model: String,
}

/// `POST /api/models/{owner}/{name}/predictions` and `…/deployments/…`
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePrediction {
    pub input: Value,
    /// A version of the model; absent: the newest.
    #[serde(default)]
    pub version: Option<Digest>,
    /// Texts for the model beside its input.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub context: Map<String, Value>,
    #[serde(default)]
    pub webhook: Option<String>,
    /// `start`, `output`, `logs`, `completed`. Empty: `output` and `completed`.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub webhook_events: Vec<WebhookEvent>,
    /// Seconds from now after which it is canceled.
    #[serde(default)]
    pub cancel_after_s: Option<u64>,
}
