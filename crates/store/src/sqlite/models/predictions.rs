//! Predictions: writes that go with a group of the writer, and queries.

use std::collections::HashMap;

use clunk_core::Digest;
use clunk_core::model::{Kind, Prediction, PredictionId, Source};
use serde_json::Value;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

use super::{body, text};
use crate::calls::StoredPayload;
use crate::models::{DueWebhook, ListKey, PredictionQuery, PredictionWrite, StoredPrediction};
use crate::sqlite::rows::{self, Query};
use crate::sqlite::{blob_uses, failed};
use crate::store::StoreError;

const COLUMNS: &str = "body, input_len, input, output_len, output, logs";
/// Of a list: 200 logs of a megabyte are nobody's to read at once. The bound is that of outputs, `INLINE_MAX_STORED`.
const LIST_COLUMNS: &str =
    "body, input_len, input, output_len, output, iif(length(logs) > 65536, '', logs) AS logs";

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Prediction => 0,
        Kind::Training => 1,
    }
}

fn source_number(source: Source) -> i64 {
    match source {
        Source::Api => 0,
        Source::Web => 1,
    }
}

pub fn id_bytes(id: PredictionId) -> Vec<u8> {
    id.0.to_bytes().to_vec()
}

/// Writes all of them. An error is the database's, and nothing is to be kept then.
pub async fn write(connection: &mut SqliteConnection, writes: &[&PredictionWrite]) -> Result<(), StoreError> {
    let mut uses = HashMap::new();
    for write in writes {
        match write {
            PredictionWrite::Insert(stored) => insert(connection, stored, &mut uses).await?,
            PredictionWrite::Update { record, output, webhook_due_ms } => {
                if update(connection, record, output.as_ref(), &mut uses).await?
                    && let Some(due_ms) = webhook_due_ms
                {
                    let webhook = DueWebhook { prediction: record.id, due_ms: *due_ms, attempts: 0 };
                    put_webhook(connection, &webhook).await?;
                }
            }
        }
    }
    if uses.is_empty() {
        return Ok(());
    }
    blob_uses(connection, uses).await.map_err(failed("count payloads"))
}

fn count(uses: &mut HashMap<Digest, i64>, payload: Option<&StoredPayload>, by: i64) {
    if let Some(StoredPayload::Blob { digest, .. }) = payload {
        *uses.entry(*digest).or_insert(0) += by;
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    stored: &StoredPrediction,
    uses: &mut HashMap<Digest, i64>,
) -> Result<(), StoreError> {
    let record = &stored.record;
    let failed = failed("insert prediction");
    let query = sqlx::query(
        "INSERT INTO predictions (id, kind, model, version, source, created_ms, completed_ms, removed, example,
            body, logs, input_len, input, output_len, output)
         VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id_bytes(record.id))
    .bind(kind_number(record.kind))
    .bind(record.model.to_string())
    .bind(record.version.as_bytes().to_vec())
    .bind(source_number(record.source))
    .bind(record.created_ms as i64)
    .bind(record.completed_ms.map(|ms| ms as i64))
    .bind(record_text(record)?)
    .bind(&record.logs);
    let query = bind_payload(query, stored.input.as_ref());
    bind_payload(query, stored.output.as_ref()).execute(&mut *connection).await.map_err(&failed)?;
    count(uses, stored.input.as_ref(), 1);
    count(uses, stored.output.as_ref(), 1);
    sqlx::query("UPDATE models SET runs = runs + 1 WHERE owner = ? AND name = ?")
        .bind(record.model.owner())
        .bind(record.model.name())
        .execute(connection)
        .await
        .map_err(&failed)?;
    Ok(())
}

fn bind_payload<'q>(query: Query<'q>, payload: Option<&'q StoredPayload>) -> Query<'q> {
    match payload {
        Some(payload) => rows::bind_payload(query, payload),
        None => query.bind(None::<i64>).bind(None::<Vec<u8>>),
    }
}

/// The record without what has columns of its own.
fn record_text(record: &Prediction) -> Result<String, StoreError> {
    let without = Prediction { input: Value::Null, output: None, logs: String::new(), ..record.clone() };
    text(&without)
}

/// False: it has ended already, or is not there.
async fn update(
    connection: &mut SqliteConnection,
    record: &Prediction,
    output: Option<&StoredPayload>,
    uses: &mut HashMap<Digest, i64>,
) -> Result<bool, StoreError> {
    let failed = failed("update prediction");
    let before = sqlx::query(
        "SELECT iif(output_len IS NULL, NULL, output) AS digest FROM predictions
         WHERE id = ? AND completed_ms IS NULL",
    )
    .bind(id_bytes(record.id))
    .fetch_optional(&mut *connection)
    .await
    .map_err(&failed)?;
    let Some(before) = before else { return Ok(false) };
    if before.get::<Option<Vec<u8>>, _>("digest").is_some() {
        *uses.entry(rows::digest(&before, "digest")?).or_insert(0) -= 1;
    }
    count(uses, output, 1);
    let query = sqlx::query(
        "UPDATE predictions SET completed_ms = ?, body = ?, logs = ?, output_len = ?, output = ? WHERE id = ?",
    )
    .bind(record.completed_ms.map(|ms| ms as i64))
    .bind(record_text(record)?)
    .bind(&record.logs);
    bind_payload(query, output).bind(id_bytes(record.id)).execute(connection).await.map_err(&failed)?;
    Ok(true)
}

