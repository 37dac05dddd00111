//! Predictions: of a version, of a model's latest version, of a deployment.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use clunk_core::Digest;
use clunk_core::error::ErrorBody;
use clunk_core::model::{Kind, ModelName, Prediction, Source};
use clunk_dialects::replicate::body::{self, CreatePrediction};
use clunk_dialects::replicate::page::{self, PAGE_SIZE, escape};
use clunk_dialects::replicate::prefer::{self, Wait};
use clunk_dialects::replicate::reference::Reference;
use clunk_dialects::replicate::{InvalidField, Problem, objects, time};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::caller::Caller;
use super::present::Files;
use super::{Answer, Object, is_missing, name, prediction_id, query, read};
use crate::models::{NewPrediction, PredictionFilter, Target};
use crate::server::Server;

/// How long the answer to a cancel waits for the end, which comes sooner.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// What the headers of a creation ask for.
pub(super) struct Terms {
    pub wait: Option<Wait>,
    pub cancel_after: Option<Duration>,
}

impl Terms {
    pub(super) fn read(headers: &HeaderMap) -> Answer<Self> {
        let texts = |name| headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        let wait = prefer::prefer(&texts("prefer").collect::<Vec<_>>())?;
        let cancel_after = texts("cancel-after").next().map(prefer::cancel_after).transpose()?;
        Ok(Self { wait, cancel_after: cancel_after.map(Duration::from_millis) })
    }
}

pub async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let terms = Terms::read(&headers)?;
    let body = read(body).await?;
    let asked = match body::create_prediction(&body, false) {
        Ok(asked) => asked,
        Err(problem) => return Err(server.told_version(problem, &body).await.into()),
    };
    let target = match &asked.version {
        Some(Reference::Version { model, id }) => Target::Version(server.known(model.as_ref(), *id).await?),
        Some(Reference::Model(model)) => Target::Version(server.latest(model, 422).await?),
        None => {
            return Err(
                Problem::invalid(vec![InvalidField::new("required", "", "version is required")]).into()
            );
        }
    };
    server.predict(target, asked, terms, &caller).await
}

