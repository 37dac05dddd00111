//! Works over many rows, cut into steps, so that the writer can do other things between two of them.

use std::collections::HashMap;

use clunk_core::Digest;
use clunk_core::id::CallId;
use sqlx::{Row, SqliteConnection};

use super::changes::{Leaving, bind_id, find_waiting, leave_queue};
use super::rows::{self, Many, Query, bare};
use super::{blob_uses, failed};
use crate::store::StoreError;

/// Rows of one step: some hundredths of a second.
const STEP: u32 = 2048;

/// Ends calls that wait, without results.
pub struct EndStep {
    pub calls: Calls,
    pub state: i64,
    pub error: String,
    pub now_ms: u64,
}

pub enum Calls {
    /// The first that wait, of this function.
    Function(i64),
    /// Those of these that wait.
    These(Vec<CallId>),
}

#[derive(Debug, Clone, Copy)]
pub enum PurgeStep {
    Results { before_ms: u64 },
    Keys { before_ms: u64 },
    Records { before_ms: u64, after: Option<CallId> },
    Batches { before_ms: u64, after: i64 },
    Blobs,
}

/// What one step did.
#[derive(Default)]
pub struct Stepped {
    pub count: u64,
    pub blobs: Vec<Digest>,
    /// How to go on; none when all is done.
    pub next: Option<PurgeStep>,
    pub more: bool,
}

pub const FIRST_WAITING: &str = "SELECT call FROM queue WHERE function = ? LIMIT ?";
pub const OLDEST_RESULTS: &str =
    "SELECT number, ended_ms, iif(len IS NULL, NULL, body) AS digest FROM results ORDER BY number LIMIT ?";
pub const OLDEST_KEYS: &str = "DELETE FROM keys WHERE created_ms < ? AND number <=
    (SELECT max(number) FROM (SELECT number FROM keys ORDER BY number LIMIT ?))";
pub const OLD_RECORDS: &str =
    "SELECT id, state, ended_ms, result FROM calls WHERE id > ? AND id < ? ORDER BY id LIMIT ?";
pub const UNUSED_BLOBS: &str = "SELECT digest FROM payload_blobs WHERE uses <= 0 AND digest > x'' LIMIT ?";

pub async fn end(connection: &mut SqliteConnection, step: &EndStep) -> Result<Stepped, StoreError> {
    let ids = match &step.calls {
        Calls::These(ids) => ids.clone(),
        Calls::Function(function) => {
            let found = sqlx::query(FIRST_WAITING)
                .bind(function)
                .bind(STEP)
                .fetch_all(&mut *connection)
                .await
                .map_err(failed("read queue"))?;
            found.iter().map(|row| rows::call_id(row, "call")).collect::<Result<_, _>>()?
        }
    };
    let waiting = find_waiting(connection, &ids).await?;
    let leaving: Vec<_> = waiting
        .into_iter()
        .map(|waiting| Leaving { waiting, state: step.state, ended_ms: step.now_ms })
        .collect();
    let count = leaving.len() as u64;
    const END: Many = Many {
        head: "UPDATE calls SET state = ?, ended_ms = ?, error = ? WHERE id IN (",
        row: "?",
        tail: ")",
    };
    let (state, now_ms, error) = (step.state, step.now_ms as i64, step.error.clone());
    let start: &(dyn for<'q> Fn(Query<'q>) -> Query<'q> + Sync) =
        &|query| query.bind(state).bind(now_ms).bind(error.clone());
    let ended: Vec<_> = leaving.iter().map(|leaving| leaving.waiting.id).collect();
    END.execute(connection, &ended, start, bind_id).await.map_err(failed("end calls"))?;
    leave_queue(connection, leaving, HashMap::new()).await.map_err(failed("take off the queue"))?;
    Ok(Stepped { count, more: ids.len() >= STEP as usize, ..Stepped::default() })
}

pub async fn purge(connection: &mut SqliteConnection, step: PurgeStep) -> Result<Stepped, StoreError> {
    match step {
        PurgeStep::Results { before_ms } => purge_results(connection, before_ms).await,
        PurgeStep::Keys { before_ms } => purge_keys(connection, before_ms).await,
        PurgeStep::Records { before_ms, after } => purge_records(connection, before_ms, after).await,
        PurgeStep::Batches { before_ms, after } => purge_batches(connection, before_ms, after).await,
        PurgeStep::Blobs => purge_blobs(connection).await,
    }
}

/// From the oldest on, up to the first that is to stay.
async fn purge_results(connection: &mut SqliteConnection, before_ms: u64) -> Result<Stepped, StoreError> {
    let oldest = sqlx::query(OLDEST_RESULTS)
        .bind(STEP)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read results"))?;
    let old: Vec<_> = oldest.iter().take_while(|row| rows::number(row, "ended_ms") < before_ms).collect();
    let Some(last) = old.last() else { return Ok(Stepped::default()) };
    sqlx::query("DELETE FROM results WHERE number <= ?")
        .bind(last.get::<i64, _>("number"))
        .execute(&mut *connection)
        .await
        .map_err(failed("purge results"))?;
    let mut uses = HashMap::new();
    for row in &old {
        if row.get::<Option<&[u8]>, _>("digest").is_some() {
            *uses.entry(rows::digest(row, "digest")?).or_insert(0) -= 1;
        }
    }
    blob_uses(connection, uses).await.map_err(failed("count blobs"))?;
    let next = (old.len() >= STEP as usize).then_some(PurgeStep::Results { before_ms });
    Ok(Stepped { count: old.len() as u64, next, ..Stepped::default() })
}

