//! The life of a prediction.
//!
//! ```text
//!   starting --Start--> processing --(End)--> succeeded | failed | canceled
//!       |   <--Restart--    |
//!       |                   '--Cancel--> canceled
//!       '--Cancel--> canceled, or aborted when its deadline came first
//! ```
//!
//! The end comes from its call; of several the first counts.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Starting,
    Processing,
    Succeeded,
    Failed,
    Canceled,
    Aborted,
}

/// Who wanted a prediction to be canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Caller,
    Deadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusEvent {
    /// A replica works on it.
    Start,
    /// Its server was killed, or its attempt is tried again: it waits once more.
    Restart,
    Succeed,
    Fail,
    Cancel(Cause),
}

impl Status {
    /// The next status; None: the event means nothing to it.
    pub fn apply(self, event: StatusEvent) -> Option<Self> {
        match (self, event) {
            (Self::Starting | Self::Processing, StatusEvent::Start) => Some(Self::Processing),
            (Self::Starting | Self::Processing, StatusEvent::Restart) => Some(Self::Starting),
            (Self::Starting | Self::Processing, StatusEvent::Succeed) => Some(Self::Succeeded),
            (Self::Starting | Self::Processing, StatusEvent::Fail) => Some(Self::Failed),
            (Self::Starting, StatusEvent::Cancel(Cause::Deadline)) => Some(Self::Aborted),
            (Self::Starting, StatusEvent::Cancel(Cause::Caller)) => Some(Self::Canceled),
            (Self::Processing, StatusEvent::Cancel(Cause::Caller | Cause::Deadline)) => Some(Self::Canceled),
            (Self::Succeeded | Self::Failed | Self::Canceled | Self::Aborted, _) => None,
        }
    }

    pub fn is_terminal(self) -> bool {
        match self {
            Self::Starting | Self::Processing => false,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Aborted => true,
        }
    }

    /// The name that is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Aborted => "aborted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [StatusEvent; 6] = [
        StatusEvent::Start,
        StatusEvent::Restart,
        StatusEvent::Succeed,
        StatusEvent::Fail,
        StatusEvent::Cancel(Cause::Caller),
        StatusEvent::Cancel(Cause::Deadline),
    ];

    fn row(status: Status) -> [Option<&'static str>; 6] {
        EVENTS.map(|event| status.apply(event).map(Status::name))
    }

    #[test]
    fn every_event_in_every_status() {
        let ends =
            [Some("processing"), Some("starting"), Some("succeeded"), Some("failed"), Some("canceled")];
        let [start, restart, succeed, fail, cancel] = ends;
        assert_eq!(row(Status::Starting), [start, restart, succeed, fail, cancel, Some("aborted")]);
        assert_eq!(row(Status::Processing), [start, restart, succeed, fail, cancel, cancel]);
        for over in [Status::Succeeded, Status::Failed, Status::Canceled, Status::Aborted] {
            assert_eq!(row(over), [None; 6]);
            assert!(over.is_terminal());
        }
    }
}
