//! The life of a call.
//!
//! ```text
//!             Dispatch            Return / Raise
//!   Queued ------------> Running ----------------> Ended(Succeeded | Raised)
//!     ^ |                 |  |
//!     | |   Lose, to retry|  | Lose, TimeOut, Cancel
//!     | +-----------------+  +-------------------> Ended(Failed | TimedOut | Canceled)
//!     |       Cancel, Expire
//!     +------------------------------------------> Ended(Canceled | Expired)
//! ```
//!
//! Each attempt carries its number as a fence: what a dead attempt says later is refused.

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CallState {
    /// Waits for a slot; `attempts` were made before.
    Queued {
        attempts: u32,
    },
    /// Attempt number `attempt`, from 1, is on a replica.
    Running {
        attempt: u32,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Dispatch,
    Return {
        attempt: u32,
    },
    Raise {
        attempt: u32,
    },
    /// The attempt's replica went away or could not start.
    Lose {
        attempt: u32,
        code: ErrorCode,
        retry: bool,
    },
    TimeOut {
        attempt: u32,
    },
    Cancel,
    Expire,
}

/// What the caller of [`CallState::apply`] has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Give the input to a replica, marked with this attempt.
    Send { attempt: u32 },
    /// Put it back where the next free slot finds it.
    Enqueue,
    /// Make the replica stop working on this attempt.
    Stop { attempt: u32 },
    /// Record the end and tell whoever waits.
    Answer(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("the call has ended")]
    Ended,
    #[error("attempt {got} is not the current one ({current})")]
    Stale { got: u32, current: u32 },
    #[error("the call is not in a state that allows this")]
    OutOfOrder,
}

impl CallState {
    pub const NEW: Self = Self::Queued { attempts: 0 };

    pub fn apply(self, event: Event) -> Result<(Self, Vec<Action>), Rejected> {
        match self {
            Self::Queued { attempts } => queued(attempts, event),
            Self::Running { attempt } => running(attempt, event),
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

fn ended(outcome: Outcome, attempts: u32) -> (CallState, Vec<Action>) {
    (CallState::Ended { outcome, attempts }, vec![Action::Answer(outcome)])
}

fn queued(attempts: u32, event: Event) -> Result<(CallState, Vec<Action>), Rejected> {
    match event {
        Event::Dispatch => {
            let attempt = attempts + 1;
            Ok((CallState::Running { attempt }, vec![Action::Send { attempt }]))
        }
        Event::Cancel => Ok(ended(Outcome::Canceled, attempts)),
        Event::Expire => Ok(ended(Outcome::Expired, attempts)),
        // No replica can be had for it.
        Event::Lose { attempt, code, retry: false } if attempt == attempts => {
            Ok(ended(Outcome::Failed { code }, attempts))
        }
        Event::Return { attempt }
        | Event::Raise { attempt }
        | Event::Lose { attempt, .. }
        | Event::TimeOut { attempt } => Err(Rejected::Stale { got: attempt, current: attempts }),
    }
}

fn running(current: u32, event: Event) -> Result<(CallState, Vec<Action>), Rejected> {
    let fence = |got| if got == current { Ok(()) } else { Err(Rejected::Stale { got, current }) };
    match event {
        Event::Return { attempt } => fence(attempt).map(|()| ended(Outcome::Succeeded, current)),
        Event::Raise { attempt } => fence(attempt).map(|()| ended(Outcome::Raised, current)),
        Event::Lose { attempt, retry: true, .. } => {
            fence(attempt).map(|()| (CallState::Queued { attempts: current }, vec![Action::Enqueue]))
        }
        Event::Lose { attempt, code, retry: false } => {
            fence(attempt).map(|()| ended(Outcome::Failed { code }, current))
        }
        Event::TimeOut { attempt } => fence(attempt).map(|()| stopped(Outcome::TimedOut, current)),
        Event::Cancel => Ok(stopped(Outcome::Canceled, current)),
        Event::Dispatch | Event::Expire => Err(Rejected::OutOfOrder),
    }
}

fn stopped(outcome: Outcome, attempt: u32) -> (CallState, Vec<Action>) {
    let actions = vec![Action::Stop { attempt }, Action::Answer(outcome)];
    (CallState::Ended { outcome, attempts: attempt }, actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 8] = [
        Event::Dispatch,
        Event::Return { attempt: 1 },
        Event::Raise { attempt: 1 },
        Event::Lose { attempt: 1, code: ErrorCode::ContainerCrashed, retry: true },
        Event::Lose { attempt: 1, code: ErrorCode::ContainerCrashed, retry: false },
        Event::TimeOut { attempt: 1 },
        Event::Cancel,
        Event::Expire,
    ];

    fn walk(
        state: CallState,
        depth: usize,
        visit: &mut impl FnMut(CallState, Event, &Result<(CallState, Vec<Action>), Rejected>),
    ) {
        for event in EVENTS.iter().copied().filter(|_| depth > 0) {
            let result = state.apply(event);
            visit(state, event, &result);
            if let Ok((next, _)) = result {
                walk(next, depth - 1, visit);
            }
        }
    }

    #[test]
    fn every_path_answers_at_most_once_and_an_end_is_an_end() {
        walk(CallState::NEW, 5, &mut |state, _, result| {
            if let Ok((next, actions)) = result {
                assert!(!matches!(state, CallState::Ended { .. }));
                let answers = actions.iter().filter(|action| matches!(action, Action::Answer(_))).count();
                assert_eq!(answers == 1, matches!(next, CallState::Ended { .. }));
            }
        });
    }

    #[test]
    fn a_dead_attempt_is_not_heard() {
        let (queued, _) = CallState::Running { attempt: 1 }
            .apply(Event::Lose { attempt: 1, code: ErrorCode::ContainerCrashed, retry: true })
            .unwrap();
        let (running, actions) = queued.apply(Event::Dispatch).unwrap();
        assert_eq!(actions, [Action::Send { attempt: 2 }]);
        assert_eq!(running.apply(Event::Return { attempt: 1 }), Err(Rejected::Stale { got: 1, current: 2 }));
    }

    #[test]
    fn cancel_stops_what_runs() {
        let (_, actions) = CallState::Running { attempt: 3 }.apply(Event::Cancel).unwrap();
        assert_eq!(actions, [Action::Stop { attempt: 3 }, Action::Answer(Outcome::Canceled)]);
    }
}
