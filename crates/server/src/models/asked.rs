//! What callers of the service ask for.

use std::time::Duration;

use clunk_core::Digest;
use clunk_core::model::{Configuration, Kind, ModelName, ModelTexts, Source, Visibility, Webhook};
use serde_json::{Map, Value};

pub struct NewModel {
    pub name: ModelName,
    pub visibility: Visibility,
    /// A `sku`; None: the processor.
    pub hardware: Option<String>,
    pub texts: ModelTexts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelSort {
    Created,
    #[default]
    LatestVersion,
}

/// What a prediction runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(Digest),
    /// The newest version.
    Model(ModelName),
    /// Its current release.
    Deployment(ModelName),
}

pub struct NewPrediction {
    pub target: Target,
    pub input: Value,
    /// Cog's `context`: texts for the model beside its input.
    pub context: Map<String, Value>,
    pub source: Source,
    pub webhook: Option<Webhook>,
    /// From now.
    pub cancel_after: Option<Duration>,
    /// The server's URL as this caller knows it, without a slash at the end.
    pub base_url: String,
}

pub struct NewTraining {
    pub model: ModelName,
    pub version: Digest,
    /// The model that gets the new version; it must exist.
    pub destination: ModelName,
    pub input: Value,
    pub source: Source,
    pub webhook: Option<Webhook>,
    pub cancel_after: Option<Duration>,
    pub base_url: String,
}

/// What is absent does not restrict.
#[derive(Debug, Clone)]
pub struct PredictionFilter {
    pub kind: Kind,
    pub model: Option<ModelName>,
    pub version: Option<Digest>,
    pub source: Option<Source>,
    pub created_after_ms: Option<u64>,
    pub created_before_ms: Option<u64>,
    pub cursor: Option<String>,
    pub limit: u32,
}

impl PredictionFilter {
    /// Everything of a kind.
    pub fn of(kind: Kind, limit: u32) -> Self {
        Self {
            kind,
            model: None,
            version: None,
            source: None,
            created_after_ms: None,
            created_before_ms: None,
            cursor: None,
            limit,
        }
    }
}

pub struct NewDeployment {
    pub name: ModelName,
    pub model: ModelName,
    pub version: Digest,
    pub configuration: Configuration,
}

/// What is absent stays.
#[derive(Debug, Clone, Default)]
pub struct DeploymentChanges {
    pub version: Option<Digest>,
    pub hardware: Option<String>,
    pub min_instances: Option<u32>,
    pub max_instances: Option<u32>,
}

/// Content to keep.
pub struct NewFile {
    pub name: String,
    pub content_type: String,
    pub metadata: Map<String, Value>,
}
