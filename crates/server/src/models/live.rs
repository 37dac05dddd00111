//! Predictions that have not ended, in memory: what their calls told, and who follows them.
//!
//! The engine tells of a call under its pool's lock, so that nothing may wait there: what it tells is put into the
//! prediction's mailbox, and a task works it off. The task exists only while there is something in the box.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use clunk_agent::frame::{INLINE_MAX, WINDOW};
use clunk_agent::{Metric, Payload, Value};
use clunk_core::api::CallRecord;
use clunk_core::error::ErrorBody;
use clunk_core::id::CallId;
use clunk_core::model::{Cause, Prediction, PredictionId};
use tokio::sync::watch;

use super::{Models, work};
use crate::engine::observer::{Credit, Finish, ObservedEnd, Observer};

/// Bytes in one mailbox: of values that a generator gave, all that it may give ahead. Beyond it the model prints faster
/// than that can be kept.
const MAX_MAIL: usize = WINDOW as usize * INLINE_MAX as usize;
/// What a letter takes beside its content, about.
const LETTER: usize = 256;
/// Accepted predictions that are remembered until they start; others are read from the disk then.
const MAX_REMEMBERED: usize = 10_000;

/// What the engine tells of a call.
pub enum Letter {
    Started { attempt: u32 },
    Printed(String),
    Yielded(Value, Option<Credit>),
    Metric(Metric),
    Ended(Box<Ending>),
}

/// Bytes that a payload holds here; a file's lie in its container's account.
fn in_memory(payload: &Payload) -> usize {
    match payload {
        Payload::Memory(bytes) => bytes.len(),
        Payload::File { .. } => LETTER,
    }
}

pub struct Ending {
    pub end: ObservedEnd,
    /// None when the call has ended on disk already.
    pub finish: Option<Finish>,
}

impl Letter {
    /// Its call has ended with this, and not by what a replica did.
    pub fn failed(error: ErrorBody) -> Self {
        Self::Ended(Box::new(Ending { end: ObservedEnd::Failed(error), finish: None }))
    }
}

impl Letter {
    fn bytes(&self) -> usize {
        LETTER
            + match self {
                Self::Printed(text) => text.len(),
                Self::Yielded(value, _) => {
                    in_memory(&value.payload)
                        + value.files.iter().map(|file| in_memory(&file.content)).sum::<usize>()
                }
                Self::Metric(metric) => metric.value.len(),
                Self::Started { .. } | Self::Ended(_) => 0,
            }
    }
}

#[derive(Default)]
struct Mailbox {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// A task works on it.
    working: bool,
    /// Letters were thrown away.
    overflowed: bool,
}

/// Webhook events that are to be sent, of those that come more than once or early.
#[derive(Debug, Default)]
pub struct Hooks {
    pub start: bool,
    pub output: bool,
    pub logs: bool,
    /// A task sends them.
    pub sending: bool,
    /// Sent so far.
    pub count: u64,
}

pub struct Live {
    pub id: PredictionId,
    mailbox: Mutex<Mailbox>,
    /// None until it was read. It has no input.
    record: Mutex<Option<Prediction>>,
    /// Grows with each change.
    pub changed: watch::Sender<u64>,
    pub hooks: Mutex<Hooks>,
    /// Its log says that a metric was not kept.
    pub metrics_full: AtomicBool,
    /// Who wanted it canceled, and what is wrong with it although its call does not know.
    verdict: Mutex<(Option<Cause>, Option<ErrorBody>)>,
}

impl Live {
    pub fn new(id: PredictionId, record: Option<Prediction>) -> Arc<Self> {
        Arc::new(Self {
            id,
            mailbox: Mutex::default(),
            record: Mutex::new(record),
            changed: watch::Sender::new(0),
            hooks: Mutex::default(),
            metrics_full: AtomicBool::new(false),
            verdict: Mutex::default(),
        })
    }

