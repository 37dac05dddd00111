//! The port: records of apps and calls.

use std::path::PathBuf;

use async_trait::async_trait;
use clunk_core::api::{AppRecord, CallRecord};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, CallId, FunctionId};

/// An app to be recorded, with its functions.
#[derive(Debug, Clone)]
pub struct NewApp {
    pub id: AppId,
    pub name: String,
    pub created_ms: u64,
    pub functions: Vec<(FunctionId, FunctionSpec)>,
}

/// What was found unfinished when the store was opened after a crash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    pub apps: u64,
    pub calls: u64,
}

/// Records. What a method has returned from survives `kill -9`, but for [`Store::record_call`].
#[async_trait]
pub trait Store: Send + Sync {
    async fn create_app(&self, app: NewApp) -> Result<(), StoreError>;

    async fn stop_app(&self, id: AppId, now_ms: u64) -> Result<(), StoreError>;

    /// Newest first.
    async fn apps(&self, limit: u32) -> Result<Vec<AppRecord>, StoreError>;

    async fn app(&self, id: AppId) -> Result<Option<AppRecord>, StoreError>;

    /// Records a call as it is now, some milliseconds later and together with others. The order of records of the
    /// same call is kept.
    fn record_call(&self, call: CallRecord);

    /// Returns when everything that [`Store::record_call`] took is on disk.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Newest first.
    async fn calls(&self, app: Option<AppId>, limit: u32) -> Result<Vec<CallRecord>, StoreError>;

    async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError>;

    /// Ends what a killed server left running: its apps are stopped, its calls failed.
    async fn recover(&self, now_ms: u64) -> Result<Recovered, StoreError>;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not open the store {path}")]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("the store {path} is damaged: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    #[error("the store {path} was written by a newer Clunk (schema {found}, this one knows {known})")]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("store: {operation} failed")]
    Query { operation: &'static str, source: sqlx::Error },
    #[error("store: a record is unreadable: {0}")]
    Record(String),
    #[error("store: the writer has ended")]
    Closed,
    #[error("{operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the content does not match its digest {0}")]
    Mismatch(clunk_core::Digest),
}

impl StoreError {
    /// Whether the disk ran full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            // SQLITE_FULL
            Self::Query { source, .. } | Self::Open { source, .. } => {
                source.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "13")
            }
            Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::Record(_)
            | Self::Closed
            | Self::Mismatch(_) => false,
        }
    }
}
