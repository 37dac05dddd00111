//! Which machine a replica gets: best fit by the scarcest resource, near its image, GPUs left to those that ask for them.
//!
//! [`Fleet`] keeps the machines sorted by what is free, so that a decision looks at a few of ten thousand of them.

mod ask;
mod fleet;
mod index;
mod never;

pub use ask::{Ask, BadGpu, GpuAsk};
pub use fleet::{Fleet, NodeMut};
pub use never::NeverFits;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::NodeId;

/// GPUs of one kind in one machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct GpuGroup {
    /// In upper case: `H100`, `A100-80GB`.
    pub kind: String,
    pub total: u32,
    /// Of those, how many containers have.
    pub used: u32,
}

impl GpuGroup {
    pub fn free(&self) -> u32 {
        self.total.saturating_sub(self.used)
    }
}

/// A machine: what it has, and what is set aside of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub cpu_millis: u64,
    /// Cores are shares: what is set aside may reach `cpu_millis` times this.
    pub cpu_overcommit: f64,
    pub cpu_used_millis: u64,
    pub memory_mib: u64,
    pub memory_used_mib: u64,
    pub disk_mib: u64,
    pub disk_used_mib: u64,
    pub gpus: Vec<GpuGroup>,
    pub replicas: u32,
    pub max_replicas: u32,
    /// Takes new replicas.
    pub schedulable: bool,
}

impl Node {
    /// Thousandths of a core that can be set aside in all.
    pub fn cpu_shares_millis(&self) -> u64 {
        (self.cpu_millis as f64 * self.cpu_overcommit.max(0.0)) as u64
    }

    pub fn cpu_free_millis(&self) -> u64 {
        self.cpu_shares_millis().saturating_sub(self.cpu_used_millis)
    }

    pub fn memory_free_mib(&self) -> u64 {
        self.memory_mib.saturating_sub(self.memory_used_mib)
    }

    pub fn disk_free_mib(&self) -> u64 {
        self.disk_mib.saturating_sub(self.disk_used_mib)
    }

    /// Whether it takes any replica now.
    pub fn is_open(&self) -> bool {
        self.schedulable && self.replicas < self.max_replicas
    }

    /// Whether all but GPUs fits now.
    fn has_room(&self, ask: &Ask) -> bool {
        // Shares can be promised twice; one replica cannot have more cores than there are.
        self.is_open()
            && ask.cpu_millis <= self.cpu_millis
            && ask.cpu_millis <= self.cpu_free_millis()
            && ask.memory_mib <= self.memory_free_mib()
            && ask.disk_mib <= self.disk_free_mib()
    }
}

/// Where a replica goes; give it back with [`Fleet::release`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub node: NodeId,
    /// Of which kind it got how many.
    pub gpu: Option<GpuAsk>,
}

/// Why a replica gets no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("no machine has room now")]
    Now,
    #[error(transparent)]
    Never(NeverFits),
}

/// What all machines have together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Thousandths of a core that can be set aside.
    pub cpu_millis: u64,
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub gpus: u64,
}

impl Totals {
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis + other.cpu_millis,
            memory_mib: self.memory_mib + other.memory_mib,
            disk_mib: self.disk_mib + other.disk_mib,
            gpus: self.gpus + other.gpus,
        }
    }

    /// Not below nothing.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }
}

#[cfg(test)]
mod tests;
