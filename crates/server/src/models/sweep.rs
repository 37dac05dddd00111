//! What time brings: deadlines, files that expire, data that is kept no longer, releases that are over; and what a killed
//! server left.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clunk_agent::replica::now_ms;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Cause, Prediction, PredictionId, Status};
use clunk_store::models::PredictionWrite;
use tokio::sync::Notify;

use super::live::Letter;
use super::{ModelSort, Models};
use crate::answer::store_error;
use crate::engine::durable;

/// How often files and data are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// Files, or predictions, of one step between which others may write.
const STEP: u32 = 256;
/// Predictions that are read at a time after a start.
const PAGE: u32 = 1000;
/// How long the keeper of deadlines sleeps when there is none.
const IDLE: Duration = Duration::from_secs(3600);
/// Input, output, logs and files of predictions are kept for so long, counted from their end.
const KEEP_DATA: Duration = Duration::from_secs(7 * 86_400);
/// The same in seconds, for those who want another time.
const KEEP_VARIABLE: &str = "CLUNK_KEEP_PREDICTIONS_S";

/// When predictions are to be canceled.
#[derive(Default)]
pub struct Deadlines {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    by_time: BTreeSet<(u64, PredictionId)>,
    by_id: HashMap<PredictionId, u64>,
}

impl Deadlines {
    pub fn add(&self, deadline_ms: u64, id: PredictionId) {
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        waiting.by_time.insert((deadline_ms, id));
        waiting.by_id.insert(id, deadline_ms);
        drop(waiting);
        self.changed.notify_one();
    }

    pub fn remove(&self, id: PredictionId) {
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        if let Some(deadline_ms) = waiting.by_id.remove(&id) {
            waiting.by_time.remove(&(deadline_ms, id));
        }
    }

    /// One that is over by now, taken out, or how long none will be.
    fn next(&self, now_ms: u64) -> Result<PredictionId, Duration> {
        let mut waiting = self.waiting.lock().expect("no panic while locked");
        let Some((deadline_ms, id)) = waiting.by_time.first().copied() else { return Err(IDLE) };
        if deadline_ms > now_ms {
            return Err(Duration::from_millis(deadline_ms - now_ms).min(IDLE));
        }
        waiting.by_time.pop_first();
        waiting.by_id.remove(&id);
        Ok(id)
    }
}

/// Cancels what has reached its deadline, until the server stops.
pub async fn keep_deadlines(models: Arc<Models>) {
    loop {
        match models.deadlines.next(now_ms()) {
            Ok(id) => {
                if let Err(error) = models.cancel_for(id, Cause::Deadline).await {
                    tracing::warn!(prediction = %id, %error, "a prediction could not be canceled in time");
                }
            }
            Err(wait) => tokio::select! {
                () = models.deadlines.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                () = models.stopping.cancelled() => return,
            },
        }
    }
}

fn keep_data() -> Duration {
    let said = std::env::var(KEEP_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
    said.map_or(KEEP_DATA, Duration::from_secs)
}

/// Removes what is kept no longer, until the server stops.
pub async fn sweep(models: Arc<Models>) {
    let keep_ms = keep_data().as_millis() as u64;
    loop {
        if let Err(error) = models.sweep_once(keep_ms).await {
            tracing::error!(%error, "could not remove old data of predictions");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = models.stopping.cancelled() => return,
        }
    }
}

impl Models {
    pub(super) async fn sweep_once(&self, keep_ms: u64) -> Result<(), ErrorBody> {
        let now = now_ms();
        let failed = |error: clunk_store::StoreError| store_error(&error);
        while self.store.expire_files(now, STEP).await.map_err(failed)? == u64::from(STEP) {}
        let before = now.saturating_sub(keep_ms);
        while self.store.remove_data(before, STEP).await.map_err(failed)? == u64::from(STEP) {}
        let mut cursor = None;
        loop {
            let page = self.deployments(cursor.as_deref(), STEP).await?;
            for listed in &page.results {
                let _alone = self.pushing.lock().await;
                // Its releases may have changed since the list was read.
                match self.deployment(&listed.name).await {
                    Ok(deployment) => self.settle_releases(&deployment).await,
                    Err(error) if error.code == ErrorCode::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Compares those predictions that have not ended with their calls. For the start of a server, and whenever calls were
    /// ended on disk.
    pub async fn reconcile(&self, concerns: impl Fn(&Prediction) -> bool) -> Result<(), ErrorBody> {
        let mut after = None;
        loop {
            let found = self.store.unfinished_predictions(after, PAGE).await;
            let found = found.map_err(|error| store_error(&error))?;
            after = found.last().map(|record| record.id);
            let last = found.len() < PAGE as usize;
            for record in found.into_iter().filter(&concerns) {
                self.reconcile_one(record).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn reconcile_one(&self, record: Prediction) -> Result<(), ErrorBody> {
        let id = record.id;
        let call = self.engine.store.call(id.0).await.map_err(|error| store_error(&error))?;
        let error = match &call {
            None if now_ms().saturating_sub(record.created_ms) < SUBMIT_LIMIT_MS && self.is_started() => {
                return Ok(());
            }
            None => ErrorBody::new(ErrorCode::Internal, "the server was killed before it had accepted this"),
            Some(call) if call.ended_ms.is_some() => ended_error(call.error.as_deref()),
            Some(call) if self.engine.function(call.function_id).is_none() => {
                durable::cancel_on_disk(&self.engine, call.clone());
                super::catalogue::not_served(record.version)
            }
            Some(_) => {
                self.go_on(record);
                return Ok(());
            }
        };
        self.put_letter(id, Letter::failed(error));
        Ok(())
    }

    /// Its call waits, and will be run.
    fn go_on(&self, mut record: Prediction) {
        if let Some(deadline_ms) = record.deadline_ms {
            self.deadlines.add(deadline_ms, record.id);
        }
        if record.status == Status::Processing && self.lives.get(record.id).is_none() {
            record.status = Status::Starting;
            let record = Box::new(record);
            self.store.note_prediction(PredictionWrite::Update {
                record,
                output: None,
                webhook_due_ms: None,
            });
        }
    }

    /// Has models and deployments keep warm what they should.
    pub(super) async fn scale_all(&self) -> Result<(), ErrorBody> {
        let mut cursor = None;
        loop {
            let page = self.models(ModelSort::Created, false, cursor.as_deref(), STEP).await?;
            for model in &page.results {
                // One that cannot be served must not keep the others cold.
                if let Err(error) = self.scale(model).await {
                    tracing::warn!(model = %model.name, %error, "a model's instances could not be set");
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

/// How long a prediction may be on disk without its call, while both are being written.
const SUBMIT_LIMIT_MS: u64 = 60_000;

/// As the call's record has it: code and text.
fn ended_error(said: Option<&str>) -> ErrorBody {
    let said = said.unwrap_or("internal: the call has ended without a word");
    let (code, text) = said.split_once(": ").unwrap_or(("internal", said));
    ErrorBody::new(code.parse().unwrap_or(ErrorCode::Internal), text)
}
