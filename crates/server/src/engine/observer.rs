//! Whoever watches calls of models while they run: what makes predictions of calls.

use std::sync::Arc;

use clunk_agent::{Metric, Payload, Raised, Value};
use clunk_core::api::CallRecord;
use clunk_core::error::ErrorBody;
use clunk_core::id::CallId;

use super::Engine;
pub use super::conclude::Credit;
use super::durable;
use super::live::End;

/// Told of the durable calls of functions that serve a model (`Entry::cog`), in their order, under the lock of their
/// pool: never blocks, never calls the engine from inside.
pub trait Observer: Send + Sync {
    /// A replica has it. What an earlier attempt gave is void.
    fn started(&self, call: CallId, attempt: u32);
    fn printed(&self, call: CallId, stream: &str, text: &str);
    /// `credit` is to be dropped when the value has been kept.
    fn yielded(&self, call: CallId, value: Value, credit: Option<Credit>);
    fn metric(&self, call: CallId, metric: Metric);
    /// Its last attempt has ended, or it will have none. Until [`Finish::finish`] the call is in the queue on disk: when
    /// the server is killed before, it runs again.
    fn ended(&self, record: CallRecord, end: ObservedEnd, finish: Finish);
}

/// How a watched call ended.
#[derive(Debug)]
pub enum ObservedEnd {
    /// Of a generator the value is empty.
    Returned(Value),
    Raised(Raised),
    Failed(ErrorBody),
}

/// Puts the end of a call on disk.
#[must_use = "a call that is not finished runs again under the next server"]
pub struct Finish {
    pub(super) engine: Arc<Engine>,
    pub(super) record: CallRecord,
    pub(super) end: End,
}

impl Finish {
    /// To be called when all that is to be kept of the call is on disk. The output is the observer's business: the call
    /// keeps none.
    pub fn finish(self) {
        let end = match self.end {
            End::Value(_) => End::Value(Payload::from(&b"null"[..])),
            end => end,
        };
        durable::ended(&self.engine, self.record, end, true);
    }
}
