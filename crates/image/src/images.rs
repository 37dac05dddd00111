//! The images of one machine.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use clunk_core::Digest;
use clunk_core::id::ImageId;
use clunk_core::recipe::Recipe;
use clunk_core::tree::Tree;
use clunk_runtime::{Limits, Runtime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::base::Bases;
use crate::beneath::Ids;
use crate::context::Context;
use crate::fetch::Http;
use crate::flight::Flights;
use crate::image::{Chain, LayerRef};
use crate::layer::{Aside, Layers, now_ms, read_json, remove_leftovers};
use crate::{
    BlobSource, BuildEvent, BuiltImage, HostSettings, ImageError, ImageSummary, LayerSize, PartialImage,
    Python, trees,
};

/// Downloads not used for this long are removed by `prune`.
const KEEP_DOWNLOADS_MS: u64 = 7 * 24 * 3600 * 1000;

/// uv's cache is thrown away by `prune` when it has grown beyond this; below it is worth more than its room.
const KEEP_UV_BYTES: u64 = 10 << 30;

/// What the crate needs of its surroundings.
pub struct ImagesConfig {
    /// Holds layers, images, caches; made when missing.
    pub state_dir: PathBuf,
    pub blobs: Arc<dyn BlobSource>,
    pub runtime: Arc<dyn Runtime>,
    pub host: HostSettings,
    /// The runner's Python files; compiled for each image, mounted at `/.clunk` for `run_function`.
    pub runner_dir: Option<PathBuf>,
    /// The folder of user source in containers.
    pub source_root: String,
    /// Of every build container.
    pub limits: Limits,
}

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub context: Arc<Context>,
    pub bases: Bases,
    pub steps: Flights<()>,
    pub finishing: Flights<Arc<BuiltImage>>,
    pub uv: Flights<PathBuf>,
    /// One at a time may use a shared apt cache.
    pub apt_locks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    pub built: RwLock<HashMap<ImageId, Arc<BuiltImage>>>,
    /// When each build that goes on began.
    pub building: Mutex<Vec<u64>>,
}

/// What must stay when others go.
#[derive(Debug, Clone, Default)]
pub struct InUse {
    pub images: HashSet<ImageId>,
    /// Trees laid out for containers that run or may start.
    pub trees: HashSet<Digest>,
}

/// `image.json`
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub recipe: Recipe,
    pub chain: Chain,
    pub python: Option<Python>,
    /// What the compiled runner was made of.
    pub runner: Option<Digest>,
    pub created_ms: u64,
}

/// `partial.json`
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartialRecord {
    pub chain: Option<Chain>,
    pub failed_step: usize,
    pub failed_title: String,
}

impl Images {
    /// Opens the state folder, makes it when missing, and removes unfinished work of an earlier process.
    pub async fn open(config: ImagesConfig) -> Result<Self, ImageError> {
        let ids = Ids::new(config.runtime.clone());
        let state = config.state_dir.clone();
        let layers = crate::fetch::blocking(move |_| Layers::open(&state, ids)).await?;
        let context = Context {
            layers,
            blobs: config.blobs,
            runtime: config.runtime,
            http: Http::new(&config.host)?,
            host: config.host,
            limits: config.limits,
            runner_dir: config.runner_dir,
            source_root: config.source_root,
            ca_layer: Mutex::default(),
        };
        let images = Self(Arc::new(Inner {
            context: Arc::new(context),
            bases: Bases::default(),
            steps: Flights::default(),
            finishing: Flights::default(),
            uv: Flights::default(),
            apt_locks: Mutex::default(),
            built: RwLock::default(),
            building: Mutex::default(),
        }));
        images.load_all()?;
        Ok(images)
    }

    /// The image, if it is built.
    pub fn get(&self, id: ImageId) -> Option<Arc<BuiltImage>> {
        self.0.built.read().expect("no panic while held").get(&id).cloned()
    }

