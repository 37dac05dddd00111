//! Cog: `cog.yaml`, and the schema of a model's inputs and outputs.

mod build;
pub mod config;
mod environment;
pub(crate) mod nearest;
pub mod problem;
pub mod project;
mod read;
pub mod reading;
pub mod recipe;
mod requirements;
pub mod validate;
mod weights;
mod yaml;
