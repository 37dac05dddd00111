//! All machines, and the decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};

use super::ask::Match;
use super::index::{Index, Slot};
use super::never::{self, Shape};
use super::{Ask, GpuAsk, NeverFits, NoRoom, Node, Placed, Totals};
use crate::id::{ImageId, NodeId};

/// How many machines with room, or with the image, are looked at for one that has both. Where an image is that rare or
/// machines are that full, the pull costs less than to look further.
const LOOK_AT_MOST: usize = 512;

/// The machines, with what is set aside of them.
#[derive(Debug, Default)]
pub struct Fleet {
    /// A place stays empty after its machine has left, and is used again.
    slots: Vec<Option<Node>>,
    empty: Vec<Slot>,
    by_id: BTreeMap<NodeId, Slot>,
    index: Index,
    /// How many machines there are of each size; there are few sizes.
    shapes: BTreeMap<Shape, u32>,
    images: HashMap<ImageId, BTreeSet<Slot>>,
    totals: Totals,
}

impl Fleet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// By id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.by_id.values().filter_map(|&slot| self.slots[slot as usize].as_ref())
    }

    /// What all machines have together.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes a machine in, in place of one with the same id.
    pub fn add(&mut self, node: Node) {
        if let Some(&slot) = self.by_id.get(&node.id) {
            self.leave(slot);
            self.enter(slot, node);
            return;
        }
        let slot = self.empty.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("there are fewer than four thousand million machines")
        });
        self.by_id.insert(node.id, slot);
        self.enter(slot, node);
    }

    /// The machine with what was set aside of it; what it held is forgotten.
    pub fn remove(&mut self, id: NodeId) -> Option<Node> {
        let slot = self.by_id.remove(&id)?;
        let node = self.leave(slot);
        self.images.retain(|_, holders| {
            holders.remove(&slot);
            !holders.is_empty()
        });
        self.empty.push(slot);
        node
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.slots[*self.by_id.get(&id)? as usize].as_ref()
    }

    /// A machine to change; it is sorted in anew when the guard is dropped. Its id must stay.
    pub fn get_mut(&mut self, id: NodeId) -> Option<NodeMut<'_>> {
        let slot = *self.by_id.get(&id)?;
        let node = self.leave(slot)?;
        Some(NodeMut { fleet: self, slot, node: Some(node) })
    }

    pub fn has_image(&self, node: NodeId, image: ImageId) -> bool {
        let holders = self.images.get(&image);
        holders.zip(self.by_id.get(&node)).is_some_and(|(holders, slot)| holders.contains(slot))
    }

    /// The machine holds the image: a start there need not fetch it.
    pub fn add_image(&mut self, node: NodeId, image: ImageId) {
        if let Some(&slot) = self.by_id.get(&node) {
            self.images.entry(image).or_default().insert(slot);
        }
    }

    pub fn remove_image(&mut self, node: NodeId, image: ImageId) {
        let (Some(slot), Some(holders)) = (self.by_id.get(&node), self.images.get_mut(&image)) else {
            return;
        };
        holders.remove(slot);
        if holders.is_empty() {
            self.images.remove(&image);
        }
    }

    /// Chooses a machine and sets aside what was asked for.
    pub fn place(&mut self, ask: &Ask, image: ImageId) -> Result<Placed, NoRoom> {
        let Some((slot, gpu)) = self.choose(ask, image) else {
            return Err(self.fits_ever(ask).map_or_else(NoRoom::Never, |()| NoRoom::Now));
        };
        self.change(slot, |node| node.take(ask, gpu.as_ref()));
        let node = self.slots[slot as usize].as_ref().expect("it was chosen from those that are there").id;
        Ok(Placed { node, gpu })
    }

    /// Gives back what [`Fleet::place`] set aside; nothing, if the machine has left since.
    pub fn release(&mut self, placed: &Placed, ask: &Ask) {
        if let Some(&slot) = self.by_id.get(&placed.node) {
            self.change(slot, |node| node.give_back(ask, placed.gpu.as_ref()));
        }
    }

    /// Whether some machine could hold it if nothing else were there. A fleet without machines tells nothing: they may
    /// be about to come.
    pub fn fits_ever(&self, ask: &Ask) -> Result<(), NeverFits> {
        never::check(ask, self.shapes.keys())
    }

    fn choose(&self, ask: &Ask, image: ImageId) -> Option<(Slot, Option<GpuAsk>)> {
        if ask.gpus.is_empty() {
            let holders = self.images.get(&image);
            let plain = self.nearest(ask, self.index.plain(ask), holders, |node| node.gpus.is_empty());
            let slot = plain.or_else(|| {
                self.nearest(ask, self.index.with_gpus(ask), holders, |node| !node.gpus.is_empty())
            })?;
            return Some((slot, None));
        }
        ask.gpus.iter().find_map(|gpu| self.choose_gpu(ask, gpu, image))
    }

    fn choose_gpu(&self, ask: &Ask, gpu: &GpuAsk, image: ImageId) -> Option<(Slot, Option<GpuAsk>)> {
        let holders = self.images.get(&image);
        let mut kinds: Vec<(Match, &String)> =
            self.index.kinds().filter_map(|kind| Some((gpu.matches(kind)?, kind))).collect();
        kinds.sort();
        kinds.into_iter().find_map(|(_, kind)| {
            let has =
                |node: &Node| node.gpus.iter().any(|group| group.kind == *kind && group.free() >= gpu.count);
            let slot = self.nearest(ask, self.index.of_kind(kind, gpu.count), holders, has)?;
            Some((slot, Some(GpuAsk { kind: kind.clone(), count: gpu.count })))
        })
    }

    /// The first candidate with room that holds the image, else the first with room.
    fn nearest(
        &self,
        ask: &Ask,
        candidates: impl Iterator<Item = Slot>,
        holders: Option<&BTreeSet<Slot>>,
        belongs: impl Fn(&Node) -> bool,
    ) -> Option<Slot> {
        let fits = |slot: Slot| {
            self.slots[slot as usize].as_ref().is_some_and(|node| node.has_room(ask) && belongs(node))
        };
        let mut candidates = candidates.filter(|&slot| fits(slot)).peekable();
        let first = *candidates.peek()?;
        let Some(holders) = holders else { return Some(first) };
        if holders.len() <= LOOK_AT_MOST {
            let fitting = holders.iter().copied().filter(|&slot| fits(slot));
            return fitting.min_by_key(|&slot| self.room(slot)).or(Some(first));
        }
        candidates.take(LOOK_AT_MOST).find(|slot| holders.contains(slot)).or(Some(first))
    }

    /// What is free in a machine, to compare those that hold an image: the fullest is the best fit.
    fn room(&self, slot: Slot) -> (u64, u64, Slot) {
        let node = self.slots[slot as usize].as_ref();
        node.map_or((u64::MAX, u64::MAX, slot), |node| (node.memory_free_mib(), node.cpu_free_millis(), slot))
    }

    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Node)) {
        if let Some(node) = &mut self.slots[slot as usize] {
            self.index.remove(slot, node);
            change(node);
            self.index.insert(slot, node);
        }
    }

    fn enter(&mut self, slot: Slot, node: Node) {
        self.index.insert(slot, &node);
        *self.shapes.entry(Shape::of(&node)).or_default() += 1;
        self.totals.cpu_millis += node.cpu_shares_millis();
        self.totals.memory_mib += node.memory_mib;
        self.totals.disk_mib += node.disk_mib;
        self.totals.gpus += node.gpus.iter().map(|group| u64::from(group.total)).sum::<u64>();
        self.slots[slot as usize] = Some(node);
    }

    fn leave(&mut self, slot: Slot) -> Option<Node> {
        let node = self.slots[slot as usize].take()?;
        self.index.remove(slot, &node);
        let shape = Shape::of(&node);
        if let Some(count) = self.shapes.get_mut(&shape) {
            *count -= 1;
            if *count == 0 {
                self.shapes.remove(&shape);
            }
        }
        self.totals.cpu_millis -= node.cpu_shares_millis();
        self.totals.memory_mib -= node.memory_mib;
        self.totals.disk_mib -= node.disk_mib;
        self.totals.gpus -= node.gpus.iter().map(|group| u64::from(group.total)).sum::<u64>();
        Some(node)
    }
}

