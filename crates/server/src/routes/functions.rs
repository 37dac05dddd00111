//! Functions: call, stream, map, spawn, and variants.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clunk_agent::Payload;
use clunk_core::api::{
    BATCH_HEADER, CreateVariant, EXPIRES_HEADER, FunctionRecord, IDEMPOTENCY_HEADER, JSON_TYPE,
    METHOD_HEADER, PICKLE_TYPE, PRIORITY_HEADER, Scaling,
};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{CallId, FunctionId};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::frames::{self, Frames};
use super::payloads::{self, read_arguments};
use super::{id, json as read_json};
use crate::answer::{Failure, not_found};
use crate::engine::Pool;
use crate::engine::durable::{self, Batch, Spawn};
use crate::engine::live::{End, Finished, Input, Live, Request, Sink, Streamed};
use crate::engine::outbox::{self, Outbox, Part};
use crate::memory;
use crate::server::Server;

/// Values of a generator between its replica and its client: the runner sends at most 64 ahead.
const MAX_STREAMED: usize = 96;
/// Values that a client has taken before more are asked for.
const CREDIT_STEP: u32 = 16;
/// Calls of one `spawn`.
const MAX_SPAWNED: usize = 10_000;
/// Bytes of one `spawn`.
const MAX_SPAWNED_BYTES: u64 = 64 << 20;
const MAX_PRIORITY: i8 = 100;
const MAX_KEY: usize = 255;

fn pool(server: &Server, text: &str) -> Result<Arc<Pool>, Failure> {
    let function: FunctionId = id(text)?;
    server.engine.function(function).ok_or_else(|| not_found(format_args!("running function {text}")))
}

/// Arguments as JSON.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonArguments {
    #[serde(default, rename = "args")]
    _args: Vec<serde::de::IgnoredAny>,
    #[serde(default, rename = "kwargs")]
    _kwargs: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

/// What the headers say of a call.
struct Head {
    json: bool,
    method: Arc<str>,
    priority: i8,
    expires_ms: Option<u64>,
}

impl Head {
    fn read(pool: &Pool, headers: &HeaderMap, frames: bool) -> Result<Self, Failure> {
        Ok(Self {
            json: !frames && is_json(headers)?,
            method: method(pool, text(headers, METHOD_HEADER)?)?,
            priority: number(headers, PRIORITY_HEADER, -i64::from(MAX_PRIORITY), i64::from(MAX_PRIORITY))?
                .unwrap_or(0) as i8,
            expires_ms: number(headers, EXPIRES_HEADER, 1, 7 * 86_400_000)?.map(|ms| ms as u64),
        })
    }

    /// Refuses JSON arguments that no function could take, before they take a container.
    fn check(&self, arguments: &Payload) -> Result<(), Failure> {
        let Payload::Memory(bytes) = arguments else { return Ok(()) };
        if !self.json || bytes.is_empty() {
            return Ok(());
        }
        let read = serde_json::from_slice::<JsonArguments>(bytes);
        let error = read.err().map(|error| bad(format!("the arguments do not fit: {error}")));
        error
            .map_or(Ok(()), |error| Err(error.hint("send {\"args\": [1], \"kwargs\": {\"name\": 2}}").into()))
    }

    fn request(&self, payload: Payload) -> Request {
        Request {
            id: CallId::fresh(),
            json: self.json,
            method: self.method.clone(),
            priority: self.priority,
            expires_ms: self.expires_ms,
            input: Input::Given(payload),
        }
    }
}

fn bad(text: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, text)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Failure> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    Ok(Some(value.to_str().map_err(|_| bad(format!("header {name} is not plain text")))?))
}

fn number(headers: &HeaderMap, name: &str, low: i64, high: i64) -> Result<Option<i64>, Failure> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let fits = text.trim().parse().ok().filter(|number| (low..=high).contains(number));
    Ok(Some(fits.ok_or_else(|| {
        bad(format!("header {name} must be a whole number from {low} to {high}, not `{text}`"))
    })?))
}

fn is_json(headers: &HeaderMap) -> Result<bool, Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(JSON_TYPE);
    match given.split(';').next().unwrap_or_default().trim() {
        PICKLE_TYPE => Ok(false),
        JSON_TYPE => Ok(true),
        other => Err(bad(format!("arguments of type `{other}` are not understood"))
            .hint(format!("send {JSON_TYPE} like {{\"args\": [1], \"kwargs\": {{}}}}, or {PICKLE_TYPE}"))
            .into()),
    }
}

