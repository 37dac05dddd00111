//! [`ModelStore`] on SQLite.

mod jobs;
pub mod predictions;
mod read;
pub mod schema;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use clunk_core::Digest;
use clunk_core::id::FileId;
use clunk_core::model::{Deployment, File, Model, ModelName, Prediction, PredictionId, Release, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

pub use jobs::ModelJob;

use super::SqliteStore;
use super::jobs::Job;
use super::writer::{Answer, Write};
use crate::models::{
    DueWebhook, Listed, ModelChange, ModelOrder, ModelStore, PredictionQuery, PredictionWrite, Removal, Seek,
    StoredPrediction,
};
use crate::store::StoreError;

fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Record(error.to_string()))
}

fn body<T: DeserializeOwned>(row: &SqliteRow) -> Result<T, StoreError> {
    serde_json::from_str(row.get("body")).map_err(|error| StoreError::Record(error.to_string()))
}

impl SqliteStore {
    async fn model_job<T>(&self, job: impl FnOnce(Answer<T>) -> ModelJob) -> Result<T, StoreError> {
        self.job(|answer| Job::Model(job(answer))).await
    }
}

#[async_trait]
impl ModelStore for SqliteStore {
    async fn create_model(&self, model: Model) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::CreateModel(Box::new(model), answer)).await
    }

    async fn model(&self, name: &ModelName) -> Result<Option<Model>, StoreError> {
        self.read(read::model(&self.pool, name).await)
    }

    async fn models(
        &self,
        order: ModelOrder,
        ascending: bool,
        seek: Option<Seek>,
        limit: u32,
    ) -> Result<Listed<Model>, StoreError> {
        self.read(read::models(&self.pool, order, ascending, seek, limit).await)
    }

    async fn search_models(&self, words: &[String], limit: u32) -> Result<Vec<Model>, StoreError> {
        self.read(read::search(&self.pool, words, limit).await)
    }

    async fn change_model(&self, name: &ModelName, change: ModelChange) -> Result<bool, StoreError> {
        let name = name.clone();
        self.model_job(|answer| ModelJob::ChangeModel(name, Box::new(change), answer)).await
    }

    async fn delete_model(&self, name: &ModelName) -> Result<Removal, StoreError> {
        let name = name.clone();
        self.model_job(|answer| ModelJob::DeleteModel(name, answer)).await
    }

    async fn add_version(&self, version: Version) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::AddVersion(Box::new(version), answer)).await
    }

    async fn change_version(&self, version: Version) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::ChangeVersion(Box::new(version), answer)).await
    }

    async fn version(&self, id: Digest) -> Result<Option<Version>, StoreError> {
        self.read(read::version(&self.pool, id).await)
    }

    async fn versions(
        &self,
        model: &ModelName,
        seek: Option<Seek>,
        limit: u32,
    ) -> Result<Listed<Version>, StoreError> {
        self.read(read::versions(&self.pool, model, seek, limit).await)
    }

    async fn delete_version(&self, id: Digest) -> Result<Removal, StoreError> {
        self.model_job(|answer| ModelJob::DeleteVersion(id, answer)).await
    }

    async fn write_prediction(&self, write: PredictionWrite) -> Result<(), StoreError> {
        self.ask(|answer| Write::Prediction(write, Some(answer))).await
    }

    fn note_prediction(&self, write: PredictionWrite) {
        self.inbox.push(Write::Prediction(write, None));
    }

    async fn prediction(&self, id: PredictionId) -> Result<Option<StoredPrediction>, StoreError> {
        self.read(predictions::one(&self.pool, id).await)
    }

    async fn predictions(&self, query: PredictionQuery) -> Result<Vec<StoredPrediction>, StoreError> {
        self.read(predictions::list(&self.pool, &query).await)
    }

    async fn unfinished_predictions(
        &self,
        after: Option<PredictionId>,
        limit: u32,
    ) -> Result<Vec<Prediction>, StoreError> {
        self.read(predictions::unfinished(&self.pool, after, limit).await)
    }

    async fn make_example(&self, id: PredictionId) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::MakeExample(id, answer)).await
    }

    async fn remove_data(&self, ended_before_ms: u64, limit: u32) -> Result<u64, StoreError> {
        self.model_job(|answer| ModelJob::RemoveData(ended_before_ms, limit, answer)).await
    }

    async fn add_files(&self, files: Vec<File>) -> Result<(), StoreError> {
        self.model_job(|answer| ModelJob::AddFiles(files, answer)).await
    }

    async fn file(&self, id: FileId) -> Result<Option<File>, StoreError> {
        self.read(read::file(&self.pool, id).await)
    }

    async fn files(&self, seek: Option<Seek>, limit: u32) -> Result<Listed<File>, StoreError> {
        self.read(read::files(&self.pool, seek, limit).await)
    }

    async fn delete_file(&self, id: FileId) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::DeleteFile(id, answer)).await
    }

    async fn expire_files(&self, now_ms: u64, limit: u32) -> Result<u64, StoreError> {
        self.model_job(|answer| ModelJob::ExpireFiles(now_ms, limit, answer)).await
    }

    async fn create_deployment(&self, deployment: Deployment) -> Result<bool, StoreError> {
        self.model_job(|answer| ModelJob::CreateDeployment(Box::new(deployment), answer)).await
    }

    async fn deployment(&self, name: &ModelName) -> Result<Option<Deployment>, StoreError> {
        self.read(read::deployment(&self.pool, name).await)
    }

    async fn deployments(&self, seek: Option<Seek>, limit: u32) -> Result<Listed<Deployment>, StoreError> {
        self.read(read::deployments(&self.pool, seek, limit).await)
    }

    async fn add_release(&self, name: &ModelName, release: Release) -> Result<bool, StoreError> {
        let name = name.clone();
        self.model_job(|answer| ModelJob::AddRelease(name, Box::new(release), answer)).await
    }

    async fn delete_deployment(&self, name: &ModelName) -> Result<Removal, StoreError> {
        let name = name.clone();
        self.model_job(|answer| ModelJob::DeleteDeployment(name, answer)).await
    }

    async fn due_webhooks(&self, limit: u32) -> Result<Vec<DueWebhook>, StoreError> {
        self.read(predictions::due_webhooks(&self.pool, limit).await)
    }

    async fn put_webhook(&self, webhook: DueWebhook) -> Result<(), StoreError> {
        self.model_job(|answer| ModelJob::PutWebhook(webhook, answer)).await
    }

    async fn settle_webhook(&self, prediction: PredictionId) -> Result<(), StoreError> {
        self.model_job(|answer| ModelJob::SettleWebhook(prediction, answer)).await
    }
}
