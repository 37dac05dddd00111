//! The call engine: apps, their functions' pools, and what this machine has room for.

mod app;
mod capacity;
pub mod compose;
mod pool;
mod record;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use clunk_agent::Logs;
use clunk_core::api::ContainerRecord;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, FunctionId};
use clunk_image::{BlobSource, Images, InUse};
use clunk_runtime::Runtime;
use clunk_store::{NewApp, Store};

pub use app::{App, Haste, Lease};
pub use capacity::Capacity;
pub use pool::{Finished, Pool};

/// What the engine works with.
pub struct Engine {
    pub runtime: Arc<dyn Runtime>,
    pub images: Images,
    pub store: Arc<dyn Store>,
    pub logs: Logs,
    pub capacity: Capacity,
    trees: Arc<dyn BlobSource>,
    apps: Mutex<HashMap<AppId, Arc<App>>>,
    functions: Mutex<HashMap<FunctionId, Arc<Pool>>>,
    ended_calls: AtomicU64,
    /// Held by all who begin to use images and trees, against the one who removes what is not in use.
    pub removing: tokio::sync::RwLock<()>,
    me: Weak<Engine>,
}

/// How many calls are where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub apps: usize,
    pub replicas: usize,
    pub running: usize,
    pub queued: usize,
    pub ended: u64,
}

impl Engine {
    pub fn new(
        runtime: Arc<dyn Runtime>,
        images: Images,
        store: Arc<dyn Store>,
        logs: Logs,
        trees: Arc<dyn BlobSource>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            runtime,
            images,
            store,
            logs,
            capacity: Capacity::of_this_machine(),
            trees,
            apps: Mutex::default(),
            functions: Mutex::default(),
            ended_calls: AtomicU64::new(0),
            removing: tokio::sync::RwLock::default(),
            me: me.clone(),
        })
    }

    /// Checks the functions, prepares what their replicas need, and records the app.
    pub async fn create_app(&self, name: String, specs: Vec<FunctionSpec>) -> Result<Arc<App>, ErrorBody> {
        check_specs(&specs)?;
        let _keep = self.removing.read().await;
        let id = AppId::fresh();
        let created_ms = clunk_agent::replica::now_ms();
        let mut prepared = Vec::new();
        for spec in specs {
            self.capacity.check(&spec)?;
            let template = compose::template(self, &spec).await?;
            prepared.push((FunctionId::fresh(), spec, template));
        }
        let functions = prepared.iter().map(|(id, spec, _)| (*id, spec.clone())).collect();
        let workspace = clunk_core::api::default_workspace();
        let record = NewApp { id, name: name.clone(), workspace, detached: false, created_ms, functions };
        self.store.create_app(record).await.map_err(|error| crate::answer::store_error(&error))?;
        let log =
            self.logs.start(id).map_err(|error| crate::answer::io_error("open the app's log", &error))?;
        let engine = self.me.upgrade().expect("the engine is held by its caller");
        let app = Arc::new(App::new(id, name, log, engine.clone()));
        let pools: Vec<_> = prepared
            .into_iter()
            .map(|(function, spec, template)| Pool::new(function, spec, template, &app, engine.clone()))
            .collect();
        {
            let mut functions = self.functions.lock().expect("no panic while locked");
            functions.extend(pools.iter().map(|pool| (pool.id, pool.clone())));
        }
        app.begin(pools);
        self.apps.lock().expect("no panic while locked").insert(id, app.clone());
        Ok(app)
    }

    pub fn app(&self, id: AppId) -> Option<Arc<App>> {
        self.apps.lock().expect("no panic while locked").get(&id).cloned()
    }

    pub fn function(&self, id: FunctionId) -> Option<Arc<Pool>> {
        self.functions.lock().expect("no panic while locked").get(&id).cloned()
    }

    fn all_apps(&self) -> Vec<Arc<App>> {
        self.apps.lock().expect("no panic while locked").values().cloned().collect()
    }

    fn forget(&self, app: &App) {
        let mut functions = self.functions.lock().expect("no panic while locked");
        for pool in app.pools() {
            functions.remove(&pool.id);
        }
        self.apps.lock().expect("no panic while locked").remove(&app.id);
    }

    /// Lets pools that had no room try again.
    pub(crate) fn room_was_freed(&self) {
        for app in self.all_apps() {
            for pool in app.pools() {
                pool.scale();
            }
        }
    }

    /// Stops every app, at once.
    pub async fn stop_all(&self) {
        let apps = self.all_apps();
        futures_util::future::join_all(apps.iter().map(|app| app.stop(Haste::AtOnce))).await;
    }

    pub fn count_ended(&self) {
        self.ended_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let ended = self.ended_calls.load(Ordering::Relaxed);
        let mut counts = Counts { ended, ..Counts::default() };
        for app in self.all_apps() {
            counts.apps += 1;
            for pool in app.pools() {
                let (replicas, running, queued) = pool.counts();
                counts.replicas += replicas;
                counts.running += running;
                counts.queued += queued;
            }
        }
        counts
    }

    pub fn containers(&self) -> Vec<ContainerRecord> {
        self.all_apps().iter().flat_map(|app| app.pools()).flat_map(|pool| pool.containers()).collect()
    }

    /// Images and trees of the running apps.
    pub fn in_use(&self) -> InUse {
        let mut in_use = InUse::default();
        for pool in self.all_apps().iter().flat_map(|app| app.pools()) {
            in_use.images.insert(pool.spec.image);
            in_use.trees.extend(&pool.spec.trees);
        }
        in_use
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
        if let Some(gpu) = spec.resources.gpu.first() {
            let error =
                clunk_core::function::SpecError::NoGpu { function: spec.name.clone(), gpu: gpu.clone() };
            return Err(ErrorBody::new(ErrorCode::BadRequest, error.to_string()));
        }
    }
    Ok(())
}