/// The method that is meant: of a class with one, it need not be named.
fn method(pool: &Pool, named: Option<&str>) -> Result<Arc<str>, Failure> {
    let methods = &pool.spec.entry.methods;
    let shown = || methods.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match named {
        None | Some("") if methods.is_empty() => Ok("".into()),
        None | Some("") if methods.len() == 1 => Ok(methods.keys().next().map_or("", String::as_str).into()),
        None | Some("") => {
            let error = bad(format!("`{}` is a class: which method?", pool.spec.name));
            Err(error.hint(format!("send header {METHOD_HEADER}: one of {}", shown())).into())
        }
        Some(name) if methods.contains_key(name) => Ok(name.into()),
        Some(name) if methods.is_empty() => {
            Err(bad(format!("`{}` is a function and has no method `{name}`", pool.spec.name)).into())
        }
        Some(name) => {
            let error = bad(format!("class `{}` has no method `{name}`", pool.spec.name));
            Err(error.hint(format!("it has {}", shown())).into())
        }
    }
}

/// Cancels its call when the client goes away before the end.
struct Waiting {
    pool: Arc<Pool>,
    id: CallId,
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.pool.cancel(self.id, false);
        }
    }
}

pub async fn call(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let pool = pool(&server, &text)?;
    let head = Head::read(&pool, &headers, false)?;
    let arguments = read_arguments(&server.temporary, &headers, body).await?;
    head.check(&arguments)?;
    let large = matches!(arguments, Payload::File { .. });
    let request = head.request(arguments);
    let id = request.id;
    let (waiter, end) = oneshot::channel();
    pool.admit(request, Sink::One(waiter))?;
    let mut waiting = Waiting { pool, id, over: false };
    let finished = end.await.unwrap_or_else(|_| Finished { id, end: forgotten(), logged: 0 });
    waiting.over = true;
    if large || matches!(finished.end, End::Value(Payload::File { .. })) {
        memory::give_back_soon();
    }
    Ok(payloads::answer(finished, head.json))
}

fn forgotten() -> End {
    End::Failed(ErrorBody::new(ErrorCode::Internal, "the server forgot the call; this is a bug"))
}

pub async fn stream(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let pool = pool(&server, &text)?;
    let head = Head::read(&pool, &headers, false)?;
    let arguments = read_arguments(&server.temporary, &headers, body).await?;
    head.check(&arguments)?;
    let request = head.request(arguments);
    let id = request.id;
    let (values, taken) = mpsc::channel(MAX_STREAMED);
    pool.admit(request, Sink::Stream(values))?;
    let waiting = Waiting { pool, id, over: false };
    let answers = stream::unfold((waiting, taken, 0u64), move |(mut waiting, mut taken, index)| async move {
        if waiting.over {
            return None;
        }
        let (kind, payload) = match taken.recv().await {
            Some(Streamed::Value(value)) => (outbox::VALUE, value),
            Some(Streamed::End(Finished { end: End::Value(_), .. })) => {
                (outbox::DONE, Payload::from(&b""[..]))
            }
            Some(Streamed::End(finished)) => outbox::content(finished.end),
            None => outbox::content(forgotten()),
        };
        waiting.over = kind != outbox::VALUE;
        let next = index + 1;
        if !waiting.over && next % u64::from(CREDIT_STEP) == 0 {
            waiting.pool.credit(waiting.id, CREDIT_STEP);
        }
        Some((frames::frame(kind, index, payload), (waiting, taken, next)))
    });
    Ok(frames::answer(answers.flatten()))
}

/// Closes the outbox, and cancels what it still waits for, when the client goes away.
struct Mapping {
    pool: Arc<Pool>,
    outbox: Arc<Outbox>,
    reading: tokio::task::JoinHandle<()>,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.reading.abort();
        self.outbox.close();
        let ours = &self.outbox;
        let mine = |live: &Live| matches!(&live.sink, Sink::Map { outbox, .. } if Arc::ptr_eq(outbox, ours));
        self.pool.cancel_all(mine, false);
    }
}

