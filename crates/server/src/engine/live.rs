//! A call while it lives: its state, its input, and who waits for its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clunk_agent::{OutputFile, Payload, Raised};
use clunk_core::api::CallRecord;
use clunk_core::call::CallState;
use clunk_core::error::ErrorBody;
use clunk_core::id::{BatchId, CallId, ReplicaId};
use clunk_store::StoredPayload;
use tokio::sync::{mpsc, oneshot};

use super::Pool;
use super::outbox::Outbox;
use super::queue::Place;

/// How a call ended.
#[derive(Debug, Clone)]
pub enum End {
    Value(Payload),
    Raised(Raised),
    Failed(ErrorBody),
}

/// A call that has ended.
#[derive(Debug)]
pub struct Finished {
    pub id: CallId,
    pub end: End,
    /// Log events it has on the app's event stream.
    pub logged: u64,
}

/// Of a generator: a value, or the end.
#[derive(Debug)]
pub enum Streamed {
    Value(Payload),
    End(Finished),
}

/// Who is told of the end.
pub enum Sink {
    One(oneshot::Sender<Finished>),
    Map {
        outbox: Arc<Outbox>,
        index: u64,
    },
    Stream(mpsc::Sender<Streamed>),
    /// The store.
    Durable {
        batch: Option<(BatchId, u64)>,
    },
}

pub enum Input {
    Given(Payload),
    Stored(StoredPayload),
}

/// What a caller asks for.
pub struct Request {
    pub id: CallId,
    pub json: bool,
    pub method: Arc<str>,
    pub priority: i8,
    pub expires_ms: Option<u64>,
    pub input: Input,
}

pub struct Live {
    pub request: Request,
    pub state: CallState,
    pub place: Place,
    pub created_ms: u64,
    pub queued_at: Instant,
    pub started_ms: Option<u64>,
    pub sink: Sink,
    pub logged: Arc<AtomicU64>,
    /// Where its attempt runs.
    pub at: Option<(ReplicaId, u64)>,
    pub expires_at: Option<Instant>,
    /// What the last attempt ended with, for when no other follows.
    pub last: Option<End>,
    pub cpu_us: u64,
    /// Values that a generator has given: from the first on it is not run again.
    pub yielded: u64,
    /// Files of the value that it returned.
    pub files: Vec<OutputFile>,
}

impl Live {
    pub fn is_durable(&self) -> bool {
        matches!(self.sink, Sink::Durable { .. })
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.sink, Sink::Stream(_))
    }

    /// Bytes of its input that are in memory.
    pub fn held_bytes(&self) -> u64 {
        match &self.request.input {
            Input::Given(Payload::Memory(bytes)) | Input::Stored(StoredPayload::Inline(bytes)) => {
                bytes.len() as u64
            }
            Input::Given(Payload::File { .. }) | Input::Stored(StoredPayload::Blob { .. }) => 0,
        }
    }

    pub fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    pub fn record(&self, pool: &Pool, ended_ms: Option<u64>) -> CallRecord {
        let (batch, index) = match &self.sink {
            Sink::Durable { batch: Some((batch, index)) } => (Some(*batch), Some(*index)),
            _ => (None, None),
        };
        let error = match &self.last {
            Some(End::Raised(raised)) => Some(format!("{}: {}", raised.kind, raised.message)),
            Some(End::Failed(error)) => Some(format!("{}: {}", error.code, error.message)),
            Some(End::Value(_)) | None => None,
        };
        CallRecord {
            id: self.request.id,
            app: pool.app,
            function_id: pool.id,
            function: pool.spec.name.clone(),
            state: self.state.name().into(),
            attempts: self.state.attempts(),
            created_ms: self.created_ms,
            started_ms: self.started_ms,
            ended_ms,
            error,
            method: self.request.method.as_ref().into(),
            batch,
            index,
            priority: self.request.priority,
            durable: self.is_durable(),
            cpu_us: self.cpu_us,
        }
    }
}
