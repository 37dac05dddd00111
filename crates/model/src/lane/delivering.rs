//! Outputs on their way from the process into records: at once, or behind uploads, always in order.

use std::sync::Arc;

use bytes::Bytes;
use clunk_agent::{Payload, Raised};

use super::Lane;
use crate::life::{Event, Outcome, State};
use crate::prediction::{Part, Prediction};
use crate::record::{OUTPUT_MAX, Output, Record};

/// Values of a generator that are credited together: half of what it may be ahead.
const CREDIT: usize = 32;

impl Lane {
    /// A part of an output has come.
    pub(super) fn deliver(self: &Arc<Self>, prediction: &Arc<Prediction>, part: Part) {
        let Some(part) = prediction.post(part) else { return };
        let json = match &part {
            Part::Raised(_) => Some(Bytes::new()),
            Part::Chunk(value) | Part::Whole(value) => self.files.at_once(value),
        };
        match json {
            Some(json) => self.publish(prediction, part, json),
            None => {
                prediction.open_outbox(part);
                let (lane, prediction) = (self.clone(), prediction.clone());
                // Ends with the outbox; each upload has its own time limit.
                tokio::spawn(async move {
                    while let Some(part) = prediction.next_part() {
                        lane.deliver_slowly(&prediction, part).await;
                    }
                });
            }
        }
    }

    async fn deliver_slowly(self: &Arc<Self>, prediction: &Arc<Prediction>, part: Part) {
        let (value, whole) = match part {
            Part::Raised(_) => return self.publish(prediction, part, Bytes::new()),
            Part::Chunk(value) => (value, false),
            Part::Whole(value) => (value, true),
        };
        let rest = clunk_agent::Value::from(Payload::Memory(Bytes::new()));
        let delivered = tokio::select! {
            biased;
            // Its process is told to end it, too, if it still has it.
            () = prediction.unwanted() => {
                self.advance(prediction, Event::Raised { canceled: true }, |_| ());
                return;
            }
            delivered = self.files.deliver(prediction, value) => delivered,
        };
        match delivered {
            Ok(json) if whole => self.publish(prediction, Part::Whole(rest), json),
            Ok(json) => self.publish(prediction, Part::Chunk(rest), json),
            Err(error) => self.give_up(prediction, error),
        }
    }

    fn publish(self: &Arc<Self>, prediction: &Arc<Prediction>, part: Part, json: Bytes) {
        match part {
            Part::Raised(raised) => {
                let canceled = raised.kind.ends_with("CancelationException");
                let text = told(&raised);
                self.advance(prediction, Event::Raised { canceled }, |record| {
                    if record.state == State::Ended(Outcome::Failed) {
                        record.error = Some(text);
                    }
                });
            }
            Part::Whole(_) => {
                let ended = |record: &mut Record| match (&record.output, json.is_empty()) {
                    // The end of an iterator, which gave nothing.
                    (Output::None, true) => record.output = Output::Many(Vec::new()),
                    (_, true) => {}
                    (_, false) => {
                        record.output_bytes = json.len();
                        record.output = Output::One(json);
                    }
                };
                self.advance(prediction, Event::Returned, ended);
            }
            Part::Chunk(_) => {
                let (fits, count, number) =
                    prediction.change(|record| (record.add(json), record.chunks().len(), record.number));
                if !fits {
                    let most = OUTPUT_MAX >> 20;
                    let text = format!(
                        "the output is larger than {most} MiB, which is what one prediction may give"
                    );
                    return self.give_up(prediction, text);
                }
                if count % CREDIT == 0 {
                    let replica = self.work().replica.clone();
                    if let Some(replica) = replica {
                        replica.credit(number, CREDIT as u32);
                    }
                }
            }
        }
    }

    /// Its output cannot be delivered.
    fn give_up(self: &Arc<Self>, prediction: &Arc<Prediction>, error: String) {
        self.advance(prediction, Event::GivenUp, |record| record.error = Some(error));
        self.interrupt(prediction);
    }
}

/// An exception, as Python ends a traceback.
pub(super) fn told(raised: &Raised) -> String {
    let kind = raised.kind.strip_prefix("builtins.").unwrap_or(&raised.kind);
    if raised.message.is_empty() { kind.into() } else { format!("{kind}: {}", raised.message) }
}
