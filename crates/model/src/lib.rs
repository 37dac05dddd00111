//! The HTTP server of one model: Cog's container API in front of a runner.
//!
//! A [`ModelServer`] has one lane for predictions and one for trainings. A lane is a queue and one process that works it
//! off; the process is a replica of the agent, on any runtime: [`host`] serves a model with plain child processes.

mod answer;
mod body;
mod carried;
mod client;
mod clock;
mod counters;
mod health;
pub mod host;
mod lane;
mod life;
pub mod metrics;
mod output;
mod pieces;
mod prediction;
mod record;
mod request;
mod routes;
mod server;
mod settings;
mod sse;
mod webhook;

pub use lane::{Program, Sink};
pub use server::{Model, ModelError, ModelServer};
pub use settings::{SettingError, Settings, upload_url};
