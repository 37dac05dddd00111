//! Queries. They run on the readers, and see what is committed.

use clunk_core::api::{AppRecord, BatchRecord, CallRecord, UsageRow};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};
use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::rows::{self, CALL_COLUMNS};
use super::{changes, failed};
use crate::calls::{CallFilter, FoundResult, QueuedCall, StoredResult};
use crate::store::{QueueDepth, RunningApp, StoreError};

const APP_COLUMNS: &str = "SELECT id, name, state, created_ms, stopped_ms,
    (SELECT group_concat(name, char(10)) FROM (SELECT DISTINCT name FROM functions WHERE app = apps.id))
    AS functions FROM apps";

pub const RESULT: &str = "SELECT c.result, r.kind, r.json, r.len, r.body
    FROM calls c LEFT JOIN results r ON r.number = c.result WHERE c.id = ?";

/// Parts of a batch that reach into a span of indexes: from the last that begins before it.
pub const PARTS: &str = "WITH b AS (SELECT number FROM batches WHERE id = ?1)
         SELECT p.first, p.count, p.call FROM parts p WHERE p.batch = (SELECT number FROM b) AND p.first < ?3
            AND p.first >= (SELECT max(first) FROM parts WHERE batch = (SELECT number FROM b) AND first <= ?2)
         ORDER BY p.first";

fn app_record(row: &SqliteRow) -> Result<AppRecord, StoreError> {
    let functions: Option<String> = row.get("functions");
    Ok(AppRecord {
        id: rows::text_id(row, "id")?,
        name: row.get("name"),
        state: row.get("state"),
        created_ms: rows::number(row, "created_ms"),
        stopped_ms: rows::ms(row, "stopped_ms"),
        functions: functions.map(|names| names.split('\n').map(String::from).collect()).unwrap_or_default(),
    })
}

pub async fn apps(pool: &SqlitePool, limit: u32) -> Result<Vec<AppRecord>, StoreError> {
    let query = format!("{APP_COLUMNS} ORDER BY id DESC LIMIT ?");
    let rows = sqlx::query(&query).bind(limit).fetch_all(pool).await;
    rows.map_err(failed("list apps"))?.iter().map(app_record).collect()
}

pub async fn app(pool: &SqlitePool, id: AppId) -> Result<Option<AppRecord>, StoreError> {
    let query = format!("{APP_COLUMNS} WHERE id = ?");
    let row = sqlx::query(&query).bind(id.to_string()).fetch_optional(pool).await;
    row.map_err(failed("read app"))?.as_ref().map(app_record).transpose()
}

fn spec(row: &SqliteRow) -> Result<FunctionSpec, StoreError> {
    serde_json::from_str(row.get("spec")).map_err(|error| StoreError::Record(error.to_string()))
}

pub async fn running_apps(pool: &SqlitePool) -> Result<Vec<RunningApp>, StoreError> {
    let failed = failed("list running apps");
    let apps = sqlx::query(
        "SELECT id, name, created_ms, workspace, detached FROM apps WHERE state = 'running' ORDER BY id",
    )
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    let mut running = Vec::with_capacity(apps.len());
    for row in &apps {
        let functions =
            sqlx::query("SELECT id, spec FROM functions WHERE app = ? AND retired = 0 ORDER BY number")
                .bind(row.get::<&str, _>("id"))
                .fetch_all(pool)
                .await
                .map_err(&failed)?;
        let function = |row| Ok((rows::text_id(row, "id")?, spec(row)?));
        running.push(RunningApp {
            id: rows::text_id(row, "id")?,
            name: row.get("name"),
            workspace: row.get("workspace"),
            lifetime: rows::lifetime(row.get("detached"))?,
            created_ms: rows::number(row, "created_ms"),
            functions: functions.iter().map(function).collect::<Result<_, StoreError>>()?,
        });
    }
    Ok(running)
}

