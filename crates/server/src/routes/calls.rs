//! Calls: what became of them, their results, and their cancellation.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use clunk_core::api::{CallEvent, CallRecord, CancelCall};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, BatchId, CallId, FunctionId};
use clunk_store::{CallFilter, FoundResult};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::payloads;
use super::{id, json_or_default, query};
use crate::answer::{Failure, store_error};
use crate::engine::Engine;
use crate::engine::durable::end_of;
use crate::engine::live::Finished;
use crate::server::Server;

const DEFAULT_LISTED: u32 = 50;
const MAX_LISTED: u32 = 1000;
/// Pages that are read for one answer when only some calls fit.
const MAX_PAGES: usize = 20;
/// How long one request may wait; proxies cut longer ones.
const MAX_WAIT: Duration = Duration::from_secs(55);

/// What [`CallRecord::state`] can say.
const STATES: [&str; 7] = ["queued", "running", "succeeded", "failed", "timed_out", "canceled", "expired"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    app: Option<String>,
    function: Option<String>,
    state: Option<String>,
    batch: Option<String>,
    before: Option<String>,
    limit: Option<u32>,
}

pub async fn list(State(server): State<Arc<Server>>, uri: Uri) -> Result<Json<Vec<CallRecord>>, Failure> {
    let filter: Filter = query(&uri)?;
    let limit = filter.limit.unwrap_or(DEFAULT_LISTED).min(MAX_LISTED);
    // A function is named by its id, or by its name in any app.
    let (function, name) = match filter.function.as_deref().map(str::parse::<FunctionId>) {
        Some(Ok(id)) => (Some(id), None),
        Some(Err(_)) => (None, filter.function),
        None => (None, None),
    };
    if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
        let error = ErrorBody::new(ErrorCode::BadRequest, format!("no call is in the state {state:?}"));
        return Err(error.hint(format!("states are {}", STATES.join(", "))).into());
    }
    let wanted = CallFilter {
        app: filter.app.as_deref().map(id::<AppId>).transpose()?,
        function,
        state: filter.state,
        batch: filter.batch.as_deref().map(id::<BatchId>).transpose()?,
        before: filter.before.as_deref().map(id::<CallId>).transpose()?,
        limit,
    };
    server.engine.store.flush().await?;
    let stored = stored(&server.engine, &wanted, name.as_deref()).await?;
    Ok(Json(merge(&server.engine, stored, &wanted, name.as_deref())))
}

/// What the store has, page by page until enough fit.
async fn stored(
    engine: &Engine,
    wanted: &CallFilter,
    name: Option<&str>,
) -> Result<Vec<CallRecord>, Failure> {
    // What runs is in memory, and `queued` on disk.
    if wanted.state.as_deref() == Some("running") {
        return Ok(Vec::new());
    }
    let (mut found, mut before) = (Vec::new(), wanted.before);
    for _ in 0..MAX_PAGES {
        let limit = if name.is_some() { MAX_LISTED } else { wanted.limit };
        let page = engine.store.calls(CallFilter { before, limit, ..wanted.clone() }).await?;
        before = page.last().map(|record| record.id);
        let more = page.len() == limit as usize;
        found.extend(page.into_iter().filter(|record| name.is_none_or(|name| record.function == name)));
        if !more || found.len() >= wanted.limit as usize {
            break;
        }
    }
    Ok(found)
}

/// What is in memory is newer than what is on disk.
fn merge(
    engine: &Engine,
    stored: Vec<CallRecord>,
    wanted: &CallFilter,
    name: Option<&str>,
) -> Vec<CallRecord> {
    let mut live: HashMap<CallId, CallRecord> = engine
        .pools()
        .iter()
        .filter(|pool| wanted.app.is_none_or(|app| app == pool.app))
        .filter(|pool| wanted.function.is_none_or(|id| id == pool.id))
        .filter(|pool| name.is_none_or(|name| name == pool.spec.name))
        .flat_map(|pool| pool.calls(MAX_LISTED as usize))
        .map(|record| (record.id, record))
        .collect();
    let mut all: Vec<_> =
        stored.into_iter().map(|record| live.remove(&record.id).unwrap_or(record)).collect();
    all.extend(live.into_values());
    all.retain(|record| {
        wanted.state.as_ref().is_none_or(|state| *state == record.state)
            && wanted.batch.is_none_or(|batch| record.batch == Some(batch))
            && wanted.before.is_none_or(|before| record.id < before)
    });
    all.sort_by_key(|record| std::cmp::Reverse(record.id));
    all.truncate(wanted.limit as usize);
    all
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    wait_s: Option<f64>,
    /// Wait while this is the state.
    unless: Option<String>,
}

