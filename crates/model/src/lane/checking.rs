//! The model's own check of its health.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clunk_agent::{CallEnd, Payload};
use tokio::sync::oneshot;

use super::delivering::told;
use super::{Job, Lane};
use crate::life::Health;

/// A check that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(5);

impl Lane {
    /// Asks the model whether it is well, when it has time. What is wrong, or None. Whoever asks may leave: the check
    /// goes on to its end or its limit.
    pub async fn check(self: &Arc<Self>) -> Option<String> {
        let lane = self.clone();
        let checked = tokio::spawn(async move { lane.check_to_the_end().await }).await;
        checked.unwrap_or_else(|error| Some(format!("Healthcheck failed: {error}")))
    }

    async fn check_to_the_end(self: &Arc<Self>) -> Option<String> {
        let (answer, number) = {
            let mut work = self.work();
            let idle = work.health == Health::Up && work.free == self.concurrency() && work.queue.is_empty();
            if !idle || work.retiring || work.checks == Some(false) {
                return work.sick.clone();
            }
            let replica = work.replica.clone()?;
            let (sender, answer) = oneshot::channel();
            let number = work.next;
            work.next += 1;
            work.free -= 1;
            work.running.insert(number, Job::Check(sender));
            let nothing = Payload::Memory(Bytes::new());
            replica.send(&[self.dispatch(number, "method=healthcheck\n".into(), nothing)], false);
            (answer, number)
        };
        let sick = match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(CallEnd::Returned(value))) => match &value.payload {
                Payload::Memory(json) if &json[..] == b"null" => {
                    self.work().checks = Some(false);
                    None
                }
                Payload::Memory(json) if &json[..] == b"true" => None,
                _ => Some("Healthcheck failed: user-defined healthcheck returned False".into()),
            },
            Ok(Ok(CallEnd::Raised(raised))) => Some(format!("Healthcheck failed: {}", told(&raised))),
            Ok(Err(_)) => Some("Healthcheck failed: the model's process ended meanwhile".into()),
            Err(_) => {
                let replica = self.work().replica.clone();
                if let Some(replica) = replica {
                    replica.cancel(number);
                }
                Some("Healthcheck failed: timed out after 5.0 seconds".into())
            }
        };
        self.work().sick.clone_from(&sick);
        sick
    }
}
