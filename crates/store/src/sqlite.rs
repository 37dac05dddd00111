//! [`Store`] on SQLite: one file, write-ahead log, one writer connection with group commit.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use clunk_core::api::{AppRecord, CallRecord};
use clunk_core::id::{AppId, CallId};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::store::{NewApp, Recovered, Store, StoreError};

/// Raised with each entry added to [`MIGRATIONS`].
const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Entry n brings a store from schema n to n + 1. Entries never change once released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE apps (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL,
        created_ms INTEGER NOT NULL, stopped_ms INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE functions (
        id TEXT PRIMARY KEY, app TEXT NOT NULL REFERENCES apps (id), name TEXT NOT NULL,
        digest TEXT NOT NULL, spec TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX functions_by_app ON functions (app, name);
    CREATE TABLE calls (
        id TEXT PRIMARY KEY, app TEXT NOT NULL, function_id TEXT NOT NULL, function TEXT NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, error TEXT
    ) WITHOUT ROWID;
    CREATE INDEX calls_by_app ON calls (app, id);
    CREATE INDEX calls_unfinished ON calls (state) WHERE ended_ms IS NULL;
"];

/// Records waiting for the next commit; a full queue makes the writer commit sooner, never drop.
const MAX_BATCH: usize = 4096;
/// How long a record may wait for company before it is committed.
const GROUP_COMMIT: Duration = Duration::from_millis(20);
/// Readers at the same time.
const MAX_READERS: u32 = 2;

enum Write {
    Call(Box<CallRecord>),
    Flush(oneshot::Sender<Result<(), StoreError>>),
}

/// See [`Store`].
pub struct SqliteStore {
    path: PathBuf,
    pool: SqlitePool,
    writes: mpsc::UnboundedSender<Write>,
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
            .foreign_keys(true)
            .pragma("cache_size", "-2048");
        let failed = |source: sqlx::Error| open_error(path, source);
        let mut writer = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        check(&mut writer, path).await?;
        migrate(&mut writer, path).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_READERS)
            .min_connections(0)
            .connect_lazy_with(options.create_if_missing(false));
        let (writes, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_loop(writer, queue));
        Ok(Self { path: path.into(), pool, writes })
    }

    fn query_error(&self, operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        move |source| match &source {
            sqlx::Error::Database(error) if matches!(error.code().as_deref(), Some("11" | "26")) => {
                StoreError::Corrupt { path: self.path.clone(), detail: error.message().into() }
            }
            _ => StoreError::Query { operation, source },
        }
    }
}

fn open_error(path: &Path, source: sqlx::Error) -> StoreError {
    // SQLITE_CORRUPT and SQLITE_NOTADB
    match source.as_database_error().and_then(|error| error.code()) {
        Some(code) if code == "11" || code == "26" => {
            StoreError::Corrupt { path: path.into(), detail: source.to_string() }
        }
        _ => StoreError::Open { path: path.into(), source },
    }
}

async fn check(writer: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let row = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(writer)
        .await
        .map_err(|source| open_error(path, source))?;
    match row.get::<String, _>(0) {
        verdict if verdict == "ok" => Ok(()),
        detail => Err(StoreError::Corrupt { path: path.into(), detail }),
    }
}

async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: sqlx::Error| open_error(path, source);
    let found: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *writer).await.map_err(failed)?.get(0);
    if found > SCHEMA {
        return Err(StoreError::Newer { path: path.into(), found, known: SCHEMA });
    }
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let script = format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {}; COMMIT;", number + 1);
        sqlx::raw_sql(&script).execute(&mut *writer).await.map_err(failed)?;
    }
    Ok(())
}

/// Commits what was recorded, many at a time: the first record opens a window, what comes within it shares its sync.
async fn write_loop(mut writer: SqliteConnection, mut queue: mpsc::UnboundedReceiver<Write>) {
    let mut batch = Vec::new();
    while let Some(first) = queue.recv().await {
        let mut waiting = Vec::new();
        let mut take = |write, batch: &mut Vec<CallRecord>| match write {
            Write::Call(call) => batch.push(*call),
            Write::Flush(answer) => waiting.push(answer),
        };
        take(first, &mut batch);
        let window = tokio::time::sleep(GROUP_COMMIT);
        tokio::pin!(window);
        while batch.len() < MAX_BATCH {
            tokio::select! {
                biased;
                write = queue.recv() => match write {
                    Some(Write::Flush(answer)) => { take(Write::Flush(answer), &mut batch); break }
                    Some(write) => take(write, &mut batch),
                    None => break,
                },
                () = &mut window => break,
            }
        }
        let result = commit(&mut writer, &batch).await;
        if let Err(error) = &result {
            tracing::error!(error = %error, calls = batch.len(), "could not record calls");
        }
        batch.clear();
        let mut result = Some(result);
        for answer in waiting {
            let _ = answer.send(
                result
                    .take()
                    .unwrap_or(Ok(()))
                    .map_err(|source| StoreError::Query { operation: "record calls", source }),
            );
        }
    }
    let _ = writer.close().await;
}