pub async fn function(
    pool: &SqlitePool,
    id: FunctionId,
) -> Result<Option<(AppId, FunctionSpec)>, StoreError> {
    let row = sqlx::query("SELECT app, spec FROM functions WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(pool)
        .await
        .map_err(failed("read function"))?;
    row.map(|row| Ok((rows::text_id(&row, "app")?, spec(&row)?))).transpose()
}

/// The calls of a queue are read along its key; record and function are looked up for each.
pub fn queued_text() -> String {
    format!(
        "SELECT {CALL_COLUMNS}, q.json, q.expires_ms, q.due_ms, q.failures, q.losses, q.len, q.body
         FROM queue q CROSS JOIN calls c ON c.id = q.call CROSS JOIN functions f ON f.number = c.function
         WHERE q.function = (SELECT number FROM functions WHERE id = ?) AND q.priority = ? AND q.seq > ?
         ORDER BY q.seq LIMIT ?"
    )
}

pub async fn queued(
    pool: &SqlitePool,
    function: FunctionId,
    priority: i8,
    after_seq: u64,
    limit: u32,
    max_bytes: u64,
) -> Result<Vec<QueuedCall>, StoreError> {
    let text = queued_text();
    let mut found = sqlx::query(&text)
        .bind(function.to_string())
        .bind(priority)
        .bind(after_seq as i64)
        .bind(limit)
        .fetch(pool);
    let mut calls: Vec<QueuedCall> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.try_next().await.map_err(failed("read queue"))? {
        let call = rows::queued_call(&row)?;
        bytes += call.input.inline_len() as u64;
        if bytes > max_bytes && !calls.is_empty() {
            break;
        }
        calls.push(call);
    }
    Ok(calls)
}

pub async fn queue_depths(pool: &SqlitePool) -> Result<Vec<QueueDepth>, StoreError> {
    let found = sqlx::query(
        "SELECT (SELECT f.id FROM functions f WHERE f.number = q.function) AS id, q.priority, q.calls
         FROM (SELECT function, priority, count(*) AS calls FROM queue GROUP BY function, priority) q",
    )
    .fetch_all(pool)
    .await
    .map_err(failed("count queue"))?;
    let depth = |row: &SqliteRow| {
        Ok(QueueDepth {
            function: rows::text_id(row, "id")?,
            priority: row.get("priority"),
            calls: rows::number(row, "calls"),
        })
    };
    found.iter().map(depth).collect()
}

pub async fn call(pool: &SqlitePool, id: CallId) -> Result<Option<CallRecord>, StoreError> {
    let text = calls_text("", "c.id = ?");
    let row = sqlx::query(&text).bind(rows::id_bytes(id)).fetch_optional(pool).await;
    row.map_err(failed("read call"))?.as_ref().map(rows::call_record).transpose()
}

/// Calls, newest first, of an index and a condition.
pub fn calls_text(index: &str, condition: &str) -> String {
    format!(
        "SELECT {CALL_COLUMNS} FROM calls c {index} CROSS JOIN functions f ON f.number = c.function
         WHERE {condition}"
    )
}

/// Where to look for calls: of one function or of all, from an id to before another, of a batch or not.
struct Place {
    function: Option<i64>,
    batch: Option<i64>,
    from: CallId,
    before: CallId,
}

pub async fn calls(pool: &SqlitePool, filter: &CallFilter) -> Result<Vec<CallRecord>, StoreError> {
    let state = match &filter.state {
        None => None,
        Some(name) => match rows::state_number(name) {
            Some(number) => Some(number),
            None => return Ok(Vec::new()),
        },
    };
    let mut found = Vec::new();
    for place in places(pool, filter).await? {
        let text = listing_text(place.function.is_some(), place.batch.is_some(), state);
        let mut query = sqlx::query(&text)
            .bind(rows::id_bytes(place.from))
            .bind(rows::id_bytes(place.before))
            .bind(filter.limit);
        for number in [place.function, place.batch].into_iter().flatten() {
            query = query.bind(number);
        }
        let rows = query.fetch_all(pool).await.map_err(failed("list calls"))?;
        found.extend(rows.iter().map(rows::call_record).collect::<Result<Vec<_>, _>>()?);
    }
    found.sort_unstable_by_key(|call: &CallRecord| std::cmp::Reverse(call.id));
    found.truncate(filter.limit as usize);
    Ok(found)
}

/// States that few calls end in have an index; calls that wait and that succeeded are met soon, newest first, except
/// that of a function without a queue none waits.
pub fn listing_text(of_function: bool, of_batch: bool, state: Option<i64>) -> String {
    let index = match state {
        Some(state) if state > rows::SUCCEEDED => "INDEXED BY calls_unusual",
        _ if of_function => "INDEXED BY calls_by_function",
        _ => "",
    };
    let mut condition = String::from("c.id >= ?1 AND c.id < ?2");
    if of_function {
        condition.push_str(" AND c.function = ?4");
    }
    if of_batch {
        condition.push_str(" AND c.batch = ?5");
    }
    if let Some(state) = state {
        condition.push_str(&format!(" AND c.state = {state}"));
        if state > rows::SUCCEEDED {
            // The index's own words: SQLite does not conclude them.
            condition.push_str(" AND c.state > 2");
        }
    }
    if state == Some(rows::QUEUED) {
        let queue = if of_function { "WHERE function = ?4" } else { "" };
        condition.push_str(&format!(" AND EXISTS (SELECT 1 FROM queue {queue})"));
    }
    condition.push_str(" ORDER BY c.id DESC LIMIT ?3");
    calls_text(index, &condition)
}

async fn places(pool: &SqlitePool, filter: &CallFilter) -> Result<Vec<Place>, StoreError> {
    let failed = failed("list calls");
    let lowest = CallId::from_bytes([0; 16]);
    let before = filter.before.unwrap_or(CallId::from_bytes([0xff; 16]));
    if let Some(batch) = filter.batch {
        let row = sqlx::query(
            "SELECT b.number, b.function, f.id, f.app, min(p.call) AS first, max(p.call) AS last,
                max(p.count) AS longest
             FROM batches b CROSS JOIN functions f ON f.number = b.function CROSS JOIN parts p ON p.batch = b.number
             WHERE b.id = ? GROUP BY b.number",
        )
        .bind(&batch.to_bytes()[..])
        .fetch_optional(pool)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(Vec::new()) };
        let app: AppId = rows::text_id(&row, "app")?;
        let function: FunctionId = rows::text_id(&row, "id")?;
        if filter.app.is_some_and(|wanted| wanted != app)
            || filter.function.is_some_and(|wanted| wanted != function)
        {
            return Ok(Vec::new());
        }
        let end = rows::call_id(&row, "last")?.offset(rows::number(&row, "longest"));
        return Ok(vec![Place {
            function: Some(row.get("function")),
            batch: Some(row.get("number")),
            from: rows::call_id(&row, "first")?,
            before: before.min(end),
        }]);
    }
    if filter.app.is_none() && filter.function.is_none() {
        return Ok(vec![Place { function: None, batch: None, from: lowest, before }]);
    }
    let numbers = sqlx::query("SELECT number FROM functions WHERE (?1 IS NULL OR app = ?1) AND id = ?2")
        .bind(filter.app.map(|app| app.to_string()))
        .bind(filter.function.map(|function| function.to_string()));
    let of_app =
        sqlx::query("SELECT number FROM functions WHERE app = ?").bind(filter.app.map(|app| app.to_string()));
    let query = if filter.function.is_some() { numbers } else { of_app };
    let numbers = query.fetch_all(pool).await.map_err(failed)?;
    let place =
        |row: &SqliteRow| Place { function: Some(row.get("number")), batch: None, from: lowest, before };
    Ok(numbers.iter().map(place).collect())
}

