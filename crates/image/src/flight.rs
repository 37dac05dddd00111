//! The same work asked for twice at once is done once: later askers wait, see its log live, and get its result.
//! When nobody waits any more the work is dropped.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use clunk_core::Digest;
use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::{BuildEvent, ImageError};

/// Lines kept for those who join late or read slowly; a build log beyond that is seldom read from its start.
const KEPT_LINES: usize = 2000;

/// Bytes of one line; what is longer is a progress bar or a minified file.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Where work writes its log lines. Cheap to clone, never blocks.
#[derive(Clone)]
pub(crate) struct Log(Arc<LogState>);

struct LogState {
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Lines {
    /// Number of the first line kept.
    first: usize,
    kept: VecDeque<Arc<str>>,
}

impl Log {
    pub fn new() -> Self {
        Self(Arc::new(LogState { lines: Mutex::default(), changed: watch::channel(()).0 }))
    }

    pub fn line(&self, text: &str) {
        let cut = text.len().min(MAX_LINE_BYTES);
        let end = (0..=cut).rfind(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut lines = self.0.lines.lock().expect("no panic while held");
        lines.kept.push_back(text[..end].into());
        if lines.kept.len() > KEPT_LINES {
            lines.kept.pop_front();
            lines.first += 1;
        }
        drop(lines);
        self.0.changed.send_replace(());
    }

    /// The lines from number `next` on, how many before them are lost, and the number of the next line to come.
    fn since(&self, next: usize) -> (Vec<Arc<str>>, usize, usize) {
        let lines = self.0.lines.lock().expect("no panic while held");
        let start = next.max(lines.first);
        let found = lines.kept.iter().skip(start - lines.first).cloned().collect();
        (found, start - next, lines.first + lines.kept.len())
    }
}

/// One piece of work that goes on. Dropping the last handle aborts it.
struct Flight<T> {
    log: Log,
    result: Arc<OnceLock<Result<T, ImageError>>>,
    task: OnceLock<AbortHandle>,
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Work in progress by key.
pub(crate) struct Flights<T>(Mutex<HashMap<Digest, Weak<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Does the work, or joins who does it already. Log lines go to `events`, whose reader slows only this caller.
    pub async fn join<F>(
        &self,
        key: Digest,
        events: &mpsc::Sender<BuildEvent>,
        work: impl FnOnce(Log) -> F,
    ) -> Result<T, ImageError>
    where
        F: Future<Output = Result<T, ImageError>> + Send + 'static,
    {
        let (flight, joined) = self.find_or_start(key, work);
        if joined {
            let title = "another build of the same step".into();
            let _ = events.send(BuildEvent::Waiting { title }).await;
        }
        let mut changed = flight.log.0.changed.subscribe();
        let mut next = 0;
        loop {
            let result = flight.result.get().cloned();
            let (lines, lost, after) = flight.log.since(next);
            next = after;
            if lost > 0 {
                let text = format!("({lost} lines left out)");
                let _ = events.send(BuildEvent::Log { text }).await;
            }
            for line in lines {
                let _ = events.send(BuildEvent::Log { text: line.to_string() }).await;
            }
            if let Some(result) = result {
                return result;
            }
            if changed.changed().await.is_err() {
                return Err(ImageError::Internal("the build's log went away".into()));
            }
        }
    }

    fn find_or_start<F>(&self, key: Digest, work: impl FnOnce(Log) -> F) -> (Arc<Flight<T>>, bool)
    where
        F: Future<Output = Result<T, ImageError>> + Send + 'static,
    {
        let mut flights = self.0.lock().expect("no panic while held");
        let going = flights.get(&key).and_then(Weak::upgrade).filter(|flight| flight.result.get().is_none());
        if let Some(flight) = going {
            return (flight, true);
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let log = Log::new();
        let result = Arc::new(OnceLock::new());
        let flight = Arc::new(Flight { log: log.clone(), result: result.clone(), task: OnceLock::new() });
        let future = work(log.clone());
        let task = tokio::spawn(async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            let outcome =
                outcome.unwrap_or_else(|_| Err(ImageError::Internal("a build step panicked".into())));
            let _ = result.set(outcome);
            log.0.changed.send_replace(());
        });
        let _ = flight.task.set(task.abort_handle());
        flights.insert(key, Arc::downgrade(&flight));
        (flight, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn two_askers_one_work_and_both_see_the_log() {
        let flights = Flights::<usize>::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let (go, wait) = tokio::sync::watch::channel(false);
        let ask = || async {
            let (events, mut seen) = mpsc::channel(16);
            let (runs, mut wait) = (runs.clone(), wait.clone());
            let work = move |log: Log| async move {
                log.line("hello");
                let _ = wait.wait_for(|go| *go).await;
                Ok(runs.fetch_add(1, Ordering::SeqCst))
            };
            let result = flights.join(Digest::of("a"), &events, work).await;
            let mut texts = Vec::new();
            while let Ok(event) = seen.try_recv() {
                texts.extend(if let BuildEvent::Log { text } = event { Some(text) } else { None });
            }
            (result.unwrap(), texts)
        };
        let release = async {
            tokio::task::yield_now().await;
            go.send(true).unwrap();
        };
        let (one, two, ()) = tokio::join!(ask(), ask(), release);
        assert_eq!(one, (0, vec!["hello".to_string()]));
        assert_eq!(two, one);
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_dropped() {
        struct Flag(mpsc::Sender<()>);
        impl Drop for Flag {
            fn drop(&mut self) {
                let _ = self.0.try_send(());
            }
        }
        let flights = Flights::<()>::default();
        let (events, _seen) = mpsc::channel(16);
        let (gone, mut was_dropped) = mpsc::channel(1);
        let join = flights.join(Digest::of("a"), &events, |_| async move {
            let _flag = Flag(gone);
            std::future::pending().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), join).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), was_dropped.recv()).await.unwrap();
    }
}