    pub fn record(&self) -> MutexGuard<'_, Option<Prediction>> {
        self.record.lock().expect("no panic while locked")
    }

    /// Changes the record and tells who follows.
    pub fn change<T>(&self, change: impl FnOnce(&mut Prediction) -> T) -> Option<T> {
        let changed = self.record().as_mut().map(change);
        self.changed.send_modify(|count| *count += 1);
        changed
    }

    pub fn is_terminal(&self) -> bool {
        self.record().as_ref().is_some_and(|record| record.status.is_terminal())
    }

    /// The first who wants it canceled counts.
    pub fn blame(&self, cause: Cause) {
        self.verdict.lock().expect("no panic while locked").0.get_or_insert(cause);
    }

    /// It fails with this, whatever its call says at its end.
    pub fn condemn(&self, error: ErrorBody) {
        self.verdict.lock().expect("no panic while locked").1.get_or_insert(error);
    }

    pub fn verdict(&self) -> (Option<Cause>, Option<ErrorBody>) {
        self.verdict.lock().expect("no panic while locked").clone()
    }

    /// Puts a letter in. True: a task must be begun to work it off.
    fn put(&self, letter: Letter) -> bool {
        let mut mailbox = self.mailbox.lock().expect("no panic while locked");
        let bytes = letter.bytes();
        let content = matches!(letter, Letter::Printed(_) | Letter::Yielded(..) | Letter::Metric(_));
        if content && mailbox.bytes > 0 && mailbox.bytes + bytes > MAX_MAIL {
            mailbox.overflowed = true;
        } else {
            mailbox.bytes += bytes;
            match (mailbox.letters.back_mut(), letter) {
                (Some(Letter::Printed(last)), Letter::Printed(text)) => last.push_str(&text),
                (_, letter) => mailbox.letters.push_back(letter),
            }
        }
        !std::mem::replace(&mut mailbox.working, true)
    }

    /// What is in the box; None when there is nothing, and the task must end. With it: whether letters were thrown away.
    pub fn take(&self) -> Option<(VecDeque<Letter>, bool)> {
        let mut mailbox = self.mailbox.lock().expect("no panic while locked");
        let overflowed = std::mem::take(&mut mailbox.overflowed);
        if mailbox.letters.is_empty() && !overflowed {
            mailbox.working = false;
            return None;
        }
        mailbox.bytes = 0;
        Some((std::mem::take(&mut mailbox.letters), overflowed))
    }
}

/// All of them, by their calls.
#[derive(Default)]
pub struct Lives(Mutex<HashMap<CallId, Arc<Live>>>);

impl Lives {
    pub fn get(&self, id: PredictionId) -> Option<Arc<Live>> {
        self.0.lock().expect("no panic while locked").get(&id.0).cloned()
    }

    pub fn get_or_insert(&self, id: PredictionId) -> Arc<Live> {
        let mut all = self.0.lock().expect("no panic while locked");
        all.entry(id.0).or_insert_with(|| Live::new(id, None)).clone()
    }

    /// Remembers a new prediction, unless there are many already.
    pub fn remember(&self, record: Prediction) {
        let mut all = self.0.lock().expect("no panic while locked");
        if all.len() < MAX_REMEMBERED {
            all.insert(record.id.0, Live::new(record.id, Some(record)));
        }
    }

    pub fn remove(&self, id: PredictionId) {
        self.0.lock().expect("no panic while locked").remove(&id.0);
    }
}

/// Watches the engine's calls for the service.
pub struct Watcher(pub Weak<Models>);

impl Watcher {
    fn put(&self, call: CallId, letter: Letter) {
        // Without the service the process is ending: the call is found again by the next.
        if let Some(models) = self.0.upgrade() {
            models.put_letter(PredictionId(call), letter);
        }
    }
}

impl Models {
    /// Puts a letter into a prediction's box, and has it worked off.
    pub(super) fn put_letter(&self, id: PredictionId, letter: Letter) {
        let live = self.lives.get_or_insert(id);
        if live.put(letter) {
            tokio::spawn(work::work(self.me(), live));
        }
    }
}

impl Observer for Watcher {
    fn started(&self, call: CallId, attempt: u32) {
        self.put(call, Letter::Started { attempt });
    }

    fn printed(&self, call: CallId, _stream: &str, text: &str) {
        self.put(call, Letter::Printed(text.into()));
    }

    fn yielded(&self, call: CallId, value: Value, credit: Option<Credit>) {
        self.put(call, Letter::Yielded(value, credit));
    }

    fn metric(&self, call: CallId, metric: Metric) {
        self.put(call, Letter::Metric(metric));
    }

    fn ended(&self, record: CallRecord, end: ObservedEnd, finish: Finish) {
        self.put(record.id, Letter::Ended(Box::new(Ending { end, finish: Some(finish) })));
    }
}
