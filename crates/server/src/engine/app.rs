//! A running app: its pools, its log, and the client that keeps it alive.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clunk_agent::{AppLog, replica::now_ms};
use clunk_core::Digest;
use clunk_core::api::{AppEvent, Lifetime};
use clunk_core::id::{AppId, FunctionId};
use clunk_store::CancelScope;
use tokio::sync::Notify;

use super::{Engine, Pool};

/// How long a new app waits for its client to open the event stream.
const LEASE_LIMIT: Duration = Duration::from_secs(30);
/// How long an app waits for a client whose server was killed and has come back.
const RETURN_LIMIT: Duration = Duration::from_secs(60);
/// How long a detached app that nobody follows stays after its last call has ended.
const DETACHED_IDLE: Duration = Duration::from_secs(60);
/// What is recorded of a call that waited for an app that was stopped.
const STOPPED: &str = "app-stopped: the app was stopped";
/// Functions of one app, with the variants that its clients make.
pub const MAX_FUNCTIONS: usize = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Replicas may end what they do and clean up.
    Orderly,
    AtOnce,
}

pub struct App {
    pub id: AppId,
    pub name: String,
    pub workspace: Arc<str>,
    pub lifetime: Lifetime,
    pub log: Arc<AppLog>,
    engine: Arc<Engine>,
    functions: Mutex<Functions>,
    leased: AtomicBool,
    lease_taken: Notify,
    stopped: tokio::sync::Mutex<bool>,
}

#[derive(Default)]
struct Functions {
    pools: Vec<Arc<Pool>>,
    /// Those that the app was made with, by name.
    named: BTreeMap<String, FunctionId>,
    /// Every version, by the digest of its specification.
    versions: HashMap<Digest, FunctionId>,
}

impl App {
    pub(super) fn new(
        id: AppId,
        name: String,
        workspace: Arc<str>,
        lifetime: Lifetime,
        log: Arc<AppLog>,
        engine: Arc<Engine>,
    ) -> Self {
        Self {
            id,
            name,
            workspace,
            lifetime,
            log,
            engine,
            functions: Mutex::default(),
            leased: AtomicBool::new(false),
            lease_taken: Notify::new(),
            stopped: tokio::sync::Mutex::new(false),
        }
    }

    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.functions.lock().expect("no panic while locked").pools.clone()
    }

    /// Ids of the functions that the app was made with, by name.
    pub fn named(&self) -> BTreeMap<String, FunctionId> {
        self.functions.lock().expect("no panic while locked").named.clone()
    }

    pub fn version(&self, digest: Digest) -> Option<FunctionId> {
        self.functions.lock().expect("no panic while locked").versions.get(&digest).copied()
    }

    /// Takes a function out.
    pub(super) fn remove(&self, id: FunctionId) {
        let mut functions = self.functions.lock().expect("no panic while locked");
        functions.pools.retain(|pool| pool.id != id);
        functions.named.retain(|_, named| *named != id);
        functions.versions.retain(|_, version| *version != id);
    }

    /// Adds a function; the first one of a name is what the name means.
    pub(super) fn add(&self, pool: Arc<Pool>) {
        let mut functions = self.functions.lock().expect("no panic while locked");
        functions.named.entry(pool.spec.name.clone()).or_insert(pool.id);
        functions.versions.entry(pool.spec.digest()).or_insert(pool.id);
        functions.pools.push(pool);
    }

    /// Begins to run: what must be warm is started, and a client must come for it. `again`: it ran under a server that
    /// was killed.
    pub(super) fn begin(self: &Arc<Self>, again: bool) {
        self.log.write(&AppEvent::App { time_ms: now_ms(), state: "running".into() });
        for pool in self.pools() {
            pool.wake.notify_one();
        }
        match self.lifetime {
            Lifetime::Deployed => {}
            Lifetime::Detached => drop(tokio::spawn(end_when_done(self.clone()))),
            Lifetime::Leased => {
                let limit = if again { RETURN_LIMIT } else { LEASE_LIMIT };
                tokio::spawn(self.clone().wait_for_client(limit));
            }
        }
    }

    async fn wait_for_client(self: Arc<Self>, limit: Duration) {
        if tokio::time::timeout(limit, self.lease_taken.notified()).await.is_err() {
            tracing::info!(app = %self.id, "no client opened the app's event stream");
            self.stop(Haste::AtOnce).await;
        }
    }

    /// The first caller holds the app alive: when the lease is dropped the app stops. None: another one holds it.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        if self.leased.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.lease_taken.notify_one();
        Some(Lease(self.clone()))
    }

    /// Whether anything runs or waits.
    fn is_quiet(&self) -> bool {
        let busy = |pool: &Arc<Pool>| {
            let (_, running, queued) = pool.counts();
            running > 0 || queued > 0
        };
        !self.leased.load(Ordering::Acquire) && !self.pools().iter().any(busy)
    }

    /// Stops every replica and returns when all are gone. Later callers wait for the first.
    pub async fn stop(&self, haste: Haste) {
        self.end(haste, false).await;
    }

    /// `keep`: it goes on under the next server.
    pub(super) async fn end(&self, haste: Haste, keep: bool) {
        for pool in self.pools() {
            pool.close(haste, keep);
        }
        let mut stopped = self.stopped.lock().await;
        if *stopped {
            return;
        }
        for pool in self.pools() {
            pool.emptied().await;
        }
        *stopped = true;
        if !keep {
            self.log.write(&AppEvent::App { time_ms: now_ms(), state: "stopped".into() });
        }
        self.engine.logs.finish(self.id);
        for pool in self.pools() {
            super::meter::record_pool(&self.engine, &pool).await;
        }
        self.engine.forget(self);
        if keep {
            return;
        }
        if let Err(error) = self.engine.store.stop_app(self.id, now_ms()).await {
            tracing::error!(app = %self.id, %error, "could not record that an app stopped");
        }
        match self.engine.store.cancel_queued(CancelScope::App(self.id), STOPPED, now_ms()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(app = %self.id, count, "canceled what waited on disk"),
            Err(error) => tracing::error!(app = %self.id, %error, "could not cancel what waited on disk"),
        }
        // The files of others are soon asked for again, by the next run.
        if self.lifetime == Lifetime::Deployed {
            self.pools().iter().for_each(|pool| self.engine.released.add(&pool.spec.trees));
        }
        self.engine.waiters.wake_all();
    }
}

/// A detached app ends when its last call has ended and nobody follows it.
async fn end_when_done(app: Arc<App>) {
    let mut quiet = Duration::ZERO;
    const LOOK: Duration = Duration::from_secs(5);
    while quiet < DETACHED_IDLE {
        tokio::time::sleep(LOOK).await;
        if *app.stopped.lock().await {
            return;
        }
        quiet = if app.is_quiet() { quiet + LOOK } else { Duration::ZERO };
    }
    tracing::info!(app = %app.id, "a detached app has nothing left to do");
    app.stop(Haste::Orderly).await;
}

/// Keeps an ephemeral app alive.
pub struct Lease(Arc<App>);

impl Drop for Lease {
    fn drop(&mut self) {
        let app = self.0.clone();
        app.leased.store(false, Ordering::Release);
        if app.lifetime != Lifetime::Leased {
            return;
        }
        tokio::spawn(async move { app.stop(Haste::AtOnce).await });
    }
}
