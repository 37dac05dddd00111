//! The server: connections in front, lanes behind.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clunk_dialects::cog::validate::{InputSchema, SchemaError};
use clunk_runtime::Runtime;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::Client;
use crate::lane::{Kind, Lane, Plan, Program, Sink};
use crate::output::Files;
use crate::routes;
use crate::settings::Settings;
use crate::webhook::Webhooks;

/// A head that takes longer, and a connection without requests for so long, is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes of a head, and bytes read at a time: large bodies come in few pieces.
const BUFFER_MAX: usize = 512 << 10;
/// Connections at the same time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 8192;
/// What is running when the server is told to stop may take so long: orchestrators kill after 30 s, and what is lost
/// wants to be told before.
const DRAIN: Duration = Duration::from_secs(20);
/// Their webhooks may take so long to be delivered.
const LAST_WEBHOOKS: Duration = Duration::from_secs(5);
/// After that, connections may take so long to read their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// A timer that is always there and due before any head's: a first timer wakes the executor from its sleep, which every
/// request of a single connection would pay for.
const BEAT: Duration = Duration::from_secs(30);
/// After the system had no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a server serves.
pub struct Model {
    pub name: String,
    /// Of the model, when it has one.
    pub version: Option<Arc<str>>,
    pub cog_version: String,
    /// Version of the model's Python, when it is known.
    pub python: Option<String>,
    /// OpenAPI; without it inputs are not checked.
    pub schema: Option<Value>,
    pub predict: Option<Program>,
    pub train: Option<Program>,
}

/// What the answers say of a model.
pub(crate) struct Described {
    pub cog_version: String,
    pub python: Option<String>,
    pub schema: Option<Bytes>,
}

pub struct ModelServer {
    pub(crate) model: Described,
    pub(crate) webhooks: Webhooks,
    pub(crate) stopping: CancellationToken,
    predict: Option<Arc<Lane>>,
    train: Option<Arc<Lane>>,
}

/// A model that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the model has nothing to run: neither `predict` nor `train`")]
    Nothing,
}

impl ModelServer {
    /// Prepares a server; nothing runs yet. `stopping` ends it, and is canceled by `POST /shutdown`.
    pub fn new(
        model: Model,
        settings: Settings,
        runtime: Arc<dyn Runtime>,
        sink: Option<Sink>,
        stopping: CancellationToken,
    ) -> Result<Arc<Self>, ModelError> {
        let settings = Arc::new(settings);
        let client = Client::new(&settings.user_agent);
        let files = Files { upload_url: settings.upload_url.clone(), client: client.clone() };
        let alone = model.predict.is_none();
        let lane = |kind: Kind, program: Option<Program>| -> Result<Option<Arc<Lane>>, ModelError> {
            let Some(mut program) = program else { return Ok(None) };
            program.concurrency = match kind {
                Kind::Prediction => settings.concurrency.unwrap_or(program.concurrency),
                Kind::Training => 1,
            };
            let path = "/paths/~1predictions/post/x-cog-streaming";
            let streams = model.schema.as_ref().and_then(|schema| schema.pointer(path)?.as_bool());
            let schema = match &model.schema {
                Some(document) => InputSchema::compile(document, kind.component())?,
                None => None,
            };
            let plan = Plan {
                kind,
                name: model.name.clone(),
                program,
                schema,
                streaming: kind == Kind::Prediction && streams.unwrap_or(false),
                on_demand: kind == Kind::Training && !alone,
                version: model.version.clone(),
            };
            Ok(Some(Lane::new(plan, settings.clone(), files.clone(), runtime.clone(), sink.clone())))
        };
        let (predict, train) = (lane(Kind::Prediction, model.predict)?, lane(Kind::Training, model.train)?);
        if predict.is_none() && train.is_none() {
            return Err(ModelError::Nothing);
        }
        let described = Described {
            cog_version: model.cog_version,
            python: model.python,
            schema: model.schema.as_ref().map(|schema| schema.to_string().into()),
        };
        let webhooks = Webhooks::new(client, settings.clone());
        Ok(Arc::new(Self { model: described, webhooks, stopping, predict, train }))
    }

    pub(crate) fn lane(&self, kind: Kind) -> Option<&Arc<Lane>> {
        match kind {
            Kind::Prediction => self.predict.as_ref(),
            Kind::Training => self.train.as_ref(),
        }
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.predict.iter().chain(&self.train)
    }

    /// The lane whose health is the server's.
    pub(crate) fn main_lane(&self) -> &Arc<Lane> {
        self.lanes().next().expect("a server has at least one lane")
    }

    /// Serves until it is told to stop and what runs has ended.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        self.lanes().for_each(Lane::open);
        let (closing, connections) = (CancellationToken::new(), TaskTracker::new());
        let accepting = self.accept(&listener, &closing, &connections);
        let ending = async {
            self.stopping.cancelled().await;
            let drained = self.lanes().map(|lane| lane.close(DRAIN));
            futures_util::future::join_all(drained).await;
            self.webhooks.drain(LAST_WEBHOOKS).await;
        };
        let beating = async {
            loop {
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::select! {
            () = accepting => {}
            () = ending => {}
            () = beating => {}
        }
        drop(listener);
        closing.cancel();
        connections.close();
        let _ = tokio::time::timeout(LAST_ANSWERS, connections.wait()).await;
    }

    async fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        closing: &CancellationToken,
        connections: &TaskTracker,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = converse(self.clone(), stream, closing.clone());
                    // Ends with its connection, which closing it ends too.
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Answers the requests of one connection.
async fn converse(server: Arc<ModelServer>, stream: TcpStream, closing: CancellationToken) {
    // Without it small answers would wait for the client's acknowledgements.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let service = service_fn(move |request| routes::handle(server.clone(), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Clients come and go as they like.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
