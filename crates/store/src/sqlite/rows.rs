//! Between rows and records, and statements over many rows.

use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use clunk_core::Digest;
use clunk_core::api::{CallRecord, Lifetime};
use clunk_core::id::{BatchId, CallId};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row, Sqlite, SqliteConnection};

use crate::calls::{QueuedCall, StoredPayload};
use crate::store::StoreError;

pub type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments<'q>>;

/// Most rows of one statement. More gain nothing, and SQLite takes at most 32,766 values.
const MAX_ROWS: usize = 256;

/// The names of states, at their numbers in the database.
const STATES: [&str; 7] = ["queued", "running", "succeeded", "failed", "timed_out", "canceled", "expired"];
pub const QUEUED: i64 = 0;
pub const SUCCEEDED: i64 = 2;
pub const FAILED: i64 = 3;
pub const CANCELED: i64 = 5;

pub fn state_number(name: &str) -> Option<i64> {
    STATES.iter().position(|state| *state == name).map(|position| position as i64)
}

/// One statement text with a repeated part: `head row, row, row tail`.
pub struct Many {
    pub head: &'static str,
    pub row: &'static str,
    pub tail: &'static str,
}

impl Many {
    pub fn text(&self, rows: usize) -> String {
        let mut text = String::with_capacity(self.head.len() + self.tail.len() + rows * (self.row.len() + 1));
        text.push_str(self.head);
        for row in 0..rows {
            if row > 0 {
                text.push(',');
            }
            text.push_str(self.row);
        }
        text.push_str(self.tail);
        text
    }

    /// Runs the statement over all rows. Counts are powers of two, so that few statements are prepared, once each.
    pub async fn execute<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        start: impl for<'q> Fn(Query<'q>) -> Query<'q>,
        bind: impl for<'q> Fn(Query<'q>, &'q T) -> Query<'q>,
    ) -> Result<(), sqlx::Error> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(chunk_len(rest.len()));
            let text = self.text(chunk.len());
            let query = chunk.iter().fold(start(sqlx::query(&text)), &bind);
            query.execute(&mut *connection).await?;
            rest = others;
        }
        Ok(())
    }

    pub async fn fetch<T: Sync>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl for<'q> Fn(Query<'q>, &'q T) -> Query<'q>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut found = Vec::with_capacity(rows.len());
        let mut rest = rows;
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(chunk_len(rest.len()));
            let text = self.text(chunk.len());
            let query = chunk.iter().fold(sqlx::query(&text), &bind);
            found.extend(query.fetch_all(&mut *connection).await?);
            rest = others;
        }
        Ok(found)
    }
}

fn chunk_len(rows: usize) -> usize {
    1 << rows.min(MAX_ROWS).ilog2()
}

/// For [`Many::execute`] of a statement without values ahead of its rows.
pub fn bare(query: Query<'_>) -> Query<'_> {
    query
}

pub fn id_bytes(id: CallId) -> Vec<u8> {
    id.to_bytes().to_vec()
}

/// A call as it lies in the table.
pub struct CallRow {
    pub id: CallId,
    pub function: i64,
    pub state: i64,
    pub attempts: u32,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub ended_ms: Option<u64>,
    pub error: Option<String>,
    pub method: String,
    pub batch: Option<i64>,
    pub place: Option<u64>,
    pub priority: i8,
    pub cpu_us: u64,
    pub seq: Option<u64>,
    pub result: Option<i64>,
}

const INSERT_CALLS: Many = Many {
    head: "INSERT INTO calls (id, function, state, attempts, created_ms, started_ms, ended_ms, error, method, batch,
        place, priority, cpu_us, seq, result) VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    tail: "",
};

/// The first end of an attached call counts.
const INSERT_ATTACHED: Many =
    Many { head: INSERT_CALLS.head, row: INSERT_CALLS.row, tail: " ON CONFLICT (id) DO NOTHING" };

/// Ends calls that are there: all the rest of such a row stays.
const END_CALLS: Many = Many {
    head: INSERT_CALLS.head,
    row: INSERT_CALLS.row,
    tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
        started_ms = excluded.started_ms, ended_ms = excluded.ended_ms, error = excluded.error,
        cpu_us = excluded.cpu_us, result = excluded.result",
};

fn bind_call<'q>(query: Query<'q>, call: &'q CallRow) -> Query<'q> {
    query
        .bind(id_bytes(call.id))
        .bind(call.function)
        .bind(call.state)
        .bind(call.attempts)
        .bind(call.created_ms as i64)
        .bind(call.started_ms.map(|ms| ms as i64))
        .bind(call.ended_ms.map(|ms| ms as i64))
        .bind(call.error.as_deref())
        .bind(Some(call.method.as_str()).filter(|method| !method.is_empty()))
        .bind(call.batch)
        .bind(call.place.map(|place| place as i64))
        .bind(call.priority)
        .bind(call.cpu_us as i64)
        .bind(call.seq.map(|seq| seq as i64))
        .bind(call.result)
}

pub async fn insert_calls(connection: &mut SqliteConnection, calls: &[CallRow]) -> Result<(), sqlx::Error> {
    INSERT_CALLS.execute(connection, calls, bare, bind_call).await
}

pub async fn insert_attached(
    connection: &mut SqliteConnection,
    calls: &[CallRow],
) -> Result<(), sqlx::Error> {
    INSERT_ATTACHED.execute(connection, calls, bare, bind_call).await
}

pub async fn end_calls(connection: &mut SqliteConnection, calls: &[CallRow]) -> Result<(), sqlx::Error> {
    END_CALLS.execute(connection, calls, bare, bind_call).await
}

