//! Following a prediction: what has happened so far, and what happens from then on.
//!
//! A reader's place is how much it has seen of the logs and of the output, not where it stood in a list of events: so it
//! can be found again at any later state, also after the server was started anew and the call has run again.

use std::collections::VecDeque;
use std::sync::Arc;

use clunk_agent::replica::now_ms;
use clunk_core::error::ErrorBody;
use clunk_core::model::{Output, Prediction, PredictionId, Status};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::live::Live;
use super::predictions::Found;
use super::{Models, outputs};

/// Of a place, the bits that say how many bytes of the logs were seen; the others count parts of the output.
const LOG_BITS: u32 = 32;
/// Parts of an output that are read out of the record at a time.
const MAX_READ: usize = 256;

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
    /// A metric has this value now.
    Metric {
        name: String,
        value: Value,
    },
    /// It has ended. Last and always.
    Done(Box<Prediction>),
}

/// One event, and the place behind it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// A reader that comes back gives the last one it has. It grows with logs and output; other events have that of what
    /// came before.
    pub number: u64,
    pub time_ms: u64,
    pub event: Event,
}

/// A reader of a prediction's events.
pub struct Follow {
    models: Arc<Models>,
    from: From,
    /// The output comes in parts.
    parts: bool,
    seen: Seen,
    ready: VecDeque<Followed>,
    done: bool,
}

enum From {
    Live(Arc<Live>, watch::Receiver<u64>),
    Over(Box<Prediction>),
}

#[derive(Default)]
struct Seen {
    logs: usize,
    outputs: usize,
    status: Option<Status>,
    metrics: Map<String, Value>,
}

impl Seen {
    fn number(&self) -> u64 {
        (self.outputs as u64) << LOG_BITS | self.logs as u64
    }

    /// Puts what is new into the line. False: there may be more at once.
    fn read(&mut self, record: &Prediction, parts: bool, into: &mut VecDeque<Followed>) -> bool {
        let time_ms = now_ms();
        let terminal = record.status.is_terminal();
        let mut push = |number, event| into.push_back(Followed { number, time_ms, event });
        if self.status != Some(record.status) && !terminal {
            self.status = Some(record.status);
            push(self.number(), Event::Status(record.status));
        }
        // After a second run there may be less than was seen of the first: what was seen is passed over.
        if let Some(new) = record.logs.get(self.logs..).filter(|new| !new.is_empty()) {
            self.logs = record.logs.len();
            push(self.number(), Event::Logs(new.into()));
        }
        for (name, value) in &record.metrics {
            if self.metrics.get(name) != Some(value)
                && !matches!(name.as_str(), "predict_time" | "total_time")
            {
                self.metrics.insert(name.clone(), value.clone());
                push(self.number(), Event::Metric { name: name.clone(), value: value.clone() });
            }
        }
        let Some(output) = &record.output else { return true };
        if !parts {
            if self.outputs == 0 && terminal {
                self.outputs = 1;
                push(self.number(), Event::Output { index: 0, output: output.clone() });
            }
            return true;
        }
        for _ in 0..MAX_READ {
            let Some(part) = outputs::part(output, self.outputs) else { return true };
            let index = self.outputs as u64;
            self.outputs += 1;
            push(self.number(), Event::Output { index, output: part });
        }
        false
    }
}