pub async fn create_of_model(
    State(server): State<Arc<Server>>,
    Path((owner, model)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let terms = Terms::read(&headers)?;
    let model = name(&owner, &model, "model")?;
    let latest = server.latest(&model, 404).await?;
    let asked = body::create_prediction(&read(body).await?, true)?;
    server.predict(Target::Version(latest), asked, terms, &caller).await
}

pub async fn create_of_deployment(
    State(server): State<Arc<Server>>,
    Path((owner, deployment)): Path<(String, String)>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let terms = Terms::read(&headers)?;
    let deployment = name(&owner, &deployment, "deployment")?;
    server.models.deployment(&deployment).await?;
    let asked = body::create_prediction(&read(body).await?, true)?;
    server.predict(Target::Deployment(deployment), asked, terms, &caller).await
}

impl Server {
    /// A version that a body names, with or without its model.
    pub(super) async fn known(&self, model: Option<&ModelName>, id: Digest) -> Answer<Digest> {
        match self.models.version(id).await {
            Ok(version) if model.is_none_or(|model| *model == version.model) => return Ok(id),
            Err(error) if !is_missing(&error) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        Err(match model {
            Some(model) => {
                let problem = Problem::no_such_version(&format!("{model}:{id}"));
                self.with_versions(problem, model).await.into()
            }
            None => Problem::no_such_version(&id.to_string()).into(),
        })
    }

    /// A body's problems: when its version is none but has a model in front, with that model's newest.
    async fn told_version(&self, problem: Problem, body: &[u8]) -> Problem {
        let about = problem.invalid_fields.iter().any(|field| field.field == "version");
        let body: Option<Value> = serde_json::from_slice(body).ok().filter(|_| about);
        let text = body.as_ref().and_then(|body| body["version"].as_str());
        match text.and_then(|text| text.split_once(':')?.0.parse().ok()) {
            Some(model) => self.with_versions(problem, &model).await,
            None => problem,
        }
    }

    /// The newest version of a model. `missing` is the status when there is no such model.
    async fn latest(&self, model: &ModelName, missing: u16) -> Answer<Digest> {
        let record = self.models.model(model).await.map_err(|error| match missing {
            422 if is_missing(&error) => Problem::no_such_version(&model.to_string()),
            _ => super::problem(error),
        })?;
        record.latest_version.ok_or_else(|| {
            let problem = Problem::new(422, format!("{model} has no version yet"));
            problem
                .titled("Invalid version or not permitted")
                .hint(format!("push one: clunk push . {model}"))
                .into()
        })
    }

    async fn predict(
        &self,
        target: Target,
        asked: CreatePrediction,
        terms: Terms,
        caller: &Caller,
    ) -> Answer<Response> {
        let new = NewPrediction {
            target,
            input: asked.input.into(),
            context: Map::new(),
            source: Source::Api,
            webhook: asked.webhook,
            cancel_after: terms.cancel_after,
            base_url: caller.base.clone(),
        };
        let record = self.models.create(new).await?;
        self.created(record, terms.wait, caller).await
    }

    /// The answer to a creation: at once, or when it has ended, or when the time to wait is over.
    pub(super) async fn created(
        &self,
        record: Prediction,
        wait: Option<Wait>,
        caller: &Caller,
    ) -> Answer<Response> {
        let id = record.id;
        let Some(wait) = wait else {
            let shown = self.shown(&objects::as_starting(record), caller, Files::Links).await?;
            return Ok((StatusCode::CREATED, Json(shown)).into_response());
        };
        self.replicate.remember_waited(id);
        let until = Instant::now() + Duration::from_secs(wait.seconds);
        let record = self.models.wait(id, until).await?;
        let (status, record) = match record.status.is_terminal() {
            true => (StatusCode::CREATED, record),
            false => (StatusCode::ACCEPTED, objects::as_starting(record)),
        };
        let shown = self.shown(&record, caller, Files::Fitting).await?;
        let applied = [("preference-applied", wait.applied())];
        Ok((status, applied, Json(shown)).into_response())
    }

    /// A prediction or a training; `kind` says which it must be, if it must.
    pub(super) async fn record(&self, id: &str, kind: Option<Kind>) -> Answer<Prediction> {
        let what = if kind == Some(Kind::Training) { "training" } else { "prediction" };
        let missing = || Problem::not_found(format_args!("{what} {id}"));
        match self.models.prediction(prediction_id(id, what)?).await {
            Ok(record) if kind.is_none_or(|kind| kind == record.kind) => Ok(record),
            Ok(_) => Err(missing().into()),
            Err(error) if is_missing(&error) => Err(missing().into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn end(&self, record: Prediction, caller: &Caller) -> Object {
        let now: Result<Prediction, ErrorBody> = match record.status.is_terminal() {
            true => Ok(record),
            false => {
                self.models.cancel(record.id).await?;
                self.models.wait(record.id, Instant::now() + CANCEL_WAIT).await
            }
        };
        Ok(Json(self.shown(&now?, caller, Files::Fitting).await?))
    }

    /// One page of predictions or trainings.
    pub(super) async fn listed(&self, filter: PredictionFilter, url: &str, caller: &Caller) -> Object {
        let page = self.models.predictions(filter).await?;
        let mut results = Vec::with_capacity(page.results.len());
        for record in &page.results {
            results.push(self.shown(record, caller, Files::Links).await?);
        }
        Ok(Json(page::body(url, page.next.as_deref(), page.previous.as_deref(), results)))
    }
}

pub async fn show(State(server): State<Arc<Server>>, Path(id): Path<String>, caller: Caller) -> Object {
    // A training's own addresses were under predictions once: clients that kept one still find it.
    let record = server.record(&id, None).await?;
    Ok(Json(server.shown(&record, &caller, Files::Fitting).await?))
}

pub async fn cancel(State(server): State<Arc<Server>>, Path(id): Path<String>, caller: Caller) -> Object {
    let record = server.record(&id, None).await?;
    server.end(record, &caller).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listed {
    created_after: Option<String>,
    created_before: Option<String>,
    source: Option<String>,
    cursor: Option<String>,
}

impl Listed {
    /// The filter, and the list's address with everything but the cursor.
    fn filter(self, kind: Kind, path: &str, caller: &Caller) -> Answer<(PredictionFilter, String)> {
        let source = match self.source.as_deref() {
            None => None,
            Some("web") => Some(Source::Web),
            Some("api") => Some(Source::Api),
            Some(other) => {
                return Err(Problem::new(400, format!("source must be web or api, not {other:?}")).into());
            }
        };
        let kept = [
            ("created_after", &self.created_after),
            ("created_before", &self.created_before),
            ("source", &self.source),
        ];
        let kept =
            kept.iter().filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))));
        let query = kept.collect::<Vec<_>>().join("&");
        let join = if query.is_empty() { "" } else { "?" };
        let filter = PredictionFilter {
            source,
            created_after_ms: moment("created_after", self.created_after.as_deref())?,
            created_before_ms: moment("created_before", self.created_before.as_deref())?,
            cursor: self.cursor,
            ..PredictionFilter::of(kind, PAGE_SIZE)
        };
        Ok((filter, caller.list(&format!("{path}{join}{query}"))))
    }
}

fn moment(name: &str, text: Option<&str>) -> Answer<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let problem = || {
        let problem = Problem::new(400, format!("{name} must be a time in ISO 8601, not {text:?}"));
        problem.hint("for example 2026-01-31T12:00:00Z").into()
    };
    time::parse(text).map(Some).ok_or_else(problem)
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let (filter, url) = query::<Listed>(&uri)?.filter(Kind::Prediction, "/predictions", &caller)?;
    server.listed(filter, &url, &caller).await
}

pub async fn list_trainings(State(server): State<Arc<Server>>, uri: Uri, caller: Caller) -> Object {
    let (filter, url) = query::<Listed>(&uri)?.filter(Kind::Training, "/trainings", &caller)?;
    server.listed(filter, &url, &caller).await
}
