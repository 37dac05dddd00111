//! The port of models: the catalogue, predictions, deployments, files, and webhooks on their way.

use async_trait::async_trait;
use clunk_core::Digest;
use clunk_core::id::{CallId, FileId};
use clunk_core::model::{
    Configuration, Deployment, File, Kind, Model, ModelName, ModelTexts, Prediction, PredictionId, Release,
    Source, Version, Visibility,
};

use crate::calls::StoredPayload;
use crate::store::StoreError;

/// Where a list goes on: behind the entry with that key, in one of two directions. Lists are newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seek {
    pub newer: bool,
    /// As an entry of an earlier part had it.
    pub key: ListKey,
}

/// Orders a list: a time (0 where the order of creation is all), then the place in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListKey {
    pub time_ms: u64,
    pub number: u64,
}

impl ListKey {
    /// Predictions are listed by their ids.
    pub fn of_prediction(id: PredictionId) -> Self {
        let number = u128::from_be_bytes(id.0.to_bytes());
        Self { time_ms: (number >> 64) as u64, number: number as u64 }
    }

    pub fn prediction(self) -> PredictionId {
        let number = u128::from(self.time_ms) << 64 | u128::from(self.number);
        PredictionId(CallId::from_bytes(number.to_be_bytes()))
    }
}

/// A part of a list: from its begin or where `seek` says, with one entry more than `limit` when there are more. Behind a
/// `newer` seek it is oldest first.
pub type Listed<T> = Vec<(ListKey, T)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelOrder {
    Created,
    LatestVersion,
}

/// What a change of a model sets; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ModelChange {
    pub texts: ModelTexts,
    pub visibility: Option<Visibility>,
    pub configuration: Option<Configuration>,
    pub default_example: Option<Option<PredictionId>>,
}

/// Whether something was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    Removed,
    Absent,
    /// It has versions, or a deployment runs it.
    Used {
        by: String,
    },
}

/// A prediction with its large parts where they lie. `record` has no input and no output.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPrediction {
    pub record: Prediction,
    pub input: Option<StoredPayload>,
    /// JSON of [`clunk_core::model::Output`].
    pub output: Option<StoredPayload>,
}

/// What is to be written of a prediction.
#[derive(Debug, Clone)]
pub enum PredictionWrite {
    /// Counts as a run of its model.
    Insert(Box<StoredPrediction>),
    /// All but its input. One that has ended on disk is not changed any more; `webhook`: its end is to be sent from then.
    Update { record: Box<Prediction>, output: Option<StoredPayload>, webhook_due_ms: Option<u64> },
}

impl PredictionWrite {
    pub fn id(&self) -> PredictionId {
        match self {
            Self::Insert(stored) => stored.record.id,
            Self::Update { record, .. } => record.id,
        }
    }
}

/// What is absent does not restrict.
#[derive(Debug, Clone)]
pub struct PredictionQuery {
    pub kind: Kind,
    pub model: Option<ModelName>,
    pub version: Option<Digest>,
    pub source: Option<Source>,
    pub created_after_ms: Option<u64>,
    pub created_before_ms: Option<u64>,
    /// Only those that were made an example.
    pub examples: bool,
    pub seek: Option<Seek>,
    pub limit: u32,
}

/// A webhook of an end that has not been taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueWebhook {
    pub prediction: PredictionId,
    pub due_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
}

/// Records of models and what is run on them. As with [`crate::Store`], what a method has returned from is on disk, and
/// writes happen in the order in which they were given, with those of the other port.
#[async_trait]
pub trait ModelStore: Send + Sync {
    /// False: the name is taken.
    async fn create_model(&self, model: Model) -> Result<bool, StoreError>;
    async fn model(&self, name: &ModelName) -> Result<Option<Model>, StoreError>;
    async fn models(
        &self,
        order: ModelOrder,
        ascending: bool,
        seek: Option<Seek>,
        limit: u32,
    ) -> Result<Listed<Model>, StoreError>;
    /// Models in whose name, description or readme each word occurs, those with the most runs first.
    async fn search_models(&self, words: &[String], limit: u32) -> Result<Vec<Model>, StoreError>;
    /// False: there is no such model.
    async fn change_model(&self, name: &ModelName, change: ModelChange) -> Result<bool, StoreError>;
    async fn delete_model(&self, name: &ModelName) -> Result<Removal, StoreError>;

