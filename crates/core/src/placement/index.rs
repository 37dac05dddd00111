//! Machines sorted by what is free.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ask, Node};

/// A machine's place in the fleet's list.
pub(super) type Slot = u32;
type Sorted = BTreeSet<(u64, Slot)>;

/// What machines are sorted by, beside GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Cpu,
    Memory,
    Disk,
}

pub(super) const RESOURCES: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Disk];

impl Resource {
    pub(super) fn free(self, node: &Node) -> u64 {
        match self {
            Self::Cpu => node.cpu_free_millis(),
            Self::Memory => node.memory_free_mib(),
            Self::Disk => node.disk_free_mib(),
        }
    }

    pub(super) fn asked(self, ask: &Ask) -> u64 {
        match self {
            Self::Cpu => ask.cpu_millis,
            Self::Memory => ask.memory_mib,
            Self::Disk => ask.disk_mib,
        }
    }
}

/// Machines of one class, by each resource, and what is free in all of them.
#[derive(Debug, Default)]
struct Class {
    by: [Sorted; 3],
    free: [u64; 3],
}

impl Class {
    fn change(&mut self, slot: Slot, node: &Node, add: bool) {
        for (index, resource) in RESOURCES.into_iter().enumerate() {
            let free = resource.free(node);
            if add {
                self.by[index].insert((free, slot));
                self.free[index] += free;
            } else {
                self.by[index].remove(&(free, slot));
                self.free[index] -= free;
            }
        }
    }

    /// Those with enough of what the ask takes the largest share of, the fullest first.
    fn fitting(&self, ask: &Ask) -> impl Iterator<Item = Slot> + '_ {
        let share = |index: usize| {
            let asked = RESOURCES[index].asked(ask) as f64;
            if asked > 0.0 { asked / self.free[index] as f64 } else { 0.0 }
        };
        let scarcest = (0..3).max_by(|&a, &b| share(a).total_cmp(&share(b))).unwrap_or(0);
        let asked = RESOURCES[scarcest].asked(ask);
        self.by[scarcest].range((asked, 0)..).map(|&(_, slot)| slot)
    }
}

/// Machines that take replicas now. The ones with GPUs are apart, so that others' work is put there last.
#[derive(Debug, Default)]
pub(super) struct Index {
    plain: Class,
    with_gpus: Class,
    /// By kind: machines by how many are free.
    kinds: BTreeMap<String, Sorted>,
}

impl Index {
    pub(super) fn insert(&mut self, slot: Slot, node: &Node) {
        self.change(slot, node, true);
    }

    /// The node must be as it was inserted.
    pub(super) fn remove(&mut self, slot: Slot, node: &Node) {
        self.change(slot, node, false);
    }

    fn change(&mut self, slot: Slot, node: &Node, add: bool) {
        if !node.is_open() {
            return;
        }
        let class = if node.gpus.is_empty() { &mut self.plain } else { &mut self.with_gpus };
        class.change(slot, node, add);
        for group in &node.gpus {
            let key = (group.free().into(), slot);
            if add {
                self.kinds.entry(group.kind.clone()).or_default().insert(key);
            } else if let Some(sorted) = self.kinds.get_mut(&group.kind) {
                sorted.remove(&key);
                if sorted.is_empty() {
                    self.kinds.remove(&group.kind);
                }
            }
        }
    }

    pub(super) fn plain(&self, ask: &Ask) -> impl Iterator<Item = Slot> + '_ {
        self.plain.fitting(ask)
    }

    pub(super) fn with_gpus(&self, ask: &Ask) -> impl Iterator<Item = Slot> + '_ {
        self.with_gpus.fitting(ask)
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = &String> {
        self.kinds.keys()
    }

    /// Machines with that many free GPUs of the kind, the fewest first.
    pub(super) fn of_kind(&self, kind: &str, count: u32) -> impl Iterator<Item = Slot> + '_ {
        let sorted = self.kinds.get(kind);
        sorted.into_iter().flat_map(move |sorted| sorted.range((count.into(), 0)..)).map(|&(_, slot)| slot)
    }
}
