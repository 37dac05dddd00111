//! The line in front of one function's replicas.
//!
//! Calls leave it by priority, and within one in the order they came. Durable calls may be a million: the line holds the
//! first of them, a *tail* on disk holds the rest, and no call overtakes what is still in a tail.

use std::collections::BTreeMap;

use clunk_core::id::CallId;

/// Durable calls that are held in memory ahead of need.
pub const WINDOW_CALLS: usize = 4096;
/// Bytes of their inputs.
pub const WINDOW_BYTES: u64 = 16 << 20;

/// Where a call stands. Smaller is sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The priority, turned round.
    urgency: i16,
    /// What the store counts durable calls by; of another call, the newest of those when it came.
    seq: u64,
    /// The order among calls that the store does not count; 0 for those it does.
    tie: u64,
}

impl Place {
    pub fn durable(priority: i8, seq: u64) -> Self {
        Self { urgency: -i16::from(priority), seq, tie: 0 }
    }

    pub fn attached(priority: i8, newest_seq: u64, tie: u64) -> Self {
        Self { urgency: -i16::from(priority), seq: newest_seq, tie: tie.max(1) }
    }

    fn is_attached(&self) -> bool {
        self.tie > 0
    }
}

/// What of one priority is on disk only.
#[derive(Debug, Default)]
struct Tail {
    pending: u64,
    /// Everything up to here is or was in the line.
    after_seq: u64,
}

/// Ids that one submission makes: the first, and how many follow it.
pub type Range = (CallId, u64);

#[derive(Debug, Default)]
pub struct Queue {
    line: BTreeMap<Place, CallId>,
    tails: BTreeMap<i16, Tail>,
    /// Submissions on their way to disk: whoever loads a tail leaves these to their submitters.
    announced: Vec<Range>,
    /// Durable calls in memory, and bytes of their inputs.
    window: (usize, u64),
    /// Calls in the line that are not durable.
    attached: usize,
}

/// What to load from the store next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub priority: i8,
    pub after_seq: u64,
}

impl Queue {
    /// Calls in the line and in the tails.
    pub fn len(&self) -> u64 {
        self.line.len() as u64 + self.tails.values().map(|tail| tail.pending).sum::<u64>()
    }

    /// Calls in the line.
    pub fn in_memory(&self) -> usize {
        self.line.len()
    }

    /// Calls in the line that are not durable.
    pub fn attached(&self) -> usize {
        self.attached
    }

    pub fn push(&mut self, place: Place, id: CallId) {
        if self.line.insert(place, id).is_none() && place.is_attached() {
            self.attached += 1;
        }
    }

    pub fn remove(&mut self, place: Place) {
        if self.line.remove(&place).is_some() && place.is_attached() {
            self.attached -= 1;
        }
    }

    /// The next call, unless one that is still on disk comes before it.
    pub fn first(&self) -> Option<(Place, CallId)> {
        let (place, id) = self.line.first_key_value()?;
        let overtakes = self.tails.iter().any(|(urgency, tail)| {
            tail.pending > 0
                && (*urgency < place.urgency || (*urgency == place.urgency && tail.after_seq < place.seq))
        });
        (!overtakes).then_some((*place, *id))
    }

