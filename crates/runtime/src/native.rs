//! The native runtime: the asynchronous side, which never forks; the helper does.

mod checks;
mod container;
mod link;
mod plan;
mod resolver;
mod users;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::gpu::{Driver, machine_gpus};
use crate::port::{Check, ContainerSpec, Gpus, Network, Runtime, RuntimeError, Started, Swept, Upper};
use crate::wire::{GpuPlan, HelperConfig, PoolSize, ToHelper};
use container::Container;
use link::Link;
use users::Users;

/// How to run containers on this machine.
#[derive(Debug, Clone)]
pub struct NativeConfig {
    /// Absolute; on a file system that overlayfs can write to. One runtime uses it at a time.
    pub state_dir: PathBuf,
    /// Program and arguments that call [`crate::spawner_main`]. Absolute, as the environment is empty.
    pub helper: Vec<String>,
    /// How many containers stand half made, so that a start is short. Each is a sleeping process.
    pub pool: PoolSize,
    /// Where the NVIDIA driver's files lie: `proc/driver`, `dev`, `usr/lib` and the like below it. `/` is the machine's.
    pub driver_root: PathBuf,
}

impl NativeConfig {
    pub fn new(state_dir: impl Into<PathBuf>, helper: Vec<String>) -> Self {
        let pool = PoolSize { nat: 4, isolated: 2 };
        Self { state_dir: state_dir.into(), helper, pool, driver_root: "/".into() }
    }
}

/// Containers by namespaces, overlayfs and control groups of this machine. Dropping it stops them all.
pub struct NativeRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    config: NativeConfig,
    users: Users,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    /// The executor of the first use. Links live there, whoever needs the next one: a model's thread ends with its model.
    home: OnceLock<Handle>,
    /// Set by shutdown: no new helper is started after it.
    closed: std::sync::atomic::AtomicBool,
    /// So that the link's reader does not keep the runtime alive.
    me: Weak<Inner>,
}

impl NativeRuntime {
    /// Nothing is started before the first use.
    pub fn new(config: NativeConfig) -> Self {
        let inner = Arc::new_cyclic(|me| Inner {
            config,
            users: Users::find(),
            link: tokio::sync::Mutex::default(),
            home: OnceLock::new(),
            closed: false.into(),
            me: me.clone(),
        });
        Self { inner }
    }

    /// Starts the helper and lets it make its first containers ready. `start` does so too when nobody did before.
    pub async fn warm_up(&self) -> Result<(), RuntimeError> {
        self.inner.link().await.map(drop)
    }

    /// What this runtime's things on the host carry in their names: control groups and the nftables table are
    /// `clunk_<instance>`, interfaces `ck<instance>-<number>`.
    pub fn instance(&self) -> String {
        instance(&self.inner.config.state_dir)
    }

    /// The helper's process id, when one runs.
    pub async fn helper_pid(&self) -> Option<u32> {
        self.inner.link.lock().await.as_ref().filter(|link| link.is_alive()).map(|link| link.pid)
    }
}

impl Drop for NativeRuntime {
    fn drop(&mut self) {
        self.inner.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Ok(link) = self.inner.link.try_lock()
            && let Some(link) = link.as_ref()
        {
            link.close();
        }
    }
}

