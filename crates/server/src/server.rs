//! What one server process is made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clunk_agent::Logs;
use clunk_core::Digest;
use clunk_core::error::ErrorBody;
use clunk_core::tree::Tree;
use clunk_image::{BlobSource, HostSettings, Images, ImagesConfig};
use clunk_runtime::{Limits, Runtime};
use clunk_store::{Blobs, SqliteStore};
use tokio_util::sync::CancellationToken;

use crate::address::public_url_from_env;
use crate::answer::{io_error, store_error};
use crate::engine::Engine;
use crate::models::{Models, Parts};
use crate::routes::replicate::{Dialect, Settings, webhook_presenter};
use crate::state::{StateDir, Token};

/// Processes and threads of a build step.
const MAX_BUILD_PIDS: u64 = 16_384;

/// What is shared by all requests.
pub struct Server {
    pub engine: Arc<Engine>,
    pub models: Arc<Models>,
    pub blobs: Blobs,
    pub token: Token,
    pub url: String,
    /// The URL by which clients know the server, when the operator says so; without a slash at the end.
    pub public_url: Option<String>,
    /// What Replicate's API remembers between requests.
    pub replicate: Arc<Dialect>,
    pub state_dir: PathBuf,
    /// A folder for files without names.
    pub temporary: PathBuf,
    pub started: Instant,
    /// Cancelled once: by a signal or by the API.
    pub stopping: CancellationToken,
}

impl Server {
    /// Opens everything in the state folder and ends what a killed server left running.
    pub async fn open(
        state: &StateDir,
        url: &str,
        runtime: Arc<dyn Runtime>,
        runner_dir: PathBuf,
        stopping: CancellationToken,
    ) -> Result<Arc<Self>, ServerError> {
        let token = Token::load(state)?;
        let path = &state.path;
        let store = SqliteStore::open(&path.join("clunk.db")).await.map_err(|error| {
            let hint = format!("move the folder away and start again: mv {0} {0}.broken", path.display());
            store_error(&error).hint(hint)
        })?;
        let blobs = Blobs::open(&path.join("blobs")).map_err(|error| store_error(&error))?;
        let logs = Logs::open(&path.join("logs")).map_err(|error| io_error("open the logs", &error))?;
        let temporary = path.join("tmp");
        std::fs::create_dir_all(&temporary)
            .map_err(|error| io_error("open the folder for temporary files", &error))?;
        let trees = Arc::new(BlobTrees(blobs.clone()));
        let config = ImagesConfig {
            state_dir: path.clone(),
            blobs: trees.clone(),
            runtime: runtime.clone(),
            host: HostSettings::from_host(),
            runner_dir: Some(runner_dir),
            source_root: "/root".into(),
            limits: Limits { pids: Some(MAX_BUILD_PIDS), ..Limits::default() },
        };
        let images = Images::open(config).await.map_err(|error| error.body())?;
        let payloads = Blobs::open(&path.join("payloads")).map_err(|error| store_error(&error))?;
        let store = Arc::new(store);
        let engine = Engine::new(runtime, images, store.clone(), payloads, logs, trees, path);
        let _ = engine.url.set(url.into());
        let parts = Parts {
            engine: engine.clone(),
            store,
            blobs: blobs.clone(),
            temporary: temporary.clone(),
            stopping: stopping.clone(),
        };
        let models = Models::open(parts, path)?;
        let dialect = Arc::new(Dialect::new(Settings::from_env()?));
        models.set_presenter(webhook_presenter(dialect.clone()));
        Ok(Arc::new(Self {
            engine,
            models,
            blobs,
            token,
            url: url.into(),
            public_url: public_url_from_env()?,
            replicate: dialect,
            state_dir: path.clone(),
            temporary,
            started: Instant::now(),
            stopping,
        }))
    }
}

pub type ServerError = ErrorBody;

struct BlobTrees(Blobs);

#[async_trait::async_trait]
impl BlobSource for BlobTrees {
    fn path(&self, digest: Digest) -> Option<PathBuf> {
        self.0.path(digest)
    }

    async fn tree(&self, digest: Digest) -> Option<Tree> {
        let bytes = self.0.read(digest).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }
}
