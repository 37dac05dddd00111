//! Models as a service: the catalogue, predictions, trainings, deployments, files, webhooks.
//!
//! Dialects and pages speak to [`Models`] only. A prediction is a durable call of its version's function; what its
//! caller cares about beyond that lies in records of its own.
//!
//! What a kill at any moment leaves is sound by the order of writes: the record of a prediction, then its call; the end of
//! the prediction with its webhook, then that of the call. A call whose end was not written runs again.

mod asked;
mod catalogue;
mod deployments;
mod examples;
mod files;
mod follow;
mod links;
mod lists;
mod live;
mod outputs;
mod predictions;
mod sweep;
mod targets;
#[cfg(test)]
mod tests;
mod trainings;
mod webhooks;
mod work;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::model::{Hardware, InputProblem, Prediction};
use clunk_core::placement::GpuGroup;
use clunk_store::{Blobs, ModelStore};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use asked::{
    DeploymentChanges, ModelSort, NewDeployment, NewFile, NewModel, NewPrediction, NewTraining,
    PredictionFilter, Target,
};
pub use follow::{Event, Follow, Followed};
pub use links::Secret;
pub use sweep::{keep_deadlines, sweep};

use crate::engine::Engine;
use catalogue::Cache;
use live::{Lives, Watcher};
use sweep::Deadlines;
use webhooks::Sender;

/// How a webhook's body is made from a prediction: the dialect's own form of it.
pub type Presenter = Box<dyn Fn(&Models, &Prediction) -> Value + Send + Sync>;

/// What the `sku` of a GPU begins with.
const GPU_SKU: &str = "gpu-";

/// See the head of this file.
pub struct Models {
    pub(crate) engine: Arc<Engine>,
    store: Arc<dyn ModelStore>,
    /// Where trees are made from.
    blobs: Blobs,
    /// A folder for files without names.
    temporary: PathBuf,
    secret: Secret,
    link_secret: Secret,
    presenter: OnceLock<Presenter>,
    lives: Lives,
    cache: Cache,
    deadlines: Deadlines,
    sender: Sender,
    webhooks_due: Notify,
    /// Held by all who change which functions are served for what.
    pushing: tokio::sync::Mutex<()>,
    started: AtomicBool,
    stopping: CancellationToken,
    me: Weak<Models>,
}

/// What the service is made of.
pub struct Parts {
    pub engine: Arc<Engine>,
    pub store: Arc<dyn ModelStore>,
    pub blobs: Blobs,
    pub temporary: PathBuf,
    pub stopping: CancellationToken,
}

/// Why a prediction was not accepted.
#[derive(Debug)]
pub enum Refusal {
    /// The input does not fit the model's schema.
    Input(Vec<InputProblem>),
    Failed(ErrorBody),
}

impl From<ErrorBody> for Refusal {
    fn from(error: ErrorBody) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Failed(error) => error,
            Refusal::Input(problems) => {
                let said: Vec<_> = problems.iter().map(said).collect();
                ErrorBody::new(ErrorCode::InvalidInput, said.join("; "))
                    .hint("the model's schema says what it takes")
            }
        }
    }
}

fn said(problem: &InputProblem) -> String {
    let place = problem.place.iter().fold(String::from("input"), |all, part| all + "." + part);
    format!("{place}: {}", problem.message)
}

impl Models {
    /// Opens the service and has it watch the engine; `state` is the state folder.
    pub fn open(parts: Parts, state: &Path) -> Result<Arc<Self>, ErrorBody> {
        let Parts { engine, store, blobs, temporary, stopping } = parts;
        let (secret, link_secret) =
            (Secret::load(state, "webhook-secret")?, Secret::load(state, "link-secret")?);
        let sender = Sender::new()?;
        let models = Arc::new_cyclic(|me| Self {
            engine,
            store,
            blobs,
            temporary,
            secret,
            link_secret,
            presenter: OnceLock::new(),
            lives: Lives::default(),
            cache: Cache::default(),
            deadlines: Deadlines::default(),
            sender,
            webhooks_due: Notify::new(),
            pushing: tokio::sync::Mutex::default(),
            started: AtomicBool::new(false),
            stopping,
            me: me.clone(),
        });
        models.engine.set_observer(Arc::new(Watcher(models.me.clone())));
        Ok(models)
    }

    /// Takes up what the last server left, and begins what runs beside requests. The engine's apps have been restored.
    pub async fn start(&self) -> Result<(), ErrorBody> {
        self.reconcile(|_| true).await?;
        self.scale_all().await?;
        self.started.store(true, Ordering::Release);
        tokio::spawn(keep_deadlines(self.me()));
        tokio::spawn(sweep(self.me()));
        tokio::spawn(webhooks::deliver(self.me()));
        Ok(())
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("the service is held by its caller")
    }

    fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Says how webhooks look; the first call counts.
    pub fn set_presenter(&self, presenter: Presenter) {
        let _ = self.presenter.set(presenter);
    }

    /// What models can be run on here.
    pub fn hardware(&self) -> Vec<Hardware> {
        let cpu = Hardware { name: "CPU".into(), sku: "cpu".into() };
        let gpu = |group: GpuGroup| Hardware {
            name: format!("Nvidia {} GPU", group.kind),
            sku: format!("{GPU_SKU}{}", group.kind.to_lowercase()),
        };
        [cpu].into_iter().chain(self.engine.room.gpus().into_iter().map(gpu)).collect()
    }
}

/// Has a function's containers run on what a `sku` names. How many GPUs it asks for is the project's to say.
fn put_on(spec: &mut FunctionSpec, sku: &str) {
    spec.resources.gpu = gpus_of(&spec.resources.gpu, sku);
}

fn gpus_of(asked: &[String], sku: &str) -> Vec<String> {
    let Some(kind) = sku.strip_prefix(GPU_SKU).map(str::to_uppercase) else { return Vec::new() };
    let count = asked.iter().find_map(|one| one.split_once(':').map(|(_, count)| count));
    vec![count.map_or_else(|| kind.clone(), |count| format!("{kind}:{count}"))]
}

#[cfg(test)]
mod hardware_tests {
    use super::gpus_of;

    #[test]
    fn hardware_decides_over_gpus_and_the_project_over_their_number() {
        let none: [&str; 0] = [];
        assert_eq!(gpus_of(&[], "gpu-h200"), ["H200"]);
        assert_eq!(gpus_of(&["any:2".into()], "gpu-l4"), ["L4:2"]);
        assert_eq!(gpus_of(&["any".into()], "gpu-l4"), ["L4"]);
        assert_eq!(gpus_of(&["any".into()], "cpu"), none);
    }
}