impl Inner {
    /// The helper that runs, or a new one.
    async fn link(&self) -> Result<Arc<Link>, RuntimeError> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        if self.closed.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(RuntimeError::Helper("the runtime was shut down".into()));
        }
        let open = Link::open(self.config.helper.clone(), self.helper_config(), self.me.clone());
        let opened = self.home.get_or_init(Handle::current).spawn(open).await;
        let link = opened.map_err(|error| RuntimeError::Helper(error.to_string()))??;
        *current = Some(link.clone());
        if let Some(reason) = link.no_network() {
            tracing::warn!(reason, "containers have no network");
        }
        Ok(link)
    }

    /// What the container's GPUs need of this machine; looked for at every start, so that no restart is needed after a
    /// change of the driver.
    async fn gpu_plan(&self, spec: &ContainerSpec) -> Result<Option<GpuPlan>, RuntimeError> {
        if spec.gpus.is_empty() {
            return Ok(None);
        }
        let (root, minors) = (self.config.driver_root.clone(), spec.gpus.clone());
        let find = move || match Driver::find(&root) {
            Some(driver) => driver.plan(&minors),
            None => Err("no NVIDIA driver is loaded; `clunk doctor` says what is there".into()),
        };
        let found = tokio::task::spawn_blocking(find).await.unwrap_or_else(|error| Err(error.to_string()));
        let refuse = |reason| RuntimeError::Start { id: spec.id, step: "GPU".into(), reason };
        found.map(Some).map_err(refuse)
    }

    fn helper_config(&self) -> HelperConfig {
        let resolver = resolver::find();
        HelperConfig {
            state_dir: self.config.state_dir.clone(),
            instance: instance(&self.config.state_dir),
            base: self.users.base(),
            ids: self.users.count(),
            pool: self.config.pool,
            resolv_conf: resolver.text,
            resolvers: resolver.servers,
            rootless: self.users.rootless(),
            sub_ids: self.users.sub_ids(),
        }
    }
}

/// Five hexadecimal digits that tell this state directory from others: as many as fit into an interface name.
fn instance(state_dir: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    // FNV-1a: stable across releases, unlike the standard library's hasher.
    let hash = state_dir.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:05x}", hash & 0xf_ffff)
}

#[async_trait]
impl Runtime for NativeRuntime {
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let link = self.inner.link().await?;
        let id = spec.id;
        let (scratch, keep) = match &spec.root.upper {
            Upper::Scratch => {
                (Some(self.inner.config.state_dir.join("containers").join(id.to_string())), None)
            }
            Upper::Keep { upper, .. } => (None, Some(upper.clone())),
        };
        let plan = plan::container(&spec, scratch.as_deref(), self.inner.gpu_plan(&spec).await?)?;
        let nat = match (spec.network, link.no_network()) {
            (Network::None, _) | (Network::NatOrNone, Some(_)) => false,
            (Network::Nat, Some(reason)) => return Err(RuntimeError::NoNetwork(reason)),
            (Network::Nat | Network::NatOrNone, None) => true,
        };
        let message = ToHelper::Start { id, nat, scratch, keep };
        Container::start(link, &spec, &plan, message).await
    }

    async fn sweep(&self) -> Result<Swept, RuntimeError> {
        // The helper sweeps before it does anything else; what it found then is all there was.
        let link = self.inner.link().await?;
        let report = &link.report;
        Ok(Swept { containers: report.containers, cgroups: report.cgroups, interfaces: report.interfaces })
    }

    async fn checks(&self) -> Vec<Check> {
        let report = self.inner.link().await.map(|link| link.report.clone());
        checks::all(&self.inner.config, &self.inner.users, report.map_err(|error| error.to_string()))
    }

    fn gpus(&self) -> Gpus {
        machine_gpus(&self.inner.config.driver_root)
    }

    async fn no_network(&self) -> Option<String> {
        self.inner.link().await.ok()?.no_network()
    }

    fn discard(&self, path: PathBuf) {
        let Ok(executor) = Handle::try_current() else { return };
        let inner = self.inner.clone();
        executor.spawn(async move {
            let asked =
                async { inner.link().await?.send(&ToHelper::Discard { path: path.clone() }, &[]).await };
            if let Err(error) = asked.await {
                tracing::warn!(path = %path.display(), %error, "could not remove a directory");
            }
        });
    }

    fn host_id(&self, id: u32) -> u32 {
        self.inner.users.host_id(id)
    }

    async fn shutdown(&self) {
        self.inner.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        let link = self.inner.link.lock().await.take();
        if let Some(link) = link {
            link.shutdown().await;
        }
    }
}
