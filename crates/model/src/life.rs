//! The lives of a prediction and of the model behind it: pure, without a clock.
//!
//! ```text
//!   queued --dispatched--> processing --returned--> succeeded
//!     |  ^                  |  |  \---raised, lost--> failed
//!     |  \---lost, innocent-/  \--(asked to) raised, lost--> canceled
//!     \--cancel--> canceled,  \--given up--> failed
//!
//!   cold --wanted--> starting --ready--> up --gone--> restarting --ready--> up
//!                       \--gone--> setup failed            \--gone, once too often--> defunct --wanted--> restarting
//! ```

/// Where a prediction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Queued,
    Processing { canceling: bool },
    Ended(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed,
    Canceled,
}

/// What happens to a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Dispatched,
    CancelAsked,
    Returned,
    /// The model raised; `canceled`: what it raises when it is canceled.
    Raised {
        canceled: bool,
    },
    /// Its process is gone. `innocent`: for another call's sake, and nothing of this one was seen yet.
    Lost {
        innocent: bool,
    },
    /// It cannot be run, or its output cannot be delivered.
    GivenUp,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Tell the process to stop working on it.
    Interrupt,
    /// Put it in front of the queue.
    Requeue,
    Finish(Outcome),
}

/// The event comes too late, or is none of this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

