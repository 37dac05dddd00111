//! Calls that outlive the server: accepted when they are on disk, ended when their result is.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_agent::frame::INLINE_MAX;
use clunk_agent::replica::now_ms;
use clunk_agent::{Payload, Raised};
use clunk_core::api::{CallRecord, ErrorAnswer, SpawnAnswer};
use clunk_core::call::CallState;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{BatchId, CallId};
use clunk_store::{
    Change, INLINE_MAX_STORED, IntoBatch, QueuedCall, ResultKind, StoredPayload, StoredResult, Submission,
    Submitted,
};

use super::Engine;
use super::live::{End, Input, Live, Request, Sink};
use super::pool::{Arrival, MAX_PENDING, Pool, app_stopped};
use super::queue::{Load, Place, WINDOW_BYTES, WINDOW_CALLS};

/// How long a failed load waits before it is tried again.
const LOAD_PAUSE: Duration = Duration::from_secs(1);

/// What a client spawns with one request.
pub struct Spawn {
    /// The id of the first call; None: a new one.
    pub first: Option<CallId>,
    pub json: bool,
    pub method: Arc<str>,
    pub priority: i8,
    pub expires_ms: Option<u64>,
    pub inputs: Vec<StoredPayload>,
    pub key: Option<String>,
    pub batch: Option<Batch>,
}

pub enum Batch {
    New,
    Add(BatchId),
}

/// The bytes of a call's input, ready to be sent.
pub fn payload(engine: &Engine, input: &Input) -> Result<Payload, ErrorBody> {
    match input {
        Input::Given(payload) => Ok(payload.clone()),
        Input::Stored(stored) => open(engine, stored),
    }
}

/// A stored payload as one that can be sent.
pub fn open(engine: &Engine, stored: &StoredPayload) -> Result<Payload, ErrorBody> {
    let (digest, len) = match stored {
        StoredPayload::Inline(bytes) => return Ok(Payload::Memory(bytes.clone())),
        StoredPayload::Blob { digest, len } => (*digest, *len),
    };
    let missing = |why: String| {
        let text = format!("payload {} of the call cannot be read: {why}", digest.short());
        ErrorBody::new(ErrorCode::Internal, text)
    };
    let path = engine.payloads.path(digest).ok_or_else(|| missing("it is gone".into()))?;
    let file = File::open(path).map_err(|error| missing(error.to_string()))?;
    Ok(Payload::File { file: Arc::new(file), len })
}

/// Keeps a payload: small ones with their record, others as files. Waits for the disk only for those.
pub async fn keep(engine: &Arc<Engine>, payload: Payload) -> Result<StoredPayload, ErrorBody> {
    match payload {
        Payload::Memory(bytes) if bytes.len() <= INLINE_MAX_STORED => Ok(StoredPayload::Inline(bytes)),
        payload => {
            let engine = engine.clone();
            let write = move || -> Result<StoredPayload, clunk_store::StoreError> {
                let len = payload.len();
                let digest = match payload {
                    Payload::Memory(bytes) => engine.payloads.put(&bytes)?,
                    Payload::File { file, len } => engine.payloads.put_file(&file, len)?,
                };
                Ok(StoredPayload::Blob { digest, len })
            };
            let written = tokio::task::spawn_blocking(write).await;
            let written = written.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
            written.map_err(|error| crate::answer::store_error(&error))
        }
    }
}

/// Accepts a model's call under an id that its caller has written down before: it is on disk when this returns.
pub async fn spawn_as(pool: &Arc<Pool>, id: CallId, input: Vec<u8>) -> Result<(), ErrorBody> {
    // Until the store counts who refers to it.
    let _used = pool.engine.payload_use.clone().read_owned().await;
    let input = keep(&pool.engine, Payload::Memory(input.into())).await?;
    let call = Spawn {
        first: Some(id),
        json: true,
        method: "".into(),
        priority: 0,
        expires_ms: None,
        inputs: vec![input],
        key: None,
        batch: None,
    };
    spawn(pool, call).await.map(drop)
}

