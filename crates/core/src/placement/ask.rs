//! What a replica asks for.

use std::fmt;
use std::str::FromStr;

use crate::function::{DEFAULT_CPU_MILLIS, DEFAULT_MEMORY_MIB, FunctionSpec, SpecError};

/// More than the largest machines have.
const MAX_GPUS: u32 = 64;
/// Two names of one device.
const ALIASES: [(&str, &str); 1] = [("A10", "A10G")];
/// A larger device of the same generation serves as well; `!` behind the name forbids it.
const UPGRADES: [(&str, &str); 2] = [("H100", "H200"), ("A100-40GB", "A100-80GB")];

/// What one replica sets aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ask {
    pub cpu_millis: u64,
    pub memory_mib: u64,
    pub disk_mib: u64,
    /// In order of preference; empty: none.
    pub gpus: Vec<GpuAsk>,
}

/// Some GPUs of one kind, `H100:2` in text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GpuAsk {
    /// In upper case. `ANY` fits all; `A100` fits `A100-80GB` too; `H100!` fits nothing but H100.
    pub kind: String,
    pub count: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no GPU; write a kind, and a count from 1 to {MAX_GPUS} behind a colon: `H100:2`")]
pub struct BadGpu(String);

/// How well a device answers to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// What was asked for.
    Named,
    /// A larger one.
    Upgrade,
}

fn device(kind: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == kind).map_or(kind, |(_, device)| device)
}

/// The same device, or a variant of it by memory: `A100` for `A100-80GB`.
fn is_variant(asked: &str, kind: &str) -> bool {
    kind == asked || kind.strip_prefix(asked).is_some_and(|rest| rest.starts_with('-'))
}

impl GpuAsk {
    /// How well a device of this kind answers, if it does.
    pub(super) fn matches(&self, kind: &str) -> Option<Match> {
        if self.kind == "ANY" {
            return Some(Match::Named);
        }
        let kind = device(kind);
        if let Some(exact) = self.kind.strip_suffix('!') {
            return (device(exact) == kind).then_some(Match::Named);
        }
        let asked = device(&self.kind);
        if is_variant(asked, kind) {
            return Some(Match::Named);
        }
        let larger = UPGRADES.iter().any(|(from, to)| *from == asked && is_variant(to, kind));
        larger.then_some(Match::Upgrade)
    }
}

impl FromStr for GpuAsk {
    type Err = BadGpu;

    fn from_str(text: &str) -> Result<Self, BadGpu> {
        let bad = || BadGpu(text.into());
        let (kind, count) = text.split_once(':').unwrap_or((text, "1"));
        let count = count.parse().ok().filter(|count| (1..=MAX_GPUS).contains(count)).ok_or_else(bad)?;
        let name = kind.strip_suffix('!').unwrap_or(kind);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Self { kind: kind.to_ascii_uppercase(), count })
    }
}

impl fmt::Display for GpuAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.count)
    }
}

impl Ask {
    /// What one replica of the function sets aside.
    pub fn of(spec: &FunctionSpec) -> Result<Self, SpecError> {
        let resources = &spec.resources;
        let gpus = resources.gpu.iter().map(|text| {
            text.parse().map_err(|_| SpecError::Range {
                function: spec.name.clone(),
                field: "gpu",
                want: format!("a kind, and a count from 1 to {MAX_GPUS} behind a colon, like `H100:2`"),
                got: format!("`{text}`"),
            })
        });
        Ok(Self {
            cpu_millis: resources.cpu_millis.unwrap_or(DEFAULT_CPU_MILLIS),
            memory_mib: resources.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB),
            disk_mib: resources.disk_mib.unwrap_or(0),
            gpus: gpus.collect::<Result<_, _>>()?,
        })
    }
}