pub async fn batch(pool: &SqlitePool, id: BatchId) -> Result<Option<BatchRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT b.created_ms, b.inputs, b.ended, b.succeeded, f.id, f.app, f.name
         FROM batches b CROSS JOIN functions f ON f.number = b.function WHERE b.id = ?",
    )
    .bind(&id.to_bytes()[..])
    .fetch_optional(pool)
    .await
    .map_err(failed("read batch"))?;
    let record = |row: SqliteRow| {
        Ok(BatchRecord {
            id,
            app: rows::text_id(&row, "app")?,
            function_id: rows::text_id(&row, "id")?,
            function: row.get("name"),
            created_ms: rows::number(&row, "created_ms"),
            inputs: rows::number(&row, "inputs"),
            ended: rows::number(&row, "ended"),
            succeeded: rows::number(&row, "succeeded"),
        })
    };
    row.map(record).transpose()
}

/// A run of a batch's calls: the index and id of the first, and how many.
pub struct Part {
    first: u64,
    count: u64,
    call: CallId,
}

impl Part {
    /// Ids of those with indexes from `from` to before `to`: the first, and how many.
    pub fn within(&self, from: u64, to: u64) -> Option<(CallId, u64)> {
        let start = from.max(self.first);
        let end = to.min(self.first + self.count);
        (start < end).then(|| (self.call.offset(start - self.first), end - start))
    }
}