async fn commit(writer: &mut SqliteConnection, batch: &[CallRecord]) -> Result<(), sqlx::Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let mut transaction = writer.begin().await?;
    for call in batch {
        sqlx::query(
            "INSERT INTO calls (id, app, function_id, function, state, attempts, created_ms, started_ms, ended_ms, error)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
                 started_ms = excluded.started_ms, ended_ms = excluded.ended_ms, error = excluded.error",
        )
        .bind(call.id.to_string())
        .bind(call.app.to_string())
        .bind(call.function_id.to_string())
        .bind(&call.function)
        .bind(&call.state)
        .bind(call.attempts)
        .bind(call.created_ms as i64)
        .bind(call.started_ms.map(|ms| ms as i64))
        .bind(call.ended_ms.map(|ms| ms as i64))
        .bind(&call.error)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

fn id<T: FromStr>(row: &SqliteRow, column: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    row.get::<String, _>(column).parse().map_err(|error: T::Err| StoreError::Record(error.to_string()))
}

fn ms(row: &SqliteRow, column: &str) -> Option<u64> {
    row.get::<Option<i64>, _>(column).map(|ms| ms as u64)
}

fn call_record(row: &SqliteRow) -> Result<CallRecord, StoreError> {
    Ok(CallRecord {
        id: id(row, "id")?,
        app: id(row, "app")?,
        function_id: id(row, "function_id")?,
        function: row.get("function"),
        state: row.get("state"),
        attempts: row.get("attempts"),
        created_ms: ms(row, "created_ms").unwrap_or_default(),
        started_ms: ms(row, "started_ms"),
        ended_ms: ms(row, "ended_ms"),
        error: row.get("error"),
        method: String::new(),
        batch: None,
        index: None,
        priority: 0,
        durable: false,
        cpu_us: 0,
    })
}

fn app_record(row: &SqliteRow) -> Result<AppRecord, StoreError> {
    let functions: Option<String> = row.get("functions");
    Ok(AppRecord {
        id: id(row, "id")?,
        name: row.get("name"),
        state: row.get("state"),
        created_ms: ms(row, "created_ms").unwrap_or_default(),
        stopped_ms: ms(row, "stopped_ms"),
        functions: functions.map(|names| names.split('\n').map(String::from).collect()).unwrap_or_default(),
    })
}

const APP_COLUMNS: &str = "SELECT id, name, state, created_ms, stopped_ms,
    (SELECT group_concat(f.name, char(10)) FROM functions f WHERE f.app = apps.id) AS functions FROM apps";

#[async_trait]
impl Store for SqliteStore {
    async fn create_app(&self, app: NewApp) -> Result<(), StoreError> {
        let failed = self.query_error("create app");
        let mut transaction = self.pool.begin().await.map_err(&failed)?;
        sqlx::query("INSERT INTO apps (id, name, state, created_ms) VALUES (?, ?, 'running', ?)")
            .bind(app.id.to_string())
            .bind(&app.name)
            .bind(app.created_ms as i64)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        for (function, spec) in &app.functions {
            let text = serde_json::to_string(spec).map_err(|error| StoreError::Record(error.to_string()))?;
            sqlx::query("INSERT INTO functions (id, app, name, digest, spec) VALUES (?, ?, ?, ?, ?)")
                .bind(function.to_string())
                .bind(app.id.to_string())
                .bind(&spec.name)
                .bind(spec.digest().to_string())
                .bind(text)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn stop_app(&self, id: AppId, now_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE apps SET state = 'stopped', stopped_ms = ? WHERE id = ? AND state <> 'stopped'")
            .bind(now_ms as i64)
            .bind(id.to_string())
            .execute(&self.pool)
            .await
            .map_err(self.query_error("stop app"))?;
        Ok(())
    }

    async fn apps(&self, limit: u32) -> Result<Vec<AppRecord>, StoreError> {
        let query = format!("{APP_COLUMNS} ORDER BY id DESC LIMIT ?");
        let rows = sqlx::query(&query).bind(limit).fetch_all(&self.pool).await;
        rows.map_err(self.query_error("list apps"))?.iter().map(app_record).collect()
    }

    async fn app(&self, id: AppId) -> Result<Option<AppRecord>, StoreError> {
        let query = format!("{APP_COLUMNS} WHERE id = ?");
        let row = sqlx::query(&query).bind(id.to_string()).fetch_optional(&self.pool).await;
        row.map_err(self.query_error("read app"))?.as_ref().map(app_record).transpose()
    }

    fn record_call(&self, call: CallRecord) {
        // The writer ends only with the process.
        let _ = self.writes.send(Write::Call(Box::new(call)));
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.writes.send(Write::Flush(answer)).map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    async fn calls(&self, app: Option<AppId>, limit: u32) -> Result<Vec<CallRecord>, StoreError> {
        let app = app.map(|app| app.to_string());
        let rows = sqlx::query("SELECT * FROM calls WHERE ?1 IS NULL OR app = ?1 ORDER BY id DESC LIMIT ?2")
            .bind(app)
            .bind(limit)
            .fetch_all(&self.pool)
            .await;
        rows.map_err(self.query_error("list calls"))?.iter().map(call_record).collect()
    }

    async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM calls WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await;
        row.map_err(self.query_error("read call"))?.as_ref().map(call_record).transpose()
    }

    async fn recover(&self, now_ms: u64) -> Result<Recovered, StoreError> {
        let failed = self.query_error("recover");
        let apps = sqlx::query("UPDATE apps SET state = 'stopped', stopped_ms = ? WHERE state = 'running'")
            .bind(now_ms as i64)
            .execute(&self.pool)
            .await
            .map_err(&failed)?;
        let calls = sqlx::query(
            "UPDATE calls SET state = 'failed', ended_ms = ?, error = 'app-stopped: the server was killed' WHERE ended_ms IS NULL",
        )
        .bind(now_ms as i64)
        .execute(&self.pool)
        .await
        .map_err(&failed)?;
        Ok(Recovered { apps: apps.rows_affected(), calls: calls.rows_affected() })
    }
}
