//! The one task that writes. What came while the last commit was on its way to the disk makes up the next one.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clunk_core::id::{AppId, FunctionId};
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::changes::Noted;
use super::jobs::Job;
use super::models::predictions;
use super::{changes, failed, rows, submit, transaction};
use crate::calls::{Done, Submission, Submitted};
use crate::models::PredictionWrite;
use crate::store::StoreError;

/// How long changes that nobody waits for gather company before they are committed.
const GROUP_COMMIT: Duration = Duration::from_millis(20);
/// Calls of one commit, about: it is over in some tenths of a second, and its pages fit in SQLite's cache.
const MAX_COMMIT: usize = 16_384;
/// Changes that may wait for the disk before [`crate::Store::behind`] says so: some seconds of the engine's fastest work.
const MAX_BEHIND: usize = 50_000;
/// The same in bytes held in memory.
const MAX_BEHIND_BYTES: usize = 64 << 20;
/// Waits after a failed commit: doubled each time, from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Functions whose numbers are kept in memory; beyond it they are looked up again.
const MAX_FUNCTIONS: usize = 10_000;

pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub enum Write {
    Submit(Submission, Answer<Submitted>),
    Prediction(PredictionWrite, Option<Answer<()>>),
    Change(Noted, Option<Done>),
    Flush(Answer<()>),
    Job(Job),
}

/// What waits for the writer. Submissions, flushes and jobs are bounded by those who wait for their answers, changes by
/// [`crate::Store::behind`].
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Changes not on disk yet, here or in the writer's hands, and the bytes they hold.
    changes: AtomicUsize,
    bytes: AtomicUsize,
    caught_up: Notify,
}

#[derive(Default)]
struct Waiting {
    writes: VecDeque<Write>,
    /// No more will come: the writer finishes what is here.
    closed: bool,
    /// The writer has ended: nothing is taken any more.
    ended: bool,
}

impl Inbox {
    /// What comes when the writer has ended is dropped, and whoever waits for its answer learns that.
    pub fn push(&self, write: Write) {
        if let Write::Change(noted, _) = &write {
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(noted.bytes, Ordering::Relaxed);
        }
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        if !waiting.ended {
            waiting.writes.push_back(write);
            drop(waiting);
            self.wake.notify_one();
        }
    }

    pub fn close(&self) {
        self.waiting.lock().expect("no panic while locked").closed = true;
        self.wake.notify_one();
    }

    pub fn behind(&self) -> bool {
        self.is_over(MAX_BEHIND, MAX_BEHIND_BYTES)
    }

    /// Waits until half of the bound is free, so that work does not start and stop with each commit.
    pub async fn caught_up(&self) {
        if !self.behind() {
            return;
        }
        loop {
            let notified = self.caught_up.notified();
            if !self.is_over(MAX_BEHIND / 2, MAX_BEHIND_BYTES / 2) {
                return;
            }
            notified.await;
        }
    }

    fn is_over(&self, changes: usize, bytes: usize) -> bool {
        self.changes.load(Ordering::Relaxed) >= changes || self.bytes.load(Ordering::Relaxed) >= bytes
    }

    /// So many changes need the disk no more.
    fn settled(&self, changes: usize, bytes: usize) {
        self.changes.fetch_sub(changes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.caught_up.notify_waiters();
    }

    /// Moves what waits into the group, up to the first job and the bound of a commit. False when no more will come.
    fn take(&self, group: &mut Group) -> bool {
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        while group.job.is_none() && group.calls < MAX_COMMIT {
            match waiting.writes.pop_front() {
                Some(Write::Submit(submission, answer)) => {
                    group.calls += submission.calls.len().max(1);
                    group.submissions.push(submission);
                    group.answers.push(answer);
                }
                Some(Write::Prediction(write, answer)) => {
                    group.calls += 1;
                    group.urgent |= answer.is_some();
                    group.predictions.push((write, answer));
                }
                Some(Write::Change(noted, done)) => {
                    group.calls += 1;
                    group.dones.extend(done.map(|done| (group.changes.len(), done)));
                    group.changes.push(noted);
                }
                Some(Write::Flush(answer)) => group.flushes.push(answer),
                Some(Write::Job(job)) => group.job = Some(job),
                None => return !waiting.closed,
            }
        }
        true
    }
}

/// What is committed together, then the job that came behind it.
#[derive(Default)]
struct Group {
    submissions: Vec<Submission>,
    answers: Vec<Answer<Submitted>>,
    predictions: Vec<(PredictionWrite, Option<Answer<()>>)>,
    /// One of the predictions is waited for.
    urgent: bool,
    changes: Vec<Noted>,
    /// Of the changes at these places.
    dones: Vec<(usize, Done)>,
    flushes: Vec<Answer<()>>,
    job: Option<Job>,
    /// Calls taken from the inbox, not those kept from a failed commit.
    calls: usize,
}

impl Group {
    fn is_urgent(&self) -> bool {
        let answers = self.dones.len() + self.answers.len() + self.flushes.len();
        answers > 0 || self.urgent || self.job.is_some()
    }
}

/// What the writer knows without asking the database; only what was committed, or is unused.
pub struct Known {
    functions: HashMap<FunctionId, (i64, AppId)>,
    /// The next in the order of arrival.
    pub seq: u64,
    pub result: i64,
}

impl Known {
    pub async fn load(connection: &mut SqliteConnection) -> Result<Self, StoreError> {
        let failed = failed("read counters");
        let row =
            sqlx::query("SELECT seq, result FROM counters").fetch_one(connection).await.map_err(failed)?;
        Ok(Self { functions: HashMap::new(), seq: rows::number(&row, "seq"), result: row.get("result") })
    }

