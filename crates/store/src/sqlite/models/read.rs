//! Queries of the catalogue, deployments and files.

use clunk_core::Digest;
use clunk_core::id::FileId;
use clunk_core::model::{Deployment, File, Model, ModelName, Release, Version};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::body;
use crate::models::{ListKey, Listed, ModelOrder, Seek};
use crate::sqlite::failed;
use crate::sqlite::rows::{self, Query};
use crate::store::StoreError;

pub const MODEL: &str =
    "SELECT number, created_ms, latest, latest_ms, runs, body FROM models WHERE owner = ? AND name = ?";

pub fn model_of(row: &SqliteRow) -> Result<Model, StoreError> {
    let latest = row.get::<Option<Vec<u8>>, _>("latest").is_some();
    Ok(Model {
        run_count: rows::number(row, "runs"),
        latest_version: latest.then(|| rows::digest(row, "latest")).transpose()?,
        latest_version_ms: latest.then(|| rows::number(row, "latest_ms")),
        ..body(row)?
    })
}

pub async fn model(pool: &SqlitePool, name: &ModelName) -> Result<Option<Model>, StoreError> {
    let row = sqlx::query(MODEL).bind(name.owner()).bind(name.name()).fetch_optional(pool).await;
    row.map_err(failed("read model"))?.as_ref().map(model_of).transpose()
}

/// A list along `column` and the number: its condition and its order.
fn listing(
    select: &str,
    condition: &str,
    column: Option<&str>,
    ascending: bool,
    seek: Option<&Seek>,
) -> String {
    // Seeking what is newer walks the other way.
    let up = ascending != seek.is_some_and(|seek| seek.newer);
    let (sign, order) = if up { (">", "ASC") } else { ("<", "DESC") };
    let keys = |text: &str| match column {
        Some(column) => format!("({column}, number) {sign} ({text}, ?)"),
        None => format!("number {sign} ?"),
    };
    let behind = if seek.is_some() { format!(" AND {}", keys("?")) } else { String::new() };
    let first = column.map(|column| format!("{column} {order}, ")).unwrap_or_default();
    format!("{select} WHERE {condition}{behind} ORDER BY {first}number {order} LIMIT ?")
}

fn bind_seek<'q>(query: Query<'q>, column: Option<&str>, seek: Option<&Seek>, limit: u32) -> Query<'q> {
    let query = match (seek, column) {
        (Some(seek), Some(_)) => query.bind(seek.key.time_ms as i64).bind(seek.key.number as i64),
        (Some(seek), None) => query.bind(seek.key.number as i64),
        (None, _) => query,
    };
    query.bind(limit.saturating_add(1))
}

fn listed<T>(
    rows: &[SqliteRow],
    column: Option<&str>,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Listed<T>, StoreError> {
    let key = |row: &SqliteRow| ListKey {
        time_ms: column.map_or(0, |column| rows::number(row, column)),
        number: rows::number(row, "number"),
    };
    rows.iter().map(|row| Ok((key(row), read(row)?))).collect()
}

pub fn models_text(order: ModelOrder, ascending: bool, seek: Option<&Seek>) -> String {
    let select = "SELECT number, created_ms, latest, latest_ms, runs, body FROM models";
    listing(select, "1", order_column(order), ascending, seek)
}

/// Numbers are given in the order of creation.
fn order_column(order: ModelOrder) -> Option<&'static str> {
    match order {
        ModelOrder::Created => None,
        ModelOrder::LatestVersion => Some("latest_ms"),
    }
}

pub async fn models(
    pool: &SqlitePool,
    order: ModelOrder,
    ascending: bool,
    seek: Option<Seek>,
    limit: u32,
) -> Result<Listed<Model>, StoreError> {
    let text = models_text(order, ascending, seek.as_ref());
    let query = bind_seek(sqlx::query(&text), order_column(order), seek.as_ref(), limit);
    let found = query.fetch_all(pool).await.map_err(failed("list models"))?;
    listed(&found, order_column(order), model_of)
}

