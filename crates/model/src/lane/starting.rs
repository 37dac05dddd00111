//! How a lane's process is started, started again, and stopped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clunk_agent::{Replica, ReplicaSpec};
use clunk_core::id::ReplicaId;

use super::owner::{Owner, STOPPED};
use super::{Lane, Work};
use crate::health::{Setup, View};
use crate::life::{Change, Event, Health};

/// Before a second start in a row; doubles with each.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

impl Lane {
    /// Begins with the setup; of a lane on demand, nothing yet.
    pub fn open(self: &Arc<Self>) {
        if !self.plan.on_demand {
            self.step(&mut self.work(), Change::Wanted);
        }
    }

    pub(super) fn start(self: &Arc<Self>, work: &mut Work, failures: u32) {
        if failures == 0 {
            return self.start_now(work);
        }
        let pause = (BACKOFF * 2_u32.saturating_pow(failures - 1)).min(BACKOFF_MAX);
        let lane = self.clone();
        // Ends after the pause.
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let mut work = lane.work();
            if !work.closed && work.replica.is_none() && matches!(work.health, Health::Restarting { .. }) {
                lane.start_now(&mut work);
            }
        });
    }

    fn start_now(self: &Arc<Self>, work: &mut Work) {
        if work.closed {
            return;
        }
        work.setup = Setup::begin(SystemTime::now());
        let id = ReplicaId::fresh();
        let (container, start) = (self.plan.program.make)(id);
        let spec = ReplicaSpec {
            id,
            app: self.app,
            function: self.plan.name.clone(),
            container,
            start,
            startup_timeout: self.settings.setup_timeout,
            log: None,
            concurrency: self.concurrency(),
            workers: 0,
        };
        work.replica = Some(Replica::start(spec, self.runtime.clone(), Arc::new(Owner(self.clone()))));
    }

    /// Nothing that waits will run: says so to all of it.
    pub(super) fn drain_queue(self: &Arc<Self>, work: &mut Work) {
        work.queued_bytes = 0;
        let waiting: Vec<_> = work.queue.drain(..).collect();
        if waiting.is_empty() {
            return;
        }
        let reason = match work.health {
            Health::Defunct => {
                format!("the model crashed again and again; its last start: {}", work.setup.last_line())
            }
            _ => format!("Setup has failed: {}", work.setup.last_line()),
        };
        let lane = self.clone();
        // With the lane's lock released; ends at once.
        tokio::spawn(async move {
            for prediction in waiting {
                lane.advance(&prediction, Event::GivenUp, |record| record.error = Some(reason.clone()));
            }
        });
    }

    /// How the model is.
    pub fn view(&self) -> View {
        let work = self.work();
        let busy = work.health == Health::Up && work.free == 0;
        View {
            health: work.health,
            busy,
            setup: work.setup.clone(),
            queued: work.waiting(),
            running: work.running.len(),
        }
    }

    /// Takes nothing more, and returns when what is there has ended, or after so long.
    pub async fn close(self: &Arc<Self>, patience: Duration) {
        let mut changes = self.changed.subscribe();
        let starting = {
            let mut work = self.work();
            work.closed = true;
            matches!(work.health, Health::Starting | Health::Restarting { .. })
        };
        let idle = || {
            let work = self.work();
            // What waits for a process that does not come need not be waited for.
            work.running.is_empty() && (work.queue.is_empty() || work.health != Health::Up)
        };
        let drained = async { while !starting && !idle() && changes.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(patience, drained).await;
        let left: Vec<_> = self.work().queue.drain(..).collect();
        for prediction in left {
            self.advance(&prediction, Event::GivenUp, |record| record.error = Some(STOPPED.into()));
        }
        let replica = self.work().replica.clone();
        let Some(replica) = replica else { return };
        if starting {
            replica.kill()
        } else {
            replica.stop()
        }
        let gone = async { while self.work().replica.is_some() && changes.changed().await.is_ok() {} };
        // The agent kills what does not stop.
        let _ = tokio::time::timeout(Duration::from_secs(10), gone).await;
    }
}
