//! A running app: its pools, its log, and the client that keeps it alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clunk_agent::{AppLog, replica::now_ms};
use clunk_core::api::AppEvent;
use clunk_core::id::AppId;
use tokio::sync::{Mutex, Notify};

use super::{Engine, Pool};

/// How long a new app waits for its client to open the event stream.
const LEASE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Replicas may end what they do and clean up.
    Orderly,
    AtOnce,
}

pub struct App {
    pub id: AppId,
    pub name: String,
    pub log: Arc<AppLog>,
    engine: Arc<Engine>,
    pools: OnceLock<Vec<Arc<Pool>>>,
    leased: AtomicBool,
    lease_taken: Notify,
    stopped: Mutex<bool>,
}

impl App {
    pub(super) fn new(id: AppId, name: String, log: Arc<AppLog>, engine: Arc<Engine>) -> Self {
        Self {
            id,
            name,
            log,
            engine,
            pools: OnceLock::new(),
            leased: AtomicBool::new(false),
            lease_taken: Notify::new(),
            stopped: Mutex::new(false),
        }
    }

    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.get().cloned().unwrap_or_default()
    }

    pub(super) fn begin(self: &Arc<Self>, pools: Vec<Arc<Pool>>) {
        self.log.write(&AppEvent::App { time_ms: now_ms(), state: "running".into() });
        for pool in self.pools.get_or_init(|| pools) {
            pool.scale();
        }
        let app = self.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(LEASE_LIMIT, app.lease_taken.notified()).await.is_err() {
                tracing::info!(app = %app.id, "no client opened the app's event stream");
                app.stop(Haste::AtOnce).await;
            }
        });
    }

    /// The first caller holds the app alive: when the lease is dropped the app stops.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        if self.leased.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.lease_taken.notify_one();
        Some(Lease(self.clone()))
    }

    /// Stops every replica and returns when all are gone. Later callers wait for the first.
    pub async fn stop(&self, haste: Haste) {
        for pool in self.pools() {
            pool.close(haste);
        }
        let mut stopped = self.stopped.lock().await;
        if *stopped {
            return;
        }
        for pool in self.pools() {
            pool.emptied().await;
        }
        *stopped = true;
        self.log.write(&AppEvent::App { time_ms: now_ms(), state: "stopped".into() });
        self.engine.logs.finish(self.id);
        self.engine.forget(self);
        if let Err(error) = self.engine.store.stop_app(self.id, now_ms()).await {
            tracing::error!(app = %self.id, %error, "could not record that an app stopped");
        }
    }
}

/// Keeps an ephemeral app alive.
pub struct Lease(Arc<App>);

impl Drop for Lease {
    fn drop(&mut self) {
        let app = self.0.clone();
        tokio::spawn(async move { app.stop(Haste::AtOnce).await });
    }
}
