//! Who waits for the end of durable calls: the end is read from the store, this only says when to look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use clunk_core::id::CallId;
use tokio::sync::Notify;

#[derive(Default)]
pub struct Waiters(Mutex<HashMap<CallId, Waited>>);

#[derive(Default)]
struct Waited {
    ended: Arc<Notify>,
    waiters: usize,
}

/// A place among those who wait for one call.
pub struct Waiter {
    all: Arc<Waiters>,
    id: CallId,
    pub ended: Arc<Notify>,
}

impl Waiters {
    /// Begins to wait; what ends from here on is noticed by `ended`.
    pub fn join(self: &Arc<Self>, id: CallId) -> Waiter {
        let mut all = self.0.lock().expect("no panic while locked");
        let waited = all.entry(id).or_default();
        waited.waiters += 1;
        Waiter { all: self.clone(), id, ended: waited.ended.clone() }
    }

    pub fn wake(&self, id: CallId) {
        if let Some(waited) = self.0.lock().expect("no panic while locked").get(&id) {
            waited.ended.notify_waiters();
        }
    }

    /// Many calls may have ended.
    pub fn wake_all(&self) {
        for waited in self.0.lock().expect("no panic while locked").values() {
            waited.ended.notify_waiters();
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().expect("no panic while locked");
        let last = all.get_mut(&self.id).is_some_and(|waited| {
            waited.waiters -= 1;
            waited.waiters == 0
        });
        if last {
            all.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_woken_and_nobody_is_kept() {
        let all = Arc::new(Waiters::default());
        let id = CallId::fresh();
        let (one, two) = (all.join(id), all.join(id));
        {
            let (first, second) = (one.ended.notified(), two.ended.notified());
            tokio::pin!(first, second);
            first.as_mut().enable();
            second.as_mut().enable();
            all.wake(id);
            first.await;
            second.await;
        }
        drop((one, two));
        assert!(all.0.lock().unwrap().is_empty());
    }
}