pub async fn parts(pool: &SqlitePool, id: BatchId, from: u64, to: u64) -> Result<Vec<Part>, StoreError> {
    let found = sqlx::query(PARTS)
        .bind(&id.to_bytes()[..])
        .bind(from as i64)
        .bind(i64::try_from(to).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
        .map_err(failed("read batch"))?;
    let part = |row: &SqliteRow| {
        Ok(Part {
            first: rows::number(row, "first"),
            count: rows::number(row, "count"),
            call: rows::call_id(row, "call")?,
        })
    };
    found.iter().map(part).collect()
}

pub async fn batch_calls(
    pool: &SqlitePool,
    id: BatchId,
    from: u64,
    to: u64,
) -> Result<Vec<CallRecord>, StoreError> {
    let text = calls_text("", "c.id >= ? AND c.id < ? ORDER BY c.id");
    let mut calls = Vec::new();
    for part in parts(pool, id, from, to).await? {
        let Some((first, count)) = part.within(from, to) else { continue };
        let found = sqlx::query(&text)
            .bind(rows::id_bytes(first))
            .bind(rows::id_bytes(first.offset(count)))
            .fetch_all(pool)
            .await
            .map_err(failed("read batch"))?;
        calls.extend(found.iter().map(rows::call_record).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(calls)
}

pub async fn result(pool: &SqlitePool, call: CallId) -> Result<FoundResult, StoreError> {
    let row = sqlx::query(RESULT)
        .bind(rows::id_bytes(call))
        .fetch_optional(pool)
        .await
        .map_err(failed("read result"))?;
    let Some(row) = row else { return Ok(FoundResult::Absent) };
    match (row.get::<Option<i64>, _>("result"), row.get::<Option<i64>, _>("kind")) {
        (None, _) => Ok(FoundResult::Absent),
        (Some(_), None) => Ok(FoundResult::Purged),
        (Some(_), Some(kind)) => Ok(FoundResult::Kept(StoredResult {
            kind: changes::kind(kind)?,
            json: row.get("json"),
            payload: rows::payload(&row)?,
        })),
    }
}

pub async fn usage(
    pool: &SqlitePool,
    since_ms: u64,
    until_ms: u64,
    step_ms: u64,
) -> Result<Vec<UsageRow>, StoreError> {
    let step = if step_ms == 0 { until_ms.saturating_sub(since_ms).max(1) } else { step_ms };
    let found = sqlx::query(
        "SELECT ?1 + (from_ms - ?1) / ?3 * ?3 AS span, workspace, app, function, max(app_name) AS app_name,
            sum(calls) AS calls, sum(cpu_s) AS cpu_s, sum(memory_gib_s) AS memory_gib_s, sum(gpu_s) AS gpu_s,
            sum(container_s) AS container_s
         FROM usage WHERE from_ms >= ?1 AND from_ms < ?2
         GROUP BY span, workspace, app, function ORDER BY span, workspace, app, function",
    )
    .bind(since_ms as i64)
    .bind(i64::try_from(until_ms).unwrap_or(i64::MAX))
    .bind(i64::try_from(step).unwrap_or(i64::MAX))
    .fetch_all(pool)
    .await
    .map_err(failed("read usage"))?;
    let usage = |row: &SqliteRow| UsageRow {
        workspace: row.get("workspace"),
        app: row.get("app"),
        app_name: row.get("app_name"),
        function: row.get("function"),
        from_ms: rows::number(row, "span"),
        calls: rows::number(row, "calls"),
        cpu_s: row.get("cpu_s"),
        memory_gib_s: row.get("memory_gib_s"),
        gpu_s: row.get("gpu_s"),
        container_s: row.get("container_s"),
    };
    Ok(found.iter().map(usage).collect())
}