pub async fn map(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let pool = pool(&server, &text)?;
    let head = Head::read(&pool, &headers, true)?;
    let outbox = Arc::new(Outbox::default());
    let inputs = Frames::new(body, server.temporary.clone());
    let reading = tokio::spawn(read_inputs(pool.clone(), head, inputs, outbox.clone()));
    let mapping = Mapping { pool, outbox, reading };
    let parts = stream::unfold(mapping, |mapping| async move {
        // Answers that come at the same time go out together.
        tokio::task::yield_now().await;
        let next = mapping.outbox.next().await?;
        let pieces = match next {
            Part::Bytes(bytes) => frames::content(Payload::Memory(bytes)),
            Part::Payload(payload) => frames::content(payload),
        };
        Some((pieces, mapping))
    });
    Ok(frames::answer(parts.flatten()))
}

async fn read_inputs(pool: Arc<Pool>, head: Head, mut inputs: Frames, outbox: Arc<Outbox>) {
    loop {
        let (index, payload) = match inputs.next().await {
            Ok(Some(input)) => input,
            Ok(None) => break,
            Err(error) => {
                outbox.refuse(u64::MAX, End::Failed(error));
                break;
            }
        };
        outbox.expect();
        // A full queue makes the client wait, it refuses nothing.
        while let Err(error) =
            pool.admit(head.request(payload.clone()), Sink::Map { outbox: outbox.clone(), index })
        {
            if error.code != ErrorCode::QueueFull {
                outbox.answer(index, End::Failed(error));
                break;
            }
            pool.has_room().await;
        }
        outbox.has_room().await;
        if outbox.is_closed() {
            return;
        }
    }
    outbox.complete();
}

pub async fn spawn(
    State(server): State<Arc<Server>>,
    Path(target): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let pool = pool(&server, &target)?;
    let head = Head::read(&pool, &headers, true)?;
    let key = text(&headers, IDEMPOTENCY_HEADER)?;
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > MAX_KEY) {
        return Err(bad(format!("{IDEMPOTENCY_HEADER} has from 1 to {MAX_KEY} bytes")).into());
    }
    let batch = match text(&headers, BATCH_HEADER)? {
        None => None,
        Some("new") => Some(Batch::New),
        Some(other) => Some(Batch::Add(id(other)?)),
    };
    let used = server.engine.payload_use.clone().read_owned().await;
    let inputs = read_spawned(&server, body).await?;
    // Of another function it is another key.
    let key = key.map(|key| format!("{} {key}", pool.id));
    let (json, method) = (head.json, head.method);
    let asked = Spawn {
        first: None,
        json,
        method,
        priority: head.priority,
        expires_ms: head.expires_ms,
        inputs,
        key,
        batch,
    };
    // The request may be given up; what has begun to be written is finished.
    let accepted = tokio::spawn(async move {
        let _used = used;
        durable::spawn(&pool, asked).await
    });
    let accepted =
        accepted.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))??;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

async fn read_spawned(server: &Server, body: Body) -> Result<Vec<clunk_store::StoredPayload>, Failure> {
    let mut frames = Frames::new(body, server.temporary.clone());
    let (mut inputs, mut bytes) = (Vec::new(), 0);
    while let Some((_, payload)) = frames.next().await? {
        bytes += payload.len();
        // One input may be larger: it has a request for itself.
        if inputs.len() == MAX_SPAWNED || (bytes > MAX_SPAWNED_BYTES && !inputs.is_empty()) {
            let text =
                format!("one request spawns at most {MAX_SPAWNED} calls of {} MiB", MAX_SPAWNED_BYTES >> 20);
            return Err(ErrorBody::new(ErrorCode::PayloadTooLarge, text)
                .hint("send several requests")
                .into());
        }
        inputs.push(durable::keep(&server.engine, payload).await?);
    }
    if inputs.is_empty() {
        return Err(bad("there is nothing to spawn: the body has no frame".into()).into());
    }
    Ok(inputs)
}

pub async fn variant(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<serde_json::Value>, Failure> {
    let base = pool(&server, &text)?;
    let changes: CreateVariant = read_json(body).await?;
    let function = server.engine.variant(&base, changes).await?;
    Ok(Json(json!({"function": function})))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<FunctionRecord>, Failure> {
    Ok(Json(pool(&server, &text)?.record()))
}

pub async fn scaling(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Json<FunctionRecord>, Failure> {
    let pool = pool(&server, &text)?;
    let asked: Scaling = read_json(body).await?;
    pool.check_scaling(asked)?;
    pool.set_scaling(asked);
    Ok(Json(pool.record()))
}
