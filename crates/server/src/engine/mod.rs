//! The call engine: apps, their functions' queues and replicas, and what this machine has room for.

mod app;
pub mod compose;
mod conclude;
mod dispatch;
pub mod durable;
mod fleet;
mod gpus;
mod keeper;
pub mod live;
mod meter;
pub mod observer;
pub mod outbox;
mod pool;
mod queue;
mod scale;
mod waiters;

use std::collections::{HashMap, HashSet};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use clunk_agent::replica::now_ms;
use clunk_agent::{DialPlace, Logs};
use clunk_core::Digest;
use clunk_core::api::{CallEvent, CallRecord, ContainerRecord, CreateVariant, Lifetime};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, CallId, FunctionId, ImageId};
use clunk_image::{BlobSource, Images, InUse};
use clunk_runtime::Runtime;
use clunk_store::{Blobs, CancelScope, NewApp, QueueDepth, RunningApp, Store};
use tokio::sync::broadcast;

pub use app::{App, Haste, Lease};
pub use pool::Pool;
pub use waiters::{Waiter, Waiters};

use crate::answer::{io_error, not_found, store_error};
use crate::leftovers::Released;
use fleet::Room;
use observer::Observer;
use pool::Counter;

/// Changes of calls that a slow reader may be behind by; then it misses some and is told so.
const EVENTS_BEHIND: usize = 4096;

/// What is recorded of a call that waited for a function that was taken away.
const RETIRED: &str = "app-stopped: the function was removed";

/// Takes a connection that a container of an app opened.
type Door = Box<dyn Fn(AppId, UnixStream, DialPlace) + Send + Sync>;

/// What the engine works with.
pub struct Engine {
    pub runtime: Arc<dyn Runtime>,
    pub images: Images,
    pub store: Arc<dyn Store>,
    /// Arguments and results of durable calls that are too large for the store.
    pub payloads: Blobs,
    pub logs: Logs,
    pub room: Room,
    pub waiters: Arc<Waiters>,
    pub events: broadcast::Sender<CallEvent>,
    trees: Arc<dyn BlobSource>,
    apps: Mutex<HashMap<AppId, Arc<App>>>,
    functions: Mutex<HashMap<FunctionId, Arc<Pool>>>,
    ended_calls: AtomicU64,
    /// The newest durable call that was heard of, as the store counts them.
    newest_seq: Counter,
    ties: Counter,
    metering: AtomicBool,
    door: OnceLock<Door>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// Where clients reach the server; once that is known.
    pub url: OnceLock<String>,
    /// Held from when a payload is put into its folder until the store knows who refers to it, against the one who
    /// removes what nobody refers to.
    pub payload_use: Arc<tokio::sync::RwLock<()>>,
    /// Held by all who begin to use images and trees, against the one who removes what is not in use.
    pub removing: tokio::sync::RwLock<()>,
    pub released: Released,
    held: Mutex<HashMap<u64, InUse>>,
    me: Weak<Engine>,
}

/// How many calls are where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub apps: usize,
    pub replicas: usize,
    pub running: usize,
    pub queued: u64,
    pub ended: u64,
}

/// What an app is made from.
pub struct AppPlan {
    pub name: String,
    pub workspace: String,
    pub lifetime: Lifetime,
    pub functions: Vec<FunctionSpec>,
}

/// Keeps an image and trees from being removed as long as it lives.
pub struct Held {
    engine: Arc<Engine>,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.held.lock().expect("no panic while locked").remove(&self.number);
    }
}

impl Engine {
    pub fn new(
        runtime: Arc<dyn Runtime>,
        images: Images,
        store: Arc<dyn Store>,
        payloads: Blobs,
        logs: Logs,
        trees: Arc<dyn BlobSource>,
        state_dir: &Path,
    ) -> Arc<Self> {
        let room = Room::of_this_machine(state_dir, &runtime.gpus());
        let engine = Arc::new_cyclic(|me| Self {
            runtime,
            images,
            store,
            payloads,
            logs,
            room,
            waiters: Arc::default(),
            events: broadcast::Sender::new(EVENTS_BEHIND),
            trees,
            apps: Mutex::default(),
            functions: Mutex::default(),
            ended_calls: AtomicU64::new(0),
            newest_seq: Counter::default(),
            ties: Counter::default(),
            metering: AtomicBool::new(false),
            door: OnceLock::new(),
            observer: OnceLock::new(),
            url: OnceLock::new(),
            payload_use: Arc::default(),
            removing: tokio::sync::RwLock::default(),
            released: Released::default(),
            held: Mutex::default(),
            me: me.clone(),
        });
        tokio::spawn(fleet::share_out(engine.clone()));
        engine
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("the engine is held by its caller")
    }

