//! Following a prediction: what has happened so far, and what happens from then on.

use clunk_core::error::ErrorBody;
use clunk_core::model::{Output, Prediction, PredictionId, Status};
use serde_json::Value;

use super::Models;

/// What happens to a prediction.
#[derive(Debug, Clone)]
pub enum Event {
    Status(Status),
    /// What it printed.
    Logs(String),
    /// The whole output, or of an iterator the next part and its place, from 0.
    Output {
        index: u64,
        output: Output,
    },
    Metric {
        name: String,
        value: Value,
    },
    /// It has ended. Last and always.
    Done(Box<Prediction>),
}

/// One event with its place in the order.
#[derive(Debug, Clone)]
pub struct Followed {
    /// From 1, without gaps. A reader that comes back gives the last one it has.
    pub number: u64,
    pub time_ms: u64,
    pub event: Event,
}

/// A reader of a prediction's events.
pub struct Follow {}

impl Follow {
    /// The next event; None after [`Event::Done`].
    pub async fn next(&mut self) -> Option<Followed> {
        None
    }
}

impl Models {
    /// Events after the one with that number; 0: from the start. Of a prediction that has ended, its outputs, its logs as
    /// one, and its end.
    pub async fn follow(&self, _id: PredictionId, _after: u64) -> Result<Follow, ErrorBody> {
        self.unfinished("following")
    }
}