    /// The image, ready for containers: one that another release of the runner was put into gets this one.
    pub async fn ready(&self, id: ImageId) -> Result<Option<Arc<BuiltImage>>, ImageError> {
        if let Some(image) = self.get(id) {
            return Ok(Some(image));
        }
        let Ok(record) = read_json::<ImageRecord>(&self.0.home(id).join("image.json")) else {
            return Ok(None);
        };
        if !self.0.is_whole(&record) {
            return Ok(None);
        }
        let (events, _) = mpsc::channel(1);
        self.0.finish(id, record.recipe, record.chain, &events).await.map(Some)
    }

    /// What a failed build of the image left.
    pub fn partial(&self, id: ImageId) -> Option<PartialImage> {
        let record: PartialRecord = read_json(&self.0.home(id).join("partial.json")).ok()?;
        let chain = record.chain?;
        let there = chain.stack.iter().all(|layer| self.0.context.layers.exists(layer));
        there.then(|| PartialImage {
            layers: self.0.context.paths(&chain.stack),
            config: chain.config,
            failed_step: record.failed_step,
            failed_title: record.failed_title,
        })
    }

    /// All images, the newest first.
    pub fn list(&self) -> Vec<ImageSummary> {
        let records = self.0.records();
        let users = count_users(&records);
        let mut all: Vec<_> =
            records.iter().map(|(id, record)| self.0.summary(*id, record, &users)).collect();
        all.sort_by_key(|summary| (std::cmp::Reverse(summary.created_ms), summary.id));
        all
    }

    /// One image and its layers, the lowest first.
    pub async fn inspect(
        &self,
        id: ImageId,
    ) -> Result<Option<(Arc<BuiltImage>, Vec<LayerSize>)>, ImageError> {
        let Some(image) = self.ready(id).await? else { return Ok(None) };
        let records = self.0.records();
        let users = count_users(&records);
        let Some(record) = records.get(&id) else { return Ok(None) };
        let stack = &record.chain.stack;
        let size = |layer: &LayerRef| {
            let meta = self.0.context.layers.meta(layer)?;
            let shared = users.get(layer).is_some_and(|&count| count > 1);
            Some(LayerSize { title: meta.title, size_bytes: meta.size_bytes, shared })
        };
        Ok(Some((image, stack.iter().filter_map(size).collect())))
    }

    /// Forgets an image and removes layers only it had; says how many bytes that freed.
    pub async fn remove(&self, id: ImageId, in_use: &InUse) -> Result<u64, ImageError> {
        if in_use.images.contains(&id) {
            return Err(ImageError::InUse(id));
        }
        let home = self.0.home(id);
        if !home.exists() {
            return Err(ImageError::UnknownImage(id));
        }
        self.forget(&[id])?;
        self.sweep_layers(in_use).await
    }

    /// Removes images not in use, layers and trees nobody has, and old downloads; says how many bytes that freed.
    pub async fn prune(&self, in_use: &InUse) -> Result<u64, ImageError> {
        let gone: Vec<_> = self.0.all_ids().into_iter().filter(|id| !in_use.images.contains(id)).collect();
        self.forget(&gone)?;
        let freed = self.sweep_layers(in_use).await?;
        let context = self.0.context.clone();
        // Steps that go on have these folders mounted.
        let idle = self.0.building.lock().expect("no panic while held").is_empty();
        let downloads = crate::fetch::blocking(move |_| {
            let before_ms = now_ms().saturating_sub(KEEP_DOWNLOADS_MS);
            let mut freed = 0;
            for folder in std::fs::read_dir(context.cache("")?).into_iter().flatten().flatten() {
                let name = folder.file_name().to_string_lossy().into_owned();
                match name.as_str() {
                    "debs" | "lists" => freed += remove_old(&folder.path(), before_ms),
                    "uv" if idle => freed += remove_large(&folder.path(), KEEP_UV_BYTES),
                    name if idle && name.starts_with("apt-") => freed += remove_large(&folder.path(), 0),
                    _ => {}
                }
            }
            Ok(freed)
        });
        Ok(freed + downloads.await?)
    }

