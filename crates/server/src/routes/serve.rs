//! A Cog model served on a port of its own: Cog's container API, in front of containers of this server.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use clunk_core::api::{ServeEvent, ServeModel};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::{CogTask, FunctionSpec};
use clunk_core::id::{ContainerId, ReplicaId};
use clunk_model::host::{Entry, start_text};
use clunk_model::{Model, ModelServer, Program, Settings, Sink};
use futures_util::stream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use super::{json as read_json, lines};
use crate::answer::Failure;
use crate::engine::{Held, compose};
use crate::server::Server;
use crate::state::Bound;

/// A quiet stream says something this often, so that both ends notice when the other is gone.
const PING: Duration = Duration::from_secs(15);
/// Pieces of output that wait for whoever reads them; more are dropped, as a terminal that hangs must not hold the model.
const LOG_PIECES: usize = 4096;
/// Threads for large bodies and files of one model.
const MAX_BLOCKING: usize = 8;

/// Serves until the answer is no longer read.
pub async fn model(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Failure> {
    let asked: ServeModel = read_json(body).await?;
    // A taken port is told before anything else is done.
    let bound = Bound::bind(asked.host.as_deref().unwrap_or("127.0.0.1"), asked.port).map_err(|error| {
        error.hint("stop what listens there, or choose another port: clunk serve --port 8000")
    })?;
    let upload_url = asked.upload_url.as_deref().map(clunk_model::upload_url).transpose();
    let upload_url = upload_url.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    let specs = [&asked.function, &asked.train].into_iter().flatten();
    let (images, trees): (Vec<_>, Vec<_>) = specs.map(|spec| (spec.image, spec.trees.clone())).unzip();
    let keep = server.engine.removing.read().await;
    let held = server.engine.hold(images, &trees.concat());
    let predict = program(&server, asked.function.as_ref(), CogTask::Predict).await?;
    let train = program(&server, asked.train.as_ref(), CogTask::Train).await?;
    let python = match asked.function.as_ref().or(asked.train.as_ref()) {
        Some(spec) => python(&server, spec).await,
        None => None,
    };
    drop(keep);
    let model = Model {
        name: asked.name,
        version: None,
        cog_version: asked.cog_version,
        python,
        schema: asked.openapi_schema,
        predict,
        train,
    };
    let settings = Settings { upload_url, ..Settings::default() };
    let (sender, printed) = mpsc::channel(LOG_PIECES);
    let sink: Sink = Arc::new(move |stream: &str, text: &str| {
        drop(sender.try_send(ServeEvent::Log { stream: stream.into(), text: text.into() }));
    });
    let stopping = server.stopping.child_token();
    let served =
        ModelServer::new(model, settings, server.engine.runtime.clone(), Some(sink), stopping.clone());
    let served = served.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    let serving = serve(served, bound.listener).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("could not begin to serve the model: {error}"))
    })?;
    let following = Following {
        first: Some(ServeEvent::Listening { url: bound.url }),
        printed,
        serving,
        _stop: stopping.drop_guard(),
        _held: held,
    };
    Ok(lines(stream::unfold(following, |mut following| async move {
        let mut line = serde_json::to_vec(&following.next().await?).expect("events have a JSON form");
        line.push(b'\n');
        Some((Ok(Bytes::from(line)), following))
    })))
}

/// Serves on a thread of its own, where a request wakes up no other thread on its way to the container and back. It ends
/// when it is told to: by the guard in the stream, by this server's end, or by its own API; the receiver then hears.
fn serve(served: Arc<ModelServer>, listener: std::net::TcpListener) -> io::Result<oneshot::Receiver<()>> {
    listener.set_nonblocking(true)?;
    let executor = Builder::new_current_thread().max_blocking_threads(MAX_BLOCKING).enable_all().build()?;
    let listener = {
        let _within = executor.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let (ended, serving) = oneshot::channel();
    std::thread::Builder::new().name("model".into()).spawn(move || {
        executor.block_on(served.serve(listener));
        // What still reads a large file need not be waited for.
        executor.shutdown_background();
        drop(ended);
    })?;
    Ok(serving)
}

/// What whoever asked is told.
struct Following {
    first: Option<ServeEvent>,
    printed: mpsc::Receiver<ServeEvent>,
    serving: oneshot::Receiver<()>,
    /// Dropped with the answer.
    _stop: DropGuard,
    _held: Held,
}

impl Following {
    async fn next(&mut self) -> Option<ServeEvent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            printed = self.printed.recv() => printed,
            _ = &mut self.serving => None,
            () = tokio::time::sleep(PING) => Some(ServeEvent::Ping),
        }
    }
}

/// The version of the Python that a function runs in.
async fn python(server: &Server, spec: &FunctionSpec) -> Option<String> {
    let image = compose::find_image(&server.engine, spec.image).await.ok()?;
    Some(image.python.as_ref()?.version.clone())
}

/// How containers of a function are made.
async fn program(
    server: &Server,
    spec: Option<&FunctionSpec>,
    task: CogTask,
) -> Result<Option<Program>, ErrorBody> {
    let Some(spec) = spec else { return Ok(None) };
    spec.check().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
    let template = compose::template(&server.engine, spec).await?;
    let entry = Entry { module: spec.entry.module.clone(), qualname: spec.entry.qualname.clone() };
    let (source_root, concurrency) = (spec.entry.source_root.clone(), spec.policy.concurrency.max_inputs);
    let make = move |replica: ReplicaId| {
        let start = start_text(&entry, task.name(), &source_root, concurrency, replica);
        (template.container(ContainerId::fresh(), replica), start)
    };
    Ok(Some(Program { make: Arc::new(make), concurrency, temporary: None }))
}