    /// False: a version with this id is there. The model must be there.
    async fn add_version(&self, version: Version) -> Result<bool, StoreError>;
    /// Writes anew where a version that is there is served. False: it is not there.
    async fn change_version(&self, version: Version) -> Result<bool, StoreError>;
    async fn version(&self, id: Digest) -> Result<Option<Version>, StoreError>;
    async fn versions(
        &self,
        model: &ModelName,
        seek: Option<Seek>,
        limit: u32,
    ) -> Result<Listed<Version>, StoreError>;
    /// Its model's newest version is then the one before it.
    async fn delete_version(&self, id: Digest) -> Result<Removal, StoreError>;

    /// Returns when it is on disk, in the place in the order of writes that it was given at: a call submitted after the
    /// first poll is never on disk without it.
    async fn write_prediction(&self, write: PredictionWrite) -> Result<(), StoreError>;
    /// As [`ModelStore::write_prediction`], soon and without a word. When the disk refuses it is forgotten.
    fn note_prediction(&self, write: PredictionWrite);
    async fn prediction(&self, id: PredictionId) -> Result<Option<StoredPrediction>, StoreError>;
    /// Without logs, and without payloads that are not inline.
    async fn predictions(&self, query: PredictionQuery) -> Result<Vec<StoredPrediction>, StoreError>;
    /// Those that have not ended, in the order of their ids, after that id. Without input and output.
    async fn unfinished_predictions(
        &self,
        after: Option<PredictionId>,
        limit: u32,
    ) -> Result<Vec<Prediction>, StoreError>;
    /// False: there is no such prediction.
    async fn make_example(&self, id: PredictionId) -> Result<bool, StoreError>;
    /// Removes input, output, logs and files of so many predictions that ended before that time, oldest first. Gives how
    /// many there were.
    async fn remove_data(&self, ended_before_ms: u64, limit: u32) -> Result<u64, StoreError>;

    /// The content lies in the folder of payloads, and is counted as used from then.
    async fn add_files(&self, files: Vec<File>) -> Result<(), StoreError>;
    async fn file(&self, id: FileId) -> Result<Option<File>, StoreError>;
    /// Those that no prediction gave.
    async fn files(&self, seek: Option<Seek>, limit: u32) -> Result<Listed<File>, StoreError>;
    async fn delete_file(&self, id: FileId) -> Result<bool, StoreError>;
    /// Forgets so many files whose time is over. Gives how many there were.
    async fn expire_files(&self, now_ms: u64, limit: u32) -> Result<u64, StoreError>;

    /// False: the name is taken.
    async fn create_deployment(&self, deployment: Deployment) -> Result<bool, StoreError>;
    async fn deployment(&self, name: &ModelName) -> Result<Option<Deployment>, StoreError>;
    async fn deployments(&self, seek: Option<Seek>, limit: u32) -> Result<Listed<Deployment>, StoreError>;
    /// Makes the release the current one. False: there is no such deployment, or its current release is not the one
    /// before.
    async fn add_release(&self, name: &ModelName, release: Release) -> Result<bool, StoreError>;
    async fn delete_deployment(&self, name: &ModelName) -> Result<Removal, StoreError>;

    /// The next to be sent, the one that is due first first.
    async fn due_webhooks(&self, limit: u32) -> Result<Vec<DueWebhook>, StoreError>;
    /// Puts it into the line, or to a later place.
    async fn put_webhook(&self, webhook: DueWebhook) -> Result<(), StoreError>;
    /// It was taken, or given up.
    async fn settle_webhook(&self, prediction: PredictionId) -> Result<(), StoreError>;
}
