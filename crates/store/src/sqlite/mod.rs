//! [`Store`] on SQLite: one file, write-ahead log, one writer connection with group commit.

mod changes;
mod jobs;
mod models;
mod read;
mod rows;
mod schema;
mod submit;
mod sweep;
#[cfg(test)]
mod tests;
mod transaction;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clunk_core::Digest;
use clunk_core::api::{AppRecord, BatchRecord, CallRecord, UsageRow};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::oneshot;

use self::changes::Noted;
use self::jobs::Job;
use self::rows::{Many, bare};
use self::sweep::{Calls, EndStep, PurgeStep, Stepped};
use self::writer::{Answer, Inbox, Known, Write, Writer};
use crate::calls::{CallFilter, CancelScope, Change, FoundResult, Purged, QueuedCall, Submission, Submitted};
use crate::store::{NewApp, QueueDepth, Recovered, RunningApp, Store, StoreError};

/// Readers at the same time.
const MAX_READERS: u32 = 2;
/// KiB of pages that the writer keeps: the edges of all tables, and what one commit changes.
const WRITER_CACHE: &str = "-8192";
const READER_CACHE: &str = "-2048";
/// Pages of the log before they are brought into the tables; a page that was written often is brought there once.
const CHECKPOINT_PAGES: &str = "4096";
/// The error of calls that ended with their server.
const KILLED: &str = "app-stopped: the server was killed";
/// Calls of a batch that are canceled in one step.
const BATCH_STEP: u64 = 2048;

/// See [`Store`].
pub struct SqliteStore {
    path: PathBuf,
    pool: SqlitePool,
    inbox: Arc<Inbox>,
    writer: Option<tokio::task::JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens or makes the store, checks that it is sound, and brings it to today's schema.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        let writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            // Inputs may be secret: with their call, they leave the disk.
            .pragma("secure_delete", "ON")
            .statement_cache_capacity(256);
        let mut connection =
            SqliteConnection::connect_with(&writing).await.map_err(|source| open_error(path, source))?;
        schema::check(&mut connection, path).await?;
        schema::migrate(&mut connection, path).await?;
        let known = Known::load(&mut connection).await?;
        let reading = options.create_if_missing(false).pragma("cache_size", READER_CACHE);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .min_connections(0)
            .connect_lazy_with(reading);
        let inbox = Arc::new(Inbox::default());
        let writer = Writer { path: path.into(), connection, known, inbox: inbox.clone() };
        let writer = Some(tokio::spawn(writer.run()));
        Ok(Self { path: path.into(), pool, inbox, writer })
    }

    /// Writes all that was recorded and closes the file. Dropping the store does the same a little later.
    pub async fn close(mut self) {
        self.inbox.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.await;
        }
        self.pool.close().await;
    }

    async fn ask<T>(&self, write: impl FnOnce(Answer<T>) -> Write) -> Result<T, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.inbox.push(write(answer));
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    async fn job<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        self.ask(|answer| Write::Job(job(answer))).await
    }

    /// Ends what waits of a function, step by step.
    async fn end_function(
        &self,
        function: i64,
        state: i64,
        error: &str,
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        loop {
            let step = EndStep { calls: Calls::Function(function), state, error: error.into(), now_ms };
            let stepped: Stepped = self.job(|answer| Job::End(step, answer)).await?;
            count += stepped.count;
            if !stepped.more {
                return Ok(count);
            }
        }
    }

    async fn cancel_batch(&self, batch: BatchId, error: &str, now_ms: u64) -> Result<u64, StoreError> {
        // The writer has what was submitted before; inputs that come later are not meant.
        let Some(record) = self.batch(batch).await? else { return Ok(0) };
        let mut count = 0;
        for from in (0..record.inputs).step_by(BATCH_STEP as usize) {
            let to = record.inputs.min(from + BATCH_STEP);
            let parts = read::parts(&self.pool, batch, from, to).await.map_err(|error| self.named(error))?;
            let runs = parts.iter().filter_map(|part| part.within(from, to));
            let calls = runs.flat_map(|(first, count)| (0..count).map(move |offset| first.offset(offset)));
            let calls = Calls::These(calls.collect());
            let step = EndStep { calls, state: rows::CANCELED, error: error.into(), now_ms };
            count += self.job(|answer| Job::End(step, answer)).await?.count;
        }
        Ok(count)
    }

    /// Numbers of functions, by the condition and its value.
    async fn numbers(&self, condition: &str, value: String) -> Result<Vec<i64>, StoreError> {
        let text = format!("SELECT f.number FROM functions f WHERE {condition}");
        let found = sqlx::query(&text).bind(value).fetch_all(&self.pool).await;
        let found = found.map_err(|source| self.named(failed("list functions")(source)))?;
        Ok(found.iter().map(|row| row.get("number")).collect())
    }

    fn named(&self, error: StoreError) -> StoreError {
        named(error, &self.path)
    }

    fn read<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.map_err(|error| self.named(error))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { operation, source }
}

