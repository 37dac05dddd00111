//! Cog: `cog.yaml`, and the schema of a model's inputs and outputs.

pub mod validate;