async fn purge_keys(connection: &mut SqliteConnection, before_ms: u64) -> Result<Stepped, StoreError> {
    let purged = sqlx::query(OLDEST_KEYS)
        .bind(before_ms as i64)
        .bind(STEP)
        .execute(connection)
        .await
        .map_err(failed("purge keys"))?
        .rows_affected();
    let next = (purged > 0).then_some(PurgeStep::Keys { before_ms });
    Ok(Stepped { count: purged, next, ..Stepped::default() })
}

/// Records lie in the order in which calls were made: only those made before the time can have ended before it.
async fn purge_records(
    connection: &mut SqliteConnection,
    before_ms: u64,
    after: Option<CallId>,
) -> Result<Stepped, StoreError> {
    let page = sqlx::query(OLD_RECORDS)
        .bind(rows::id_bytes(after.unwrap_or(CallId::from_bytes([0; 16]))))
        .bind(rows::id_bytes(CallId::from_parts(before_ms, [0; 10])))
        .bind(STEP)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("read calls"))?;
    let mut old = Vec::new();
    let mut results = Vec::new();
    let mut last = None;
    for row in &page {
        let id = rows::call_id(row, "id")?;
        last = Some(id);
        let ended_ms = rows::ms(row, "ended_ms");
        if ended_ms.is_some_and(|ms| ms < before_ms) {
            old.push(id);
            results.extend(row.get::<Option<i64>, _>("result"));
        }
    }
    purge_results_of(connection, &results).await?;
    const PURGE: Many = Many { head: "DELETE FROM calls WHERE id IN (", row: "?", tail: ")" };
    PURGE.execute(connection, &old, bare, bind_id).await.map_err(failed("purge calls"))?;
    let next = (page.len() >= STEP as usize).then_some(PurgeStep::Records { before_ms, after: last });
    Ok(Stepped { count: old.len() as u64, next, ..Stepped::default() })
}

/// A result does not outlive its call's record.
async fn purge_results_of(connection: &mut SqliteConnection, numbers: &[i64]) -> Result<(), StoreError> {
    const FIND: Many = Many {
        head: "SELECT body AS digest FROM results WHERE len IS NOT NULL AND number IN (",
        row: "?",
        tail: ")",
    };
    const PURGE: Many = Many { head: "DELETE FROM results WHERE number IN (", row: "?", tail: ")" };
    let failed = failed("purge results");
    let blobs =
        FIND.fetch(connection, numbers, |query, number| query.bind(*number)).await.map_err(&failed)?;
    let mut uses = HashMap::new();
    for row in &blobs {
        *uses.entry(rows::digest(row, "digest")?).or_insert(0) -= 1;
    }
    PURGE.execute(connection, numbers, bare, |query, number| query.bind(*number)).await.map_err(&failed)?;
    blob_uses(connection, uses).await.map_err(&failed)
}

async fn purge_batches(
    connection: &mut SqliteConnection,
    before_ms: u64,
    after: i64,
) -> Result<Stepped, StoreError> {
    let failed = failed("purge batches");
    let page = sqlx::query(
        "SELECT number, ended = inputs AND last_ended_ms < ?1 AS old FROM batches
         WHERE number > ?2 AND created_ms < ?1 ORDER BY number LIMIT ?3",
    )
    .bind(before_ms as i64)
    .bind(after)
    .bind(STEP)
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let mut count = 0;
    for row in page.iter().filter(|row| row.get::<bool, _>("old")) {
        for table in ["DELETE FROM parts WHERE batch = ?", "DELETE FROM batches WHERE number = ?"] {
            let query = sqlx::query(table).bind(row.get::<i64, _>("number"));
            query.execute(&mut *connection).await.map_err(&failed)?;
        }
        count += 1;
    }
    let last = page.last().filter(|_| page.len() >= STEP as usize).map(|row| row.get("number"));
    let next = last.map(|after| PurgeStep::Batches { before_ms, after });
    Ok(Stepped { count, next, ..Stepped::default() })
}

async fn purge_blobs(connection: &mut SqliteConnection) -> Result<Stepped, StoreError> {
    const PURGE: Many = Many { head: "DELETE FROM payload_blobs WHERE digest IN (", row: "?", tail: ")" };
    let failed = failed("purge blobs");
    let unused = sqlx::query(UNUSED_BLOBS).bind(STEP).fetch_all(&mut *connection).await.map_err(&failed)?;
    let blobs = unused.iter().map(|row| rows::digest(row, "digest")).collect::<Result<Vec<_>, _>>()?;
    PURGE
        .execute(connection, &blobs, bare, |query, digest| query.bind(&digest.as_bytes()[..]))
        .await
        .map_err(&failed)?;
    let next = (blobs.len() >= STEP as usize).then_some(PurgeStep::Blobs);
    Ok(Stepped { count: 0, blobs, next, more: false })
}
