//! Answers of one `map` on their way to its client: written by many replicas, read by one connection.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{BufMut, Bytes, BytesMut};
use clunk_agent::Payload;
use clunk_core::api::ErrorAnswer;
use tokio::sync::Notify;

use super::live::End;

/// Kinds of frames, as `docs/api.md` has them.
pub const VALUE: u8 = 1;
pub const DONE: u8 = 2;
pub const EXCEPTION: u8 = 3;
pub const FAILURE: u8 = 4;
const HEADER_LEN: usize = 24;
/// Content that is copied behind its header; larger content is a piece of its own.
pub const JOINED_MAX: usize = 16 << 10;
/// Answers that a client has not taken; while there are more, no more of its inputs are read.
const MAX_BYTES: u64 = 32 << 20;

/// Something to send.
pub enum Part {
    Bytes(Bytes),
    Payload(Payload),
}

#[derive(Default)]
struct Parts {
    /// Small frames, one behind the other.
    tail: BytesMut,
    whole: VecDeque<Part>,
    bytes: u64,
    /// Inputs that have no answer yet.
    unanswered: u64,
    /// No more inputs will come.
    complete: bool,
    /// Nobody will take an answer.
    closed: bool,
}

#[derive(Default)]
pub struct Outbox {
    parts: Mutex<Parts>,
    filled: Notify,
    drained: Notify,
}

pub fn header(kind: u8, index: u64, len: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = kind;
    header[8..16].copy_from_slice(&index.to_le_bytes());
    header[16..24].copy_from_slice(&len.to_le_bytes());
    header
}

/// An end as a frame's kind and content.
pub fn content(end: End) -> (u8, Payload) {
    match end {
        End::Value(payload) => (VALUE, payload),
        End::Raised(raised) => (EXCEPTION, raised.package),
        End::Failed(error) => {
            let text = serde_json::to_vec(&ErrorAnswer { error }).expect("an error has a JSON form");
            (FAILURE, Payload::Memory(text.into()))
        }
    }
}

impl Outbox {
    /// One more input was accepted.
    pub fn expect(&self) {
        self.parts.lock().expect("no panic while locked").unanswered += 1;
    }

    /// No more inputs will come.
    pub fn complete(&self) {
        self.parts.lock().expect("no panic while locked").complete = true;
        self.filled.notify_one();
    }

    /// An input was answered.
    pub fn answer(&self, index: u64, end: End) {
        self.push(index, end, 1);
    }

    /// An input could not be accepted.
    pub fn refuse(&self, index: u64, end: End) {
        self.push(index, end, 0);
    }

    fn push(&self, index: u64, end: End, answered: u64) {
        let (kind, payload) = content(end);
        let mut parts = self.parts.lock().expect("no panic while locked");
        parts.unanswered -= answered;
        if parts.closed {
            return;
        }
        parts.bytes += payload.len();
        parts.tail.put_slice(&header(kind, index, payload.len()));
        match payload {
            // Copying a small answer costs less than a write of its own.
            Payload::Memory(bytes) if bytes.len() <= JOINED_MAX => parts.tail.put_slice(&bytes),
            payload => {
                let tail = parts.tail.split().freeze();
                parts.whole.push_back(Part::Bytes(tail));
                parts.whole.push_back(Part::Payload(payload));
            }
        }
        drop(parts);
        self.filled.notify_one();
    }

    /// The next part; None when every input was answered and no more will come. Cancel-safe.
    pub async fn next(&self) -> Option<Part> {
        loop {
            {
                let mut parts = self.parts.lock().expect("no panic while locked");
                let part = match parts.whole.pop_front() {
                    None if !parts.tail.is_empty() => Some(Part::Bytes(parts.tail.split().freeze())),
                    part => part,
                };
                if let Some(part) = part {
                    let len = match &part {
                        Part::Bytes(bytes) => bytes.len() as u64,
                        Part::Payload(payload) => payload.len(),
                    };
                    parts.bytes = parts.bytes.saturating_sub(len);
                    drop(parts);
                    self.drained.notify_one();
                    return Some(part);
                }
                if parts.complete && parts.unanswered == 0 {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Returns when the client has taken most of its answers.
    pub async fn has_room(&self) {
        while self.parts.lock().expect("no panic while locked").bytes > MAX_BYTES {
            self.drained.notified().await;
        }
    }

    /// The client is gone.
    pub fn close(&self) {
        let mut parts = self.parts.lock().expect("no panic while locked");
        parts.closed = true;
        parts.whole.clear();
        parts.tail.clear();
        parts.bytes = 0;
        drop(parts);
        self.drained.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.parts.lock().expect("no panic while locked").closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drain(outbox: &Outbox) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(part) = outbox.next().await {
            match part {
                Part::Bytes(bytes) | Part::Payload(Payload::Memory(bytes)) => all.extend_from_slice(&bytes),
                Part::Payload(Payload::File { .. }) => panic!("no file was sent"),
            }
        }
        all
    }

    #[tokio::test]
    async fn answers_come_whole_and_the_end_comes_last() {
        let outbox = Outbox::default();
        for index in 0..3 {
            outbox.expect();
            let size = if index == 1 { 100_000 } else { 2 };
            outbox.answer(index, End::Value(Payload::Memory(vec![7; size].into())));
        }
        outbox.complete();
        let all = drain(&outbox).await;
        assert_eq!(all.len(), 3 * HEADER_LEN + 100_004);
        assert_eq!(all[..HEADER_LEN], header(VALUE, 0, 2));
        let last = all.len() - HEADER_LEN - 2;
        assert_eq!(all[last..last + HEADER_LEN], header(VALUE, 2, 2));
    }

    #[tokio::test]
    async fn a_closed_outbox_keeps_nothing() {
        let outbox = Outbox::default();
        outbox.expect();
        outbox.close();
        outbox.answer(0, End::Value(Payload::Memory(vec![7; 9].into())));
        outbox.complete();
        assert!(drain(&outbox).await.is_empty());
    }
}
