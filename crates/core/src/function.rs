//! A function: what to run, where, with how much of what, and by which rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::id::ImageId;

pub const DEFAULT_CPU_MILLIS: u64 = 125;
pub const DEFAULT_MEMORY_MIB: u64 = 128;
pub const DEFAULT_TIMEOUT_S: u64 = 300;
pub const DEFAULT_SCALEDOWN_WINDOW_S: u64 = 60;
/// A day.
pub const MAX_TIMEOUT_S: u64 = 86_400;
/// Seven days: as long as results are kept.
pub const MAX_QUEUE_TIMEOUT_S: u64 = 7 * 86_400;
const MAX_CONTAINERS: u64 = 10_000;

/// One function version. Immutable: the digest of its JSON form is its identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// The name within its app: `square`, or `Model.predict` for a method.
    pub name: String,
    pub entry: Entry,
    pub image: ImageId,
    /// Trees laid over the image, the last one on top.
    #[serde(default)]
    pub trees: Vec<Digest>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub policy: Policy,
    /// Whether the container may reach the network.
    #[serde(default)]
    pub block_network: bool,
}

/// Where the runner finds the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Importable from `source_root`.
    pub module: String,
    pub qualname: String,
    /// Folder in the container that is put first on the module path and is the working folder when the image names
    /// none.
    #[serde(default = "source_root")]
    pub source_root: String,
    #[serde(default)]
    pub is_async: bool,
    #[serde(default)]
    pub is_generator: bool,
    /// `qualname` names a class whose methods are called; empty for a plain function.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<String, Method>,
    /// Of a class: its parameters, pickled, in base 64. Each set of them has replicas of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// Of a Cog model: what it is run for. `module` is then the path of its file below `source_root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cog: Option<CogTask>,
}

/// What a Cog model is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CogTask {
    Predict,
    Train,
}

impl CogTask {
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Train => "train",
        }
    }
}

/// A method of a class that can be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Method {
    pub is_async: bool,
    pub is_generator: bool,
}

fn source_root() -> String {
    "/root".into()
}

/// What one replica asks for, and may use at most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Thousandths of a core that are set aside. None: [`DEFAULT_CPU_MILLIS`].
    pub cpu_millis: Option<u64>,
    /// Hard limit in thousandths of a core. None: the machine.
    pub cpu_limit_millis: Option<u64>,
    /// MiB that are set aside. None: [`DEFAULT_MEMORY_MIB`].
    pub memory_mib: Option<u64>,
    /// Hard limit in MiB. None: the machine.
    pub memory_limit_mib: Option<u64>,
    /// `"H100:2"`; several are a fallback order.
    pub gpu: Vec<String>,
    /// MiB of disk that are set aside. None: none are.
    pub disk_mib: Option<u64>,
}

/// The rules that its calls and replicas follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Seconds per attempt, from the start of the input.
    pub timeout_s: u64,
    /// Seconds to import and set up. None: `timeout_s`.
    pub startup_timeout_s: Option<u64>,
    /// Seconds without work before a replica stops.
    pub scaledown_window_s: u64,
    /// None: as many as the machine carries.
    pub max_containers: Option<u32>,
    pub min_containers: u32,
    /// Idle replicas kept beside the busy ones while there is work.
    pub buffer_containers: u32,
    /// A replica ends after one input.
    pub single_use: bool,
    pub retries: Retries,
    pub concurrency: Concurrency,
    /// Inputs are given to the function in lists.
    pub batching: Option<Batching>,
    /// Processes forked in a replica after its set-up; each takes inputs. 0: the replica's first process takes them.
    pub workers: u32,
    /// Seconds that a call may wait for a replica before it expires. None: for ever.
    pub queue_timeout_s: Option<u64>,
}

/// How often and when a call that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    pub max_retries: u32,
    pub initial_delay_ms: u64,
    /// Each delay is the one before times this.
    pub backoff_coefficient: f64,
    pub max_delay_ms: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max_retries: 0, initial_delay_ms: 1000, backoff_coefficient: 2.0, max_delay_ms: 60_000 }
    }
}

