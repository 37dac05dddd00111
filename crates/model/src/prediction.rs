//! One prediction, or training: a record under a lock of its own, and whoever waits for it.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use clunk_agent::{Payload, Raised, Value};

use crate::life::{self, Action, Event, State};
use crate::record::{Constant, Json, Output, Record};
use crate::request::Asked;

pub struct Prediction {
    pub id: String,
    /// Control text of its call.
    pub control: String,
    /// Bytes of its arguments.
    pub size: u64,
    /// The input as answers may show it.
    shown: Option<Bytes>,
    fingerprint: Option<u64>,
    version: Option<Arc<str>>,
    inner: Mutex<Inner>,
}

struct Inner {
    record: Record,
    /// The arguments, until it has ended.
    payload: Option<Payload>,
    dispatched: Option<Instant>,
    /// Connections that wait for it or are told of it.
    attached: u32,
    /// It goes on when nobody is attached.
    detached: bool,
    /// Names of files that were uploaded, and how often.
    files: HashMap<String, u32>,
    /// Parts of its output that wait for a task that brings them where they belong, while there is one.
    outbox: Option<VecDeque<Part>>,
}

/// Something that a model gave.
pub enum Part {
    Chunk(Value),
    /// The output, or the end of what an iterator gave.
    Whole(Value),
    Raised(Raised),
}