    pub async fn save(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let query = sqlx::query("UPDATE counters SET seq = ?, result = ?");
        query.bind(self.seq as i64).bind(self.result).execute(connection).await.map(drop)
    }

    /// The number of a function, and its app.
    pub async fn function(
        &mut self,
        connection: &mut SqliteConnection,
        id: FunctionId,
    ) -> Result<(i64, AppId), StoreError> {
        if let Some(known) = self.functions.get(&id) {
            return Ok(*known);
        }
        let row = sqlx::query("SELECT number, app FROM functions WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(connection)
            .await
            .map_err(failed("read function"))?
            .ok_or(StoreError::UnknownFunction(id))?;
        let found = (row.get("number"), rows::text_id(&row, "app")?);
        if self.functions.len() >= MAX_FUNCTIONS {
            self.functions.clear();
        }
        self.functions.insert(id, found);
        Ok(found)
    }
}

pub struct Writer {
    pub path: PathBuf,
    pub connection: SqliteConnection,
    pub known: Known,
    pub inbox: Arc<Inbox>,
}

/// Tells those who wait that no answer will come, also when the writer panicked.
struct Farewell(Arc<Inbox>);

impl Drop for Farewell {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().expect("no panic while locked");
        waiting.ended = true;
        waiting.writes.clear();
    }
}

impl Writer {
    pub async fn run(mut self) {
        let _farewell = Farewell(self.inbox.clone());
        let mut kept = Vec::new();
        let mut failures = 0u32;
        loop {
            let retry = (!kept.is_empty()).then(|| Instant::now() + back_off(failures));
            let mut group = Group { changes: std::mem::take(&mut kept), ..Group::default() };
            let open = self.gather(&mut group, retry).await;
            let job = group.job.take();
            kept = self.commit(group).await;
            failures = if kept.is_empty() { 0 } else { failures.saturating_add(1) };
            match failures {
                0 => {}
                // Said once; what follows is the same.
                1 => tracing::error!(
                    changes = kept.len(),
                    "the store cannot write; changes are kept in memory"
                ),
                _ => tracing::debug!(changes = kept.len(), failures, "the store still cannot write"),
            }
            if let Some(job) = job {
                job.run(&mut self).await;
            }
            if !open {
                break;
            }
        }
        if !kept.is_empty() {
            tracing::error!(changes = kept.len(), "the store ended with changes that the disk refused");
        }
        let _ = self.connection.close().await;
    }

    /// Fills the group until it is worth a commit. False when no more will come.
    async fn gather(&self, group: &mut Group, retry: Option<Instant>) -> bool {
        let mut deadline = retry;
        loop {
            if !self.inbox.take(group) {
                return false;
            }
            if group.is_urgent() || (retry.is_none() && group.calls >= MAX_COMMIT) {
                return true;
            }
            if group.calls > 0 && deadline.is_none() {
                deadline = Some(Instant::now() + GROUP_COMMIT);
            }
            // A full group that is tried again later takes no more.
            let full = group.calls >= MAX_COMMIT;
            match deadline {
                Some(deadline) if full => return wait_until(deadline).await,
                Some(deadline) => tokio::select! {
                    () = self.inbox.wake.notified() => {}
                    () = tokio::time::sleep_until(deadline) => return true,
                },
                None => self.inbox.wake.notified().await,
            }
        }
    }

