//! What the control plane and the machines say to each other. The network may bring it late, twice, in another order, or,
//! while a machine is cut off, not at all.

use crate::plan::End;
use crate::schedule::{Micros, SECOND};

/// No message that arrives is older: a connection that is slower is taken as broken.
pub const LARGEST_LAG: Micros = 2 * SECOND;
/// A machine that was not told to go on for this long stops what it runs, since others may have been given it.
pub const LEASE: Micros = 10 * SECOND;

/// A call, by its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallNo(pub u32);

/// Unique over all lives of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaNo(pub u64);

/// A life of the control plane, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// One attempt of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Try {
    pub call: CallNo,
    pub attempt: u32,
}

#[derive(Debug, Clone)]
pub enum ToMachine {
    Start {
        replica: ReplicaNo,
        function: usize,
    },
    Input {
        replica: ReplicaNo,
        what: Try,
    },
    Cancel {
        replica: ReplicaNo,
        what: Try,
    },
    Stop {
        replica: ReplicaNo,
    },
    /// Asks for a report; `renew` lets the machine go on for another lease.
    Poll {
        sent: Micros,
        renew: bool,
    },
}

/// What a machine says of one of its containers.
#[derive(Debug, Clone)]
pub struct Reported {
    pub replica: ReplicaNo,
    pub ready: bool,
    pub inputs: Vec<Try>,
}

#[derive(Debug, Clone)]
pub enum FromMachine {
    Ready {
        replica: ReplicaNo,
    },
    /// User code could not be set up.
    StartFailed {
        replica: ReplicaNo,
    },
    Done {
        replica: ReplicaNo,
        what: Try,
        end: Option<End>,
    },
    /// The container is no more; these ran in it.
    Gone {
        replica: ReplicaNo,
        inputs: Vec<Try>,
        crashed: bool,
    },
    /// All there is, at some time after the poll was sent.
    Report {
        sent: Micros,
        replicas: Vec<Reported>,
    },
}
