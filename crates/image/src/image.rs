//! What an image is once it is built.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clunk_core::Digest;
use clunk_core::id::ImageId;
use clunk_core::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// The PATH of an image that sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a container of the image starts when nobody says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// As the image writes it: `user[:group]`, names or numbers.
    pub user: Option<String>,
}

impl ImageConfig {
    /// The environment with a PATH in it.
    pub fn full_env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.entry("PATH".into()).or_insert_with(|| DEFAULT_PATH.into());
        env
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// Absolute path in the image.
    pub path: String,
    /// `"3.11.2"`.
    pub version: String,
}

/// An image that is ready to run.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    pub id: ImageId,
    pub recipe: Recipe,
    /// Host directories, the topmost first; read-only lower layers.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
    /// The image's Python of 3.9 or later, when it has one.
    pub python: Option<Python>,
    /// The runner with bytecode of this image's Python, to be mounted at `/.clunk`.
    pub runner_dir: Option<PathBuf>,
    /// Bytes on disk of all layers, shared ones as well.
    pub size_bytes: u64,
    pub created_ms: u64,
}

/// What a build left before a step of it failed: enough to open a shell there.
#[derive(Debug, Clone)]
pub struct PartialImage {
    /// Host directories, the topmost first. Empty when the base itself failed.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
    /// The step that failed, counted from 1.
    pub failed_step: usize,
    pub failed_title: String,
}

/// One layer of an image in `inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSize {
    pub title: String,
    pub size_bytes: u64,
    /// Another image has the layer as well, so that removing this image does not free it.
    pub shared: bool,
}

/// One line of `image list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    pub id: ImageId,
    pub title: String,
    pub python: Option<Python>,
    pub created_ms: u64,
    pub size_bytes: u64,
    /// Bytes that only this image uses.
    pub own_bytes: u64,
    pub layers: usize,
}

/// The layer of a state folder: built by a step, or a tree laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerRef {
    Layer(Digest),
    Tree(Digest),
}

/// An image under construction: what the next step builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    /// Names everything so far; each step mixes its own key in.
    pub key: Digest,
    /// The lowest first.
    pub stack: Vec<LayerRef>,
    pub config: ImageConfig,
}
