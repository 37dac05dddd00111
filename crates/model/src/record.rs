//! Everything that is known of one prediction, and its JSON forms.

use std::collections::VecDeque;
use std::io::Write;
use std::task::Waker;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clunk_agent::{Metric, MetricMode};
use serde_json::{Map, Value};

use crate::clock;
use crate::life::{Outcome, State};
use crate::metrics;

/// Bytes of what one prediction printed that are kept; a print in an endless loop must not fill the memory.
const LOGS_MAX: usize = 16 << 20;
/// Bytes of the events of one prediction that a late subscriber is told; metrics may be large.
const HISTORY_BYTES: usize = 8 << 20;
/// Bytes of all chunks of one output.
pub const OUTPUT_MAX: usize = 1 << 30;

#[derive(Debug, Default)]
pub enum Output {
    #[default]
    None,
    One(Bytes),
    /// What an iterator gave so far.
    Many(Vec<Bytes>),
}

/// Something that subscribers are told.
#[derive(Debug, Clone)]
pub enum Told {
    /// A part of the logs.
    Log { stream: &'static str, start: usize, end: usize },
    /// A chunk, by its index.
    Output(usize),
    /// A metric, as JSON.
    Metric(Bytes),
}

impl Told {
    /// About how many bytes it keeps in memory.
    fn weight(&self) -> usize {
        std::mem::size_of::<Self>()
            + match self {
                Self::Log { .. } | Self::Output(_) => 0,
                Self::Metric(json) => json.len(),
            }
    }
}

/// The last events, for subscribers that come late.
#[derive(Debug, Default)]
pub struct History {
    pub events: VecDeque<Told>,
    bytes: usize,
    /// Events that were dropped in front of them.
    pub dropped: usize,
    /// 0: nobody can subscribe.
    pub capacity: usize,
}

impl History {
    fn forget(&mut self) {
        self.dropped += self.events.len();
        (self.events, self.bytes) = (VecDeque::new(), 0);
    }

    fn push(&mut self, event: Told) {
        if self.capacity == 0 {
            return;
        }
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > self.capacity || self.bytes > HISTORY_BYTES {
            let Some(old) = self.events.pop_front() else { break };
            self.bytes -= old.weight();
            self.dropped += 1;
        }
    }
}

pub struct Record {
    pub state: State,
    /// The attempt that counts; what others say is dropped.
    pub number: u64,
    pub created: SystemTime,
    pub started: Option<SystemTime>,
    pub completed: Option<SystemTime>,
    pub took: Option<Duration>,
    pub logs: String,
    logs_full: bool,
    pub output: Output,
    pub output_bytes: usize,
    metrics: Map<String, Value>,
    /// Its logs say that one was not kept.
    metrics_full: bool,
    pub error: Option<String>,
    pub history: History,
    /// Whoever waits for something to happen; woken and forgotten.
    wakers: Vec<Waker>,
}

impl Record {
    pub fn new(now: SystemTime, history: usize) -> Self {
        Self {
            state: State::Queued,
            number: 0,
            created: now,
            started: None,
            completed: None,
            took: None,
            logs: String::new(),
            logs_full: false,
            output: Output::None,
            output_bytes: 0,
            metrics: Map::new(),
            metrics_full: false,
            error: None,
            history: History { capacity: history, ..History::default() },
            wakers: Vec::new(),
        }
    }

