//! Predictions: create, read, list, wait, cancel.

use std::sync::Arc;
use std::time::Duration;

use clunk_agent::Payload;
use clunk_agent::replica::now_ms;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{CallId, FunctionId};
use clunk_core::model::{Cause, Kind, ModelName, Page, Prediction, PredictionId, Source, Status, Webhook};
use clunk_store::INLINE_MAX_STORED;
use clunk_store::models::{ListKey, PredictionQuery, PredictionWrite, StoredPrediction};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::catalogue::Loaded;
use super::lists::{self, MAX_LISTED};
use super::live::{Letter, Live};
use super::{Models, NewPrediction, PredictionFilter, Refusal, Target, outputs, targets, work};
use crate::answer::{not_found, store_error};
use crate::engine::durable;

/// How long a cancellation may take before its caller is told how it stands.
const CANCEL_PATIENCE: Duration = Duration::from_millis(500);

/// A prediction where it is.
pub enum Found {
    /// It has not ended.
    Live(Arc<Live>),
    Over(Box<Prediction>),
}

/// What is asked for, once it is known what it runs.
pub struct Accepted {
    pub kind: Kind,
    pub loaded: Arc<Loaded>,
    pub function: FunctionId,
    pub deployment: Option<(ModelName, u32)>,
    pub destination: Option<ModelName>,
    pub input: Value,
    pub context: Map<String, Value>,
    pub source: Source,
    pub webhook: Option<Webhook>,
    pub cancel_after: Option<Duration>,
    pub base_url: String,
}

impl Accepted {
    fn record(&self) -> Prediction {
        let created_ms = now_ms();
        Prediction {
            id: PredictionId(CallId::fresh()),
            kind: self.kind,
            model: self.loaded.version.model.clone(),
            version: self.loaded.version.id,
            deployment: self.deployment.clone(),
            source: self.source,
            input: Value::Null,
            context: self.context.clone(),
            output: None,
            logs: String::new(),
            error: None,
            status: Status::Starting,
            created_ms,
            started_ms: None,
            completed_ms: None,
            metrics: Map::new(),
            webhook: self.webhook.clone(),
            deadline_ms: self.cancel_after.map(|after| created_ms + after.as_millis() as u64),
            data_removed: false,
            base_url: self.base_url.clone(),
            destination: self.destination.clone(),
            trained: None,
        }
    }
}

/// What is in memory counts, unless the disk has the end already.
fn overlay(prediction: &mut Prediction, live: &Live) {
    let record = live.record();
    if let Some(record) = record.as_ref().filter(|_| !prediction.status.is_terminal()) {
        let input = std::mem::take(&mut prediction.input);
        *prediction = Prediction { input, ..record.clone() };
    }
}

/// The same without what is large.
fn overlay_listed(prediction: &mut Prediction, live: &Live) {
    let mut locked = live.record();
    let Some(record) = locked.as_mut().filter(|_| !prediction.status.is_terminal()) else { return };
    let logs = (record.logs.len() > INLINE_MAX_STORED).then(|| std::mem::take(&mut record.logs));
    let mut room = INLINE_MAX_STORED;
    let output = record.output.take_if(|output| !fits(&output.value, &mut room));
    let input = std::mem::take(&mut prediction.input);
    *prediction = Prediction { input, ..record.clone() };
    if let Some(logs) = logs {
        record.logs = logs;
    }
    if output.is_some() {
        record.output = output;
    }
}

/// Whether a value takes about so many bytes at most; it is looked at no further than that.
fn fits(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        Value::Object(members) => members.keys().map(String::len).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => 8,
    };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, left)),
        Value::Object(members) => members.values().all(|member| fits(member, left)),
        _ => true,
    }
}

impl Models {
    /// Accepts a prediction: it is on disk when this returns, and ends whatever happens to this server.
    pub async fn create(&self, new: NewPrediction) -> Result<Prediction, Refusal> {
        let (loaded, deployment, function) = self.resolve(&new.target).await?;
        let mut input = new.input;
        self.take_files(&mut input, &new.base_url);
        loaded.check(Kind::Prediction, &mut input)?;
        let accepted = Accepted {
            kind: Kind::Prediction,
            loaded,
            function,
            deployment,
            destination: None,
            input,
            context: new.context,
            source: new.source,
            webhook: new.webhook,
            cancel_after: new.cancel_after,
            base_url: new.base_url,
        };
        self.accept(accepted).await
    }

