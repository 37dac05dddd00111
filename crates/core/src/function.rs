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
    /// A replica ends after one input.
    pub single_use: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout_s: DEFAULT_TIMEOUT_S,
            startup_timeout_s: None,
            scaledown_window_s: DEFAULT_SCALEDOWN_WINDOW_S,
            max_containers: None,
            min_containers: 0,
            single_use: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("function `{function}`: {field} must be {want}, not {got}")]
    Range { function: String, field: &'static str, want: String, got: String },
    #[error("function `{function}`: `{field}` is empty")]
    Empty { function: String, field: &'static str },
    #[error("function `{function}` asks for a GPU ({gpu}); this machine has none that Clunk manages")]
    NoGpu { function: String, gpu: String },
}

impl FunctionSpec {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), SpecError> {
        let name = || self.name.clone();
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
        range("max_containers", self.policy.max_containers.unwrap_or(1).into(), 1, 10_000)?;
        range("cpu", self.resources.cpu_millis.unwrap_or(1), 1, 1_024_000)?;
        range("cpu limit", self.resources.cpu_limit_millis.unwrap_or(10), 10, 1_024_000)?;
        range("memory", self.resources.memory_mib.unwrap_or(1), 1, 64 << 20)?;
        // Below 16 MiB no interpreter starts.
        range("memory limit", self.resources.memory_limit_mib.unwrap_or(16), 16, 64 << 20)?;
        Ok(())
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
