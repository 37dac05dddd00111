//! Server-sent events of one prediction: what has happened first, then what happens.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, Sleep};

use crate::lane::Attached;
use crate::life::State;
use crate::record::{Record, Told, write_text};

/// Without anything to say, so often a comment is sent: proxies close what is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes written at a time, before the connection has taken them.
const BATCH: usize = 256 << 10;

pub struct Subscription {
    attached: Attached,
    begun: bool,
    /// Events that were told.
    told: usize,
    done: bool,
    alarm: Pin<Box<Sleep>>,
}

impl Subscription {
    pub fn new(attached: Attached) -> Self {
        let alarm = Box::pin(tokio::time::sleep(KEEP_ALIVE));
        Self { attached, begun: false, told: 0, done: false, alarm }
    }

    /// The next bytes; None behind the last.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.done {
            return Poll::Ready(None);
        }
        let mut out = Vec::new();
        let prediction = self.attached.prediction.clone();
        prediction.look(|record| {
            self.tell(record, &mut out);
            if out.is_empty() {
                record.watch(context.waker());
            }
        });
        if out.is_empty() {
            if std::future::Future::poll(self.alarm.as_mut(), context).is_pending() {
                return Poll::Pending;
            }
            out.extend_from_slice(b":\n\n");
        }
        self.alarm.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(out.into()))
    }

    fn tell(&mut self, record: &Record, out: &mut Vec<u8>) {
        if record.state == State::Queued {
            return;
        }
        let prediction = &self.attached.prediction;
        if !std::mem::replace(&mut self.begun, true) {
            event(out, "start", &json!({"id": prediction.id, "status": "processing"}).to_string());
        }
        let history = &record.history;
        if self.told < history.dropped {
            let skipped = history.dropped - self.told;
            let text = "SSE stream replay truncated: this connection came too late, or reads too slowly";
            event(out, "error", &json!({"error": text, "skipped": skipped}).to_string());
            self.told = history.dropped;
        }
        while out.len() < BATCH {
            let Some(next) = history.events.get(self.told - history.dropped) else { break };
            self.told += 1;
            match next {
                Told::Log { stream, start, end } => {
                    out.extend_from_slice(b"event: log\ndata: {\"data\":");
                    write_text(out, &record.logs[*start..*end]);
                    out.extend_from_slice(format!(",\"source\":\"{stream}\"}}\n\n").as_bytes());
                }
                Told::Output(index) => {
                    out.extend_from_slice(b"event: output\ndata: {\"chunk\":");
                    out.extend_from_slice(record.chunks().get(*index).map_or(&b"null"[..], |chunk| chunk));
                    out.extend_from_slice(format!(",\"index\":{index}}}\n\n").as_bytes());
                }
                Told::Metric(metric) => {
                    out.extend_from_slice(b"event: metric\ndata: ");
                    out.extend_from_slice(metric);
                    out.extend_from_slice(b"\n\n");
                }
            }
        }
        if record.state.is_ended() && self.told == history.dropped + history.events.len() {
            out.extend_from_slice(b"event: completed\ndata: ");
            prediction.json_of(record).pieces.iter().for_each(|piece| out.extend_from_slice(piece));
            out.extend_from_slice(b"\n\n");
            self.done = true;
        }
    }
}

fn event(out: &mut Vec<u8>, name: &str, data: &str) {
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}