impl Node {
    fn take(&mut self, ask: &Ask, gpu: Option<&GpuAsk>) {
        self.cpu_used_millis += ask.cpu_millis;
        self.memory_used_mib += ask.memory_mib;
        self.disk_used_mib += ask.disk_mib;
        self.replicas += 1;
        if let Some(group) = self.group(gpu) {
            group.used += gpu.map_or(0, |gpu| gpu.count);
        }
    }

    /// Not below nothing: the machine may have come back since, empty.
    fn give_back(&mut self, ask: &Ask, gpu: Option<&GpuAsk>) {
        self.cpu_used_millis = self.cpu_used_millis.saturating_sub(ask.cpu_millis);
        self.memory_used_mib = self.memory_used_mib.saturating_sub(ask.memory_mib);
        self.disk_used_mib = self.disk_used_mib.saturating_sub(ask.disk_mib);
        self.replicas = self.replicas.saturating_sub(1);
        if let Some(group) = self.group(gpu) {
            group.used = group.used.saturating_sub(gpu.map_or(0, |gpu| gpu.count));
        }
    }

    fn group(&mut self, gpu: Option<&GpuAsk>) -> Option<&mut super::GpuGroup> {
        self.gpus.iter_mut().find(|group| gpu.is_some_and(|gpu| gpu.kind == group.kind))
    }
}

/// A machine that is being changed.
pub struct NodeMut<'a> {
    fleet: &'a mut Fleet,
    slot: Slot,
    node: Option<Node>,
}

const HELD: &str = "the guard holds its machine until it is dropped";

impl Deref for NodeMut<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        self.node.as_ref().expect(HELD)
    }
}

impl DerefMut for NodeMut<'_> {
    fn deref_mut(&mut self) -> &mut Node {
        self.node.as_mut().expect(HELD)
    }
}

impl Drop for NodeMut<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.fleet.enter(self.slot, node);
        }
    }
}
