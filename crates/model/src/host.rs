//! A model served by itself, without containers of ours: in an image of any engine, or on a developer's machine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clunk_agent::frame::control;
use clunk_core::id::{ContainerId, ReplicaId};
use clunk_runtime::{ContainerSpec, Limits, Network, ProcessRuntime, Profile, RootFs, Stdio, Upper};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lane::{Kind, Program, Sink};
use crate::server::{Model, ModelError, ModelServer};
use crate::settings::{SettingError, Settings, upload_url};

/// The file that says what is served.
#[derive(Debug, Clone, Deserialize)]
pub struct HostConfig {
    /// OpenAPI.
    #[serde(default)]
    pub schema: Option<Value>,
    /// Path of the interpreter.
    pub python: String,
    /// Folder of `clunk_runner.py`.
    pub runner: String,
    /// Folder of the project, and where it runs.
    pub source_root: String,
    #[serde(default)]
    pub module: Option<String>,
    #[serde(default)]
    pub qualname: Option<String>,
    #[serde(default)]
    pub train: Option<Entry>,
    #[serde(default = "one")]
    pub concurrency: u32,
    /// Whether predictions are coroutines, when that is known: of others one runs at a time.
    #[serde(default)]
    pub is_async: Option<bool>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub cog_version: String,
    #[serde(default)]
    pub python_version: Option<String>,
    /// Of the model, shown with its predictions.
    #[serde(default)]
    pub version: Option<String>,
}

fn one() -> u32 {
    1
}

/// A file below the project's folder, and the class or function in it.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    pub module: String,
    pub qualname: String,
}

impl HostConfig {
    /// What runs predictions, and what runs trainings; `inherited` is the environment below the model's own.
    pub fn programs(&self, inherited: &[(String, String)]) -> (Option<Program>, Option<Program>) {
        (self.program(Kind::Prediction, inherited), self.program(Kind::Training, inherited))
    }

    /// The program of a task; None when the model has no such task.
    fn program(&self, kind: Kind, inherited: &[(String, String)]) -> Option<Program> {
        let entry = match (kind, &self.module, &self.qualname) {
            (Kind::Prediction, Some(module), Some(qualname)) => {
                Some(Entry { module: module.clone(), qualname: qualname.clone() })
            }
            (Kind::Prediction, _, _) => None,
            (Kind::Training, _, _) => self.train.clone(),
        }?;
        let mut env: BTreeMap<String, String> = inherited.iter().cloned().collect();
        env.extend(self.env.clone());
        env.insert("CLUNK_LINK_FD".into(), "3".into());
        let temporary = env.get("TMPDIR").filter(|folder| !folder.is_empty()).map_or("/tmp", String::as_str);
        let temporary = Some(Path::new(&self.source_root).join(temporary));
        let env: Vec<_> = env.into_iter().collect();
        let argv = vec![self.python.clone(), format!("{}/clunk_runner.py", self.runner)];
        let (source_root, concurrency) = (self.source_root.clone(), self.concurrency);
        let task = if kind == Kind::Training { "train" } else { "predict" };
        let make = move |replica: ReplicaId| {
            let container = ContainerSpec {
                id: ContainerId::fresh(),
                root: RootFs { lowers: vec!["/".into()], upper: Upper::Scratch },
                mounts: Vec::new(),
                gpus: Vec::new(),
                argv: argv.clone(),
                env: env.clone(),
                workdir: source_root.clone(),
                hostname: String::new(),
                limits: Limits::default(),
                network: Network::NatOrNone,
                stdio: Stdio::Pipes,
                link: true,
                profile: Profile::Function,
            };
            (container, start_text(&entry, task, &source_root, concurrency, replica))
        };
        Some(Program { make: Arc::new(make), concurrency, temporary })
    }
}

/// Control text of the START frame.
pub fn start_text(
    entry: &Entry,
    task: &str,
    source_root: &str,
    concurrency: u32,
    replica: ReplicaId,
) -> String {
    let (concurrency, replica) = (concurrency.to_string(), replica.to_string());
    control([
        ("mode", "cog"),
        ("task", task),
        ("module", entry.module.as_str()),
        ("qualname", entry.qualname.as_str()),
        ("source_root", source_root),
        ("function_id", "fn-model"),
        ("app_id", "app-model"),
        ("replica_id", replica.as_str()),
        ("image_id", "im-model"),
        ("concurrency", concurrency.as_str()),
    ])
}

