//! Recording what happened to calls.

use std::collections::HashMap;

use clunk_core::Digest;
use clunk_core::api::CallRecord;
use clunk_core::id::CallId;
use sqlx::{Row, SqliteConnection};

use super::rows::{self, CallRow, Many, Query, bare};
use super::writer::Known;
use super::{blob_uses, failed};
use crate::calls::{Change, Done, ResultKind, StoredPayload, StoredResult};
use crate::store::StoreError;

/// A change on its way to the disk, without its `done`.
pub struct Noted {
    pub record: CallRecord,
    pub event: Event,
    /// That it holds in memory, about.
    pub bytes: usize,
}

pub enum Event {
    Ended(Option<StoredResult>),
    Requeued { due_ms: u64, failures: u32, losses: u32 },
}

impl Noted {
    pub fn new(change: Change) -> (Self, Option<Done>) {
        let (record, event, done) = match change {
            Change::Ended { record, result, done } => (record, Event::Ended(result), done),
            Change::Requeued { record, due_ms, failures, losses } => {
                (record, Event::Requeued { due_ms, failures, losses }, None)
            }
        };
        let payload = match &event {
            Event::Ended(Some(result)) => result.payload.inline_len(),
            Event::Ended(None) | Event::Requeued { .. } => 0,
        };
        let texts =
            record.function.len() + record.method.len() + record.error.as_ref().map_or(0, String::len);
        let bytes = size_of::<Self>() + texts + payload;
        (Self { record, event, bytes }, done)
    }
}

/// A durable call that has not ended, as far as ending it needs.
pub struct Waiting {
    pub id: CallId,
    function: i64,
    priority: i8,
    seq: i64,
    batch: Option<i64>,
    /// Where its input lies, if that is a blob.
    input: Option<Digest>,
}

/// How a waiting call ends.
pub struct Leaving {
    pub waiting: Waiting,
    pub state: i64,
    pub ended_ms: u64,
}

/// What became of a durable call, of all changes of one commit together.
#[derive(Default)]
struct Fate<'a> {
    requeued: Option<(&'a CallRecord, u64, u32, u32)>,
    ended: Option<(&'a CallRecord, Option<&'a StoredResult>)>,
}

struct ResultRow<'a> {
    number: i64,
    ended_ms: u64,
    result: &'a StoredResult,
}

pub const FIND_WAITING: Many = Many {
    head: "SELECT c.id, c.function, c.priority, c.seq, c.batch, iif(q.len IS NULL, NULL, q.body) AS input
        FROM calls c LEFT JOIN queue q
            ON q.function = c.function AND q.priority = c.priority AND q.seq = c.seq
        WHERE c.state = 0 AND c.id IN (",
    row: "?",
    tail: ")",
};

const INSERT_RESULTS: Many = Many {
    head: "INSERT INTO results (number, ended_ms, kind, json, len, body) VALUES ",
    row: "(?,?,?,?,?,?)",
    tail: "",
};

pub const LEAVE_QUEUE: Many =
    Many { head: "DELETE FROM queue WHERE function = ? AND priority = ? AND seq IN (", row: "?", tail: ")" };

pub async fn write(
    connection: &mut SqliteConnection,
    known: &mut Known,
    changes: &[Noted],
) -> Result<(), StoreError> {
    let mut attached = Vec::new();
    let mut order = Vec::new();
    let mut fates: HashMap<CallId, Fate<'_>> = HashMap::new();
    for Noted { record, event, .. } in changes {
        if !record.durable {
            // What waits only in memory is not written before its end.
            if matches!(event, Event::Ended(_)) {
                attached.push(attached_row(connection, known, record).await?);
            }
            continue;
        }
        let fate = fates.entry(record.id).or_insert_with(|| {
            order.push(record.id);
            Fate::default()
        });
        // The first end counts, and nothing comes after it.
        match event {
            _ if fate.ended.is_some() => {}
            Event::Ended(result) => fate.ended = Some((record, result.as_ref())),
            Event::Requeued { due_ms, failures, losses } => {
                fate.requeued = Some((record, *due_ms, *failures, *losses));
            }
        }
    }
    rows::insert_attached(connection, &attached).await.map_err(failed("record calls"))?;
    let waiting = find_waiting(connection, &order).await?;
    end_or_requeue(connection, known, waiting, &fates).await
}

async fn attached_row(
    connection: &mut SqliteConnection,
    known: &mut Known,
    record: &CallRecord,
) -> Result<CallRow, StoreError> {
    let (function, _) = known.function(connection, record.function_id).await?;
    call_row(record, function)
}

fn call_row(record: &CallRecord, function: i64) -> Result<CallRow, StoreError> {
    let state = rows::state_number(&record.state);
    Ok(CallRow {
        id: record.id,
        function,
        state: state.ok_or_else(|| StoreError::Record(format!("no state `{}`", record.state)))?,
        attempts: record.attempts,
        created_ms: record.created_ms,
        started_ms: record.started_ms,
        ended_ms: record.ended_ms,
        error: record.error.clone(),
        method: record.method.clone(),
        batch: None,
        place: record.index,
        priority: record.priority,
        cpu_us: record.cpu_us,
        seq: None,
        result: None,
    })
}

/// Those of the calls that are durable and have not ended.
pub async fn find_waiting(
    connection: &mut SqliteConnection,
    ids: &[CallId],
) -> Result<Vec<Waiting>, StoreError> {
    let found = FIND_WAITING.fetch(connection, ids, bind_id).await.map_err(failed("find calls"))?;
    found
        .iter()
        .map(|row| {
            let input: Option<&[u8]> = row.get("input");
            Ok(Waiting {
                id: rows::call_id(row, "id")?,
                function: row.get("function"),
                priority: row.get("priority"),
                seq: row.get("seq"),
                batch: row.get("batch"),
                input: input.map(|_| rows::digest(row, "input")).transpose()?,
            })
        })
        .collect()
}

pub fn bind_id<'q>(query: Query<'q>, id: &'q CallId) -> Query<'q> {
    query.bind(rows::id_bytes(*id))
}

async fn end_or_requeue(
    connection: &mut SqliteConnection,
    known: &mut Known,
    waiting: Vec<Waiting>,
    fates: &HashMap<CallId, Fate<'_>>,
) -> Result<(), StoreError> {
    let mut ended = Vec::new();
    let mut results = Vec::new();
    let mut leaving = Vec::new();
    for waiting in waiting {
        let fate = &fates[&waiting.id];
        let Some((record, result)) = fate.ended else {
            requeue(connection, &waiting, fate).await.map_err(failed("requeue call"))?;
            continue;
        };
        let mut row = call_row(record, waiting.function)?;
        let ended_ms = record.ended_ms.unwrap_or(record.created_ms);
        if let Some(result) = result {
            row.result = Some(known.result);
            results.push(ResultRow { number: known.result, ended_ms, result });
            known.result += 1;
        }
        leaving.push(Leaving { waiting, state: row.state, ended_ms });
        ended.push(row);
    }
    rows::end_calls(connection, &ended).await.map_err(failed("end calls"))?;
    let kept = INSERT_RESULTS.execute(connection, &results, bare, bind_result).await;
    kept.map_err(failed("keep results"))?;
    let mut uses = HashMap::new();
    for row in &results {
        if let StoredPayload::Blob { digest, .. } = row.result.payload {
            *uses.entry(digest).or_insert(0) += 1;
        }
    }
    leave_queue(connection, leaving, uses).await.map_err(failed("take off the queue"))
}

fn bind_result<'q>(query: Query<'q>, row: &'q ResultRow<'_>) -> Query<'q> {
    let query = query
        .bind(row.number)
        .bind(row.ended_ms as i64)
        .bind(kind_number(row.result.kind))
        .bind(row.result.json);
    rows::bind_payload(query, &row.result.payload)
}

