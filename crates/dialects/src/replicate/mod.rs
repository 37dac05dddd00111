//! Replicate's HTTP API v1: its bodies and headers read, its objects made from the core's records.
//!
//! Pure: times and random ids come in as values, and nothing here knows HTTP's machinery. `routes/replicate` of the server
//! is the part that does.

pub mod body;
pub mod limit;
pub mod objects;
pub mod page;
pub mod prefer;
pub mod problem;
pub mod reference;
pub mod sse;
pub mod time;

pub use problem::{InvalidField, Problem};
