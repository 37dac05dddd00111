//! Recipes to layers: Debian bootstrap, OCI pull, build steps, trees.

mod base;
mod beneath;
mod build;
mod container;
mod context;
mod debian;
mod dockerfile;
mod error;
mod event;
mod fetch;
mod flight;
mod host;
mod image;
mod images;
mod layer;
mod oci;
mod plan;
mod python;
mod stack;
mod steps;
mod trees;
mod unpack;
mod uv;

use std::path::PathBuf;

use async_trait::async_trait;
use clunk_core::Digest;
use clunk_core::tree::Tree;

pub use error::{BuildError, ImageError};
pub use event::BuildEvent;
pub use host::{CA_PATH, HostSettings};
pub use image::{BuiltImage, DEFAULT_PATH, ImageConfig, ImageSummary, LayerSize, PartialImage, Python};
pub use images::{Images, ImagesConfig, InUse};

/// Where the runner is in every container.
pub const RUNNER_PATH: &str = "/.clunk";

/// Where uploaded files are kept.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// A file with that content, which never changes.
    fn path(&self, digest: Digest) -> Option<PathBuf>;

    async fn tree(&self, digest: Digest) -> Option<Tree>;
}