/// Accepts calls: they are on disk when this returns.
pub async fn spawn(pool: &Arc<Pool>, spawn: Spawn) -> Result<SpawnAnswer, ErrorBody> {
    let count = spawn.inputs.len() as u64;
    let first = spawn.first.unwrap_or_else(CallId::fresh);
    let range = (first, count);
    {
        let mut state = pool.lock();
        if state.closed.is_some() {
            return Err(app_stopped());
        }
        if state.queue.len() + count > MAX_PENDING {
            let text = format!("{MAX_PENDING} calls wait for function `{}` already", pool.spec.name);
            return Err(ErrorBody::new(ErrorCode::QueueFull, text).hint("try again when some have been run"));
        }
        state.queue.announce(range);
    }
    // Whatever happens to this request, the announcement is taken back.
    let mut announced = Announced { pool: pool.clone(), range, priority: spawn.priority, first_seq: None };
    let batch = spawn.batch.as_ref().map(|batch| match batch {
        Batch::New => BatchId::fresh(),
        Batch::Add(id) => *id,
    });
    let calls = queued_calls(pool, &spawn, first, batch);
    let kept: Vec<QueuedCall> = calls.clone();
    let now_ms = now_ms();
    let into = spawn.batch.as_ref().zip(batch).map(|(asked, id)| match asked {
        Batch::New => IntoBatch::New { id, function: pool.id, created_ms: now_ms },
        Batch::Add(_) => IntoBatch::Existing(id),
    });
    let submission = Submission { app: pool.app, calls, key: spawn.key, batch: into, now_ms };
    let submitted = pool.engine.store.submit(submission).await;
    match submitted.map_err(|error| crate::answer::store_error(&error))? {
        Submitted::New { first_seq, first_index } => {
            announced.first_seq = Some(first_seq);
            pool.engine.newest_seq.raise(first_seq + count - 1);
            arrived(&mut announced, kept, first_seq, first_index);
            let ids =
                if batch.is_some() { Vec::new() } else { (0..count).map(|at| first.offset(at)).collect() };
            Ok(SpawnAnswer { calls: ids, batch, accepted: count })
        }
        Submitted::Again { calls, batch, accepted } => {
            let calls = if batch.is_some() { Vec::new() } else { calls };
            Ok(SpawnAnswer { calls, batch, accepted })
        }
    }
}

fn queued_calls(pool: &Pool, spawn: &Spawn, first: CallId, batch: Option<BatchId>) -> Vec<QueuedCall> {
    let created_ms = now_ms();
    let record = |at: u64| CallRecord {
        id: first.offset(at),
        app: pool.app,
        function_id: pool.id,
        function: pool.spec.name.clone(),
        state: CallState::NEW.name().into(),
        attempts: 0,
        created_ms,
        started_ms: None,
        ended_ms: None,
        error: None,
        method: spawn.method.as_ref().into(),
        batch,
        index: batch.map(|_| at),
        priority: spawn.priority,
        durable: true,
        cpu_us: 0,
    };
    let inputs = spawn.inputs.iter().cloned().zip(0..);
    let call = |(input, at)| QueuedCall {
        record: record(at),
        json: spawn.json,
        input,
        expires_ms: spawn.expires_ms,
        due_ms: 0,
        failures: 0,
        losses: 0,
        seq: 0,
    };
    inputs.map(call).collect()
}

struct Announced {
    pool: Arc<Pool>,
    range: (CallId, u64),
    priority: i8,
    first_seq: Option<u64>,
}

impl Drop for Announced {
    fn drop(&mut self) {
        if self.first_seq.is_none() {
            // Should they be on disk all the same, a later load finds them.
            let mut state = self.pool.lock();
            state.queue.arrived(self.range, self.priority, None);
            state.queue.suspect(self.priority);
            self.pool.wake.notify_one();
        }
    }
}

/// Puts accepted calls into the line, or leaves them to a later load.
fn arrived(announced: &mut Announced, calls: Vec<QueuedCall>, first_seq: u64, first_index: u64) {
    let pool = announced.pool.clone();
    let mut state = pool.lock();
    calls.iter().for_each(|call| state.arrivals.arrived(call.record.created_ms as f64));
    if state.queue.arrived(announced.range, announced.priority, Some(first_seq)) {
        for (mut call, at) in calls.into_iter().zip(0..) {
            call.seq = first_seq + at;
            call.record.index = call.record.index.map(|index| first_index + index);
            enter(&pool, &mut state, call);
        }
    }
    pool.advance(&mut state);
}

/// Brings a durable call into memory.
fn enter(pool: &Pool, state: &mut super::pool::State, call: QueuedCall) {
    let record = call.record;
    if state.calls.contains_key(&record.id) {
        return;
    }
    let place = Place::durable(record.priority, call.seq);
    let request = Request {
        id: record.id,
        json: call.json,
        method: record.method.as_str().into(),
        priority: record.priority,
        expires_ms: call.expires_ms,
        input: Input::Stored(call.input),
    };
    let sink = Sink::Durable { batch: record.batch.zip(record.index) };
    let due = call.due_ms.checked_sub(now_ms()).map(|ms| Instant::now() + Duration::from_millis(ms));
    let attempts = record.attempts;
    let life = CallState::Queued { attempts, failures: call.failures, losses: call.losses };
    let created_ms = record.created_ms;
    pool.insert(state, Arrival { request, sink, place, call: life, due, created_ms });
}