pub fn text_id<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    row.get::<String, _>(column).parse().map_err(|error: T::Err| StoreError::Record(error.to_string()))
}

pub fn ms(row: &SqliteRow, column: &str) -> Option<u64> {
    row.get::<Option<i64>, _>(column).map(|ms| ms as u64)
}

pub fn number(row: &SqliteRow, column: &str) -> u64 {
    row.get::<i64, _>(column) as u64
}

fn bytes<const N: usize>(row: &SqliteRow, column: &str) -> Result<Option<[u8; N]>, StoreError> {
    let bytes = row.get::<Option<&[u8]>, _>(column).map(<[u8; N]>::try_from);
    bytes.transpose().map_err(|_| StoreError::Record(format!("{column} has not {N} bytes")))
}

fn present<T>(value: Option<T>, column: &str) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::Record(format!("{column} is null")))
}

pub fn call_id(row: &SqliteRow, column: &str) -> Result<CallId, StoreError> {
    present(bytes(row, column)?, column).map(CallId::from_bytes)
}

pub fn batch_id(row: &SqliteRow, column: &str) -> Result<Option<BatchId>, StoreError> {
    Ok(bytes(row, column)?.map(BatchId::from_bytes))
}

pub fn digest(row: &SqliteRow, column: &str) -> Result<Digest, StoreError> {
    present(bytes(row, column)?, column).map(Digest::from_bytes)
}

/// A payload from the columns `len` and `body`.
pub fn payload(row: &SqliteRow) -> Result<StoredPayload, StoreError> {
    Ok(match ms(row, "len") {
        None => StoredPayload::Inline(Bytes::from(row.get::<Vec<u8>, _>("body"))),
        Some(len) => StoredPayload::Blob { digest: digest(row, "body")?, len },
    })
}

pub fn bind_payload<'q>(query: Query<'q>, payload: &'q StoredPayload) -> Query<'q> {
    match payload {
        StoredPayload::Inline(bytes) => query.bind(None::<i64>).bind(&bytes[..]),
        StoredPayload::Blob { digest, len } => query.bind(Some(*len as i64)).bind(&digest.as_bytes()[..]),
    }
}

/// What [`call_record`] reads. The table of calls leads the way, and the function of each is looked up.
pub const CALL_COLUMNS: &str =
    "c.id, c.state, c.attempts, c.created_ms, c.started_ms, c.ended_ms, c.error, c.method,
    c.place, c.priority, c.cpu_us, c.seq, f.id AS function_id, f.app, f.name,
    (SELECT b.id FROM batches b WHERE b.number = c.batch) AS batch_id";

pub fn call_record(row: &SqliteRow) -> Result<CallRecord, StoreError> {
    let state: i64 = row.get("state");
    let state = STATES.get(state as usize).ok_or_else(|| StoreError::Record(format!("no state {state}")))?;
    Ok(CallRecord {
        id: call_id(row, "id")?,
        app: text_id(row, "app")?,
        function_id: text_id(row, "function_id")?,
        function: row.get("name"),
        state: (*state).into(),
        attempts: row.get("attempts"),
        created_ms: number(row, "created_ms"),
        started_ms: ms(row, "started_ms"),
        ended_ms: ms(row, "ended_ms"),
        error: row.get("error"),
        method: row.get::<Option<String>, _>("method").unwrap_or_default(),
        batch: batch_id(row, "batch_id")?,
        index: ms(row, "place"),
        priority: row.get("priority"),
        durable: row.get::<Option<i64>, _>("seq").is_some(),
        cpu_us: number(row, "cpu_us"),
    })
}

pub fn queued_call(row: &SqliteRow) -> Result<QueuedCall, StoreError> {
    Ok(QueuedCall {
        record: call_record(row)?,
        json: row.get("json"),
        input: payload(row)?,
        expires_ms: ms(row, "expires_ms"),
        due_ms: number(row, "due_ms"),
        failures: row.get("failures"),
        losses: row.get("losses"),
        seq: number(row, "seq"),
    })
}

/// A call of schema 1, joined with its function's number.
pub fn old_call(row: &SqliteRow) -> Result<CallRow, StoreError> {
    let name: String = row.get("state");
    let state = state_number(&name).ok_or_else(|| StoreError::Record(format!("no state `{name}`")))?;
    let (started_ms, ended_ms) = (ms(row, "started_ms"), ms(row, "ended_ms"));
    let created_ms = number(row, "created_ms");
    let lost = ended_ms.is_none();
    Ok(CallRow {
        id: text_id(row, "id")?,
        function: row.get("number"),
        state: if lost { FAILED } else { state },
        attempts: row.get("attempts"),
        created_ms,
        started_ms,
        ended_ms: ended_ms.or(started_ms).or(Some(created_ms)),
        error: if lost { Some(super::KILLED.into()) } else { row.get("error") },
        method: String::new(),
        batch: None,
        place: None,
        priority: 0,
        cpu_us: 0,
        seq: None,
        result: None,
    })
}

pub fn lifetime_number(lifetime: Lifetime) -> i64 {
    match lifetime {
        Lifetime::Leased => 0,
        Lifetime::Detached => 1,
        Lifetime::Deployed => 2,
    }
}

pub fn lifetime(number: i64) -> Result<Lifetime, StoreError> {
    match number {
        0 => Ok(Lifetime::Leased),
        1 => Ok(Lifetime::Detached),
        2 => Ok(Lifetime::Deployed),
        other => Err(StoreError::Record(format!("no lifetime of apps has the number {other}"))),
    }
}