impl Follow {
    /// The next event; None after [`Event::Done`].
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.done {
                return None;
            }
            self.read().await;
        }
    }

    async fn read(&mut self) {
        let (read_all, terminal) = match &mut self.from {
            From::Over(prediction) => (self.seen.read(prediction, self.parts, &mut self.ready), true),
            From::Live(live, changed) => {
                changed.mark_unchanged();
                match live.record().as_ref() {
                    Some(record) => {
                        let read = self.seen.read(record, self.parts, &mut self.ready);
                        (read, record.status.is_terminal())
                    }
                    None => (true, false),
                }
            }
        };
        if terminal && read_all {
            self.finish().await;
        } else if read_all
            && self.ready.is_empty()
            && let From::Live(_, changed) = &mut self.from
        {
            // The sender lives as long as what is followed.
            let _ = changed.changed().await;
        }
    }

    async fn finish(&mut self) {
        let prediction = match &self.from {
            From::Over(prediction) => prediction.as_ref().clone(),
            From::Live(live, _) => match self.models.full(live).await {
                Ok(prediction) => prediction,
                Err(error) => {
                    tracing::error!(prediction = %live.id, %error, "could not read the end of a prediction");
                    live.record().clone().expect("it was read before")
                }
            },
        };
        let (number, time_ms) = (self.seen.number(), now_ms());
        self.ready.push_back(Followed { number, time_ms, event: Event::Done(Box::new(prediction)) });
        self.done = true;
    }
}

impl Models {
    /// Events behind that place; 0: from the start.
    pub async fn follow(&self, id: PredictionId, after: u64) -> Result<Follow, ErrorBody> {
        let (from, version) = match self.find(id).await? {
            Found::Over(prediction) => {
                let version = prediction.version;
                (From::Over(prediction), version)
            }
            Found::Live(live) => {
                let version = live.record().as_ref().map(|record| record.version);
                let changed = live.changed.subscribe();
                (From::Live(live, changed), version.unwrap_or(clunk_core::Digest::from_bytes([0; 32])))
            }
        };
        // Of a version that was deleted nobody knows any more.
        let parts = self.loaded(version).await.is_ok_and(|loaded| loaded.version.is_iterator());
        let seen = Seen {
            logs: (after & ((1 << LOG_BITS) - 1)) as usize,
            outputs: (after >> LOG_BITS) as usize,
            ..Seen::default()
        };
        Ok(Follow { models: self.me(), from, parts, seen, ready: VecDeque::new(), done: false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn events(seen: &mut Seen, record: &Prediction, parts: bool) -> Vec<String> {
        let mut ready = VecDeque::new();
        seen.read(record, parts, &mut ready);
        let said = |followed: Followed| match followed.event {
            Event::Status(status) => status.name().into(),
            Event::Logs(text) => text,
            Event::Output { index, output } => format!("{index} {}", output.value),
            Event::Metric { name, value } => format!("{name}={value}"),
            Event::Done(_) => "done".into(),
        };
        ready.into_iter().map(said).collect()
    }

    #[test]
    fn a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
        let mut record = crate::models::tests::prediction();
        record.status = Status::Processing;
        record.logs = "one\n".into();
        record.output = Some(Output { value: json!(["a", "b"]), files: Vec::new() });
        let mut seen = Seen::default();
        assert_eq!(events(&mut seen, &record, true), ["processing", "one\n", "0 \"a\"", "1 \"b\""]);
        let number = seen.number();
        let mut again =
            Seen { logs: number as u32 as usize, outputs: (number >> 32) as usize, ..Seen::default() };
        // The call was lost, and runs again.
        record.logs.clear();
        record.output = None;
        record.status = Status::Starting;
        assert_eq!(events(&mut again, &record, true), ["starting"]);
        record.status = Status::Processing;
        record.logs = "one\ntwo\n".into();
        record.metrics.insert("tokens".into(), json!(3));
        record.output = Some(Output { value: json!(["a", "b", "c"]), files: Vec::new() });
        assert_eq!(events(&mut again, &record, true), ["processing", "two\n", "tokens=3", "2 \"c\""]);
        assert_eq!(events(&mut again, &record, true), [""; 0]);
    }

    #[test]
    fn a_list_that_is_no_iterator_is_one_output() {
        let mut record = crate::models::tests::prediction();
        record.status = Status::Succeeded;
        record.output = Some(Output { value: json!(["a", "b"]), files: Vec::new() });
        let mut seen = Seen::default();
        assert_eq!(events(&mut seen, &record, false), [r#"0 ["a","b"]"#]);
        assert_eq!(events(&mut seen, &record, false), [""; 0]);
    }
}