    /// The first calls, in order, none of which comes behind one on disk.
    pub fn iter(&self) -> impl Iterator<Item = (Place, CallId)> + '_ {
        let most = if self.first().is_some() { usize::MAX } else { 0 };
        self.line.iter().take(most).map(|(place, id)| (*place, *id))
    }

    /// A submission is about to be written.
    pub fn announce(&mut self, range: Range) {
        self.announced.push(range);
    }

    /// Its calls are on disk, or never will be. True when they are to be put into the line; else they are counted as
    /// part of the tail.
    pub fn arrived(&mut self, range: Range, priority: i8, first_seq: Option<u64>) -> bool {
        self.announced.retain(|other| *other != range);
        let Some(first_seq) = first_seq else { return false };
        let room = self.window.0 < WINDOW_CALLS && self.window.1 < WINDOW_BYTES;
        let tail = self.tails.entry(-i16::from(priority)).or_default();
        // What is loaded later comes behind `after_seq`: calls before it would be passed over.
        if first_seq <= tail.after_seq || (tail.pending == 0 && room) {
            tail.after_seq = tail.after_seq.max(first_seq + range.1 - 1);
            true
        } else {
            tail.pending += range.1;
            false
        }
    }

    /// What a killed server left on disk.
    pub fn found(&mut self, priority: i8, pending: u64) {
        self.tails.entry(-i16::from(priority)).or_default().pending = pending;
    }

    /// There may be calls on disk that nobody brings.
    pub fn suspect(&mut self, priority: i8) {
        let tail = self.tails.entry(-i16::from(priority)).or_default();
        tail.pending = tail.pending.max(1);
    }

    /// What should be loaded now: the most urgent tail, when half of the window is free.
    pub fn wants(&self) -> Option<Load> {
        if self.window.0 > WINDOW_CALLS / 2 || self.window.1 > WINDOW_BYTES / 2 {
            return None;
        }
        let (urgency, tail) = self.tails.iter().find(|(_, tail)| tail.pending > 0)?;
        Some(Load { priority: (-urgency) as i8, after_seq: tail.after_seq })
    }

    /// Whether somebody else brings this call, which was found on disk.
    pub fn is_announced(&self, id: CallId) -> bool {
        let number = |id: CallId| u128::from_be_bytes(id.to_bytes());
        self.announced.iter().any(|(first, count)| {
            let behind = number(id).wrapping_sub(number(*first));
            behind < u128::from(*count)
        })
    }

    /// A load has brought calls up to `last_seq`, `taken` of which are put into the line. `more`: there may be others.
    pub fn loaded(&mut self, load: Load, last_seq: Option<u64>, taken: u64, more: bool) {
        let tail = self.tails.entry(-i16::from(load.priority)).or_default();
        tail.after_seq = tail.after_seq.max(last_seq.unwrap_or(0));
        tail.pending = if more { tail.pending.saturating_sub(taken).max(1) } else { 0 };
    }

    /// A durable call entered memory.
    pub fn hold(&mut self, bytes: u64) {
        self.window.0 += 1;
        self.window.1 += bytes;
    }

    /// A durable call left memory.
    pub fn release(&mut self, bytes: u64) {
        self.window.0 = self.window.0.saturating_sub(1);
        self.window.1 = self.window.1.saturating_sub(bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.line.clear();
        self.tails.clear();
        (self.window, self.attached) = ((0, 0), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> CallId {
        CallId::from_parts(1, [number; 10])
    }

    #[test]
    fn the_order_is_priority_then_arrival() {
        let mut queue = Queue::default();
        queue.push(Place::attached(0, 0, 1), id(1));
        queue.push(Place::attached(5, 0, 2), id(2));
        queue.push(Place::attached(0, 0, 3), id(3));
        queue.push(Place::attached(-1, 0, 4), id(4));
        let order: Vec<_> = queue.iter().map(|(_, id)| id).collect();
        assert_eq!(order, [id(2), id(1), id(3), id(4)]);
    }

    #[test]
    fn nobody_overtakes_what_is_on_disk() {
        let mut queue = Queue::default();
        queue.found(0, 2);
        queue.push(Place::attached(0, 10, 1), id(1));
        assert_eq!(queue.first(), None);
        let load = queue.wants().unwrap();
        assert_eq!(load, Load { priority: 0, after_seq: 0 });
        queue.loaded(load, Some(10), 2, false);
        queue.push(Place::durable(0, 9), id(9));
        queue.push(Place::durable(0, 10), id(10));
        let order: Vec<_> = queue.iter().map(|(_, id)| id).collect();
        assert_eq!(order, [id(9), id(10), id(1)]);
    }

    #[test]
    fn an_urgent_call_passes_a_long_tail() {
        let mut queue = Queue::default();
        queue.found(0, 1_000_000);
        queue.push(Place::attached(1, 10, 1), id(1));
        assert_eq!(queue.first().map(|(_, id)| id), Some(id(1)));
    }

    #[test]
    fn a_submission_that_comes_back_late_is_neither_lost_nor_doubled() {
        let mut queue = Queue::default();
        let (early, late) = ((id(1), 1), (id(2), 1));
        queue.announce(early);
        queue.announce(late);
        // The one with the larger number is heard of first.
        assert!(queue.arrived(late, 0, Some(2)));
        // A load passes over what is announced,
        assert!(queue.is_announced(id(1)) && !queue.is_announced(id(2)));
        // and its submitter brings it.
        queue.found(0, 5);
        assert!(queue.arrived(early, 0, Some(1)));
    }

    #[test]
    fn a_full_window_leaves_the_rest_on_disk() {
        let mut queue = Queue::default();
        (0..WINDOW_CALLS).for_each(|_| queue.hold(1));
        let range = (id(1), 3);
        queue.announce(range);
        assert!(!queue.arrived(range, 0, Some(7)));
        assert_eq!((queue.len(), queue.wants()), (3, None));
        (0..WINDOW_CALLS).for_each(|_| queue.release(1));
        assert_eq!(queue.wants(), Some(Load { priority: 0, after_seq: 0 }));
    }
}
