//! The HTTP API and the control plane.

pub mod address;
pub mod answer;
mod door;
pub mod endpoints;
pub mod engine;
mod guard;
mod janitor;
mod leftovers;
pub mod memory;
pub mod models;
mod openapi;
mod pages;
mod routes;
mod seal;
mod serve;
pub mod server;
pub mod state;

pub use guard::FromContainer;
pub use openapi::openapi;
pub use serve::serve;
pub use server::{Server, ServerError};
pub use state::{Bound, StateDir, Token};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
