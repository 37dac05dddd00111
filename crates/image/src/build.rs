//! A recipe, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::id::ImageId;
use clunk_core::recipe::{MAX_STEPS, Recipe};
use tokio::sync::mpsc;

use crate::image::{Chain, LayerRef};
use crate::images::{ImageRecord, Inner, PartialRecord};
use crate::layer::{Pin, now_ms, write_json};
use crate::plan::{Planned, Work, plan};
use crate::progress::Progress;
use crate::steps;
use crate::{BuildError, BuildEvent, BuiltImage, ImageError, Images, python};

/// Where a build is: what is named when it fails.
#[derive(Default)]
struct Position {
    step: Option<usize>,
    title: Option<String>,
    /// The state before the step.
    chain: Option<Chain>,
}

/// Written down while a build goes on, so that pruning spares what it makes.
struct Building<'a>(&'a Inner, u64);

impl<'a> Building<'a> {
    fn begin(inner: &'a Inner) -> Self {
        let now = now_ms();
        inner.building.lock().expect("no panic while held").push(now);
        Self(inner, now)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let mut building = self.0.building.lock().expect("no panic while held");
        if let Some(at) = building.iter().position(|since| *since == self.1) {
            building.swap_remove(at);
        }
    }
}

impl Images {
    /// Builds an image, or returns the one that is there. `force` builds every step again. Dropping the future
    /// cancels the work unless somebody else waits for the same step.
    pub async fn build(
        &self,
        recipe: Recipe,
        force: bool,
        events: mpsc::Sender<BuildEvent>,
    ) -> Result<Arc<BuiltImage>, BuildError> {
        let id = ImageId::of(recipe.digest());
        if let Some(image) = self.get(id).filter(|_| !force) {
            return Ok(image);
        }
        let _building = Building::begin(&self.0);
        let mut position = Position::default();
        match self.0.build(id, recipe, force, &events, &mut position).await {
            Ok(image) => Ok(image),
            Err(cause) => Err(self.0.failed(id, position, cause)),
        }
    }
}

impl Inner {
    async fn build(
        self: &Arc<Self>,
        id: ImageId,
        recipe: Recipe,
        force: bool,
        events: &mpsc::Sender<BuildEvent>,
        position: &mut Position,
    ) -> Result<Arc<BuiltImage>, ImageError> {
        if recipe.steps.len() > MAX_STEPS {
            return Err(ImageError::BadRecipe {
                message: format!(
                    "the recipe has {} steps, at most {MAX_STEPS} are possible",
                    recipe.steps.len()
                ),
                hint: "put commands that belong together into one run_commands".into(),
            });
        }
        let planned = plan(&recipe.steps)?;
        if planned.len() > MAX_STEPS {
            return Err(ImageError::BadRecipe {
                message: format!(
                    "its Dockerfile lines make {} steps, at most {MAX_STEPS} are possible",
                    planned.len()
                ),
                hint: "put commands that belong together into one RUN".into(),
            });
        }
        let total = planned.len() + 1;
        *position = Position { step: Some(1), title: Some(recipe.base.title()), chain: None };
        let cached = !force && self.bases.known(&self.context, &recipe.base)?.is_some();
        let title = recipe.base.title();
        let _ = events.send(BuildEvent::Step { index: 1, total, title, cached }).await;
        let mut chain = self.bases.find(&self.context, &recipe.base, force, events).await?;
        let mut progress = Progress {
            events,
            base: chain.key,
            own_base: matches!(recipe.base, clunk_core::recipe::Base::DebianSlim { .. }),
            pins: Vec::new(),
            args: BTreeMap::new(),
            shell: Vec::new(),
            index: 1,
            total,
        };
        for layer in &chain.stack {
            progress.pins.push(self.pin(*layer)?);
        }
        for step in planned {
            progress.index += 1;
            *position = Position {
                step: Some(progress.index),
                title: Some(step.title.clone()),
                chain: Some(chain.clone()),
            };
            chain = self.step(chain, step, &mut progress).await?;
        }
        *position = Position { step: None, title: None, chain: Some(chain.clone()) };
        self.finish(id, recipe, chain, events).await
    }

