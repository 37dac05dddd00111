//! What functions use: processor, memory, GPU and container seconds, sampled while containers run, stored by the minute.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clunk_agent::replica::now_ms;
use clunk_core::api::UsageRow;

use super::Engine;
use super::pool::{Pool, Slot};

/// How often running containers are looked at.
const SAMPLE: Duration = Duration::from_secs(10);
/// Rows of the store span this long. Milliseconds.
const SPAN_MS: u64 = 60_000;
const BYTES_PER_GIB: f64 = (1 << 30) as f64;

#[derive(Default)]
pub struct Meter {
    calls: AtomicU64,
    used: Mutex<Used>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Used {
    cpu_s: f64,
    memory_gib_s: f64,
    gpu_s: f64,
    container_s: f64,
}

impl Meter {
    pub fn call_ended(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// The last sample of a replica.
    pub(super) fn replica_ended(&self, pool: &Pool, slot: &Slot) {
        let mut last = Sample::of(slot);
        self.add(pool, slot, &mut last);
    }

    fn add(&self, pool: &Pool, slot: &Slot, sample: &mut Sample) {
        let seconds = sample.now.duration_since(sample.before).as_secs_f64();
        let set_aside = (pool.ask.memory_mib << 20) as f64;
        let memory = set_aside.max(sample.memory_bytes as f64);
        let gpus = slot.reserved.gpus.len() as u32;
        let mut used = self.used.lock().expect("no panic while locked");
        used.cpu_s += sample.cpu.as_secs_f64();
        used.memory_gib_s += memory / BYTES_PER_GIB * seconds;
        used.gpu_s += f64::from(gpus) * seconds;
        used.container_s += seconds;
    }

    /// What was used since it was taken last; None when nothing was.
    fn take(&self, pool: &Pool) -> Option<UsageRow> {
        let used = std::mem::take(&mut *self.used.lock().expect("no panic while locked"));
        let calls = self.calls.swap(0, Ordering::Relaxed);
        if calls == 0 && used == Used::default() {
            return None;
        }
        Some(UsageRow {
            workspace: pool.workspace.to_string(),
            app: pool.app.to_string(),
            app_name: pool.app_name.clone(),
            function: pool.spec.name.clone(),
            from_ms: now_ms() / SPAN_MS * SPAN_MS,
            calls,
            cpu_s: used.cpu_s,
            memory_gib_s: used.memory_gib_s,
            gpu_s: used.gpu_s,
            container_s: used.container_s,
        })
    }
}

/// What one replica used since the sample before.
struct Sample {
    before: Instant,
    now: Instant,
    cpu: Duration,
    memory_bytes: u64,
}

impl Sample {
    fn of(slot: &Slot) -> Self {
        let usage = slot.replica.usage();
        Self {
            before: slot.metered_at,
            now: Instant::now(),
            cpu: usage.cpu.saturating_sub(slot.metered.cpu),
            memory_bytes: usage.memory_bytes,
        }
    }
}

impl Pool {
    /// Looks at every replica.
    fn sample(&self) {
        let mut state = self.lock();
        for slot in state.replicas.values_mut() {
            let mut sample = Sample::of(slot);
            self.meter.add(self, slot, &mut sample);
            slot.metered_at = sample.now;
            slot.metered.cpu += sample.cpu;
        }
    }
}

/// Samples while there are containers, then writes down the rest and ends: an idle server does nothing.
pub async fn meter(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(SAMPLE).await;
        let mut alive = false;
        for pool in engine.pools() {
            pool.sample();
            alive |= pool.counts().0 > 0;
        }
        record(&engine).await;
        if !alive && engine.stop_metering() {
            return;
        }
    }
}

/// Writes down what was used so far.
pub async fn record(engine: &Engine) {
    let rows: Vec<_> = engine.pools().iter().filter_map(|pool| pool.meter.take(pool)).collect();
    record_rows(engine, rows).await;
}

/// Writes down what a pool used that is about to go.
pub async fn record_pool(engine: &Engine, pool: &Pool) {
    record_rows(engine, pool.meter.take(pool).into_iter().collect()).await;
}

async fn record_rows(engine: &Engine, rows: Vec<UsageRow>) {
    if rows.is_empty() {
        return;
    }
    if let Err(error) = engine.store.add_usage(rows).await {
        tracing::error!(%error, "could not record usage");
    }
}