fn deadline(wait_s: Option<f64>) -> Result<Instant, Failure> {
    let seconds = wait_s.unwrap_or(0.0);
    if !(0.0..=86_400.0).contains(&seconds) {
        let error =
            ErrorBody::new(ErrorCode::BadRequest, format!("wait_s must be from 0 to 55, not {seconds}"));
        return Err(error.into());
    }
    Ok(Instant::now() + Duration::from_secs_f64(seconds).min(MAX_WAIT))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Json<CallRecord>, Failure> {
    let call: CallId = id(&text)?;
    let wait: Wait = query(&uri)?;
    let until = deadline(wait.wait_s)?;
    // Joined before the first look: no change is missed in between.
    let mut events = wait.unless.is_some().then(|| server.engine.events.subscribe());
    loop {
        let record = server.engine.call(call).await?;
        let waits = wait.unless.as_ref().is_some_and(|state| *state == record.state);
        let Some(events) = events.as_mut().filter(|_| waits && record.ended_ms.is_none()) else {
            return Ok(Json(record));
        };
        let changed = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.id != call => {}
                    Ok(_) | Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                }
            }
        };
        if tokio::time::timeout_at(until, changed).await.is_err() {
            return Ok(Json(server.engine.call(call).await?));
        }
    }
}

/// The end of a durable call, waited for.
pub async fn finished(
    engine: &Engine,
    call: CallId,
    until: Instant,
) -> Result<Result<(Finished, bool), CallRecord>, ErrorBody> {
    let waiter = engine.waiters.join(call);
    loop {
        let ended = waiter.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        let record = engine.call(call).await?;
        if record.ended_ms.is_some() {
            let found = engine.store.result(call).await.map_err(|error| store_error(&error))?;
            let FoundResult::Kept(result) = found else { return Err(no_result(&record)) };
            let json = result.json;
            let end = end_of(engine, result, &record);
            return Ok(Ok((Finished { id: call, end, logged: 0 }, json)));
        }
        if !record.durable {
            return Err(no_result(&record));
        }
        if tokio::time::timeout_at(until, ended).await.is_err() {
            return Ok(Err(record));
        }
    }
}

fn no_result(record: &CallRecord) -> ErrorBody {
    if !record.durable {
        let text = format!("call {} gives its result to the client that waits for it", record.id);
        return ErrorBody::new(ErrorCode::BadRequest, text).hint("spawn a call whose result should be kept");
    }
    match record.state.as_str() {
        "canceled" => ErrorBody::new(ErrorCode::CallCanceled, "the call was canceled"),
        _ => ErrorBody::new(
            ErrorCode::ResultExpired,
            format!("the result of call {} is kept no longer", record.id),
        ),
    }
}

pub async fn result(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    uri: Uri,
) -> Result<Response, Failure> {
    let call: CallId = id(&text)?;
    let wait: Wait = query(&uri)?;
    match finished(&server.engine, call, deadline(wait.wait_s)?).await? {
        Ok((finished, json)) => Ok(payloads::answer(finished, json)),
        Err(record) => Ok((StatusCode::ACCEPTED, Json(record)).into_response()),
    }
}

pub async fn cancel(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<CallRecord>, Failure> {
    let call: CallId = id(&text)?;
    let asked: CancelCall = json_or_default(body).await?;
    Ok(Json(server.engine.cancel(call, asked.terminate_containers).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    app: Option<String>,
    call: Option<String>,
}

/// Changes of calls, from now on.
pub async fn events(
    State(server): State<Arc<Server>>,
    uri: Uri,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let wanted: Followed = query(&uri)?;
    let app = wanted.app.as_deref().map(id::<AppId>).transpose()?;
    let call = wanted.call.as_deref().map(id::<CallId>).transpose()?;
    let wanted = move |event: &CallEvent| {
        app.is_none_or(|app| app == event.app) && call.is_none_or(|call| call == event.id)
    };
    let stopping = server.stopping.clone();
    let events = stream::unfold(server.engine.events.subscribe(), move |mut events| {
        let stopping = stopping.clone();
        async move {
            loop {
                let next = tokio::select! {
                    next = events.recv() => next,
                    () = stopping.cancelled() => return None,
                };
                let event = match next {
                    Ok(event) if wanted(&event) => Event::default().event("call").json_data(&event).ok(),
                    Ok(_) => None,
                    // A slow reader is told that it has missed some.
                    Err(RecvError::Lagged(count)) => {
                        Some(Event::default().event("missed").data(count.to_string()))
                    }
                    Err(RecvError::Closed) => return None,
                };
                if let Some(event) = event {
                    return Some((Ok(event), events));
                }
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
