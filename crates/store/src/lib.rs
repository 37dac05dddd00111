//! Where truth lives: records in SQLite, content-addressed blobs in a directory.

pub mod blobs;
pub mod contract;
mod sqlite;
mod store;

pub use blobs::{BlobWriter, Blobs};
pub use sqlite::SqliteStore;
pub use store::{NewApp, Recovered, Store, StoreError};
