//! Models as a service: the catalogue, predictions, trainings, deployments, files, webhooks.
//!
//! Dialects and pages speak to [`Models`] only. A prediction is a durable call of its version's function; what its
//! caller cares about beyond that lies in records of its own.

mod asked;
mod catalogue;
mod deployments;
mod files;
mod follow;
mod links;
mod predictions;
mod trainings;
mod webhooks;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Hardware, InputProblem, Prediction};
use clunk_store::ModelStore;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use asked::{
    DeploymentChanges, ModelSort, NewDeployment, NewFile, NewModel, NewPrediction, NewTraining,
    PredictionFilter, Target,
};
pub use follow::{Event, Follow, Followed};
pub use links::Secret;

use crate::engine::Engine;

/// How a webhook's body is made from a prediction: the dialect's own form of it.
pub type Presenter = Box<dyn Fn(&Models, &Prediction) -> Value + Send + Sync>;

/// See the head of this file.
pub struct Models {
    pub(crate) engine: Arc<Engine>,
    store: Arc<dyn ModelStore>,
    secret: Secret,
    presenter: OnceLock<Presenter>,
    stopping: CancellationToken,
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
                let said: Vec<_> = problems
                    .iter()
                    .map(|problem| {
                        format!(
                            "{}: {}",
                            ["input"]
                                .into_iter()
                                .chain(problem.place.iter().map(String::as_str))
                                .collect::<Vec<_>>()
                                .join("."),
                            problem.message
                        )
                    })
                    .collect();
                ErrorBody::new(ErrorCode::InvalidInput, said.join("; "))
                    .hint("the model's schema says what it takes")
            }
        }
    }
}

impl Models {
    /// Opens the service over the engine's store; `state` is the state folder.
    pub fn open(
        engine: Arc<Engine>,
        store: Arc<dyn ModelStore>,
        state: &Path,
        stopping: CancellationToken,
    ) -> Result<Arc<Self>, ErrorBody> {
        let secret = Secret::load(state)?;
        Ok(Arc::new(Self { engine, store, secret, presenter: OnceLock::new(), stopping }))
    }

    /// Says how webhooks look; the first call counts.
    pub fn set_presenter(&self, presenter: Presenter) {
        let _ = self.presenter.set(presenter);
    }

    /// What models can be run on here.
    pub fn hardware(&self) -> Vec<Hardware> {
        vec![Hardware { name: "CPU".into(), sku: "cpu".into() }]
    }

    fn unfinished<T>(&self, what: &str) -> Result<T, ErrorBody> {
        Err(ErrorBody::new(ErrorCode::Internal, format!("{what} is not served yet")))
    }
}
