//! The life of a call.
//!
//! ```text
//!              Dispatch              Return, Raise, Lose, TimeOut, Cancel
//!   Queued ---------------> Running -------------------------------------> Ended
//!    ^  |                      |
//!    |  |      Raise, TimeOut, |    while retries are left, after their delay;
//!    |  |      Lose            |    Lose by the machine's fault at once, MAX_LOSSES times
//!    +--|----------------------+
//!       |
//!       |  Refuse, Cancel, Expire
//!       +------------------------------------------------------------------> Ended
//! ```
//!
//! Each attempt carries its number as a fence: what a dead attempt says later is refused. A call keeps apart what it did
//! itself (`failures`, which its function's policy bounds) from what befell it (`losses`, which we bound).

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::function::Retries;

/// How often a call is moved because its machine or a neighbour took its process away. Beyond that the call itself is
/// the likeliest cause, and it would take down one replica after the other.
pub const MAX_LOSSES: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CallState {
    /// Waits for a slot; it was dispatched `attempts` times before, and the fence of the next one is `attempts + 1`.
    Queued {
        attempts: u32,
        failures: u32,
        losses: u32,
    },
    /// Attempt number `attempt`, from 1, is on a replica.
    Running {
        attempt: u32,
        failures: u32,
        losses: u32,
    },
    Ended {
        outcome: Outcome,
        attempts: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    /// User code raised an exception.
    Raised,
    /// It did not end by itself.
    Failed {
        code: ErrorCode,
    },
    TimedOut,
    Canceled,
    /// It waited in the queue for longer than it was worth.
    Expired,
}

/// Who is taken to have ended an attempt's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The call: it crashed, or used more memory than it may. Counts as a failure of it.
    Call,
    /// The machine, the server, or another call of the same process. The call is moved at once.
    Machine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Dispatch,
    Return {
        attempt: u32,
    },
    Raise {
        attempt: u32,
    },
    TimeOut {
        attempt: u32,
    },
    /// The attempt's process went away.
    Lose {
        attempt: u32,
        code: ErrorCode,
        blame: Blame,
    },
    /// It is queued, and no replica can be had for it: the code cannot be set up, or no machine is large enough.
    Refuse {
        code: ErrorCode,
    },
    Cancel,
    Expire,
}

/// What the caller of [`CallState::apply`] has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Give the input to a replica, marked with this attempt.
    Send { attempt: u32 },
    /// Put it back where the next free slot finds it, not before `delay_ms` from now.
    Enqueue { delay_ms: u64 },
    /// Make the replica stop working on this attempt.
    Stop { attempt: u32 },
    /// Record the end and tell whoever waits.
    Answer(Outcome),
}

/// The actions of one event, in the order in which to do them. At most two, and never on the heap: this is made for each
/// step of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions([Option<Action>; 2]);

impl Actions {
    fn one(action: Action) -> Self {
        Self([Some(action), None])
    }

    fn two(first: Action, second: Action) -> Self {
        Self([Some(first), Some(second)])
    }

    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.0.iter().flatten().copied()
    }
}

impl IntoIterator for Actions {
    type Item = Action;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Action>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the call has ended")]
    Ended,
    #[error("attempt {got} is over; the newest is {current}")]
    Stale { got: u32, current: u32 },
    #[error("the call is not in a state that allows this")]
    OutOfOrder,
}

impl CallState {
    pub const NEW: Self = Self::Queued { attempts: 0, failures: 0, losses: 0 };

    /// The next state and what to do; an event that is refused changes nothing.
    pub fn apply(self, retries: &Retries, event: Event) -> Result<(Self, Actions), Rejected> {
        match self {
            Self::Queued { attempts, failures, losses } => queued(attempts, failures, losses, event),
            Self::Running { attempt, failures, losses } => {
                Attempt { current: attempt, failures, losses, retries }.apply(event)
            }
            Self::Ended { .. } => Err(Rejected::Ended),
        }
    }