    pub fn watch(&mut self, waker: &Waker) {
        if !self.wakers.iter().any(|other| other.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    /// To be woken once the lock is released.
    pub fn changed(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    pub fn print(&mut self, stream: &str, text: &str) {
        let stream = if stream == "stderr" { "stderr" } else { "stdout" };
        if self.logs_full {
            return;
        }
        let start = self.logs.len();
        if start + text.len() > LOGS_MAX {
            self.logs_full = true;
            let most = LOGS_MAX >> 20;
            self.logs.push_str(&format!("\n[{most} MiB of logs; what follows is not kept]\n"));
        } else {
            self.logs.push_str(text);
        }
        self.history.push(Told::Log { stream, start, end: self.logs.len() });
    }

    /// Adds a chunk. False: the output is too large.
    pub fn add(&mut self, chunk: Bytes) -> bool {
        self.output_bytes += chunk.len();
        if self.output_bytes > OUTPUT_MAX {
            return false;
        }
        if !matches!(self.output, Output::Many(_)) {
            self.output = Output::Many(Vec::new());
        }
        let Output::Many(chunks) = &mut self.output else { return false };
        chunks.push(chunk);
        let index = chunks.len() - 1;
        self.history.push(Told::Output(index));
        true
    }

    /// About how many bytes it keeps in memory.
    pub fn weight(&self) -> usize {
        let chunks = std::mem::size_of_val(self.chunks());
        let error = self.error.as_ref().map_or(0, String::len);
        self.logs.len()
            + self.output_bytes
            + chunks
            + error
            + self.history.bytes
            + metrics::weigh_all(&self.metrics)
    }

    pub fn chunks(&self) -> &[Bytes] {
        match &self.output {
            Output::Many(chunks) => chunks,
            Output::None | Output::One(_) => &[],
        }
    }

    /// Forgets what an attempt said that gave nothing; subscribers know how far they were.
    pub fn begin_again(&mut self) {
        self.started = None;
        (self.logs, self.logs_full) = (String::new(), false);
        (self.metrics, self.metrics_full) = (Map::new(), false);
        self.history.forget();
    }

    pub fn measure(&mut self, metric: &Metric) {
        if !metrics::measure(&mut self.metrics, metric) {
            if !std::mem::replace(&mut self.metrics_full, true) {
                let most = metrics::METRICS_BYTES >> 20;
                let name = &metric.name;
                self.print("stderr", &format!(
                    "[the metric {name} is not kept: another has its name, or all are more than {most} MiB]\n"
                ));
            }
            return;
        }
        if self.history.capacity == 0 {
            return;
        }
        let mode = match metric.mode {
            MetricMode::Replace => "replace",
            MetricMode::Increment => "increment",
            MetricMode::Append => "append",
        };
        let value: Value = serde_json::from_slice(&metric.value).unwrap_or_default();
        let event = serde_json::json!({"mode": mode, "name": metric.name, "value": value});
        self.history.push(Told::Metric(Bytes::from(event.to_string())));
    }

    fn write_metrics(&self, out: &mut Vec<u8>) {
        let Some(took) = self.took else {
            let _ = serde_json::to_writer(out, &self.metrics);
            return;
        };
        // Microseconds: digits beyond them are noise.
        let seconds = took.as_micros() as f64 / 1e6;
        if self.metrics.is_empty() {
            let _ = write!(out, "{{\"predict_time\":{seconds}}}");
            return;
        }
        let mut metrics = self.metrics.clone();
        metrics.insert("predict_time".into(), seconds.into());
        let _ = serde_json::to_writer(out, &metrics);
    }
}

/// A JSON text in pieces: large outputs are never copied.
#[derive(Debug, Default, Clone)]
pub struct Json {
    pub pieces: Vec<Bytes>,
}

/// Outputs up to this size are copied: one piece is one write.
const COPY_MAX: usize = 64 << 10;

/// What of a prediction is always the same.
pub struct Constant<'a> {
    pub id: &'a str,
    pub shown: Option<&'a Bytes>,
    /// The version of the model, when it has one.
    pub version: Option<&'a str>,
}

impl Record {
    /// Shows an ended record as it was before the end, with or without what it gave.
    pub fn while_it_ran<T>(&mut self, all: bool, show: impl FnOnce(&Record) -> T) -> T {
        let processing = State::Processing { canceling: false };
        let state = std::mem::replace(&mut self.state, processing);
        let (completed, took, error) = (self.completed.take(), self.took.take(), self.error.take());
        let hidden = (!all).then(|| (std::mem::take(&mut self.logs), std::mem::take(&mut self.output)));
        let shown = show(self);
        if let Some((logs, output)) = hidden {
            (self.logs, self.output) = (logs, output);
        }
        (self.state, self.completed, self.took, self.error) = (state, completed, took, error);
        shown
    }

    /// The prediction as answers and webhooks have it; keys in alphabetical order.
    pub fn json(&self, constant: &Constant<'_>) -> Json {
        let mut out = Vec::with_capacity(512 + constant.shown.map_or(0, Bytes::len) + self.logs.len());
        out.push(b'{');
        if let Some(completed) = self.completed {
            write_time(&mut out, "completed_at", completed);
            out.push(b',');
        }
        write_time(&mut out, "created_at", self.created);
        if let Some(error) = &self.error {
            out.extend_from_slice(b",\"error\":");
            write_text(&mut out, error);
        }
        out.extend_from_slice(b",\"id\":");
        write_text(&mut out, constant.id);
        if let Some(shown) = constant.shown {
            out.extend_from_slice(b",\"input\":");
            out.extend_from_slice(shown);
        }
        out.extend_from_slice(b",\"logs\":");
        write_text(&mut out, &self.logs);
        out.extend_from_slice(b",\"metrics\":");
        self.write_metrics(&mut out);
        let mut json = Json::default();
        let shows_output = !matches!(self.state, State::Ended(Outcome::Failed | Outcome::Canceled));
        match &self.output {
            Output::One(value) if shows_output => {
                out.extend_from_slice(b",\"output\":");
                append(&mut json, &mut out, value);
            }
            Output::Many(chunks) => {
                out.extend_from_slice(b",\"output\":[");
                for (index, chunk) in chunks.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    append(&mut json, &mut out, chunk);
                }
                out.push(b']');
            }
            Output::None | Output::One(_) => {}
        }
        if let Some(started) = self.started {
            out.push(b',');
            write_time(&mut out, "started_at", started);
        }
        let _ = write!(out, ",\"status\":\"{}\"", self.state.status());
        if let Some(version) = constant.version {
            out.extend_from_slice(b",\"version\":");
            write_text(&mut out, version);
        }
        out.push(b'}');
        json.pieces.push(out.into());
        json
    }
}

/// Puts a value behind what is written: copied when it is small, else as a piece of its own.
fn append(json: &mut Json, out: &mut Vec<u8>, value: &Bytes) {
    if value.len() <= COPY_MAX {
        out.extend_from_slice(value);
    } else {
        json.pieces.push(std::mem::take(out).into());
        json.pieces.push(value.clone());
    }
}

fn write_time(out: &mut Vec<u8>, name: &str, time: SystemTime) {
    let _ = write!(out, "\"{name}\":\"");
    clock::write(time, out);
    out.push(b'"');
}

/// Writes a text as JSON.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
