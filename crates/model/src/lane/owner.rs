//! What a lane hears of its process.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clunk_agent::{Blame, CallEnd, DialPlace, Ended, Metric, Replica, ReplicaOwner, Value};
use clunk_core::error::ErrorBody;
use clunk_core::id::ReplicaId;

use super::staging::BRISK;
use super::{Job, Lane, Work};
use crate::health::SetupStatus;
use crate::life::{Action, Change, Event, Health, Outcome, State};
use crate::prediction::{Part, Prediction};

/// Holds the lane for its process.
pub(super) struct Owner(pub Arc<Lane>);

impl Owner {
    fn job(&self, replica: ReplicaId, number: u64) -> Option<Arc<Prediction>> {
        let work = self.0.work();
        match work.running.get(&number) {
            Some(Job::Run(prediction)) if work.is(replica) => {
                prediction.has_run();
                Some(prediction.clone())
            }
            Some(Job::Run(_) | Job::Check(_)) | None => None,
        }
    }
}

impl Work {
    pub(super) fn is(&self, replica: ReplicaId) -> bool {
        self.replica.as_ref().is_some_and(|current| current.id == replica)
    }
}

impl ReplicaOwner for Owner {
    fn ready(&self, replica: ReplicaId, cold_start: Duration) {
        let lane = &self.0;
        let mut work = lane.work();
        if !work.is(replica) {
            return;
        }
        work.setup.end(SetupStatus::Succeeded, SystemTime::now());
        work.free = lane.concurrency();
        work.sick = None;
        tracing::info!(model = lane.plan.name, took_ms = cold_start.as_millis() as u64, "the model is ready");
        lane.step(&mut work, Change::Ready);
        lane.pump(&mut work);
        drop(work);
        if lane.plan.on_demand {
            // What it was started for may have been canceled meanwhile.
            lane.retire_when_idle();
        }
        if lane.settings.readiness_file {
            crate::health::write_readiness_file();
        }
    }

    fn answered(&self, replica: ReplicaId, number: u64, end: CallEnd, _cpu_us: u64) {
        let lane = &self.0;
        let job = {
            let mut work = lane.work();
            if !work.is(replica) {
                return;
            }
            let Some(job) = work.running.remove(&number) else { return };
            work.free += 1;
            work.promote();
            if let Job::Run(prediction) = &job {
                work.brisk = prediction.stop_clock().is_some_and(|took| took <= BRISK);
            }
            lane.pump(&mut work);
            job
        };
        match (job, end) {
            // Nobody may wait for it any more.
            (Job::Check(sender), end) => drop(sender.send(end)),
            (Job::Run(prediction), CallEnd::Returned(value)) => {
                prediction.has_run();
                lane.deliver(&prediction, Part::Whole(value));
            }
            (Job::Run(prediction), CallEnd::Raised(raised)) => {
                lane.deliver(&prediction, Part::Raised(raised));
            }
        }
        if lane.plan.on_demand {
            lane.retire_when_idle();
        }
    }

    fn yielded(&self, replica: ReplicaId, number: u64, value: Value) {
        if let Some(prediction) = self.job(replica, number) {
            self.0.deliver(&prediction, Part::Chunk(value));
        }
    }

    fn printed(&self, replica: ReplicaId, number: u64, stream: &str, text: &str) {
        if let Some(sink) = &self.0.sink {
            sink(stream, text);
        }
        if let Some(prediction) = self.job(replica, number) {
            prediction.change(|record| record.print(stream, text));
            return;
        }
        let mut work = self.0.work();
        if work.is(replica) && work.health != Health::Up {
            work.setup.print(text);
        }
    }

    fn metric(&self, replica: ReplicaId, number: u64, metric: Metric) {
        if let Some(prediction) = self.job(replica, number) {
            prediction.change(|record| record.measure(&metric));
        }
    }

    fn lost(&self, replica: ReplicaId, numbers: Vec<u64>, error: ErrorBody, _blame: Blame) {
        let jobs = {
            let mut work = self.0.work();
            if !work.is(replica) {
                return;
            }
            let jobs: Vec<_> = numbers.iter().filter_map(|number| work.running.remove(number)).collect();
            work.free += jobs.len() as u32;
            work.give_back(&numbers);
            jobs
        };
        self.0.lose(jobs, &error.message);
    }