    /// Commits the group, and answers. Gives back changes that the disk refused.
    async fn commit(&mut self, group: Group) -> Vec<Noted> {
        let predictions: Vec<_> = group.predictions.iter().map(|(write, _)| write).collect();
        let outcome = match self.attempt(&predictions, &group.submissions, &group.changes).await {
            Ok(submitted) => Outcome {
                predictions: predictions.iter().map(|_| Ok(())).collect(),
                submitted,
                fates: vec![Fate::Recorded; group.changes.len()],
                error: None,
            },
            Err(error) if is_of_data(&error) => {
                self.one_by_one(&predictions, &group.submissions, &group.changes).await
            }
            Err(error) => {
                tracing::debug!(%error, "a commit failed");
                let error = Arc::new(super::named(error, &self.path));
                let refused = || StoreError::Shared(error.clone());
                Outcome {
                    predictions: predictions.iter().map(|_| Err(refused())).collect(),
                    submitted: group.submissions.iter().map(|_| Err(refused())).collect(),
                    fates: vec![Fate::Kept; group.changes.len()],
                    error: Some(error),
                }
            }
        };
        for ((write, answer), result) in group.predictions.into_iter().zip(outcome.predictions) {
            match answer {
                Some(answer) => drop(answer.send(result.map_err(|error| super::named(error, &self.path)))),
                None => drop(result.inspect_err(|error| {
                    tracing::debug!(prediction = %write.id(), %error, "a prediction was not noted");
                })),
            }
        }
        for (answer, result) in group.answers.into_iter().zip(outcome.submitted) {
            let _ = answer.send(result.map_err(|error| super::named(error, &self.path)));
        }
        for (place, done) in group.dones {
            done(if outcome.fates[place] == Fate::Recorded { Ok(()) } else { Err(()) });
        }
        let mut kept = Vec::new();
        let (mut settled, mut bytes) = (0, 0);
        for (noted, fate) in group.changes.into_iter().zip(outcome.fates) {
            if fate == Fate::Kept {
                kept.push(noted);
            } else {
                settled += 1;
                bytes += noted.bytes;
            }
        }
        self.inbox.settled(settled, bytes);
        for answer in group.flushes {
            let _ = answer.send(outcome.error.clone().map_or(Ok(()), |error| Err(StoreError::Shared(error))));
        }
        kept
    }

    /// One transaction: all predictions, all submissions that can be accepted, and all changes.
    async fn attempt(
        &mut self,
        predictions: &[&PredictionWrite],
        submissions: &[Submission],
        changes: &[Noted],
    ) -> Result<Vec<Result<Submitted, StoreError>>, StoreError> {
        if predictions.is_empty() && submissions.is_empty() && changes.is_empty() {
            return Ok(Vec::new());
        }
        transaction::begin(&mut self.connection).await?;
        let written = self.write(predictions, submissions, changes).await;
        transaction::end(&mut self.connection, written).await
    }

    async fn write(
        &mut self,
        predictions: &[&PredictionWrite],
        submissions: &[Submission],
        changes: &[Noted],
    ) -> Result<Vec<Result<Submitted, StoreError>>, StoreError> {
        predictions::write(&mut self.connection, predictions).await?;
        let submitted = submit::write(&mut self.connection, &mut self.known, submissions).await?;
        changes::write(&mut self.connection, &mut self.known, changes).await?;
        self.known.save(&mut self.connection).await.map_err(failed("save counters"))?;
        Ok(submitted)
    }

    /// Finds what the database will never take, such as an id that exists, so that it does not hold up the rest.
    async fn one_by_one(
        &mut self,
        predictions: &[&PredictionWrite],
        submissions: &[Submission],
        changes: &[Noted],
    ) -> Outcome {
        let mut outcome =
            Outcome { predictions: Vec::new(), submitted: Vec::new(), fates: Vec::new(), error: None };
        for write in predictions {
            outcome.predictions.push(self.attempt(&[*write], &[], &[]).await.map(drop));
        }
        for submission in submissions {
            let one = self.attempt(&[], std::slice::from_ref(submission), &[]).await;
            outcome.submitted.push(one.and_then(|mut one| one.pop().unwrap_or(Err(StoreError::Closed))));
        }
        for noted in changes {
            outcome.fates.push(match self.attempt(&[], &[], std::slice::from_ref(noted)).await {
                Ok(_) => Fate::Recorded,
                Err(error) if is_of_data(&error) => {
                    tracing::error!(call = %noted.record.id, %error, "a change cannot be recorded and is dropped");
                    Fate::Dropped
                }
                Err(error) => {
                    outcome.error = Some(Arc::new(error));
                    Fate::Kept
                }
            });
        }
        outcome
    }
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Recorded,
    /// The database will never take it.
    Dropped,
    /// The disk refused it for now.
    Kept,
}

struct Outcome {
    predictions: Vec<Result<(), StoreError>>,
    submitted: Vec<Result<Submitted, StoreError>>,
    fates: Vec<Fate>,
    error: Option<Arc<StoreError>>,
}

async fn wait_until(deadline: Instant) -> bool {
    tokio::time::sleep_until(deadline).await;
    true
}

fn back_off(failures: u32) -> Duration {
    let doubled = BACK_OFF.0.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(BACK_OFF.1)
}

/// Whether what was to be written is at fault, not the disk: SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, or a
/// record that does not fit.
fn is_of_data(error: &StoreError) -> bool {
    match error {
        StoreError::Query { source, .. } => {
            let code = source.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
            code.is_some_and(|code| matches!(code & 0xff, 18..=20))
        }
        StoreError::Record(_) | StoreError::UnknownFunction(_) | StoreError::UnknownBatch(_) => true,
        StoreError::Open { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Newer { .. }
        | StoreError::Closed
        | StoreError::Shared(_)
        | StoreError::File { .. }
        | StoreError::Mismatch(_) => false,
    }
}