    /// The name that is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Running { .. } => "running",
            Self::Ended { outcome, .. } => outcome.name(),
        }
    }

    /// How often it was dispatched.
    pub fn attempts(self) -> u32 {
        match self {
            Self::Queued { attempts, .. } | Self::Ended { attempts, .. } => attempts,
            Self::Running { attempt, .. } => attempt,
        }
    }
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Raised | Self::Failed { .. } => "failed",
            Self::TimedOut => "timed_out",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
        }
    }
}

type Step = Result<(CallState, Actions), Rejected>;

fn ended(outcome: Outcome, attempts: u32) -> (CallState, Actions) {
    (CallState::Ended { outcome, attempts }, Actions::one(Action::Answer(outcome)))
}

fn queued(attempts: u32, failures: u32, losses: u32, event: Event) -> Step {
    match event {
        Event::Dispatch => {
            let attempt = attempts + 1;
            let running = CallState::Running { attempt, failures, losses };
            Ok((running, Actions::one(Action::Send { attempt })))
        }
        Event::Refuse { code } => Ok(ended(Outcome::Failed { code }, attempts)),
        Event::Cancel => Ok(ended(Outcome::Canceled, attempts)),
        Event::Expire => Ok(ended(Outcome::Expired, attempts)),
        Event::Return { attempt }
        | Event::Raise { attempt }
        | Event::TimeOut { attempt }
        | Event::Lose { attempt, .. } => Err(Rejected::Stale { got: attempt, current: attempts }),
    }
}

/// The attempt that runs.
struct Attempt<'a> {
    current: u32,
    failures: u32,
    losses: u32,
    retries: &'a Retries,
}

impl Attempt<'_> {
    fn apply(&self, event: Event) -> Step {
        match event {
            Event::Return { attempt } => {
                self.fence(attempt).map(|()| ended(Outcome::Succeeded, self.current))
            }
            Event::Raise { attempt } => self.fence(attempt).map(|()| self.fail(Outcome::Raised)),
            Event::TimeOut { attempt } => {
                self.fence(attempt).map(|()| self.stop_first(self.fail(Outcome::TimedOut)))
            }
            Event::Lose { attempt, code, blame: Blame::Call } => {
                self.fence(attempt).map(|()| self.fail(Outcome::Failed { code }))
            }
            Event::Lose { attempt, code, blame: Blame::Machine } => {
                self.fence(attempt).map(|()| self.lose(Outcome::Failed { code }))
            }
            Event::Cancel => Ok(self.stop_first(ended(Outcome::Canceled, self.current))),
            Event::Dispatch | Event::Refuse { .. } | Event::Expire => Err(Rejected::OutOfOrder),
        }
    }

    fn fence(&self, got: u32) -> Result<(), Rejected> {
        if got == self.current { Ok(()) } else { Err(Rejected::Stale { got, current: self.current }) }
    }

    /// Once more after a delay, while its function's policy allows that.
    fn fail(&self, outcome: Outcome) -> (CallState, Actions) {
        let failures = self.failures + 1;
        if failures > self.retries.max_retries {
            return ended(outcome, self.current);
        }
        let again = CallState::Queued { attempts: self.current, failures, losses: self.losses };
        (again, Actions::one(Action::Enqueue { delay_ms: self.retries.delay_ms(failures) }))
    }

    fn lose(&self, outcome: Outcome) -> (CallState, Actions) {
        let losses = self.losses + 1;
        if losses > MAX_LOSSES {
            return ended(outcome, self.current);
        }
        let again = CallState::Queued { attempts: self.current, failures: self.failures, losses };
        (again, Actions::one(Action::Enqueue { delay_ms: 0 }))
    }

    fn stop_first(&self, (state, actions): (CallState, Actions)) -> (CallState, Actions) {
        let stop = Action::Stop { attempt: self.current };
        let [then, _] = actions.0;
        (state, then.map_or(Actions::one(stop), |then| Actions::two(stop, then)))
    }
}

#[cfg(test)]
mod tests;
