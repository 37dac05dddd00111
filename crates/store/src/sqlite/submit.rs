//! Accepting calls.

use std::collections::HashMap;

use clunk_core::Digest;
use clunk_core::id::{BatchId, CallId};
use sqlx::{Row, SqliteConnection};

use super::rows::{self, Many, bare};
use super::writer::Known;
use super::{blob_uses, failed};
use crate::calls::{IntoBatch, QueuedCall, StoredPayload, Submission, Submitted};
use crate::store::StoreError;

/// A call on its way into the tables.
struct NewRow<'a> {
    call: &'a QueuedCall,
    function: i64,
    batch: Option<i64>,
    place: Option<u64>,
    seq: u64,
}

/// Calls whose ids follow each other.
#[derive(Clone, Copy)]
struct Run {
    first: CallId,
    count: u64,
}

const INSERT_QUEUED: Many = Many {
    head: "INSERT INTO calls (id, function, state, attempts, created_ms, method, batch, place, priority, cpu_us, seq)
        VALUES ",
    row: "(?,?,0,0,?,?,?,?,?,0,?)",
    tail: "",
};

const INSERT_WAITING: Many = Many {
    head: "INSERT INTO queue (function, priority, seq, call, json, expires_ms, due_ms, failures, losses, len, body)
        VALUES ",
    row: "(?,?,?,?,?,?,?,?,?,?,?)",
    tail: "",
};

const INSERT_PARTS: Many =
    Many { head: "INSERT INTO parts (batch, first, count, call) VALUES ", row: "(?,?,?,?)", tail: "" };

pub const FIND_KEY: &str = "SELECT accepted, batch, calls FROM keys WHERE app = ? AND key = ?";

/// Writes all submissions that can be accepted. The outer error is the database's, and nothing is to be kept then.
pub async fn write(
    connection: &mut SqliteConnection,
    known: &mut Known,
    submissions: &[Submission],
) -> Result<Vec<Result<Submitted, StoreError>>, StoreError> {
    let mut new_rows = Vec::with_capacity(submissions.iter().map(|submission| submission.calls.len()).sum());
    let mut submitted = Vec::with_capacity(submissions.len());
    for submission in submissions {
        submitted.push(match accept(connection, known, submission, &mut new_rows).await {
            Err(error @ (StoreError::UnknownFunction(_) | StoreError::UnknownBatch(_))) => Err(error),
            other => Ok(other?),
        });
    }
    insert(connection, &new_rows).await.map_err(failed("accept calls"))?;
    let blobs = new_rows.iter().filter_map(|row| match row.call.input {
        StoredPayload::Blob { digest, .. } => Some(digest),
        StoredPayload::Inline(_) => None,
    });
    let mut uses: HashMap<Digest, i64> = HashMap::new();
    for digest in blobs {
        *uses.entry(digest).or_default() += 1;
    }
    blob_uses(connection, uses).await.map_err(failed("count blobs"))?;
    Ok(submitted)
}

/// Refuses before it writes anything.
async fn accept<'a>(
    connection: &mut SqliteConnection,
    known: &mut Known,
    submission: &'a Submission,
    new_rows: &mut Vec<NewRow<'a>>,
) -> Result<Submitted, StoreError> {
    if let Some(before) = find_key(connection, submission).await? {
        return Ok(before);
    }
    for call in &submission.calls {
        let id = call.record.function_id;
        if known.function(connection, id).await?.1 != submission.app {
            return Err(StoreError::UnknownFunction(id));
        }
    }
    let batch = match submission.batch {
        Some(batch) => Some(enter_batch(connection, known, submission, batch).await?),
        None => None,
    };
    let (first_seq, first_index) = (known.seq, batch.map_or(0, |(_, inputs)| inputs));
    known.seq += submission.calls.len() as u64;
    for (call, offset) in submission.calls.iter().zip(0..) {
        new_rows.push(NewRow {
            call,
            function: known.function(connection, call.record.function_id).await?.0,
            batch: batch.map(|(number, _)| number),
            place: batch.map(|(_, inputs)| inputs + offset),
            seq: first_seq + offset,
        });
    }
    let runs = runs(&submission.calls);
    if let Some((number, inputs)) = batch {
        insert_parts(connection, number, inputs, &runs).await.map_err(failed("add to batch"))?;
    }
    if let Some(key) = &submission.key {
        let runs: &[Run] = if batch.is_some() { &[] } else { &runs };
        insert_key(connection, submission, key, runs).await.map_err(failed("keep key"))?;
    }
    Ok(Submitted::New { first_seq, first_index })
}

async fn find_key(
    connection: &mut SqliteConnection,
    submission: &Submission,
) -> Result<Option<Submitted>, StoreError> {
    let Some(key) = &submission.key else { return Ok(None) };
    let row = sqlx::query(FIND_KEY)
        .bind(&submission.app.to_bytes()[..])
        .bind(key)
        .fetch_optional(connection)
        .await
        .map_err(failed("read key"))?;
    let Some(row) = row else { return Ok(None) };
    let calls = Run::all_from(row.get("calls"))?;
    let calls = calls.iter().flat_map(|run| (0..run.count).map(|offset| run.first.offset(offset))).collect();
    let batch: Option<BatchId> = rows::batch_id(&row, "batch")?;
    Ok(Some(Submitted::Again { calls, batch, accepted: rows::number(&row, "accepted") }))
}

