//! Who gets room next when there is not enough for all: the workspace with the smallest dominant share.
//!
//! A workspace's dominant share is the largest share that it holds of any one resource of the fleet. Whoever holds least
//! goes first, so one that asks for much cannot keep another from its part, whatever either asks for.

use std::collections::BTreeMap;

use crate::placement::{Ask, Totals};

/// A function that wants one more replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    pub workspace: &'a str,
    /// How long its oldest call has waited.
    pub waiting_ms: u64,
    /// The caller's own number for it, given back by [`Shares::next`].
    pub index: usize,
}

/// What each workspace holds.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    held: BTreeMap<String, Held>,
    total: Totals,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    replicas: u64,
    of: Totals,
}

impl Held {
    /// From 0, nothing, to 1, all that there is of something.
    fn dominant(&self, total: &Totals) -> f64 {
        let share = |held: u64, total: u64| if held == 0 { 0.0 } else { held as f64 / total.max(1) as f64 };
        share(self.of.cpu_millis, total.cpu_millis)
            .max(share(self.of.memory_mib, total.memory_mib))
            .max(share(self.of.disk_mib, total.disk_mib))
            .max(share(self.of.gpus, total.gpus))
    }
}

fn amounts(ask: &Ask) -> Totals {
    Totals {
        cpu_millis: ask.cpu_millis,
        memory_mib: ask.memory_mib,
        disk_mib: ask.disk_mib,
        gpus: ask.gpus.first().map_or(0, |gpu| gpu.count.into()),
    }
}

impl Shares {
    /// A replica of the workspace was placed; `total` is what the fleet has now.
    pub fn add(&mut self, workspace: &str, ask: &Ask, total: &Totals) {
        self.total = *total;
        if !self.held.contains_key(workspace) {
            self.held.insert(workspace.into(), Held::default());
        }
        let Some(held) = self.held.get_mut(workspace) else { return };
        held.replicas += 1;
        held.of = held.of.plus(&amounts(ask));
    }

    /// One that was added has gone.
    pub fn remove(&mut self, workspace: &str, ask: &Ask, total: &Totals) {
        self.total = *total;
        let Some(held) = self.held.get_mut(workspace) else { return };
        held.replicas = held.replicas.saturating_sub(1);
        held.of = held.of.minus(&amounts(ask));
        if held.replicas == 0 {
            self.held.remove(workspace);
        }
    }

    /// The dominant share of a workspace, from 0 to 1.
    pub fn of(&self, workspace: &str) -> f64 {
        self.held.get(workspace).map_or(0.0, |held| held.dominant(&self.total))
    }

    /// The index of the claim that is next: of the workspace that holds least, and in it of the call that has waited
    /// longest.
    pub fn next(&self, claims: &[Claim]) -> Option<usize> {
        let first = claims.iter().min_by(|a, b| {
            let by_share = self.of(a.workspace).total_cmp(&self.of(b.workspace));
            by_share.then(b.waiting_ms.cmp(&a.waiting_ms)).then(a.index.cmp(&b.index))
        });
        first.map(|claim| claim.index)
    }

    /// The workspace that has to make room for one more replica of this one: the one with the largest share, if that is
    /// more than this one would hold then. Who holds nothing gets its first replica from anyone.
    pub fn yields_to(&self, workspace: &str, ask: &Ask) -> Option<&str> {
        let mut claimant = self.held.get(workspace).copied().unwrap_or_default();
        if claimant.replicas > 0 {
            claimant.of = claimant.of.plus(&amounts(ask));
        }
        let share = claimant.dominant(&self.total);
        let others = self.held.iter().filter(|(name, _)| *name != workspace);
        let most = others.map(|(name, held)| (held.dominant(&self.total), name));
        let (largest, name) = most.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (largest > share).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Totals = Totals { cpu_millis: 9000, memory_mib: 18_000, disk_mib: 0, gpus: 0 };

    fn claim(workspace: &str, waiting_ms: u64, index: usize) -> Claim<'_> {
        Claim { workspace, waiting_ms, index }
    }

    #[test]
    fn dominant_shares_become_equal() {
        let memory = Ask { cpu_millis: 1000, memory_mib: 4000, ..Ask::default() };
        let cores = Ask { cpu_millis: 3000, memory_mib: 1000, ..Ask::default() };
        let mut shares = Shares::default();
        let mut given = [0, 0];
        // Until the cores are used up: 3 of the first and 2 of the second.
        for _ in 0..5 {
            let next = shares.next(&[claim("memory", 9, 0), claim("cores", 5, 1)]).unwrap();
            shares.add(["memory", "cores"][next], [&memory, &cores][next], &TOTAL);
            given[next] += 1;
        }
        assert_eq!(given, [3, 2]);
        assert!((shares.of("memory") - shares.of("cores")).abs() < 1e-9);
    }

    #[test]
    fn within_a_workspace_the_longest_wait_is_first() {
        let shares = Shares::default();
        assert_eq!(shares.next(&[claim("a", 5, 7), claim("a", 9, 8), claim("a", 9, 9)]), Some(8));
        assert_eq!(shares.next(&[]), None);
    }

    #[test]
    fn whoever_holds_most_makes_room() {
        let ask = Ask { cpu_millis: 1000, ..Ask::default() };
        let mut shares = Shares::default();
        (0..4).for_each(|_| shares.add("hog", &ask, &TOTAL));
        assert_eq!(shares.yields_to("new", &ask), Some("hog"));
        assert_eq!(shares.yields_to("hog", &ask), None);
        (0..3).for_each(|_| shares.add("new", &ask, &TOTAL));
        // One more for one and one fewer for the other would only change their places.
        assert_eq!(shares.yields_to("new", &ask), None);
        let large = Ask { cpu_millis: 9000, ..Ask::default() };
        assert_eq!(shares.yields_to("third", &large), Some("hog"));
    }

    #[test]
    fn what_was_given_back_does_not_count() {
        let ask = Ask { cpu_millis: 1000, ..Ask::default() };
        let mut shares = Shares::default();
        shares.add("a", &ask, &TOTAL);
        assert_eq!(shares.next(&[claim("a", 9, 0), claim("b", 1, 1)]), Some(1));
        shares.remove("a", &ask, &TOTAL);
        assert_eq!(shares.next(&[claim("a", 9, 0), claim("b", 1, 1)]), Some(0));
        assert_eq!(shares.held.len(), 0, "a workspace without replicas is forgotten");
    }
}
