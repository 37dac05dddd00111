//! Where truth lives: records and the durable queue in SQLite, content-addressed blobs in a directory.

pub mod blobs;
pub mod calls;
pub mod contract;
pub mod models;
mod sqlite;
mod store;

pub use blobs::{BlobWriter, Blobs};
pub use calls::{
    CallFilter, CancelScope, Change, FoundResult, INLINE_MAX_STORED, IntoBatch, Purged, QueuedCall,
    ResultKind, StoredPayload, StoredResult, Submission, Submitted,
};
pub use models::ModelStore;
pub use sqlite::SqliteStore;
pub use store::{NewApp, QueueDepth, Recovered, RunningApp, Store, StoreError};