impl Prediction {
    pub fn new(
        id: String,
        asked: &Asked,
        payload: Payload,
        history: usize,
        version: Option<Arc<str>>,
        detached: bool,
    ) -> Arc<Self> {
        let record = Record::new(SystemTime::now(), history);
        let size = payload.len();
        let inner = Inner {
            record,
            payload: Some(payload),
            dispatched: None,
            attached: 0,
            detached,
            files: HashMap::new(),
            outbox: None,
        };
        let control = asked.carried.as_ref().map(|carried| format!("text={}\n", carried.len));
        let control = control.unwrap_or_default();
        Arc::new(Self {
            id,
            control,
            size,
            shown: asked.shown.clone(),
            fingerprint: asked.fingerprint,
            version,
            inner: Mutex::new(inner),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while locked")
    }

    /// Looks at the record, without changing what others wait for.
    pub fn look<T>(&self, look: impl FnOnce(&mut Record) -> T) -> T {
        look(&mut self.inner().record)
    }

    /// Changes the record and wakes whoever waits for that.
    pub fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let (result, wakers) = {
            let mut inner = self.inner();
            let result = change(&mut inner.record);
            (result, inner.record.changed())
        };
        wakers.into_iter().for_each(std::task::Waker::wake);
        result
    }

    /// Makes a step of its life; None when it comes too late. `with` notes what belongs to it under the same lock.
    pub fn step(&self, event: Event, with: impl FnOnce(&mut Record)) -> Option<Action> {
        let (action, wakers, payload) = {
            let mut inner = self.inner();
            let (state, action) = life::apply(inner.record.state, event).ok()?;
            inner.record.state = state;
            match action {
                Action::Finish(_) => {
                    let took = inner.dispatched.map(|since| since.elapsed());
                    let record = &mut inner.record;
                    record.took = record.took.or(took);
                    record.completed = Some(SystemTime::now());
                    inner.files = HashMap::new();
                }
                Action::Requeue => {
                    inner.dispatched = None;
                    inner.record.begin_again();
                }
                Action::Nothing if event == Event::Dispatched => {
                    inner.dispatched = Some(Instant::now());
                    inner.record.started = Some(SystemTime::now());
                }
                Action::Nothing | Action::Interrupt => {}
            }
            with(&mut inner.record);
            let payload = if state.is_ended() { inner.payload.take() } else { None };
            (action, inner.record.changed(), payload)
        };
        // Megabytes are freed with no lock held.
        drop(payload);
        wakers.into_iter().for_each(std::task::Waker::wake);
        Some(action)
    }

    /// Its process says that its code has begun, also when it was canceled at that moment, as one that still waited.
    pub fn has_run(&self) {
        self.look(|record| record.started = record.started.or(record.completed));
    }

    /// Its processing has ended, though its output may not be where it belongs. How long it took.
    pub fn stop_clock(&self) -> Option<Duration> {
        let mut inner = self.inner();
        inner.record.took = inner.dispatched.map(|since| since.elapsed());
        inner.record.took
    }

    /// Gives a part to the task that delivers them in order. The part comes back when there is none.
    pub fn post(&self, part: Part) -> Option<Part> {
        match &mut self.inner().outbox {
            Some(outbox) => {
                outbox.push_back(part);
                None
            }
            None => Some(part),
        }
    }

    /// The caller delivers parts from now on, beginning with this one.
    pub fn open_outbox(&self, part: Part) {
        self.inner().outbox = Some(VecDeque::from([part]));
    }

    /// The next part to deliver; None closes the outbox.
    pub fn next_part(&self) -> Option<Part> {
        let mut inner = self.inner();
        let part = inner.outbox.as_mut().and_then(VecDeque::pop_front);
        if part.is_none() {
            inner.outbox = None;
        }
        part
    }

    /// The name of a file to upload: its own, or one that no other file of this prediction has.
    pub fn name_file(&self, name: &str) -> String {
        let files = &mut self.inner().files;
        let (stem, ending) = match name.rfind('.') {
            Some(dot) if dot > 0 => name.split_at(dot),
            _ => (name, ""),
        };
        let mut own = name.to_owned();
        while files.contains_key(&own) {
            let count = files.entry(name.to_owned()).or_default();
            *count += 1;
            own = format!("{stem}-{count}{ending}");
        }
        files.insert(own.clone(), 0);
        own
    }

    /// Returns when it was canceled, or has ended otherwise.
    pub async fn unwanted(&self) {
        self.when(|state| state.is_canceling() || state.is_ended()).await;
    }

    pub fn payload(&self) -> Option<Payload> {
        self.inner().payload.clone()
    }

    pub fn json(&self) -> Json {
        self.json_of(&self.inner().record)
    }

    /// As [`Prediction::json`], from within [`Prediction::look`].
    pub fn json_of(&self, record: &Record) -> Json {
        let (shown, version) = (self.shown.as_ref(), self.version.as_deref());
        record.json(&Constant { id: &self.id, shown, version })
    }

    /// Whether something asked for is this.
    pub fn is_of(&self, asked: &Asked) -> bool {
        asked.fingerprint.is_some() && self.fingerprint == asked.fingerprint
    }

    /// Whether nothing of its output was given yet, nor is on its way.
    pub fn is_fresh(&self) -> bool {
        let inner = self.inner();
        matches!(inner.record.output, Output::None) && inner.outbox.is_none()
    }

    pub fn is_ended(&self) -> bool {
        self.inner().record.state.is_ended()
    }

    /// About how many bytes it keeps in memory.
    pub fn weight(&self) -> usize {
        let inner = self.inner();
        1024 + inner.record.weight() + self.shown.as_ref().map_or(0, Bytes::len)
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        self.when(State::is_ended).await;
    }

    async fn when(&self, condition: impl Fn(State) -> bool) {
        poll_fn(|context| {
            let mut inner = self.inner();
            if condition(inner.record.state) {
                return Poll::Ready(());
            }
            inner.record.watch(context.waker());
            Poll::Pending
        })
        .await
    }

    /// As [`Prediction::ended`], for so long at most.
    pub async fn ended_within(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.ended()).await;
    }

    /// It goes on without anybody attached from now on.
    pub fn detach(&self) {
        self.inner().detached = true;
    }

    /// One connection more waits for it. False: there are that many already.
    pub fn attach(&self, most: u32) -> bool {
        let mut inner = self.inner();
        let room = inner.attached < most;
        inner.attached += u32::from(room);
        room
    }

    /// One connection less. True: nobody waits any more for what still runs and was to be waited for.
    pub fn leave(&self) -> bool {
        let mut inner = self.inner();
        inner.attached -= 1;
        inner.attached == 0 && !inner.detached && !inner.record.state.is_ended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_canceled_as_it_began_says_that_it_did() {
        let payload = Payload::from(&b""[..]);
        let prediction = Prediction::new("id".into(), &Asked::default(), payload, 0, None, false);
        prediction.step(Event::CancelAsked, |_| ());
        prediction.has_run();
        assert!(prediction.look(|record| record.started.is_some() && record.started == record.completed));
    }
}
