//! The virtual clock: what happens when, in the order of time, then of planning.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Microseconds since the simulation began.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1000;
pub const SECOND: Micros = 1_000_000;

#[derive(Debug)]
pub struct Schedule<E> {
    pub now: Micros,
    heap: BinaryHeap<Reverse<(Micros, u64)>>,
    events: BTreeMap<u64, E>,
    planned: u64,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self { now: 0, heap: BinaryHeap::new(), events: BTreeMap::new(), planned: 0 }
    }
}

impl<E> Schedule<E> {
    /// What is planned for the past happens now.
    pub fn at(&mut self, at: Micros, event: E) {
        self.planned += 1;
        self.heap.push(Reverse((at.max(self.now), self.planned)));
        self.events.insert(self.planned, event);
    }

    pub fn after(&mut self, delay: Micros, event: E) {
        self.at(self.now + delay, event);
    }

    /// The next event; the clock goes there.
    pub fn next(&mut self) -> Option<E> {
        let Reverse((at, number)) = self.heap.pop()?;
        self.now = at;
        self.events.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_then_order_of_planning() {
        let mut schedule = Schedule::default();
        schedule.at(5, 'b');
        schedule.at(5, 'c');
        schedule.at(1, 'a');
        assert_eq!([schedule.next(), schedule.next(), schedule.next()], [Some('a'), Some('b'), Some('c')]);
        schedule.at(2, 'd');
        assert_eq!((schedule.next(), schedule.now, schedule.next()), (Some('d'), 5, None));
    }
}