pub fn kind_number(kind: ResultKind) -> i64 {
    match kind {
        ResultKind::Value => 0,
        ResultKind::Exception => 1,
        ResultKind::Failure => 2,
    }
}

pub fn kind(number: i64) -> Result<ResultKind, StoreError> {
    match number {
        0 => Ok(ResultKind::Value),
        1 => Ok(ResultKind::Exception),
        2 => Ok(ResultKind::Failure),
        other => Err(StoreError::Record(format!("no kind of result {other}"))),
    }
}

async fn requeue(
    connection: &mut SqliteConnection,
    waiting: &Waiting,
    fate: &Fate<'_>,
) -> Result<(), sqlx::Error> {
    let Some((record, due_ms, failures, losses)) = fate.requeued else { return Ok(()) };
    sqlx::query("UPDATE calls SET attempts = ?, started_ms = ?, error = ?, cpu_us = ? WHERE id = ?")
        .bind(record.attempts)
        .bind(record.started_ms.map(|ms| ms as i64))
        .bind(record.error.as_deref())
        .bind(record.cpu_us as i64)
        .bind(rows::id_bytes(waiting.id))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE queue SET due_ms = ?, failures = ?, losses = ? WHERE function = ? AND priority = ? AND seq = ?",
    )
    .bind(due_ms as i64)
    .bind(failures)
    .bind(losses)
    .bind(waiting.function)
    .bind(waiting.priority)
    .bind(waiting.seq)
    .execute(connection)
    .await
    .map(drop)
}

/// Removes ended calls from the queue, counts them in their batches, and lets go of their inputs. `uses` begins with
/// what their results add.
pub async fn leave_queue(
    connection: &mut SqliteConnection,
    leaving: Vec<Leaving>,
    mut uses: HashMap<Digest, i64>,
) -> Result<(), sqlx::Error> {
    let mut queues: HashMap<(i64, i8), Vec<i64>> = HashMap::new();
    let mut batches: HashMap<i64, (i64, i64, u64)> = HashMap::new();
    for Leaving { waiting, state, ended_ms } in leaving {
        queues.entry((waiting.function, waiting.priority)).or_default().push(waiting.seq);
        if let Some(digest) = waiting.input {
            *uses.entry(digest).or_default() -= 1;
        }
        if let Some(batch) = waiting.batch {
            let (ended, succeeded, last_ended_ms) = batches.entry(batch).or_default();
            *ended += 1;
            *succeeded += i64::from(state == rows::SUCCEEDED);
            *last_ended_ms = ended_ms.max(*last_ended_ms);
        }
    }
    for ((function, priority), mut seqs) in queues {
        seqs.sort_unstable();
        let start: &(dyn for<'q> Fn(Query<'q>) -> Query<'q> + Sync) =
            &|query| query.bind(function).bind(priority);
        LEAVE_QUEUE.execute(connection, &seqs, start, |query, seq| query.bind(*seq)).await?;
    }
    for (batch, (ended, succeeded, last_ended_ms)) in batches {
        sqlx::query(
            "UPDATE batches SET ended = ended + ?, succeeded = succeeded + ?, last_ended_ms = max(last_ended_ms, ?)
             WHERE number = ?",
        )
        .bind(ended)
        .bind(succeeded)
        .bind(last_ended_ms as i64)
        .bind(batch)
        .execute(&mut *connection)
        .await?;
    }
    blob_uses(connection, uses).await
}
