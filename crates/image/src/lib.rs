//! Recipes to layers: Debian bootstrap, OCI pull, build steps, trees.
//!
//! What is in the state folder; one process uses it at a time:
//!
//! | path | what |
//! |---|---|
//! | `layers/KEY/fs` | a layer for overlayfs; the key is the digest of what it was made from |
//! | `layers/KEY/layer.json`, `settled` | title and size; the mark that all of it is on the disk |
//! | `trees/DIGEST/fs` | the files of a tree, by the tree's digest |
//! | `images/ID/image.json` | recipe, layers and settings of a finished image; `partial.json`: of a failed one |
//! | `images/ID/runner` | the runner with bytecode of the image's Python |
//! | `bases/KEY.json` | what the name of a base stood for when it was last asked |
//! | `host/DIGEST` | the host's certificates as a layer that lies on top of all others and is part of none |
//! | `tools/uv-…/uv` | uv |
//! | `cache/debs`, `lists` | Debian's packages and indexes by digest, fetched by us |
//! | `cache/apt-…`, `cache/uv` | folders that build containers write to |
//!
//! Everything is made under a name that begins with `.tmp-` and renamed when it is whole.

mod base;
mod beneath;
mod build;
mod container;
mod context;
mod debian;
mod dockerfile;
mod error;
mod event;
mod export;
mod fetch;
mod flight;
mod host;
mod image;
mod images;
mod layer;
mod oci;
mod plan;
mod progress;
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
pub use export::{Export, ExportOptions};
pub use fetch::install_cryptography;
pub use host::{CA_PATH, HostSettings, Secret};
pub use image::{BuiltImage, DEFAULT_PATH, ImageConfig, ImageSummary, LayerSize, PartialImage, Python};
pub use images::{Images, ImagesConfig, InUse};
pub use layer::Aside;

/// Where the runner is in every container.
pub const RUNNER_PATH: &str = "/.clunk";

/// Where uploaded files are kept.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// A file with that content, which never changes.
    fn path(&self, digest: Digest) -> Option<PathBuf>;

    async fn tree(&self, digest: Digest) -> Option<Tree>;
}