    /// Checks the functions, prepares what their replicas need, and records the app.
    pub async fn create_app(&self, plan: AppPlan) -> Result<Arc<App>, ErrorBody> {
        check_specs(&plan.functions)?;
        let _keep = self.removing.read().await;
        let id = AppId::fresh();
        let functions: Vec<_> = plan.functions.into_iter().map(|spec| (FunctionId::fresh(), spec)).collect();
        // Composed before anything is recorded: a bad function leaves nothing behind.
        let log = self.logs.start(id).map_err(|error| io_error("open the app's log", &error))?;
        let workspace: Arc<str> = plan.workspace.as_str().into();
        let app = Arc::new(App::new(id, plan.name.clone(), workspace, plan.lifetime, log, self.me()));
        let mut pools = Vec::new();
        for (function, spec) in &functions {
            match self.pool(*function, spec.clone(), &app).await {
                Ok(pool) => pools.push(pool),
                Err(error) => {
                    pools.iter().for_each(|pool: &Arc<Pool>| pool.close(Haste::AtOnce, false));
                    self.logs.finish(id);
                    return Err(error);
                }
            }
        }
        let record = NewApp {
            id,
            name: plan.name,
            workspace: plan.workspace,
            lifetime: plan.lifetime,
            created_ms: now_ms(),
            functions,
        };
        self.store.create_app(record).await.map_err(|error| store_error(&error))?;
        self.enlist(&app, pools, false);
        Ok(app)
    }

    async fn pool(&self, id: FunctionId, spec: FunctionSpec, app: &App) -> Result<Arc<Pool>, ErrorBody> {
        self.room.check(&spec)?;
        let template = compose::template(self, &spec).await?;
        Pool::new(id, spec, template, app, self.me())
    }

    fn enlist(&self, app: &Arc<App>, pools: Vec<Arc<Pool>>, again: bool) {
        for pool in pools {
            self.functions.lock().expect("no panic while locked").insert(pool.id, pool.clone());
            app.add(pool);
        }
        self.apps.lock().expect("no panic while locked").insert(app.id, app.clone());
        app.begin(again);
    }

    /// Takes up the apps that ran when the last server was killed, with what waits for them on disk.
    pub async fn restore(&self) -> Result<(), clunk_store::StoreError> {
        let depths = self.store.queue_depths().await?;
        let mut kept = Vec::new();
        for running in self.store.running_apps().await? {
            let id = running.id;
            match self.restore_app(running, &depths).await {
                Ok(()) => kept.push(id),
                Err(error) => tracing::warn!(app = %id, %error, "an app that ran before cannot go on"),
            }
        }
        let recovered = self.store.recover(&kept, now_ms()).await?;
        if recovered != clunk_store::Recovered::default() {
            tracing::info!(?recovered, "ended what a killed server left running");
        }
        Ok(())
    }