/// What the operator chose on the command line.
#[derive(Debug, Clone, Default)]
pub struct HostOptions {
    /// Serve trainings alone.
    pub train_only: bool,
    pub upload_url: Option<String>,
}

/// A model that cannot be served here.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "the model takes one prediction at a time, not {0}: it is not async; write `async def`, or set concurrency to 1"
    )]
    NotAsync(u32),
    #[error("could not adopt the children of the model's process: {0}")]
    Adopt(std::io::Error),
}

/// A model that can be served, with plain child processes. For a process that does nothing else.
pub struct Host {
    server: Arc<ModelServer>,
    printer: Printer,
}

impl Host {
    /// Looks at everything that can be wrong; nothing of the model runs yet.
    pub fn new(
        mut config: HostConfig,
        options: HostOptions,
        stopping: CancellationToken,
    ) -> Result<Self, HostError> {
        let mut settings = Settings::read(|name| std::env::var(name).ok())?;
        settings.upload_url = options.upload_url.as_deref().map(upload_url).transpose()?;
        config.concurrency = settings.concurrency.unwrap_or(config.concurrency).max(1);
        if config.concurrency > 1 && config.is_async == Some(false) && !options.train_only {
            return Err(HostError::NotAsync(config.concurrency));
        }
        let inherited: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let (predict, train) = config.programs(&inherited);
        let predict = predict.filter(|_| !options.train_only);
        let model = Model {
            name: "model".into(),
            version: config.version.as_deref().map(Into::into),
            cog_version: config.cog_version,
            python: config.python_version,
            schema: config.schema,
            predict,
            train,
        };
        let runtime = Arc::new(ProcessRuntime::adopting().map_err(HostError::Adopt)?);
        let printer = Printer::start();
        let server = ModelServer::new(model, settings, runtime, Some(printer.sink()), stopping)?;
        Ok(Self { server, printer })
    }

    /// Serves until it is told to stop.
    pub async fn serve(self, listener: TcpListener) {
        let Self { server, printer } = self;
        server.serve(listener).await;
        let _ = tokio::task::spawn_blocking(move || printer.finish()).await;
    }
}

/// Pieces of output that wait to be written. A terminal or a log that hangs must not hold the server: what does not fit
/// is dropped; predictions have their own logs.
const PRINTED_MAX: usize = 4096;
/// At the end, what still waits may take so long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Prints what the model prints, on a thread of its own.
struct Printer {
    pieces: mpsc::SyncSender<Option<(bool, String)>>,
    done: mpsc::Receiver<()>,
}

impl Printer {
    fn start() -> Self {
        let (pieces, waiting) = mpsc::sync_channel::<Option<(bool, String)>>(PRINTED_MAX);
        let (finished, done) = mpsc::sync_channel(1);
        // Ends with the process, or when it is told that nothing follows.
        std::thread::spawn(move || {
            while let Ok(Some((is_error, text))) = waiting.recv() {
                // Nobody may read it.
                let _ = match is_error {
                    true => std::io::stderr().lock().write_all(text.as_bytes()),
                    false => {
                        let mut out = std::io::stdout().lock();
                        out.write_all(text.as_bytes()).and_then(|()| out.flush())
                    }
                };
            }
            let _ = finished.try_send(());
        });
        Self { pieces, done }
    }

    fn sink(&self) -> Sink {
        let pieces = self.pieces.clone();
        Arc::new(move |stream: &str, text: &str| {
            drop(pieces.try_send(Some((stream == "stderr", text.into()))));
        })
    }

    fn finish(self) {
        if self.pieces.try_send(None).is_ok() {
            let _ = self.done.recv_timeout(LAST_WORDS);
        }
    }
}

/// Listens on an address; the error says what is wrong with it.
pub async fn listen(host: &str, port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((host, port)).await
}