    /// Trees that images were made from.
    pub fn recipe_trees(&self) -> HashSet<Digest> {
        self.0.records().values().flat_map(|record| record.recipe.trees().collect::<Vec<_>>()).collect()
    }

    /// Trees that are laid out.
    pub fn trees(&self) -> Vec<Digest> {
        let folder = std::fs::read_dir(self.0.context.layers.state().join("trees"));
        let entries = folder.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Takes out trees that no image stands on and that are not to be kept; blocks.
    pub fn put_trees_aside(&self, keep: impl Fn(Digest) -> bool) -> Result<Aside, ImageError> {
        let stacks: HashSet<LayerRef> =
            self.0.records().values().flat_map(|record| record.chain.stack.clone()).collect();
        self.0.context.layers.put_unwanted_aside(|layer, _| match layer {
            LayerRef::Layer(_) => true,
            LayerRef::Tree(digest) => stacks.contains(layer) || keep(*digest),
        })
    }

    /// A folder with the tree's files for overlayfs; made once for each content.
    pub async fn lay_out_tree(&self, tree: &Tree) -> Result<PathBuf, ImageError> {
        let digest = tree.digest();
        self.0.tree_layer(tree, digest).await?;
        Ok(self.0.context.layers.path(&LayerRef::Tree(digest)))
    }

    /// A folder with the host's certificates, to be the topmost lower layer of every container.
    pub fn host_layer(&self) -> Result<Option<PathBuf>, ImageError> {
        self.0.context.host_layer()
    }

    /// Variables that go with [`Self::host_layer`].
    pub fn ca_env(&self) -> std::collections::BTreeMap<String, String> {
        self.0.context.host.ca_env()
    }

    fn forget(&self, ids: &[ImageId]) -> Result<(), ImageError> {
        let mut built = self.0.built.write().expect("no panic while held");
        for id in ids {
            built.remove(id);
            let home = self.0.home(*id);
            match std::fs::remove_dir_all(&home) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ImageError::io("remove", home, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn sweep_layers(&self, in_use: &InUse) -> Result<u64, ImageError> {
        let mut wanted: HashSet<LayerRef> =
            self.0.records().values().flat_map(|record| record.chain.stack.clone()).collect();
        wanted.extend(self.0.bases.prune(&self.0.context, &wanted));
        wanted.extend(in_use.trees.iter().map(|tree| LayerRef::Tree(*tree)));
        // What a build that goes on has just made may not be written down anywhere yet.
        let oldest_build_ms = self.0.building.lock().expect("no panic while held").iter().min().copied();
        let layers = self.0.context.layers.clone();
        crate::fetch::blocking(move |_| {
            layers.prune(|layer, meta| {
                let fresh =
                    || oldest_build_ms.is_some_and(|since| meta.is_none_or(|meta| meta.created_ms >= since));
                wanted.contains(layer) || fresh()
            })
        })
        .await
    }

    fn load_all(&self) -> Result<(), ImageError> {
        let runner = self.0.runner_digest()?;
        let mut built = self.0.built.write().expect("no panic while held");
        for id in self.0.all_ids() {
            remove_leftovers(&self.0.home(id), &self.0.context.layers.ids)?;
        }
        for (id, record) in self.0.records() {
            // A runner of another release is compiled again when the image is wanted.
            if record.runner == runner && self.0.is_whole(&record) {
                built.insert(id, Arc::new(self.0.built_image(id, record)));
            }
        }
        Ok(())
    }
}

impl Inner {
    pub fn home(&self, id: ImageId) -> PathBuf {
        self.context.layers.state().join("images").join(id.to_string())
    }

    fn is_whole(&self, record: &ImageRecord) -> bool {
        record.chain.stack.iter().all(|layer| self.context.layers.exists(layer))
    }

    /// The layers of a finished image, the lowest first.
    pub fn stack(&self, id: ImageId) -> Option<Vec<LayerRef>> {
        let record: ImageRecord = read_json(&self.home(id).join("image.json")).ok()?;
        Some(record.chain.stack)
    }

    /// Every image with a folder, failed ones too.
    fn all_ids(&self) -> Vec<ImageId> {
        let folder = std::fs::read_dir(self.context.layers.state().join("images"));
        let entries = folder.into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Every image that was finished, as written down.
    fn records(&self) -> HashMap<ImageId, ImageRecord> {
        let Ok(folder) = std::fs::read_dir(self.context.layers.state().join("images")) else {
            return HashMap::new();
        };
        let read = |entry: std::fs::DirEntry| {
            let id: ImageId = entry.file_name().to_str()?.parse().ok()?;
            Some((id, read_json(&entry.path().join("image.json")).ok()?))
        };
        folder.flatten().filter_map(read).collect()
    }

    pub fn built_image(&self, id: ImageId, record: ImageRecord) -> BuiltImage {
        let size = |layer: &LayerRef| self.context.layers.meta(layer).map_or(0, |meta| meta.size_bytes);
        BuiltImage {
            id,
            layers: self.context.paths(&record.chain.stack),
            size_bytes: record.chain.stack.iter().map(size).sum(),
            runner_dir: record.python.as_ref().and(record.runner).map(|_| self.home(id).join("runner")),
            recipe: record.recipe,
            config: record.chain.config,
            python: record.python,
            created_ms: record.created_ms,
        }
    }

    fn summary(&self, id: ImageId, record: &ImageRecord, users: &HashMap<LayerRef, usize>) -> ImageSummary {
        let sizes = record.chain.stack.iter().map(|layer| {
            let size = self.context.layers.meta(layer).map_or(0, |meta| meta.size_bytes);
            (size, users.get(layer) == Some(&1))
        });
        let (mut size_bytes, mut own_bytes) = (0, 0);
        for (size, own) in sizes {
            size_bytes += size;
            own_bytes += if own { size } else { 0 };
        }
        let steps: Vec<_> = record.recipe.steps.iter().map(|step| step.title()).collect();
        ImageSummary {
            id,
            title: [vec![record.recipe.base.title()], steps].concat().join(", "),
            python: record.python.clone(),
            created_ms: record.created_ms,
            size_bytes,
            own_bytes,
            layers: record.chain.stack.len(),
        }
    }

    pub async fn tree_layer(&self, tree: &Tree, digest: Digest) -> Result<(), ImageError> {
        if self.context.layers.exists(&LayerRef::Tree(digest)) {
            return Ok(());
        }
        let (events, _) = mpsc::channel::<BuildEvent>(1);
        let (context, tree) = (self.context.clone(), tree.clone());
        let key = Digest::of_json(&("tree", digest));
        self.steps.join(key, &events, |_| async move { trees::lay_out(&context, &tree, digest).await }).await
    }
}

fn count_users(records: &HashMap<ImageId, ImageRecord>) -> HashMap<LayerRef, usize> {
    let mut users = HashMap::new();
    for record in records.values() {
        for layer in &record.chain.stack {
            *users.entry(*layer).or_default() += 1;
        }
    }
    users
}

/// Removes a folder's content when there is too much of it; says how many bytes that freed.
fn remove_large(folder: &std::path::Path, limit: u64) -> u64 {
    let Ok((bytes, _)) = crate::layer::measure(folder) else { return 0 };
    if bytes <= limit || std::fs::remove_dir_all(folder).is_err() {
        return 0;
    }
    bytes
}

/// Removes files last changed before a time; says how many bytes they had.
fn remove_old(folder: &std::path::Path, before_ms: u64) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let mut freed = 0;
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let modified = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let old = modified.is_some_and(|time| (time.as_millis() as u64) < before_ms);
        if old && meta.is_file() && std::fs::remove_file(entry.path()).is_ok() {
            freed += meta.len();
        }
    }
    freed
}