    async fn resolve(
        &self,
        target: &Target,
    ) -> Result<(Arc<Loaded>, Option<(ModelName, u32)>, FunctionId), ErrorBody> {
        match target {
            Target::Version(id) => {
                let loaded = self.loaded(*id).await?;
                let function = loaded.version.predict_function;
                Ok((loaded, None, function))
            }
            Target::Model(name) => {
                let model = self.model(name).await?;
                let latest = model.latest_version.ok_or_else(|| {
                    ErrorBody::new(ErrorCode::NotFound, format!("model {name} has no version yet"))
                        .hint(format!("push one: clunk push DIR {name}"))
                })?;
                let loaded = self.loaded(latest).await?;
                let function = loaded.version.predict_function;
                Ok((loaded, None, function))
            }
            Target::Deployment(name) => {
                let current = self.deployment(name).await?.current;
                let loaded = self.loaded(current.version).await?;
                Ok((loaded, Some((name.clone(), current.number)), current.function))
            }
        }
    }

    /// Writes it down and submits its call. Its caller may go away: what has begun is finished.
    pub(super) async fn accept(&self, accepted: Accepted) -> Result<Prediction, Refusal> {
        if let Some(webhook) = &accepted.webhook {
            targets::check(&webhook.url)?;
        }
        // Nothing is written down of what cannot begin.
        if self.engine.function(accepted.function).is_none() {
            return Err(Refusal::Failed(super::catalogue::not_served(accepted.loaded.version.id)));
        }
        let models = self.me();
        let written = tokio::spawn(async move { models.write_down(accepted).await });
        let written =
            written.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        written.map_err(Refusal::Failed)
    }

    async fn write_down(&self, accepted: Accepted) -> Result<Prediction, ErrorBody> {
        let record = accepted.record();
        let payload = work::call_payload(&accepted.input, &accepted.context);
        let mut shown = accepted.input.clone();
        accepted.loaded.mask(accepted.kind, &mut shown);
        // Until the store counts who refers to the input.
        let used = self.engine.payload_use.clone().read_owned().await;
        let text = serde_json::to_vec(&shown).expect("JSON has a JSON form");
        let input = durable::keep(&self.engine, Payload::Memory(text.into())).await?;
        self.lives.remember(record.clone());
        if let Some(deadline_ms) = record.deadline_ms {
            self.deadlines.add(deadline_ms, record.id);
        }
        let stored = StoredPrediction { record: record.clone(), input: Some(input), output: None };
        let insert = async {
            let inserted = self.store.write_prediction(PredictionWrite::Insert(Box::new(stored))).await;
            drop(used);
            inserted.map_err(|error| store_error(&error))
        };
        // The first is polled first: its place in the order of writes is before the call's.
        let submit = work::submit(self, &record, payload, accepted.function);
        let (inserted, submitted) = futures_util::future::join(insert, submit).await;
        if let Err(error) = inserted.and(submitted) {
            self.put_letter(record.id, Letter::failed(error.clone()));
            return Err(error);
        }
        Ok(Prediction { input: shown, ..record })
    }

    /// A prediction or a training as it is now.
    pub async fn prediction(&self, id: PredictionId) -> Result<Prediction, ErrorBody> {
        let stored = self.stored(id).await?;
        let mut prediction = self.opened(stored).await?;
        if let Some(live) = self.lives.get(id) {
            overlay(&mut prediction, &live);
        }
        Ok(prediction)
    }

    async fn stored(&self, id: PredictionId) -> Result<StoredPrediction, ErrorBody> {
        let stored = self.store.prediction(id).await.map_err(|error| store_error(&error))?;
        stored.ok_or_else(|| not_found(format_args!("prediction {id}")).0)
    }