/// How many inputs one process takes at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    pub max_inputs: u32,
    /// What the autoscaler aims at. None: `max_inputs`.
    pub target_inputs: Option<u32>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { max_inputs: 1, target_inputs: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batching {
    pub max_batch_size: u32,
    /// How long the first input of a batch waits for others.
    pub wait_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout_s: DEFAULT_TIMEOUT_S,
            startup_timeout_s: None,
            scaledown_window_s: DEFAULT_SCALEDOWN_WINDOW_S,
            max_containers: None,
            min_containers: 0,
            buffer_containers: 0,
            single_use: false,
            retries: Retries::default(),
            concurrency: Concurrency::default(),
            batching: None,
            workers: 0,
            queue_timeout_s: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("function `{function}`: {field} must be {want}, not {got}")]
    Range { function: String, field: &'static str, want: String, got: String },
    #[error("function `{function}`: {variable:?} cannot be an environment variable with that value")]
    Variable { function: String, variable: String },
    #[error("function `{function}`: `{field}` is empty")]
    Empty { function: String, field: &'static str },
}

impl FunctionSpec {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), SpecError> {
        let name = || self.name.clone();
        for (variable, value) in &self.env {
            if variable.is_empty() || variable.contains(['=', '\0']) || value.contains('\0') {
                return Err(SpecError::Variable { function: name(), variable: variable.clone() });
            }
        }
        for (field, text) in
            [("name", &self.name), ("module", &self.entry.module), ("qualname", &self.entry.qualname)]
        {
            if text.trim().is_empty() {
                return Err(SpecError::Empty { function: name(), field });
            }
        }
        let range = |field, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let want = format!("from {low} to {high}");
            Err(SpecError::Range { function: name(), field, want, got: value.to_string() })
        };
        range("timeout", self.policy.timeout_s, 1, MAX_TIMEOUT_S)?;
        range("startup_timeout", self.policy.startup_timeout_s.unwrap_or(1), 1, MAX_TIMEOUT_S)?;
        range("scaledown_window", self.policy.scaledown_window_s, 1, 3600)?;
        range("max_containers", self.policy.max_containers.unwrap_or(1).into(), 1, MAX_CONTAINERS)?;
        let most = self.policy.max_containers.map_or(MAX_CONTAINERS, u64::from);
        range("min_containers", self.policy.min_containers.into(), 0, most)?;
        range("buffer_containers", self.policy.buffer_containers.into(), 0, MAX_CONTAINERS)?;
        self.check_inputs(&range)?;
        let retries = &self.policy.retries;
        range("retries: max_retries", retries.max_retries.into(), 0, 10)?;
        range("retries: initial_delay (ms)", retries.initial_delay_ms, 0, 60_000)?;
        range("retries: max_delay (ms)", retries.max_delay_ms, 1000, 60_000)?;
        if !(1.0..=10.0).contains(&retries.backoff_coefficient) {
            let (field, want) = ("retries: backoff_coefficient", "from 1 to 10".into());
            return Err(SpecError::Range {
                function: name(),
                field,
                want,
                got: retries.backoff_coefficient.to_string(),
            });
        }
        range("cpu", self.resources.cpu_millis.unwrap_or(1), 1, 1_024_000)?;
        range("cpu limit", self.resources.cpu_limit_millis.unwrap_or(10), 10, 1_024_000)?;
        range("memory", self.resources.memory_mib.unwrap_or(1), 1, 64 << 20)?;
        // Below 16 MiB no interpreter starts.
        range("memory limit", self.resources.memory_limit_mib.unwrap_or(16), 16, 64 << 20)?;
        range("ephemeral_disk", self.resources.disk_mib.unwrap_or(1), 1, 3 << 20)?;
        Ok(())
    }

    fn check_inputs(
        &self,
        range: &impl Fn(&'static str, u64, u64, u64) -> Result<(), SpecError>,
    ) -> Result<(), SpecError> {
        let policy = &self.policy;
        let max_inputs = u64::from(policy.concurrency.max_inputs);
        range("max_inputs", max_inputs, 1, 1000)?;
        range("target_inputs", policy.concurrency.target_inputs.unwrap_or(1).into(), 1, max_inputs)?;
        range("workers", policy.workers.into(), 0, 64)?;
        range("queue_timeout", policy.queue_timeout_s.unwrap_or(1), 1, MAX_QUEUE_TIMEOUT_S)?;
        if let Some(batching) = &policy.batching {
            range("max_batch_size", batching.max_batch_size.into(), 1, 1000)?;
            range("wait_ms", batching.wait_ms, 0, 600_000)?;
        }
        Ok(())
    }

    /// Inputs that one replica takes at the same time; a batch counts as one.
    pub fn slots(&self) -> u32 {
        self.policy.concurrency.max_inputs * self.policy.workers.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> FunctionSpec {
        serde_json::from_str(json).unwrap()
    }

    const SMALL: &str = r#"{"name":"square","entry":{"module":"app","qualname":"square"},
        "image":"im-00112233445566778899aabbccddeeff"}"#;

    #[test]
    fn defaults_are_filled_in() {
        let spec = spec(SMALL);
        assert_eq!(spec.policy.timeout_s, 300);
        assert_eq!(spec.entry.source_root, "/root");
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn out_of_range_says_what_and_where() {
        let mut spec = spec(SMALL);
        spec.policy.timeout_s = 0;
        let text = spec.check().unwrap_err().to_string();
        assert_eq!(text, "function `square`: timeout must be from 1 to 86400, not 0");
    }
}
