//! What is written down of a call, following its lifecycle.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use clunk_agent::CallEnd;
use clunk_agent::replica::now_ms;
use clunk_core::api::CallRecord;
use clunk_core::call::{CallState, Event};
use clunk_core::error::ErrorCode;
use clunk_core::id::CallId;
use clunk_store::Change;

use super::{Engine, Pool};

/// A call's record; dropped unfinished the call is canceled.
pub struct Record {
    engine: Arc<Engine>,
    call: CallRecord,
    state: CallState,
    /// Log events of the call so far.
    pub logged: Arc<AtomicU64>,
}

impl Record {
    pub fn new(pool: &Pool, id: CallId) -> Self {
        let call = CallRecord {
            id,
            app: pool.app,
            function_id: pool.id,
            function: pool.spec.name.clone(),
            state: CallState::NEW.name().into(),
            attempts: 0,
            created_ms: now_ms(),
            started_ms: None,
            ended_ms: None,
            error: None,
            method: String::new(),
            batch: None,
            index: None,
            priority: 0,
            durable: false,
            cpu_us: 0,
        };
        Self { engine: pool.engine.clone(), call, state: CallState::NEW, logged: Arc::default() }
    }

    pub fn id(&self) -> CallId {
        self.call.id
    }

    /// A replica has it.
    pub fn started(&mut self) {
        self.apply(Event::Dispatch);
        self.call.started_ms = Some(now_ms());
    }

    /// The replica was gone before the call reached it.
    pub fn refused(&mut self) {
        self.apply(Event::Lose { attempt: self.attempts(), code: ErrorCode::ContainerCrashed, retry: true });
    }

    pub fn finish(&mut self, end: &CallEnd) {
        let attempt = self.attempts();
        let lost = |code| Event::Lose { attempt, code, retry: false };
        let (event, error) = match end {
            CallEnd::Returned(_) => (Event::Return { attempt }, None),
            CallEnd::Raised(raised) => {
                let text = format!("{}: {}", raised.kind, raised.message);
                // Raised while the module was imported, no attempt was made.
                let running = matches!(self.state, CallState::Running { .. });
                (if running { Event::Raise { attempt } } else { lost(ErrorCode::StartFailed) }, Some(text))
            }
            CallEnd::Failed(error) => {
                let event = match error.code {
                    ErrorCode::FunctionTimeout => Event::TimeOut { attempt },
                    ErrorCode::AppStopped | ErrorCode::CallCanceled => Event::Cancel,
                    code => lost(code),
                };
                (event, Some(format!("{}: {}", error.code, error.message)))
            }
            CallEnd::Refused => (lost(ErrorCode::Internal), None),
        };
        self.end(event, error);
    }

    fn attempts(&self) -> u32 {
        match self.state {
            CallState::Queued { attempts } | CallState::Ended { attempts, .. } => attempts,
            CallState::Running { attempt } => attempt,
        }
    }

    fn apply(&mut self, event: Event) {
        match self.state.apply(event) {
            Ok((state, _)) => self.state = state,
            Err(error) => {
                tracing::error!(call = %self.call.id, ?event, %error, "a call took a way it must not take")
            }
        }
    }

    fn end(&mut self, event: Event, error: Option<String>) {
        self.apply(event);
        self.call.state = self.state.name().into();
        self.call.attempts = self.attempts();
        self.call.error = error;
        self.call.ended_ms = Some(now_ms());
        self.engine.count_ended();
        self.engine.store.record(Change::Ended { record: self.call.clone(), result: None, done: None });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.call.ended_ms.is_none() {
            self.end(Event::Cancel, Some("the caller went away".into()));
        }
    }
}