    async fn restore_app(&self, running: RunningApp, depths: &[QueueDepth]) -> Result<(), ErrorBody> {
        let _keep = self.removing.read().await;
        let log = self.logs.start(running.id).map_err(|error| io_error("open the app's log", &error))?;
        let workspace: Arc<str> = running.workspace.as_str().into();
        let app = Arc::new(App::new(running.id, running.name, workspace, running.lifetime, log, self.me()));
        let mut pools = Vec::new();
        for (id, spec) in running.functions {
            let pool = match self.pool(id, spec, &app).await {
                Ok(pool) => pool,
                // One broken version of a model must not end the others.
                Err(error) if app.lifetime == Lifetime::Deployed => {
                    tracing::warn!(app = %app.id, function = %id, %error, "a function cannot go on");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for depth in depths.iter().filter(|depth| depth.function == id) {
                pool.found(depth.priority, depth.calls);
            }
            pools.push(pool);
        }
        self.enlist(&app, pools, true);
        Ok(())
    }

    /// The function as it differs from `base`; made when it is not there.
    pub async fn variant(&self, base: &Pool, changes: CreateVariant) -> Result<FunctionId, ErrorBody> {
        let app = self.app(base.app).ok_or_else(pool::app_stopped)?;
        let mut spec = base.spec.clone();
        spec.env.extend(changes.env);
        spec.entry.parameters = changes.parameters.or(spec.entry.parameters);
        spec.resources = changes.resources.unwrap_or(spec.resources);
        spec.policy = changes.policy.unwrap_or(spec.policy);
        self.add_function(&app, spec).await
    }

    /// Adds a function to an app that runs, unless it has the same one.
    pub async fn add_function(&self, app: &Arc<App>, spec: FunctionSpec) -> Result<FunctionId, ErrorBody> {
        check_specs(std::slice::from_ref(&spec))?;
        if let Some(id) = app.version(spec.digest()) {
            return Ok(id);
        }
        if app.pools().len() >= app::MAX_FUNCTIONS {
            let text = format!("the app has {} functions and variants already", app::MAX_FUNCTIONS);
            return Err(ErrorBody::new(ErrorCode::BadRequest, text).hint("give fewer different parameters"));
        }
        let _keep = self.removing.read().await;
        let id = FunctionId::fresh();
        let pool = self.pool(id, spec.clone(), app).await?;
        self.store.add_function(app.id, id, spec).await.map_err(|error| store_error(&error))?;
        self.functions.lock().expect("no panic while locked").insert(id, pool.clone());
        pool.wake.notify_one();
        app.add(pool);
        Ok(id)
    }

    /// Takes a function out of its app for good: its calls are canceled, its replicas end.
    pub async fn retire_function(&self, id: FunctionId) -> Result<(), ErrorBody> {
        // One that could not be taken up again is recorded all the same.
        self.store.retire_function(id).await.map_err(|error| store_error(&error))?;
        let Some(pool) = self.function(id) else { return Ok(()) };
        pool.close(Haste::AtOnce, false);
        pool.emptied().await;
        meter::record_pool(self, &pool).await;
        if let Some(app) = self.app(pool.app) {
            app.remove(id);
        }
        self.functions.lock().expect("no panic while locked").remove(&id);
        self.released.add(&pool.spec.trees);
        let canceled = self.store.cancel_queued(CancelScope::Function(id), RETIRED, now_ms()).await;
        canceled.map(drop).map_err(|error| store_error(&error))
    }

    /// Cancels a call wherever it is. `terminate`: with the container that runs it.
    pub async fn cancel(&self, id: CallId, terminate: bool) -> Result<CallRecord, ErrorBody> {
        if !self.pools().iter().any(|pool| pool.cancel(id, terminate)) {
            durable::cancel_on_disk(self, self.call(id).await?);
        }
        self.store.flush().await.map_err(|error| store_error(&error))?;
        let record = self.store.call(id).await.map_err(|error| store_error(&error))?;
        record.ok_or_else(|| not_found(format_args!("call {id}")).0)
    }

    pub fn app(&self, id: AppId) -> Option<Arc<App>> {
        self.apps.lock().expect("no panic while locked").get(&id).cloned()
    }

    pub fn function(&self, id: FunctionId) -> Option<Arc<Pool>> {
        self.functions.lock().expect("no panic while locked").get(&id).cloned()
    }

    pub fn all_apps(&self) -> Vec<Arc<App>> {
        self.apps.lock().expect("no panic while locked").values().cloned().collect()
    }

    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.functions.lock().expect("no panic while locked").values().cloned().collect()
    }

    fn forget(&self, app: &App) {
        let mut functions = self.functions.lock().expect("no panic while locked");
        for pool in app.pools() {
            functions.remove(&pool.id);
        }
        self.apps.lock().expect("no panic while locked").remove(&app.id);
    }

    /// Stops every app, at once. Those that no client keeps go on under the next server.
    pub async fn stop_all(&self) {
        let apps = self.all_apps();
        futures_util::future::join_all(
            apps.iter().map(|app| app.end(Haste::AtOnce, app.lifetime != Lifetime::Leased)),
        )
        .await;
        meter::record(self).await;
    }

    pub fn count_ended(&self) {
        self.ended_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let ended = self.ended_calls.load(Ordering::Relaxed);
        let mut counts = Counts { apps: self.all_apps().len(), ended, ..Counts::default() };
        for pool in self.pools() {
            let (replicas, running, queued) = pool.counts();
            counts.replicas += replicas;
            counts.running += running;
            counts.queued += queued;
        }
        counts
    }

    pub fn containers(&self) -> Vec<ContainerRecord> {
        self.pools().iter().flat_map(|pool| pool.containers()).collect()
    }

    /// A call as it is now: in memory, or as it was recorded.
    pub async fn call(&self, id: CallId) -> Result<CallRecord, ErrorBody> {
        if let Some(record) = self.pools().iter().find_map(|pool| pool.call(id)) {
            return Ok(record);
        }
        self.store.flush().await.map_err(|error| store_error(&error))?;
        let record = self.store.call(id).await.map_err(|error| store_error(&error))?;
        record.ok_or_else(|| not_found(format_args!("call {id}")).0)
    }

    /// Images and trees of apps that run or will run again, and what is held.
    pub async fn in_use(&self) -> Result<InUse, ErrorBody> {
        // Also what this machine cannot run today: a model whose GPU is missing has not been deleted.
        let recorded = self.store.running_apps().await.map_err(|error| store_error(&error))?;
        let mut in_use = InUse::default();
        let pools = self.pools();
        let running = pools.iter().map(|pool| &pool.spec);
        for spec in running.chain(recorded.iter().flat_map(|app| app.functions.iter().map(|(_, spec)| spec)))
        {
            in_use.images.insert(spec.image);
            in_use.trees.extend(&spec.trees);
        }
        for held in self.held.lock().expect("no panic while locked").values() {
            in_use.images.extend(&held.images);
            in_use.trees.extend(&held.trees);
        }
        Ok(in_use)
    }

    /// Keeps an image and trees although no app has them. To be called while `removing` is held.
    pub fn hold(&self, images: impl IntoIterator<Item = ImageId>, trees: &[Digest]) -> Held {
        let held = InUse { images: images.into_iter().collect(), trees: trees.iter().copied().collect() };
        let number = self.tie();
        self.held.lock().expect("no panic while locked").insert(number, held);
        Held { engine: self.me(), number }
    }

    /// Writes down what was used so far.
    pub async fn record_usage(&self) {
        meter::record(self).await;
    }

    fn newest_seq(&self) -> u64 {
        self.newest_seq.get()
    }

    fn tie(&self) -> u64 {
        self.ties.next()
    }

    /// A call has changed its state: whoever follows hears of it.
    fn changed(&self, pool: &Pool, live: &live::Live) {
        if self.events.receiver_count() > 0 {
            let _ = self.events.send(pool::event_of(pool, live));
        }
    }

    /// Who serves the connections that containers open.
    pub fn set_door(&self, door: Door) {
        let _ = self.door.set(door);
    }

    /// Who watches the calls of models. Before apps are restored.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    fn knock(&self, app: AppId, socket: UnixStream, place: DialPlace) {
        match self.door.get() {
            Some(door) => door(app, socket, place),
            None => tracing::warn!(%app, "a container called before the server was open"),
        }
    }

    /// There is something to meter.
    fn metering(&self) {
        if !self.metering.swap(true, Ordering::AcqRel) {
            tokio::spawn(meter::meter(self.me()));
        }
    }

    /// True when metering may end: it is begun again when a replica starts.
    fn stop_metering(&self) -> bool {
        self.metering.store(false, Ordering::Release);
        // A replica may have started since the meter looked.
        let alive = self.pools().iter().any(|pool| pool.counts().0 > 0);
        !alive || self.metering.swap(true, Ordering::AcqRel)
    }
}

fn check_specs(specs: &[FunctionSpec]) -> Result<(), ErrorBody> {
    let mut names = HashSet::new();
    for spec in specs {
        spec.check().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))?;
        if !names.insert(spec.name.as_str()) {
            let text = format!("the app has two functions named `{}`", spec.name);
            return Err(ErrorBody::new(ErrorCode::BadRequest, text).hint("give one of them another name="));
        }
    }
    Ok(())
}
