//! The tables, and how a store of an older Clunk gets them.
//!
//! | table | key | what |
//! |---|---|---|
//! | `calls` | id | the record of each call; `seq` is set when it is durable, `result` when it had one |
//! | `queue` | function, priority, seq | each durable call until its end, with its input, in the order it is read in |
//! | `results` | number, in the order of ends | results; the oldest are purged from the left |
//! | `batches`, `parts` | number; batch, first index | counters of a batch; runs of call ids that follow each other |
//! | `keys` | number, in the order of arrival | idempotency keys and what they got |
//! | `payload_blobs` | digest | how many inputs and results lie in that blob |
//! | `counters` | | the next `seq` and result number, never given twice |

use std::path::Path;

use sqlx::{Connection, Row, SqliteConnection};

use super::{open_error, rows};
use crate::store::StoreError;

/// Raised with each entry added to [`MIGRATIONS`].
const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Entry n brings a store from schema n to n + 1. Entries never change once released.
const MIGRATIONS: &[&str] = &[
    "
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
",
    // Ids of calls and batches are 16 bytes, functions small numbers. States: 0 queued, 1 running, 2 succeeded, 3 failed,
    // 4 timed out, 5 canceled, 6 expired. A payload whose `len` is null is inline, else `body` is the digest of a blob.
    "
    ALTER TABLE apps ADD COLUMN workspace TEXT NOT NULL DEFAULT 'main';
    ALTER TABLE apps ADD COLUMN detached INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX apps_running ON apps (id) WHERE state = 'running';

    ALTER TABLE functions RENAME TO functions_1;
    DROP INDEX functions_by_app;
    CREATE TABLE functions (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, app TEXT NOT NULL REFERENCES apps (id),
        name TEXT NOT NULL, digest TEXT NOT NULL, spec TEXT NOT NULL
    );
    INSERT INTO functions (id, app, name, digest, spec) SELECT id, app, name, digest, spec FROM functions_1;
    DROP TABLE functions_1;
    CREATE INDEX functions_by_app ON functions (app, name);

    ALTER TABLE calls RENAME TO calls_1;
    DROP INDEX calls_by_app;
    DROP INDEX calls_unfinished;
    CREATE TABLE calls (
        id BLOB PRIMARY KEY, function INTEGER NOT NULL, state INTEGER NOT NULL, attempts INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER, error TEXT, method TEXT,
        batch INTEGER, place INTEGER, priority INTEGER NOT NULL, cpu_us INTEGER NOT NULL,
        seq INTEGER, result INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX calls_by_function ON calls (function);
    CREATE INDEX calls_unusual ON calls (state) WHERE state > 2;

    CREATE TABLE queue (
        function INTEGER NOT NULL, priority INTEGER NOT NULL, seq INTEGER NOT NULL, call BLOB NOT NULL,
        json INTEGER NOT NULL, expires_ms INTEGER, due_ms INTEGER NOT NULL, failures INTEGER NOT NULL,
        losses INTEGER NOT NULL, len INTEGER, body BLOB NOT NULL,
        PRIMARY KEY (function, priority, seq)
    ) WITHOUT ROWID;
    CREATE TABLE results (
        number INTEGER PRIMARY KEY, ended_ms INTEGER NOT NULL, kind INTEGER NOT NULL, json INTEGER NOT NULL,
        len INTEGER, body BLOB NOT NULL
    );
    CREATE TABLE batches (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, function INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, inputs INTEGER NOT NULL, ended INTEGER NOT NULL,
        succeeded INTEGER NOT NULL, last_ended_ms INTEGER NOT NULL
    );
    CREATE TABLE parts (
        batch INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, call BLOB NOT NULL,
        PRIMARY KEY (batch, first)
    ) WITHOUT ROWID;
    CREATE TABLE keys (
        number INTEGER PRIMARY KEY, app BLOB NOT NULL, key TEXT NOT NULL, created_ms INTEGER NOT NULL,
        accepted INTEGER NOT NULL, batch BLOB, calls BLOB NOT NULL, UNIQUE (app, key)
    );
    CREATE TABLE payload_blobs (digest BLOB PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX payload_blobs_unused ON payload_blobs (digest) WHERE uses <= 0;
    CREATE TABLE counters (seq INTEGER NOT NULL, result INTEGER NOT NULL);
    INSERT INTO counters VALUES (1, 1);
    CREATE TABLE usage (
        from_ms INTEGER NOT NULL, workspace TEXT NOT NULL, app TEXT NOT NULL, function TEXT NOT NULL,
        app_name TEXT NOT NULL, calls INTEGER NOT NULL, cpu_s REAL NOT NULL, memory_gib_s REAL NOT NULL,
        gpu_s REAL NOT NULL, container_s REAL NOT NULL,
        PRIMARY KEY (from_ms, workspace, app, function)
    ) WITHOUT ROWID;
",
    // `apps.detached` says what keeps an app: 0 its event stream, 1 its calls, 2 nothing ends it.
    "
    ALTER TABLE functions ADD COLUMN retired INTEGER NOT NULL DEFAULT 0;
",
    super::models::schema::TABLES,
];

/// Old calls read and written at a time.
const COPIED: u32 = 4096;

pub async fn check(writer: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let row = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(writer)
        .await
        .map_err(|source| open_error(path, source))?;
    match row.get::<String, _>(0) {
        verdict if verdict == "ok" => Ok(()),
        detail => Err(StoreError::Corrupt { path: path.into(), detail }),
    }
}

pub async fn migrate(writer: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: sqlx::Error| open_error(path, source);
    let found: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *writer).await.map_err(failed)?.get(0);
    if found > SCHEMA {
        return Err(StoreError::Newer { path: path.into(), found, known: SCHEMA });
    }
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        sqlx::raw_sql(migration).execute(&mut *transaction).await.map_err(failed)?;
        if number == 1 {
            copy_calls(&mut transaction, path).await?;
        }
        let version = format!("PRAGMA user_version = {}", number + 1);
        sqlx::raw_sql(&version).execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
    }
    Ok(())
}

/// Brings calls of schema 1 into the table of schema 2. What had not ended then was lost with its server.
async fn copy_calls(writer: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |source: sqlx::Error| open_error(path, source);
    let mut after = String::new();
    loop {
        let page = sqlx::query(
            "SELECT c.*, f.number FROM calls_1 c CROSS JOIN functions f ON f.id = c.function_id
             WHERE c.id > ? ORDER BY c.id LIMIT ?",
        )
        .bind(&after)
        .bind(COPIED)
        .fetch_all(&mut *writer)
        .await
        .map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = last.get("id");
        let calls = page.iter().map(rows::old_call).collect::<Result<Vec<_>, _>>()?;
        rows::insert_calls(writer, &calls).await.map_err(failed)?;
    }
    sqlx::raw_sql("DROP TABLE calls_1").execute(&mut *writer).await.map_err(failed)?;
    Ok(())
}