    /// A model's own server has no API for its containers.
    fn connected(&self, _replica: ReplicaId, socket: UnixStream, place: DialPlace) {
        drop((socket, place));
    }

    fn ended(&self, replica: ReplicaId, ended: Ended, _lost: Vec<u64>) {
        let lane = &self.0;
        let reason = reason(&ended);
        let jobs = {
            let mut work = lane.work();
            if !work.is(replica) {
                return;
            }
            work.replica = None;
            work.free = 0;
            work.unstage();
            if matches!(work.health, Health::Starting | Health::Restarting { .. }) {
                work.setup.print(&told(&ended));
                work.setup.end(SetupStatus::Failed, SystemTime::now());
            }
            work.running.drain().map(|(_, job)| job).collect::<Vec<_>>()
        };
        if lane.plan.program.temporary.is_some() {
            let lane = lane.clone();
            // Ends when they are gone.
            drop(tokio::task::spawn_blocking(move || lane.plan.program.clean_up(replica)));
        }
        if !matches!(ended, Ended::Stopped) {
            tracing::warn!(model = lane.plan.name, reason, "the model's process is gone");
            lane.counters.restarted();
        }
        lane.lose(jobs, &reason);
        let mut work = lane.work();
        if work.closed {
            work.health = Health::Cold;
            lane.changed.send_replace(());
        } else if std::mem::take(&mut work.retiring) {
            work.health = Health::Cold;
            if !work.queue.is_empty() {
                lane.step(&mut work, Change::Wanted);
            }
            lane.changed.send_replace(());
        } else {
            lane.step(&mut work, Change::Gone);
        }
    }
}

/// What predictions end with that a server takes along.
pub(super) const STOPPED: &str = "the server was stopped";

/// Why a process is gone, for those whose predictions were on it.
fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Stopped => STOPPED.into(),
        Ended::Raised(raised) => format!("{}: {}", raised.kind, raised.message),
        Ended::NotStarted { error, .. } | Ended::Crashed { error, .. } => {
            format!("Worker crashed: {}", error.message)
        }
    }
}

/// What the logs of the setup end with. What it raised is in them already.
fn told(ended: &Ended) -> String {
    match ended {
        Ended::Stopped | Ended::Raised(_) => String::new(),
        Ended::NotStarted { error, .. } | Ended::Crashed { error, .. } => format!("{}\n", error.message),
    }
}

impl Lane {
    /// Predictions whose process is gone.
    fn lose(self: &Arc<Self>, jobs: Vec<Job>, reason: &str) {
        let running: Vec<_> = jobs
            .into_iter()
            .filter_map(|job| match job {
                Job::Run(prediction) => Some(prediction),
                // Its waiter hears that nobody will answer.
                Job::Check(_) => None,
            })
            .collect();
        // A process that was ended because one call did not stop, canceled or given up: the others have done nothing.
        let unwanted = |prediction: &Arc<Prediction>| {
            prediction.look(|record| record.state.is_canceling() || record.state.is_ended())
        };
        let sacrificed = running.iter().any(unwanted);
        // No other process follows.
        let closed = self.work().closed;
        let reason = if sacrificed && closed { STOPPED } else { reason };
        let others = running.len().saturating_sub(1);
        let mut again = Vec::new();
        for prediction in running {
            let innocent = sacrificed && !closed && prediction.is_fresh();
            let action = self.advance(&prediction, Event::Lost { innocent }, |record| {
                if record.state == State::Ended(Outcome::Failed) {
                    let company = if others > 0 && reason != STOPPED {
                        format!(" (it ran {others} more)")
                    } else {
                        String::new()
                    };
                    record.error = Some(format!("{reason}{company}"));
                }
            });
            if action == Some(Action::Requeue) {
                again.push(prediction);
            }
        }
        let mut work = self.work();
        for prediction in again.into_iter().rev() {
            work.queued_bytes += prediction.size;
            work.queue.push_front(prediction);
        }
        self.pump(&mut work);
    }

    /// Stops the process of a lane that has nothing left to do.
    fn retire_when_idle(&self) {
        let replica: Option<Arc<Replica>> = {
            let mut work = self.work();
            let idle = work.queue.is_empty() && work.running.is_empty() && !work.retiring;
            work.retiring |= idle;
            if idle { work.replica.clone() } else { None }
        };
        if let Some(replica) = replica {
            replica.stop();
        }
    }
}
