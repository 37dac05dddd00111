//! Nouns, ids, recipes, lifecycles and API types: pure data and pure functions.
//!
//! This crate knows nobody: no clock, no I/O, no async. Everything else depends on it.

pub mod api;
pub mod autoscaler;
pub mod call;
pub mod digest;
pub mod error;
pub mod fairness;
pub mod function;
pub mod id;
pub mod measure;
pub mod model;
pub mod placement;
pub mod recipe;
mod retry;
mod schema;
pub mod tree;

pub use digest::Digest;
pub use error::{ErrorBody, ErrorCode};
