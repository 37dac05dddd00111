//! What goes into the durable queue, and what comes out of it.

use std::fmt;

use bytes::Bytes;
use clunk_core::Digest;
use clunk_core::api::CallRecord;
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};

/// A payload of at most so many bytes lies in the database, in the same sync as its call; a larger one is a blob.
/// A page of SQLite is 4 KiB: beyond this size a file is written and read faster.
pub const INLINE_MAX_STORED: usize = 64 * 1024;

/// Arguments or a result, where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPayload {
    Inline(Bytes),
    /// In the folder of blobs, put there before the call was submitted or its end recorded. The store counts who
    /// refers to it.
    Blob {
        digest: Digest,
        len: u64,
    },
}

impl StoredPayload {
    /// Bytes that it takes in the database, and in memory.
    pub fn inline_len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Blob { .. } => size_of::<Digest>(),
        }
    }
}

/// A call that waits, with all that a replica is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedCall {
    pub record: CallRecord,
    /// The arguments are JSON, not a pickle.
    pub json: bool,
    pub input: StoredPayload,
    /// When it has waited for too long.
    pub expires_ms: Option<u64>,
    /// Not before this time; 0: now.
    pub due_ms: u64,
    /// Attempts that ended with an exception or a time-out.
    pub failures: u32,
    /// Attempts whose replica went away.
    pub losses: u32,
    /// The order of arrival, given by the store; 0 in a submission.
    pub seq: u64,
}

/// The batch that submitted calls go into. The store gives each its index: the calls that the batch had before, and on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntoBatch {
    New { id: BatchId, function: FunctionId, created_ms: u64 },
    Existing(BatchId),
}

/// Calls to accept, all of them or none. Ids that follow each other ([`CallId::offset`]) take the least room.
#[derive(Debug, Clone)]
pub struct Submission {
    pub app: AppId,
    pub calls: Vec<QueuedCall>,
    /// With the app as its scope: the same key again adds nothing. Kept as long as results are.
    pub key: Option<String>,
    pub batch: Option<IntoBatch>,
    pub now_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// The first call has this place in the order of arrival, and this index in its batch; the others follow it.
    New { first_seq: u64, first_index: u64 },
    /// A submission with this key came before; this is what it got.
    Again {
        /// Empty when they went into a batch.
        calls: Vec<CallId>,
        batch: Option<BatchId>,
        accepted: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// What the function returned.
    Value,
    /// What it raised, as an exception package.
    Exception,
    /// An error body: it did not end by itself.
    Failure,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    pub kind: ResultKind,
    pub json: bool,
    pub payload: StoredPayload,
}

/// What the store has of a call's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundResult {
    Kept(StoredResult),
    /// There was one; it was purged.
    Purged,
    /// The call has not ended, or ended without one: it was attached, or canceled on disk. Its record says which.
    Absent,
}

/// Called once by the store's writer, after the sync or its failure; it must not block.
pub type Done = Box<dyn FnOnce(Result<(), ()>) + Send>;

/// What happened to a call that was in the engine's hands.
pub enum Change {
    /// It has ended. An attached call is inserted whole, and has no result; a durable one leaves the queue, and its
    /// result is kept. The first end of a call counts, a later one changes nothing.
    Ended { record: CallRecord, result: Option<StoredResult>, done: Option<Done> },
    /// A durable call waits again, at its old place in the order, after an attempt that must outlive the server.
    Requeued { record: CallRecord, due_ms: u64, failures: u32, losses: u32 },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, record) = match self {
            Self::Ended { record, .. } => ("Ended", record),
            Self::Requeued { record, .. } => ("Requeued", record),
        };
        f.debug_struct(name).field("call", &record.id).field("state", &record.state).finish_non_exhaustive()
    }
}

/// Which calls to list; what is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    pub app: Option<AppId>,
    pub function: Option<FunctionId>,
    /// As in [`CallRecord::state`]. Calls of the engine are `queued` on disk until they have ended.
    pub state: Option<String>,
    pub batch: Option<BatchId>,
    /// Only calls with a lower id.
    pub before: Option<CallId>,
    pub limit: u32,
}

/// Which calls to cancel on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelScope {
    App(AppId),
    Function(FunctionId),
    Batch(BatchId),
}

/// What [`crate::Store::purge`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    pub results: u64,
    pub records: u64,
    /// Blobs that no input and no result refers to any more. The store has forgotten them: whoever removes the files
    /// must let nobody put a blob and submit it meanwhile.
    pub blobs: Vec<Digest>,
}