    pub fn pin(&self, layer: LayerRef) -> Result<Pin, ImageError> {
        self.context.layers.pin(layer).ok_or_else(|| ImageError::Corrupt {
            path: self.context.layers.path(&layer),
            reason: "the layer is gone".into(),
        })
    }

    async fn step(
        self: &Arc<Self>,
        mut chain: Chain,
        step: Planned,
        progress: &mut Progress<'_>,
    ) -> Result<Chain, ImageError> {
        match step.work {
            Work::Config(change) => {
                let key = chain.next_key(step.key, None);
                if let crate::plan::Change::Workdir(path) = &change {
                    let path = chain.config.absolute(path);
                    steps::files::workdir(self, &mut chain, key, &path, &step.title, progress).await?;
                } else {
                    progress.announce(&step.title, true).await;
                }
                chain.config.apply(change);
                chain.key = key;
            }
            Work::Tree(tree) => {
                steps::files::tree(self, &mut chain, step.key, tree, &step.title, progress).await?
            }
            Work::Docker { instruction, context, first } => {
                if first {
                    progress.args.clear();
                    progress.shell.clear();
                }
                steps::docker::line(self, &mut chain, step.key, instruction, context, progress).await?;
            }
            Work::Apt(packages) => {
                steps::apt::install(self, &mut chain, step.key, packages, &step.title, progress).await?;
            }
            Work::Pip(pip) => {
                steps::pip::install(self, &mut chain, step.key, pip, &step.title, progress).await?
            }
            Work::Run(commands, secrets) => {
                let (key, title) = (step.key, &step.title);
                steps::run::commands(self, &mut chain, key, commands, secrets, title, progress).await?;
            }
            Work::Download(download) => {
                steps::download::download(self, &mut chain, step.key, download, &step.title, progress)
                    .await?;
            }
            Work::Function(run) => {
                steps::run::function(self, &mut chain, step.key, run, &step.title, progress).await?;
            }
        }
        Ok(chain)
    }

    /// Probes the Python, compiles the runner, writes the image down.
    pub async fn finish(
        self: &Arc<Self>,
        id: ImageId,
        recipe: Recipe,
        chain: Chain,
        events: &mpsc::Sender<BuildEvent>,
    ) -> Result<Arc<BuiltImage>, ImageError> {
        let inner = self.clone();
        let key = Digest::of_json(&("finish", id, chain.key));
        let work = |_| async move {
            let runner = inner.runner_digest()?;
            let home = inner.home(id);
            std::fs::create_dir_all(&home).map_err(|error| ImageError::io("make folder", &home, error))?;
            let python = python::prepare(&inner.context, &chain, &home).await?;
            let record = ImageRecord { recipe, chain, python, runner, created_ms: now_ms() };
            write_json(&home.join("image.json"), &record)?;
            let _ = std::fs::remove_file(home.join("partial.json"));
            let image = Arc::new(inner.built_image(id, record));
            inner.built.write().expect("no panic while held").insert(id, image.clone());
            Ok(image)
        };
        self.finishing.join(key, events, work).await
    }

    pub fn runner_digest(&self) -> Result<Option<Digest>, ImageError> {
        self.context.runner_dir.as_deref().map(python::runner_digest).transpose()
    }

    fn failed(&self, id: ImageId, position: Position, cause: ImageError) -> BuildError {
        let mut partial = None;
        if let (Some(step), Some(title), Some(chain)) = (position.step, &position.title, position.chain) {
            let record = PartialRecord { chain: Some(chain), failed_step: step, failed_title: title.clone() };
            let home = self.home(id);
            let kept = std::fs::create_dir_all(&home).is_ok()
                && write_json(&home.join("partial.json"), &record).is_ok();
            partial = kept.then_some(id);
        }
        BuildError {
            image: id,
            step: position.step,
            title: position.title,
            tail: cause.tail(),
            partial,
            cause,
        }
    }
}
