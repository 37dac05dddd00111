//! What each kind of step does.

pub(crate) mod apt;
pub(crate) mod docker;
pub(crate) mod download;
pub(crate) mod files;
pub(crate) mod pip;
pub(crate) mod run;

use std::sync::Arc;
use std::time::Duration;

use clunk_core::Digest;
use clunk_runtime::{BindMount, Network};

use crate::ImageError;
use crate::container::{self, Ended, Job};
use crate::context::Context;
use crate::fetch::blocking;
use crate::flight::Log;
use crate::image::{Chain, LayerRef};
use crate::images::Inner;
use crate::layer::Scratch;
use crate::progress::Progress;

/// A step that takes longer hangs; the largest compilations known take two hours.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Makes the layer with this key unless it is there, and puts it on the chain.
pub(crate) async fn layer<F>(
    inner: &Arc<Inner>,
    chain: &mut Chain,
    key: Digest,
    title: &str,
    progress: &mut Progress<'_>,
    work: impl FnOnce(Log) -> F,
) -> Result<(), ImageError>
where
    F: Future<Output = Result<(), ImageError>> + Send + 'static,
{
    let layer = LayerRef::Layer(key);
    let found = inner.context.layers.pin(layer);
    progress.announce(title, found.is_some()).await;
    let pin = match found {
        Some(pin) => pin,
        None => {
            inner.steps.join(key, progress.events, work).await?;
            inner.pin(layer)?
        }
    };
    progress.pins.push(pin);
    chain.stack.push(layer);
    chain.key = key;
    Ok(())
}

/// A container whose changes become a layer.
pub(crate) struct StepJob {
    pub context: Arc<Context>,
    pub scratch: Arc<Scratch>,
    pub job: Job,
}

impl StepJob {
    /// A container on the chain with the image's settings; the program is still to be named.
    pub fn new(context: &Arc<Context>, chain: &Chain) -> Result<Self, ImageError> {
        let scratch = Arc::new(context.layers.scratch()?);
        let mut env = chain.config.full_env();
        let home = env.get("HOME").cloned();
        env.extend(context.build_env());
        env.extend(home.map(|home| ("HOME".to_string(), home)));
        let job = Job {
            lowers: context.lowers(&chain.stack)?,
            scratch: Some(scratch.clone()),
            mounts: Vec::new(),
            argv: Vec::new(),
            env,
            workdir: chain.config.workdir.clone().unwrap_or_else(|| "/".into()),
            limits: context.limits,
            network: Network::NatOrNone,
            timeout: STEP_TIMEOUT,
        };
        Ok(Self { context: context.clone(), scratch, job })
    }

    pub fn argv(mut self, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.job.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.job.env.insert(name.into(), value.into());
        self
    }

    /// For a step that is nothing without a network: where containers have none it fails at once and says so.
    pub fn online(mut self) -> Self {
        self.job.network = Network::Nat;
        self
    }

    pub fn mount(mut self, source: impl Into<std::path::PathBuf>, target: &str, read_only: bool) -> Self {
        self.job.mounts.push(BindMount { source: source.into(), target: target.into(), read_only });
        self
    }

    /// Runs it; what it changed becomes the layer if it succeeds. `explain` may know a failure better.
    pub async fn run(
        self,
        key: Digest,
        title: String,
        log: Log,
        explain: impl Fn(&Ended) -> Option<ImageError>,
    ) -> Result<(), ImageError> {
        let ended = container::run(&self.context.runtime, self.job, Some(&log)).await?;
        if !ended.ok() {
            return Err(
                explain(&ended).unwrap_or(ImageError::StepFailed { reason: ended.reason, tail: ended.tail })
            );
        }
        let (context, scratch) = (self.context, self.scratch);
        blocking(move |_| {
            context.remove_host_files(&scratch.fs())?;
            context.layers.commit(&scratch, LayerRef::Layer(key), &title)
        })
        .await?;
        Ok(())
    }
}