/// Loads the next part of a tail.
pub async fn load(pool: Arc<Pool>, load: Load) {
    let most = (WINDOW_CALLS / 2) as u32;
    let found =
        pool.engine.store.queued(pool.id, load.priority, load.after_seq, most, WINDOW_BYTES / 2).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(function = %pool.id, %error, "could not read the queue; trying again");
            tokio::time::sleep(LOAD_PAUSE).await;
            pool.lock().loading = false;
            return pool.wake.notify_one();
        }
    };
    let last_seq = found.last().map(|call| call.seq);
    let more = !found.is_empty();
    let mut state = pool.lock();
    state.loading = false;
    if state.closed.is_some() {
        return;
    }
    if let Some(seq) = last_seq {
        pool.engine.newest_seq.raise(seq);
    }
    let taken: Vec<_> = found.into_iter().filter(|call| !state.queue.is_announced(call.record.id)).collect();
    state.queue.loaded(load, last_seq, taken.len() as u64, more);
    for call in taken {
        enter(&pool, &mut state, call);
    }
    pool.advance(&mut state);
    drop(state);
    pool.wake.notify_one();
}

/// Writes down when a call is tried again: that must outlive the server.
pub fn requeued(pool: &Pool, live: &Live, due_ms: u64) {
    let CallState::Queued { failures, losses, .. } = live.state else { return };
    pool.engine.store.record(Change::Requeued { record: live.record(pool, None), due_ms, failures, losses });
}

/// Writes down the end of a call, then tells who waits for it.
pub fn ended(engine: &Arc<Engine>, record: CallRecord, end: End, json: bool) {
    let (kind, payload) = result(end);
    match payload {
        Payload::Memory(bytes) if bytes.len() <= INLINE_MAX_STORED => {
            let payload = StoredPayload::Inline(bytes);
            write_end(engine, record, Some(StoredResult { kind, json, payload }));
        }
        payload => {
            let engine = engine.clone();
            tokio::spawn(async move {
                let _used = engine.payload_use.read().await;
                let result = match keep(&engine, payload).await {
                    Ok(payload) => StoredResult { kind, json, payload },
                    Err(error) => {
                        tracing::error!(call = %record.id, %error, "could not keep a result");
                        failure(error, json)
                    }
                };
                write_end(&engine, record, Some(result));
            });
        }
    }
}

fn write_end(engine: &Arc<Engine>, record: CallRecord, result: Option<StoredResult>) {
    let (id, waiters) = (record.id, engine.waiters.clone());
    let done = Box::new(move |_| waiters.wake(id));
    engine.store.record(Change::Ended { record, result, done: Some(done) });
}

fn result(end: End) -> (ResultKind, Payload) {
    match end {
        End::Value(payload) => (ResultKind::Value, payload),
        End::Raised(raised) => (ResultKind::Exception, raised.package),
        End::Failed(error) => {
            let text = serde_json::to_vec(&ErrorAnswer { error }).expect("an error has a JSON form");
            (ResultKind::Failure, Payload::Memory(text.into()))
        }
    }
}

fn failure(error: ErrorBody, json: bool) -> StoredResult {
    let text = serde_json::to_vec(&ErrorAnswer { error }).expect("an error has a JSON form");
    StoredResult { kind: ResultKind::Failure, json, payload: StoredPayload::Inline(text.into()) }
}

/// A call that waits on disk only.
pub fn cancel_on_disk(engine: &Engine, mut record: CallRecord) {
    if record.ended_ms.is_some() {
        return;
    }
    record.state = "canceled".into();
    record.ended_ms = Some(now_ms());
    record.error = Some("call-canceled: the call was canceled".into());
    let (id, waiters) = (record.id, engine.waiters.clone());
    let done = Box::new(move |_| waiters.wake(id));
    engine.store.record(Change::Ended { record, result: None, done: Some(done) });
}

/// A stored result as the end of its call.
pub fn end_of(engine: &Engine, result: StoredResult, record: &CallRecord) -> End {
    let payload = match open(engine, &result.payload) {
        Ok(payload) => payload,
        Err(error) => return End::Failed(error),
    };
    match result.kind {
        ResultKind::Value => End::Value(payload),
        ResultKind::Exception => {
            let text = record.error.clone().unwrap_or_default();
            let (kind, message) = text.split_once(": ").unwrap_or((&text, ""));
            let (kind, message) = (kind.into(), message.into());
            End::Raised(Raised { kind, message, traceback: String::new(), package: payload })
        }
        ResultKind::Failure => End::Failed(read_failure(&payload)),
    }
}

fn read_failure(payload: &Payload) -> ErrorBody {
    let read = match payload {
        Payload::Memory(bytes) => serde_json::from_slice::<ErrorAnswer>(bytes).ok(),
        Payload::File { .. } => None,
    };
    read.map_or_else(
        || ErrorBody::new(ErrorCode::Internal, "the reason of the failure cannot be read"),
        |answer| answer.error,
    )
}

/// Whether a payload of this size travels in memory; larger ones are spooled to a file.
pub fn fits_in_memory(len: u64) -> bool {
    len <= INLINE_MAX
}
