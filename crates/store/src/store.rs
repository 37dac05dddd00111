//! The port: records of apps and calls, the durable queue, results, usage.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clunk_core::api::{AppRecord, BatchRecord, CallRecord, Lifetime, UsageRow};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};

use crate::calls::{CallFilter, CancelScope, Change, FoundResult, Purged, QueuedCall, Submission, Submitted};

/// An app to be recorded, with its functions.
#[derive(Debug, Clone)]
pub struct NewApp {
    pub id: AppId,
    pub name: String,
    pub workspace: String,
    pub lifetime: Lifetime,
    pub created_ms: u64,
    pub functions: Vec<(FunctionId, FunctionSpec)>,
}

/// An app that has not been stopped: it ran when its server ended.
#[derive(Debug, Clone)]
pub struct RunningApp {
    pub id: AppId,
    pub name: String,
    pub workspace: String,
    pub lifetime: Lifetime,
    pub created_ms: u64,
    pub functions: Vec<(FunctionId, FunctionSpec)>,
}

/// What was found unfinished when the store was opened after a crash, and was ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    pub apps: u64,
    pub calls: u64,
}

/// Calls of one function and priority that are in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    pub function: FunctionId,
    pub priority: i8,
    pub calls: u64,
}

/// Records, and the queue of durable calls.
///
/// What an asynchronous method has returned from survives `kill -9` and a loss of power. A change given to
/// [`Store::record`] survives once its `done` was called, or [`Store::flush`] has returned; a durable call whose end was
/// lost that way is still in the queue.
///
/// Writes happen in the order in which they were given, whoever gave them. Reads see what is on disk, not what
/// [`Store::record`] still holds: flush first where that matters.
#[async_trait]
pub trait Store: Send + Sync {
    async fn create_app(&self, app: NewApp) -> Result<(), StoreError>;

    /// Adds a function to an app, such as a variant of another. One that is there already stays as it is.
    async fn add_function(&self, app: AppId, id: FunctionId, spec: FunctionSpec) -> Result<(), StoreError>;

    /// Takes a function out of its app: a next server does not run it. Its record and those of its calls stay.
    async fn retire_function(&self, id: FunctionId) -> Result<(), StoreError>;

    /// Its calls stay in the queue: cancel them with [`Store::cancel_queued`].
    async fn stop_app(&self, id: AppId, now_ms: u64) -> Result<(), StoreError>;

    /// Newest first.
    async fn apps(&self, limit: u32) -> Result<Vec<AppRecord>, StoreError>;

    async fn app(&self, id: AppId) -> Result<Option<AppRecord>, StoreError>;

    /// Oldest first, with all their functions.
    async fn running_apps(&self) -> Result<Vec<RunningApp>, StoreError>;

    /// Of stopped apps as well.
    async fn function(&self, id: FunctionId) -> Result<Option<(AppId, FunctionSpec)>, StoreError>;

    /// Accepts calls: all of them, or none when this fails. They are on disk when this returns; concurrent submissions
    /// share a sync. Their records begin as `queued`, whatever they say.
    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError>;

    /// Calls of one function and priority that wait, in the order of arrival, after `after_seq`. At most `limit`, and
    /// no more inputs than `max_bytes`, but at least one call. A call stays here until its end is on disk: the engine's
    /// own running calls are among them.
    async fn queued(
        &self,
        function: FunctionId,
        priority: i8,
        after_seq: u64,
        limit: u32,
        max_bytes: u64,
    ) -> Result<Vec<QueuedCall>, StoreError>;

    /// What waits, by function and priority. Reads the whole queue: for the start of a server.
    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, StoreError>;

    /// Takes note of a change, and never waits. It is on disk some milliseconds later, together with others, or as soon
    /// as the disk allows when it has a `done`. Changes of the same call keep their order.
    ///
    /// When the disk refuses, `done` gets an error, and the change is kept in memory and tried again; what bounds that is
    /// [`Store::behind`].
    fn record(&self, change: Change);

    /// Whether so many changes wait for the disk that no more work should be begun.
    fn behind(&self) -> bool;

    /// Returns when the store is no longer [`Store::behind`].
    async fn caught_up(&self);

    /// Returns when everything that [`Store::record`] took is on disk.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Newest first.
    async fn calls(&self, filter: CallFilter) -> Result<Vec<CallRecord>, StoreError>;

    async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError>;

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>, StoreError>;

    /// Calls of a batch with indexes from `from` to before `to`, in that order; purged ones are left out.
    async fn batch_calls(&self, id: BatchId, from: u64, to: u64) -> Result<Vec<CallRecord>, StoreError>;

    async fn result(&self, call: CallId) -> Result<FoundResult, StoreError>;

    /// Ends as `canceled` what waits on disk, in steps between which others may write. Gives how many. A call that a
    /// replica works on is canceled too: what the engine records of it later changes nothing. They get no result.
    async fn cancel_queued(&self, scope: CancelScope, error: &str, now_ms: u64) -> Result<u64, StoreError>;

    /// Removes results of calls that ended before one time, with idempotency keys of that age, and records of calls and
    /// batches that ended before another; in steps between which others may write.
    async fn purge(&self, results_before_ms: u64, records_before_ms: u64) -> Result<Purged, StoreError>;

    /// Adds to what was used; rows of the same time, workspace, app and function become one.
    async fn add_usage(&self, rows: Vec<UsageRow>) -> Result<(), StoreError>;

    /// What was used from `since_ms` to before `until_ms`, in sums over steps that are counted from `since_ms`; one step
    /// when `step_ms` is 0.
    async fn usage(&self, since_ms: u64, until_ms: u64, step_ms: u64) -> Result<Vec<UsageRow>, StoreError>;

    /// For the start of a server: stops the running apps that are not in `keep`, and ends as `failed` the calls that
    /// wait for an app that has stopped. Calls of the others stay in the queue.
    async fn recover(&self, keep: &[AppId], now_ms: u64) -> Result<Recovered, StoreError>;
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
    /// The failure of a commit that several had a part in.
    #[error(transparent)]
    Shared(Arc<StoreError>),
    #[error("store: function {0} is unknown")]
    UnknownFunction(FunctionId),
    #[error("store: batch {0} is unknown, or of another app")]
    UnknownBatch(BatchId),
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
            Self::Shared(error) => error.is_disk_full(),
            Self::Corrupt { .. }
            | Self::Newer { .. }
            | Self::Record(_)
            | Self::Closed
            | Self::UnknownFunction(_)
            | Self::UnknownBatch(_)
            | Self::Mismatch(_) => false,
        }
    }
}