impl State {
    /// The status in every JSON form.
    pub fn status(self) -> &'static str {
        match self {
            Self::Queued => "starting",
            Self::Processing { .. } => "processing",
            Self::Ended(outcome) => outcome.status(),
        }
    }

    pub fn is_canceling(self) -> bool {
        matches!(self, Self::Processing { canceling: true })
    }

    pub fn is_ended(self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl Outcome {
    pub fn status(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

pub fn apply(state: State, event: Event) -> Result<(State, Action), Rejected> {
    let finish = |outcome| Ok((State::Ended(outcome), Action::Finish(outcome)));
    match (state, event) {
        (State::Ended(_), _) => Err(Rejected),
        (State::Queued, Event::Dispatched) => Ok((State::Processing { canceling: false }, Action::Nothing)),
        (State::Queued, Event::CancelAsked) => finish(Outcome::Canceled),
        (State::Queued, Event::GivenUp) => finish(Outcome::Failed),
        (State::Queued, Event::Returned | Event::Raised { .. } | Event::Lost { .. }) => Err(Rejected),
        (State::Processing { .. }, Event::Dispatched) => Err(Rejected),
        (State::Processing { canceling }, Event::CancelAsked) => {
            let action = if canceling { Action::Nothing } else { Action::Interrupt };
            Ok((State::Processing { canceling: true }, action))
        }
        (State::Processing { .. }, Event::Returned) => finish(Outcome::Succeeded),
        (State::Processing { canceling }, Event::Raised { canceled }) => {
            finish(if canceling || canceled { Outcome::Canceled } else { Outcome::Failed })
        }
        (State::Processing { canceling: true }, Event::Lost { .. }) => finish(Outcome::Canceled),
        (State::Processing { canceling: false }, Event::Lost { innocent: true }) => {
            Ok((State::Queued, Action::Requeue))
        }
        (State::Processing { canceling: false }, Event::Lost { innocent: false }) => finish(Outcome::Failed),
        (State::Processing { .. }, Event::GivenUp) => finish(Outcome::Failed),
    }
}

/// Where the model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nobody has asked for it yet.
    Cold,
    Starting,
    Up,
    /// It was up and went away; so many starts in a row have failed since.
    Restarting {
        failures: u32,
    },
    SetupFailed,
    Defunct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Wanted,
    Ready,
    /// The process has ended.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// Start a process, after so many failures in a row.
    Start {
        failures: u32,
    },
    /// Nothing that waits will ever run.
    GiveUp,
}

/// Starts in a row that may fail after the model was up once.
pub const RESTARTS_MAX: u32 = 5;

pub fn change(health: Health, change: Change) -> (Health, Step) {
    match (health, change) {
        (Health::Cold, Change::Wanted) => (Health::Starting, Step::Start { failures: 0 }),
        // What ended it may have passed: one more start, for whoever asks.
        (Health::Defunct, Change::Wanted) => {
            (Health::Restarting { failures: RESTARTS_MAX - 1 }, Step::Start { failures: 0 })
        }
        (_, Change::Wanted) => (health, Step::Nothing),
        (Health::Starting | Health::Restarting { .. } | Health::Up, Change::Ready) => {
            (Health::Up, Step::Nothing)
        }
        (Health::Cold | Health::SetupFailed | Health::Defunct, Change::Ready | Change::Gone) => {
            (health, Step::Nothing)
        }
        (Health::Starting, Change::Gone) => (Health::SetupFailed, Step::GiveUp),
        (Health::Up, Change::Gone) => (Health::Restarting { failures: 0 }, Step::Start { failures: 0 }),
        (Health::Restarting { failures }, Change::Gone) if failures + 1 >= RESTARTS_MAX => {
            (Health::Defunct, Step::GiveUp)
        }
        (Health::Restarting { failures }, Change::Gone) => {
            let failures = failures + 1;
            (Health::Restarting { failures }, Step::Start { failures })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANCELING: State = State::Processing { canceling: true };
    const PROCESSING: State = State::Processing { canceling: false };

    #[test]
    fn a_prediction_ends_once() {
        let events = [
            Event::Dispatched,
            Event::CancelAsked,
            Event::Returned,
            Event::Raised { canceled: false },
            Event::Raised { canceled: true },
            Event::Lost { innocent: true },
            Event::Lost { innocent: false },
            Event::GivenUp,
        ];
        for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Canceled] {
            assert!(events.iter().all(|event| apply(State::Ended(outcome), *event) == Err(Rejected)));
        }
        // From every other state each event either ends it, or leaves it where a later one can.
        for state in [State::Queued, PROCESSING, CANCELING] {
            for event in events {
                if let Ok((next, action)) = apply(state, event) {
                    assert_eq!(next.is_ended(), matches!(action, Action::Finish(_)), "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn who_is_canceled_and_who_runs_again() {
        let table = [
            (State::Queued, Event::CancelAsked, Action::Finish(Outcome::Canceled)),
            (PROCESSING, Event::CancelAsked, Action::Interrupt),
            (CANCELING, Event::CancelAsked, Action::Nothing),
            (CANCELING, Event::Returned, Action::Finish(Outcome::Succeeded)),
            (CANCELING, Event::Raised { canceled: false }, Action::Finish(Outcome::Canceled)),
            (CANCELING, Event::Lost { innocent: false }, Action::Finish(Outcome::Canceled)),
            (PROCESSING, Event::Raised { canceled: false }, Action::Finish(Outcome::Failed)),
            (PROCESSING, Event::Raised { canceled: true }, Action::Finish(Outcome::Canceled)),
            (PROCESSING, Event::Lost { innocent: true }, Action::Requeue),
            (PROCESSING, Event::Lost { innocent: false }, Action::Finish(Outcome::Failed)),
        ];
        for (state, event, action) in table {
            assert_eq!(apply(state, event).map(|(_, action)| action), Ok(action), "{state:?} {event:?}");
        }
    }

    #[test]
    fn a_model_is_started_again_until_that_is_hopeless() {
        let (health, step) = change(Health::Starting, Change::Gone);
        assert_eq!((health, step), (Health::SetupFailed, Step::GiveUp));
        let (mut health, mut step) = change(Health::Up, Change::Gone);
        for failures in 0..RESTARTS_MAX {
            assert_eq!((health, step), (Health::Restarting { failures }, Step::Start { failures }));
            assert_eq!(change(health, Change::Ready).0, Health::Up);
            (health, step) = change(health, Change::Gone);
        }
        assert_eq!((health, step), (Health::Defunct, Step::GiveUp));
        // Whoever asks then gets one more start, and one only.
        let (wanted, step) = change(health, Change::Wanted);
        assert_eq!(step, Step::Start { failures: 0 });
        assert_eq!(change(wanted, Change::Ready).0, Health::Up);
        assert_eq!(change(wanted, Change::Gone), (Health::Defunct, Step::GiveUp));
    }
}
