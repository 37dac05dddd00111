//! What the writer does besides calls: apps and usage; and the steps of long works. Each is one transaction.

use clunk_core::api::UsageRow;
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, FunctionId};
use sqlx::SqliteConnection;

use super::models::ModelJob;
use super::rows::{self, Many, Query, bare};
use super::sweep::{self, EndStep, PurgeStep, Stepped};
use super::writer::{Answer, Writer};
use super::{failed, named, transaction};
use crate::store::{NewApp, StoreError};

pub enum Job {
    CreateApp(NewApp, Answer<()>),
    AddFunction(AppId, FunctionId, Box<FunctionSpec>, Answer<()>),
    RetireFunction(FunctionId, Answer<()>),
    StopApp(AppId, u64, Answer<()>),
    StopOthers(Vec<AppId>, u64, Answer<u64>),
    AddUsage(Vec<UsageRow>, Answer<()>),
    End(EndStep, Answer<Stepped>),
    Purge(PurgeStep, Answer<Stepped>),
    Model(ModelJob),
    /// Brings the log into the tables and empties it: what was deleted lies in it still.
    Checkpoint(Answer<()>),
    /// As if the disk had room for so many pages.
    #[cfg(test)]
    Limit(u32, Answer<()>),
}

impl Job {
    pub async fn run(self, writer: &mut Writer) {
        match self {
            Self::CreateApp(app, answer) => reply(answer, writer, async |c| create_app(c, &app).await).await,
            Self::AddFunction(app, id, spec, answer) => {
                reply(answer, writer, async |c| add_function(c, app, id, &spec).await).await;
            }
            Self::RetireFunction(id, answer) => {
                reply(answer, writer, async |c| retire_function(c, id).await).await;
            }
            Self::StopApp(id, now_ms, answer) => {
                reply(answer, writer, async |c| stop_app(c, id, now_ms).await).await;
            }
            Self::StopOthers(keep, now_ms, answer) => {
                reply(answer, writer, async |c| stop_others(c, &keep, now_ms).await).await;
            }
            Self::AddUsage(rows, answer) => {
                reply(answer, writer, async |c| add_usage(c, &rows).await).await;
            }
            Self::Model(job) => job.run(writer).await,
            Self::End(step, answer) => reply(answer, writer, async |c| sweep::end(c, &step).await).await,
            #[cfg(test)]
            Self::Limit(pages, answer) => reply(answer, writer, async |c| limit(c, pages).await).await,
            Self::Checkpoint(answer) => {
                let emptied =
                    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.connection).await;
                let _ = answer.send(emptied.map(drop).map_err(failed("empty the log")));
            }
            Self::Purge(step, answer) => reply(answer, writer, async |c| sweep::purge(c, step).await).await,
        }
    }
}

/// Runs one transaction and answers with its outcome.
pub async fn reply<T>(
    answer: Answer<T>,
    writer: &mut Writer,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
) {
    let connection = &mut writer.connection;
    let outcome = match transaction::begin(connection).await {
        Ok(()) => {
            let outcome = work(connection).await;
            transaction::end(connection, outcome).await
        }
        Err(error) => Err(error),
    };
    let _ = answer.send(outcome.map_err(|error| named(error, &writer.path)));
}

async fn create_app(connection: &mut SqliteConnection, app: &NewApp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO apps (id, name, state, created_ms, workspace, detached) VALUES (?, ?, 'running', ?, ?, ?)",
    )
    .bind(app.id.to_string())
    .bind(&app.name)
    .bind(app.created_ms as i64)
    .bind(&app.workspace)
    .bind(rows::lifetime_number(app.lifetime))
    .execute(&mut *connection)
    .await
    .map_err(failed("create app"))?;
    for (id, spec) in &app.functions {
        insert_function(connection, app.id, *id, spec).await?;
    }
    Ok(())
}

async fn add_function(
    connection: &mut SqliteConnection,
    app: AppId,
    id: FunctionId,
    spec: &FunctionSpec,
) -> Result<(), StoreError> {
    let there = sqlx::query("SELECT 1 FROM functions WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("read function"))?;
    match there {
        Some(_) => Ok(()),
        None => insert_function(connection, app, id, spec).await,
    }
}

async fn insert_function(
    connection: &mut SqliteConnection,
    app: AppId,
    id: FunctionId,
    spec: &FunctionSpec,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(spec).map_err(|error| StoreError::Record(error.to_string()))?;
    sqlx::query("INSERT INTO functions (id, app, name, digest, spec) VALUES (?, ?, ?, ?, ?)")
        .bind(id.to_string())
        .bind(app.to_string())
        .bind(&spec.name)
        .bind(spec.digest().to_string())
        .bind(text)
        .execute(connection)
        .await
        .map_err(failed("add function"))?;
    Ok(())
}

async fn retire_function(connection: &mut SqliteConnection, id: FunctionId) -> Result<(), StoreError> {
    sqlx::query("UPDATE functions SET retired = 1 WHERE id = ?")
        .bind(id.to_string())
        .execute(connection)
        .await
        .map_err(failed("retire function"))?;
    Ok(())
}

async fn stop_app(connection: &mut SqliteConnection, id: AppId, now_ms: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE apps SET state = 'stopped', stopped_ms = ? WHERE id = ? AND state <> 'stopped'")
        .bind(now_ms as i64)
        .bind(id.to_string())
        .execute(connection)
        .await
        .map_err(failed("stop app"))?;
    Ok(())
}

async fn stop_others(
    connection: &mut SqliteConnection,
    keep: &[AppId],
    now_ms: u64,
) -> Result<u64, StoreError> {
    let running = sqlx::query("SELECT id FROM apps WHERE state = 'running'")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("list running apps"))?;
    let mut stopped = 0;
    for row in &running {
        let id = rows::text_id(row, "id")?;
        if !keep.contains(&id) {
            stop_app(connection, id, now_ms).await?;
            stopped += 1;
        }
    }
    Ok(stopped)
}

#[cfg(test)]
async fn limit(connection: &mut SqliteConnection, pages: u32) -> Result<(), StoreError> {
    let text = format!("PRAGMA max_page_count = {pages}");
    sqlx::query(&text).execute(connection).await.map_err(failed("limit"))?;
    Ok(())
}

const ADD_USAGE: Many = Many {
    head: "INSERT INTO usage (from_ms, workspace, app, function, app_name, calls, cpu_s, memory_gib_s, gpu_s,
        container_s) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?)",
    tail: " ON CONFLICT (from_ms, workspace, app, function) DO UPDATE SET calls = calls + excluded.calls,
        cpu_s = cpu_s + excluded.cpu_s, memory_gib_s = memory_gib_s + excluded.memory_gib_s,
        gpu_s = gpu_s + excluded.gpu_s, container_s = container_s + excluded.container_s",
};

async fn add_usage(connection: &mut SqliteConnection, usage: &[UsageRow]) -> Result<(), StoreError> {
    ADD_USAGE.execute(connection, usage, bare, bind_usage).await.map_err(failed("add usage"))
}

fn bind_usage<'q>(query: Query<'q>, row: &'q UsageRow) -> Query<'q> {
    query
        .bind(row.from_ms as i64)
        .bind(&row.workspace)
        .bind(&row.app)
        .bind(&row.function)
        .bind(&row.app_name)
        .bind(row.calls as i64)
        .bind(row.cpu_s)
        .bind(row.memory_gib_s)
        .bind(row.gpu_s)
        .bind(row.container_s)
}
