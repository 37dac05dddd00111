//! What every [`Store`] must do, as functions that a test of each implementation calls. Each makes apps of its own; only
//! those that take the whole store say so.

mod apps;
pub mod models;
mod queue;
mod results;
mod sweeps;

use std::sync::Arc;

use bytes::Bytes;
use clunk_core::api::CallRecord;
use clunk_core::api::Lifetime;
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};
use tokio::sync::oneshot;

use crate::{
    Change, IntoBatch, NewApp, QueuedCall, ResultKind, Store, StoredPayload, StoredResult, Submission,
    Submitted,
};

pub use apps::*;
pub use queue::*;
pub use results::*;
pub use sweeps::*;

/// The store under test.
pub type Shared = Arc<dyn Store>;

/// When everything in the contract happens, in milliseconds since 1970.
pub const NOW_MS: u64 = 1_790_000_000_000;

pub fn spec(name: &str) -> FunctionSpec {
    let text = format!(
        r#"{{"name":"{name}","entry":{{"module":"app","qualname":"{name}"}},
            "image":"im-00112233445566778899aabbccddeeff"}}"#
    );
    serde_json::from_str(&text).expect("a valid function")
}

/// An app with the functions `square` and `cube`, not recorded yet.
pub fn new_app() -> NewApp {
    NewApp {
        id: AppId::fresh(),
        name: "demo".into(),
        workspace: "main".into(),
        lifetime: Lifetime::Leased,
        created_ms: NOW_MS,
        functions: vec![(FunctionId::fresh(), spec("square")), (FunctionId::fresh(), spec("cube"))],
    }
}

pub async fn recorded_app(store: &Shared) -> NewApp {
    let app = new_app();
    store.create_app(app.clone()).await.unwrap();
    app
}

/// A new call of the app's first function.
pub fn call_of(app: &NewApp, id: CallId) -> CallRecord {
    CallRecord {
        id,
        app: app.id,
        function_id: app.functions[0].0,
        function: app.functions[0].1.name.clone(),
        state: "queued".into(),
        attempts: 0,
        created_ms: NOW_MS,
        started_ms: None,
        ended_ms: None,
        error: None,
        method: String::new(),
        batch: None,
        index: None,
        priority: 0,
        durable: true,
        cpu_us: 0,
    }
}

pub fn queued_call(record: CallRecord, input: &[u8]) -> QueuedCall {
    QueuedCall {
        record,
        json: false,
        input: StoredPayload::Inline(Bytes::copy_from_slice(input)),
        expires_ms: None,
        due_ms: 0,
        failures: 0,
        losses: 0,
        seq: 0,
    }
}

/// So many calls of the app's first function, whose ids follow each other, with their place as their input.
pub fn calls_of(app: &NewApp, count: u64) -> Vec<QueuedCall> {
    let first = CallId::fresh();
    (0..count).map(|place| queued_call(call_of(app, first.offset(place)), &place.to_le_bytes())).collect()
}

pub fn submission(app: &NewApp, calls: Vec<QueuedCall>) -> Submission {
    Submission { app: app.id, calls, key: None, batch: None, now_ms: NOW_MS }
}

/// Accepts so many calls, as [`calls_of`] makes them, and gives them as the queue will.
pub async fn accepted(store: &Shared, app: &NewApp, count: u64) -> Vec<QueuedCall> {
    submitted(store, submission(app, calls_of(app, count))).await
}

/// A batch of so many calls, as [`accepted`].
pub async fn accepted_batch(store: &Shared, app: &NewApp, count: u64) -> (BatchId, Vec<QueuedCall>) {
    let id = BatchId::fresh();
    let function = app.functions[0].0;
    let mut submission = submission(app, calls_of(app, count));
    submission.batch = Some(IntoBatch::New { id, function, created_ms: NOW_MS });
    (id, submitted(store, submission).await)
}

pub async fn submitted(store: &Shared, submission: Submission) -> Vec<QueuedCall> {
    let mut calls = submission.calls.clone();
    let batch = submission.batch.map(|batch| match batch {
        IntoBatch::New { id, .. } | IntoBatch::Existing(id) => id,
    });
    let Submitted::New { first_seq, first_index } = store.submit(submission).await.unwrap() else {
        panic!("the submission is new");
    };
    for (call, offset) in calls.iter_mut().zip(0..) {
        call.seq = first_seq + offset;
        call.record.batch = batch;
        call.record.index = batch.map(|_| first_index + offset);
    }
    calls
}

/// The record of a call after its first attempt.
pub fn ended(record: &CallRecord, state: &str, ended_ms: u64) -> CallRecord {
    CallRecord {
        state: state.into(),
        attempts: record.attempts + 1,
        started_ms: Some(ended_ms - 1),
        ended_ms: Some(ended_ms),
        cpu_us: 7,
        ..record.clone()
    }
}

pub fn value(content: &[u8]) -> StoredResult {
    StoredResult {
        kind: ResultKind::Value,
        json: false,
        payload: StoredPayload::Inline(Bytes::copy_from_slice(content)),
    }
}

/// Records an end and waits until it is on disk.
pub async fn end(store: &Shared, record: CallRecord, result: Option<StoredResult>) {
    let (done, synced) = oneshot::channel();
    let tell = move |outcome| {
        let _ = done.send(outcome);
    };
    let done = Some(Box::new(tell) as crate::calls::Done);
    store.record(Change::Ended { record, result, done });
    assert_eq!(synced.await, Ok(Ok(())), "the end is on disk");
}

/// Everything that waits for the app's first function at priority 0.
pub async fn queue_of(store: &Shared, app: &NewApp) -> Vec<QueuedCall> {
    store.queued(app.functions[0].0, 0, 0, u32::MAX, u64::MAX).await.unwrap()
}