pub async fn put_webhook(connection: &mut SqliteConnection, webhook: &DueWebhook) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO webhooks (prediction, due_ms, attempts) VALUES (?, ?, ?)")
        .bind(id_bytes(webhook.prediction))
        .bind(webhook.due_ms as i64)
        .bind(webhook.attempts)
        .execute(connection)
        .await
        .map_err(failed("put webhook"))?;
    Ok(())
}

fn payload(row: &SqliteRow, len: &str, column: &str) -> Result<Option<StoredPayload>, StoreError> {
    Ok(match (rows::ms(row, len), row.get::<Option<Vec<u8>>, _>(column)) {
        (Some(len), Some(_)) => Some(StoredPayload::Blob { digest: rows::digest(row, column)?, len }),
        (None, Some(bytes)) => Some(StoredPayload::Inline(bytes.into())),
        (_, None) => None,
    })
}

fn stored(row: &SqliteRow) -> Result<StoredPrediction, StoreError> {
    let record: Prediction = body(row)?;
    Ok(StoredPrediction {
        record: Prediction { logs: row.get("logs"), ..record },
        input: payload(row, "input_len", "input")?,
        output: payload(row, "output_len", "output")?,
    })
}

pub async fn one(pool: &SqlitePool, id: PredictionId) -> Result<Option<StoredPrediction>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM predictions WHERE id = ?");
    let row = sqlx::query(&text).bind(id_bytes(id)).fetch_optional(pool).await;
    row.map_err(failed("read prediction"))?.as_ref().map(stored).transpose()
}

fn key_bytes(key: ListKey) -> Vec<u8> {
    key.prediction().0.to_bytes().to_vec()
}

pub fn list_text(query: &PredictionQuery) -> String {
    let newer = query.seek.as_ref().is_some_and(|seek| seek.newer);
    let mut conditions = vec!["kind = ?"];
    let optional = [
        (query.model.is_some(), "model = ?"),
        (query.version.is_some(), "version = ?"),
        (query.created_after_ms.is_some(), "id >= ?"),
        (query.created_before_ms.is_some(), "id < ?"),
        (query.seek.is_some() && newer, "id > ?"),
        (query.seek.is_some() && !newer, "id < ?"),
        (query.source == Some(Source::Web), "source = 1"),
        (query.source == Some(Source::Api), "source = 0"),
        (query.examples, "example = 1"),
    ];
    conditions.extend(optional.into_iter().filter(|(on, _)| *on).map(|(_, text)| text));
    let order = if newer { "ASC" } else { "DESC" };
    format!(
        "SELECT {LIST_COLUMNS} FROM predictions WHERE {} ORDER BY id {order} LIMIT ?",
        conditions.join(" AND ")
    )
}

pub async fn list(pool: &SqlitePool, query: &PredictionQuery) -> Result<Vec<StoredPrediction>, StoreError> {
    use clunk_core::id::CallId;
    let text = list_text(query);
    let at = |ms: u64| CallId::from_parts(ms, [0; 10]).to_bytes().to_vec();
    let mut bound = sqlx::query(&text).bind(kind_number(query.kind));
    if let Some(model) = &query.model {
        bound = bound.bind(model.to_string());
    }
    if let Some(version) = query.version {
        bound = bound.bind(version.as_bytes().to_vec());
    }
    for ms in [query.created_after_ms, query.created_before_ms].into_iter().flatten() {
        bound = bound.bind(at(ms));
    }
    if let Some(seek) = &query.seek {
        bound = bound.bind(key_bytes(seek.key));
    }
    let found = bound.bind(query.limit.saturating_add(1)).fetch_all(pool).await;
    found.map_err(failed("list predictions"))?.iter().map(stored).collect()
}

pub const UNFINISHED: &str =
    "SELECT body, logs FROM predictions WHERE completed_ms IS NULL AND id > ? ORDER BY id LIMIT ?";

pub async fn unfinished(
    pool: &SqlitePool,
    after: Option<PredictionId>,
    limit: u32,
) -> Result<Vec<Prediction>, StoreError> {
    let after = after.map_or_else(|| vec![0; 16], id_bytes);
    let found = sqlx::query(UNFINISHED).bind(after).bind(limit).fetch_all(pool).await;
    let found = found.map_err(failed("list unfinished predictions"))?;
    found.iter().map(|row| Ok(Prediction { logs: row.get("logs"), ..body(row)? })).collect()
}

pub const DUE_WEBHOOKS: &str = "SELECT prediction, due_ms, attempts FROM webhooks ORDER BY due_ms LIMIT ?";

pub async fn due_webhooks(pool: &SqlitePool, limit: u32) -> Result<Vec<DueWebhook>, StoreError> {
    let found = sqlx::query(DUE_WEBHOOKS).bind(limit).fetch_all(pool).await;
    let webhook = |row: &SqliteRow| {
        Ok(DueWebhook {
            prediction: PredictionId(rows::call_id(row, "prediction")?),
            due_ms: rows::number(row, "due_ms"),
            attempts: row.get("attempts"),
        })
    };
    found.map_err(failed("list webhooks"))?.iter().map(webhook).collect()
}