/// Makes the batch, or adds to it. Gives its number and the inputs it had before.
async fn enter_batch(
    connection: &mut SqliteConnection,
    known: &mut Known,
    submission: &Submission,
    batch: IntoBatch,
) -> Result<(i64, u64), StoreError> {
    let failed = failed("add to batch");
    let count = submission.calls.len() as i64;
    match batch {
        IntoBatch::New { id, function, created_ms } => {
            let (number, app) = known.function(connection, function).await?;
            if app != submission.app {
                return Err(StoreError::UnknownFunction(function));
            }
            let inserted = sqlx::query(
                "INSERT INTO batches (id, function, created_ms, inputs, ended, succeeded, last_ended_ms)
                 VALUES (?, ?, ?, ?, 0, 0, ?)",
            )
            .bind(&id.to_bytes()[..])
            .bind(number)
            .bind(created_ms as i64)
            .bind(count)
            .bind(created_ms as i64)
            .execute(connection)
            .await
            .map_err(failed)?;
            Ok((inserted.last_insert_rowid(), 0))
        }
        IntoBatch::Existing(id) => {
            let row = sqlx::query(
                "UPDATE batches SET inputs = inputs + ?1
                 WHERE id = ?2 AND (SELECT f.app FROM functions f WHERE f.number = batches.function) = ?3
                 RETURNING number, inputs - ?1 AS before",
            )
            .bind(count)
            .bind(&id.to_bytes()[..])
            .bind(submission.app.to_string())
            .fetch_optional(connection)
            .await
            .map_err(failed)?
            .ok_or(StoreError::UnknownBatch(id))?;
            Ok((row.get("number"), rows::number(&row, "before")))
        }
    }
}

async fn insert_parts(
    connection: &mut SqliteConnection,
    batch: i64,
    first_index: u64,
    runs: &[Run],
) -> Result<(), sqlx::Error> {
    let mut first = first_index;
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        parts.push((batch, first as i64, *run));
        first += run.count;
    }
    let bind: for<'q> fn(rows::Query<'q>, &'q (i64, i64, Run)) -> rows::Query<'q> =
        |query, (batch, first, run)| {
            query.bind(*batch).bind(*first).bind(run.count as i64).bind(rows::id_bytes(run.first))
        };
    INSERT_PARTS.execute(connection, &parts, bare, bind).await
}

async fn insert_key(
    connection: &mut SqliteConnection,
    submission: &Submission,
    key: &str,
    runs: &[Run],
) -> Result<(), sqlx::Error> {
    let batch = submission.batch.map(|batch| match batch {
        IntoBatch::New { id, .. } | IntoBatch::Existing(id) => id.to_bytes().to_vec(),
    });
    let calls: Vec<u8> = runs.iter().flat_map(|run| run.to_bytes()).collect();
    sqlx::query("INSERT INTO keys (app, key, created_ms, accepted, batch, calls) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(&submission.app.to_bytes()[..])
        .bind(key)
        .bind(submission.now_ms as i64)
        .bind(submission.calls.len() as i64)
        .bind(batch)
        .bind(calls)
        .execute(connection)
        .await
        .map(drop)
}

async fn insert(connection: &mut SqliteConnection, new_rows: &[NewRow<'_>]) -> Result<(), sqlx::Error> {
    INSERT_QUEUED.execute(connection, new_rows, bare, bind_record).await?;
    INSERT_WAITING.execute(connection, new_rows, bare, bind_waiting).await
}

fn bind_record<'q>(query: rows::Query<'q>, row: &'q NewRow<'_>) -> rows::Query<'q> {
    let record = &row.call.record;
    query
        .bind(rows::id_bytes(record.id))
        .bind(row.function)
        .bind(record.created_ms as i64)
        .bind(Some(record.method.as_str()).filter(|method| !method.is_empty()))
        .bind(row.batch)
        .bind(row.place.map(|place| place as i64))
        .bind(record.priority)
        .bind(row.seq as i64)
}

fn bind_waiting<'q>(query: rows::Query<'q>, row: &'q NewRow<'_>) -> rows::Query<'q> {
    let call = row.call;
    let query = query
        .bind(row.function)
        .bind(call.record.priority)
        .bind(row.seq as i64)
        .bind(rows::id_bytes(call.record.id))
        .bind(call.json)
        .bind(call.expires_ms.map(|ms| ms as i64))
        .bind(call.due_ms as i64)
        .bind(call.failures)
        .bind(call.losses);
    rows::bind_payload(query, &call.input)
}

fn runs(calls: &[QueuedCall]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for call in calls {
        match runs.last_mut() {
            Some(run) if run.first.offset(run.count) == call.record.id => run.count += 1,
            _ => runs.push(Run { first: call.record.id, count: 1 }),
        }
    }
    runs
}

impl Run {
    /// In the database: 16 bytes of the first id, 8 bytes of the count.
    const LEN: usize = 24;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.first.to_bytes());
        bytes[16..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn all_from(bytes: &[u8]) -> Result<Vec<Self>, StoreError> {
        let (runs, []) = bytes.as_chunks::<{ Self::LEN }>() else {
            return Err(StoreError::Record("the calls of a key are cut off".into()));
        };
        let run = |bytes: &[u8; Self::LEN]| {
            let (first, count) = bytes.split_at(16);
            Self {
                first: CallId::from_bytes(first.try_into().expect("16 bytes")),
                count: u64::from_be_bytes(count.try_into().expect("8 bytes")),
            }
        };
        Ok(runs.iter().map(run).collect())
    }
}