/// Names the file when SQLite found it damaged.
fn named(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Query { source, .. } if is_damage(&source) => {
            StoreError::Corrupt { path: path.into(), detail: source.to_string() }
        }
        other => other,
    }
}

fn open_error(path: &Path, source: sqlx::Error) -> StoreError {
    if is_damage(&source) {
        return StoreError::Corrupt { path: path.into(), detail: source.to_string() };
    }
    StoreError::Open { path: path.into(), source }
}

/// SQLITE_CORRUPT and SQLITE_NOTADB.
fn is_damage(source: &sqlx::Error) -> bool {
    source.as_database_error().is_some_and(|error| matches!(error.code().as_deref(), Some("11" | "26")))
}

/// Adds to how many inputs and results lie in each blob. Those that nobody refers to wait for the purge.
async fn blob_uses(connection: &mut SqliteConnection, uses: HashMap<Digest, i64>) -> Result<(), sqlx::Error> {
    const COUNT: Many = Many {
        head: "INSERT INTO payload_blobs (digest, uses) VALUES ",
        row: "(?,?)",
        tail: " ON CONFLICT (digest) DO UPDATE SET uses = uses + excluded.uses",
    };
    let uses: Vec<_> = uses.into_iter().collect();
    let bind: for<'q> fn(rows::Query<'q>, &'q (Digest, i64)) -> rows::Query<'q> =
        |query, (digest, uses)| query.bind(&digest.as_bytes()[..]).bind(*uses);
    COUNT.execute(connection, &uses, bare, bind).await
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_app(&self, app: NewApp) -> Result<(), StoreError> {
        self.job(|answer| Job::CreateApp(app, answer)).await
    }

    async fn add_function(&self, app: AppId, id: FunctionId, spec: FunctionSpec) -> Result<(), StoreError> {
        self.job(|answer| Job::AddFunction(app, id, Box::new(spec), answer)).await
    }

    async fn retire_function(&self, id: FunctionId) -> Result<(), StoreError> {
        self.job(|answer| Job::RetireFunction(id, answer)).await
    }

    async fn stop_app(&self, id: AppId, now_ms: u64) -> Result<(), StoreError> {
        self.job(|answer| Job::StopApp(id, now_ms, answer)).await
    }

    async fn apps(&self, limit: u32) -> Result<Vec<AppRecord>, StoreError> {
        self.read(read::apps(&self.pool, limit).await)
    }

    async fn app(&self, id: AppId) -> Result<Option<AppRecord>, StoreError> {
        self.read(read::app(&self.pool, id).await)
    }

    async fn running_apps(&self) -> Result<Vec<RunningApp>, StoreError> {
        self.read(read::running_apps(&self.pool).await)
    }

    async fn function(&self, id: FunctionId) -> Result<Option<(AppId, FunctionSpec)>, StoreError> {
        self.read(read::function(&self.pool, id).await)
    }

    async fn submit(&self, submission: Submission) -> Result<Submitted, StoreError> {
        self.ask(|answer| Write::Submit(submission, answer)).await
    }

    async fn queued(
        &self,
        function: FunctionId,
        priority: i8,
        after_seq: u64,
        limit: u32,
        max_bytes: u64,
    ) -> Result<Vec<QueuedCall>, StoreError> {
        self.read(read::queued(&self.pool, function, priority, after_seq, limit, max_bytes).await)
    }

    async fn queue_depths(&self) -> Result<Vec<QueueDepth>, StoreError> {
        self.read(read::queue_depths(&self.pool).await)
    }

    fn record(&self, change: Change) {
        let (noted, done) = Noted::new(change);
        self.inbox.push(Write::Change(noted, done));
    }

    fn behind(&self) -> bool {
        self.inbox.behind()
    }

    async fn caught_up(&self) {
        self.inbox.caught_up().await;
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.ask(Write::Flush).await
    }

    async fn calls(&self, filter: CallFilter) -> Result<Vec<CallRecord>, StoreError> {
        self.read(read::calls(&self.pool, &filter).await)
    }

    async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError> {
        self.read(read::call(&self.pool, id).await)
    }

    async fn batch(&self, id: BatchId) -> Result<Option<BatchRecord>, StoreError> {
        self.read(read::batch(&self.pool, id).await)
    }

    async fn batch_calls(&self, id: BatchId, from: u64, to: u64) -> Result<Vec<CallRecord>, StoreError> {
        self.read(read::batch_calls(&self.pool, id, from, to).await)
    }

    async fn result(&self, call: CallId) -> Result<FoundResult, StoreError> {
        self.read(read::result(&self.pool, call).await)
    }

    async fn cancel_queued(&self, scope: CancelScope, error: &str, now_ms: u64) -> Result<u64, StoreError> {
        let functions = match scope {
            CancelScope::Batch(batch) => return self.cancel_batch(batch, error, now_ms).await,
            CancelScope::App(app) => self.numbers("f.app = ?", app.to_string()).await?,
            CancelScope::Function(function) => self.numbers("f.id = ?", function.to_string()).await?,
        };
        let mut count = 0;
        for function in functions {
            count += self.end_function(function, rows::CANCELED, error, now_ms).await?;
        }
        Ok(count)
    }

    async fn purge(&self, results_before_ms: u64, records_before_ms: u64) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        let first_steps = [
            PurgeStep::Results { before_ms: results_before_ms },
            PurgeStep::Keys { before_ms: results_before_ms },
            PurgeStep::Records { before_ms: records_before_ms, after: None },
            PurgeStep::Batches { before_ms: records_before_ms, after: 0 },
            PurgeStep::Blobs,
        ];
        for first in first_steps {
            let mut next = Some(first);
            while let Some(step) = next {
                let stepped: Stepped = self.job(|answer| Job::Purge(step, answer)).await?;
                match step {
                    PurgeStep::Results { .. } => purged.results += stepped.count,
                    PurgeStep::Records { .. } => purged.records += stepped.count,
                    PurgeStep::Keys { .. } | PurgeStep::Batches { .. } | PurgeStep::Blobs => {}
                }
                purged.blobs.extend(stepped.blobs);
                next = stepped.next;
            }
        }
        self.job(Job::Checkpoint).await?;
        Ok(purged)
    }

    async fn add_usage(&self, rows: Vec<UsageRow>) -> Result<(), StoreError> {
        self.job(|answer| Job::AddUsage(rows, answer)).await
    }

    async fn usage(&self, since_ms: u64, until_ms: u64, step_ms: u64) -> Result<Vec<UsageRow>, StoreError> {
        self.read(read::usage(&self.pool, since_ms, until_ms, step_ms).await)
    }

    async fn recover(&self, keep: &[AppId], now_ms: u64) -> Result<Recovered, StoreError> {
        let apps = self.job(|answer| Job::StopOthers(keep.to_vec(), now_ms, answer)).await?;
        let orphaned = "EXISTS (SELECT 1 FROM queue q WHERE q.function = f.number)
            AND (SELECT a.state FROM apps a WHERE a.id = f.app) <> ?";
        let mut calls = 0;
        for function in self.numbers(orphaned, "running".into()).await? {
            calls += self.end_function(function, rows::FAILED, KILLED, now_ms).await?;
        }
        Ok(Recovered { apps, calls })
    }
}