/// Reads all models: there are thousands at most.
pub async fn search(pool: &SqlitePool, words: &[String], limit: u32) -> Result<Vec<Model>, StoreError> {
    let found = sqlx::query("SELECT number, created_ms, latest, latest_ms, runs, body FROM models")
        .fetch_all(pool)
        .await
        .map_err(failed("search models"))?;
    let models = found.iter().map(model_of).collect::<Result<Vec<_>, _>>()?;
    let holds = |model: &Model| {
        let texts = [model.texts.description.as_deref(), model.texts.readme.as_deref()];
        let text = texts.into_iter().flatten().fold(model.name.to_string(), |all, text| all + "\n" + text);
        let text = text.to_lowercase();
        words.iter().all(|word| text.contains(&word.to_lowercase()))
    };
    let mut models: Vec<_> = models.into_iter().filter(holds).collect();
    models.sort_by_key(|model| std::cmp::Reverse(model.run_count));
    models.truncate(limit as usize);
    Ok(models)
}

pub const VERSION: &str = "SELECT number, model, body FROM versions WHERE id = ?";

pub async fn version(pool: &SqlitePool, id: Digest) -> Result<Option<Version>, StoreError> {
    let row = sqlx::query(VERSION).bind(id.as_bytes().to_vec()).fetch_optional(pool).await;
    row.map_err(failed("read version"))?.as_ref().map(body).transpose()
}

pub fn versions_text(seek: Option<&Seek>) -> String {
    let of = "model = (SELECT number FROM models WHERE owner = ? AND name = ?)";
    listing("SELECT number, body FROM versions", of, None, false, seek)
}

pub async fn versions(
    pool: &SqlitePool,
    model: &ModelName,
    seek: Option<Seek>,
    limit: u32,
) -> Result<Listed<Version>, StoreError> {
    let text = versions_text(seek.as_ref());
    let query = sqlx::query(&text).bind(model.owner()).bind(model.name());
    let query = bind_seek(query, None, seek.as_ref(), limit);
    let found = query.fetch_all(pool).await.map_err(failed("list versions"))?;
    listed(&found, None, body)
}

pub const FILE: &str = "SELECT number, body FROM files WHERE id = ?";

pub async fn file(pool: &SqlitePool, id: FileId) -> Result<Option<File>, StoreError> {
    let row = sqlx::query(FILE).bind(id.to_bytes().to_vec()).fetch_optional(pool).await;
    row.map_err(failed("read file"))?.as_ref().map(body).transpose()
}

pub fn files_text(seek: Option<&Seek>) -> String {
    listing("SELECT number, body FROM files", "prediction IS NULL", None, false, seek)
}

pub async fn files(pool: &SqlitePool, seek: Option<Seek>, limit: u32) -> Result<Listed<File>, StoreError> {
    let text = files_text(seek.as_ref());
    let query = bind_seek(sqlx::query(&text), None, seek.as_ref(), limit);
    let found = query.fetch_all(pool).await.map_err(failed("list files"))?;
    listed(&found, None, body)
}

const DEPLOYMENTS: &str = "SELECT d.number AS number, d.owner, d.name, d.created_ms, r.body
    FROM deployments d CROSS JOIN releases r ON r.deployment = d.number AND r.number = d.release";

fn deployment_of(row: &SqliteRow) -> Result<Deployment, StoreError> {
    let name = ModelName::new(row.get("owner"), row.get("name"));
    let current: Release = body(row)?;
    Ok(Deployment {
        name: name.map_err(|error| StoreError::Record(error.to_string()))?,
        created_ms: rows::number(row, "created_ms"),
        current,
    })
}

pub async fn deployment(pool: &SqlitePool, name: &ModelName) -> Result<Option<Deployment>, StoreError> {
    let text = format!("{DEPLOYMENTS} WHERE d.owner = ? AND d.name = ?");
    let row = sqlx::query(&text).bind(name.owner()).bind(name.name()).fetch_optional(pool).await;
    row.map_err(failed("read deployment"))?.as_ref().map(deployment_of).transpose()
}

pub async fn deployments(
    pool: &SqlitePool,
    seek: Option<Seek>,
    limit: u32,
) -> Result<Listed<Deployment>, StoreError> {
    let text = format!("SELECT * FROM ({DEPLOYMENTS})");
    let text = listing(&text, "1", None, false, seek.as_ref());
    let query = bind_seek(sqlx::query(&text), None, seek.as_ref(), limit);
    let found = query.fetch_all(pool).await.map_err(failed("list deployments"))?;
    listed(&found, None, deployment_of)
}