    /// With its input and output.
    async fn opened(&self, stored: StoredPrediction) -> Result<Prediction, ErrorBody> {
        let mut record = stored.record;
        if let Some(input) = &stored.input {
            record.input = outputs::document(&self.engine, input).await?;
        }
        if let Some(output) = &stored.output {
            record.output = Some(outputs::document(&self.engine, output).await?);
        }
        Ok(record)
    }

    /// A prediction where it is. Of one that has not ended, all that happens from here on is heard of.
    pub(super) async fn find(&self, id: PredictionId) -> Result<Found, ErrorBody> {
        if let Some(live) = self.lives.get(id).filter(|live| live.record().is_some()) {
            return Ok(Found::Live(live));
        }
        let known = self.stored(id).await?;
        if known.record.status.is_terminal() {
            return Ok(Found::Over(Box::new(self.opened(known).await?)));
        }
        let live = self.lives.get_or_insert(id);
        live.record().get_or_insert(known.record);
        // It may have ended in between, and have been forgotten before it was put in again.
        let again = self.stored(id).await?;
        if again.record.status.is_terminal() {
            self.lives.remove(id);
            return Ok(Found::Over(Box::new(self.opened(again).await?)));
        }
        Ok(Found::Live(live))
    }

    /// As it is now, with its input.
    pub(super) async fn full(&self, live: &Live) -> Result<Prediction, ErrorBody> {
        let mut prediction = self.opened(self.stored(live.id).await?).await?;
        overlay(&mut prediction, live);
        Ok(prediction)
    }

    /// Newest first. Of the input, output and logs that are larger than 64 KiB, a list has none.
    pub async fn predictions(&self, filter: PredictionFilter) -> Result<Page<Prediction>, ErrorBody> {
        let limit = filter.limit.clamp(1, MAX_LISTED);
        let seek = lists::seek(filter.cursor.as_deref())?;
        let query = PredictionQuery {
            kind: filter.kind,
            model: filter.model,
            version: filter.version,
            source: filter.source,
            created_after_ms: filter.created_after_ms,
            created_before_ms: filter.created_before_ms,
            examples: false,
            seek: seek.clone(),
            limit,
        };
        let found = self.store.predictions(query).await.map_err(|error| store_error(&error))?;
        Ok(lists::page(self.listed(found), seek.as_ref(), limit))
    }

    /// Entries of a list: as they are in memory, where they are, without logs and outputs that are large.
    pub(super) fn listed(&self, found: Vec<StoredPrediction>) -> Vec<(ListKey, Prediction)> {
        let entry = |stored: StoredPrediction| {
            let mut record = stored.record;
            record.input = outputs::inline(stored.input.as_ref()).unwrap_or_default();
            record.output = outputs::inline(stored.output.as_ref());
            if let Some(live) = self.lives.get(record.id) {
                overlay_listed(&mut record, &live);
            }
            (ListKey::of_prediction(record.id), record)
        };
        found.into_iter().map(entry).collect()
    }

    /// Gives it as it is within half a second; its end may follow. One that has ended stays as it is.
    pub async fn cancel(&self, id: PredictionId) -> Result<Prediction, ErrorBody> {
        self.cancel_for(id, Cause::Caller).await?;
        self.wait(id, Instant::now() + CANCEL_PATIENCE).await
    }

    pub(super) async fn cancel_for(&self, id: PredictionId, cause: Cause) -> Result<(), ErrorBody> {
        let live = match self.find(id).await? {
            Found::Over(_) => return Ok(()),
            Found::Live(live) => live,
        };
        live.blame(cause);
        let record = self.engine.cancel(id.0, false).await?;
        // Of a call that waits on disk only, the engine tells nothing.
        if record.ended_ms.is_some() {
            let error = ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled");
            self.put_letter(id, Letter::failed(error));
        }
        Ok(())
    }

    /// Waits for its end, but not beyond `until`, and gives it as it is then.
    pub async fn wait(&self, id: PredictionId, until: Instant) -> Result<Prediction, ErrorBody> {
        let live = match self.find(id).await? {
            Found::Over(prediction) => return Ok(*prediction),
            Found::Live(live) => live,
        };
        let mut changed = live.changed.subscribe();
        while !live.is_terminal() {
            match tokio::time::timeout_at(until, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            }
        }
        self.full(&live).await
    }
}
