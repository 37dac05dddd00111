//! The machines there are and what they have room for, and who gets room when there is not enough.
//!
//! One machine for now, this one. Memory, disk and GPUs are counted; cores are shared by weight, so that many waiting
//! containers fit on few.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::fairness::{Claim, Shares};
use clunk_core::function::FunctionSpec;
use clunk_core::id::NodeId;
use clunk_core::placement::{Ask, Fleet, GpuGroup, NeverFits, NoRoom, Node, Placed};
use clunk_runtime::Gpus;
use tokio::sync::Notify;

use super::gpus::Devices;
use super::{Engine, Pool};

/// Containers at the same time; each has some 20 mounts and a network namespace.
const MAX_REPLICAS: u32 = 512;
/// Share of the machine's memory that containers may set aside.
const MEMORY_SHARE_PERCENT: u64 = 90;
/// A container asks for an eighth of a core unless told otherwise, and most wait for something most of the time.
const CPU_OVERCOMMIT: f64 = 64.0;

pub struct Room {
    inner: Mutex<Inner>,
    cores: usize,
    memory_mib: u64,
    /// Version of the GPUs' driver, when there is one.
    gpu_driver: Option<String>,
    /// Somebody waits for room: all who want some stand in line.
    contended: AtomicBool,
    /// Room was freed, or is wanted.
    changed: Notify,
}

struct Inner {
    fleet: Fleet,
    devices: Devices,
    shares: Shares,
}

/// Room for one replica; given back with [`Room::release`].
#[derive(Debug)]
pub struct Reserved {
    pub placed: Placed,
    /// Its GPUs, as [`clunk_runtime::ContainerSpec::gpus`].
    pub gpus: Vec<u32>,
}

/// What a function's replicas set aside.
pub fn ask(spec: &FunctionSpec) -> Result<Ask, ErrorBody> {
    Ask::of(spec).map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error.to_string()))
}

pub fn never_fits(spec: &FunctionSpec, why: &NeverFits) -> ErrorBody {
    let (what, hint) = match spec.entry.cog {
        Some(_) if !spec.resources.gpu.is_empty() => {
            ("the model".into(), "remove `gpu: true` from `build` in cog.yaml, or add a machine that has it")
        }
        Some(_) => ("the model".into(), "ask for less, or add a machine that has it"),
        None => (format!("function `{}`", spec.name), "ask for less, or add a machine that has it"),
    };
    ErrorBody::new(ErrorCode::CannotPlace, format!("{what} {why}")).hint(hint)
}

impl Room {
    /// This machine. `state_dir`: on the disk whose space is counted.
    pub fn of_this_machine(state_dir: &std::path::Path, gpus: &Gpus) -> Self {
        let devices = Devices::of(gpus);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_mib = machine_memory_mib() * MEMORY_SHARE_PERCENT / 100;
        let node = Node {
            id: NodeId::fresh(),
            cpu_millis: cores as u64 * 1000,
            cpu_overcommit: CPU_OVERCOMMIT,
            cpu_used_millis: 0,
            memory_mib,
            memory_used_mib: 0,
            disk_mib: free_disk_mib(state_dir),
            disk_used_mib: 0,
            gpus: devices.groups(),
            replicas: 0,
            max_replicas: MAX_REPLICAS,
            schedulable: true,
        };
        let mut fleet = Fleet::default();
        fleet.add(node);
        let inner = Mutex::new(Inner { fleet, devices, shares: Shares::default() });
        Self {
            inner,
            cores,
            memory_mib,
            gpu_driver: Some(gpus.driver.clone()).filter(|version| !version.is_empty()),
            contended: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// MiB that a container without a limit of its own may use at most.
    pub fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The GPUs that this machine has, by kind, and how many are set aside.
    pub fn gpus(&self) -> Vec<GpuGroup> {
        self.inner.lock().expect("no panic while locked").devices.groups()
    }

    pub fn gpu_driver(&self) -> Option<String> {
        self.gpu_driver.clone()
    }

    /// Refuses what can never be placed.
    pub fn check(&self, spec: &FunctionSpec) -> Result<(), ErrorBody> {
        let ask = ask(spec)?;
        let inner = self.inner.lock().expect("no panic while locked");
        inner.fleet.fits_ever(&ask).map_err(|why| never_fits(spec, &why))
    }

    /// Sets room aside for one replica. While others wait for room, only in turn.
    pub fn reserve(&self, pool: &Pool, in_turn: bool) -> Result<Reserved, NoRoom> {
        if !in_turn && self.contended.load(Ordering::Acquire) {
            return Err(NoRoom::Now);
        }
        let mut inner = self.inner.lock().expect("no panic while locked");
        let placed = inner.fleet.place(&pool.ask, pool.spec.image)?;
        let totals = inner.fleet.totals();
        inner.shares.add(&pool.workspace, &pool.ask, &totals);
        let gpus = placed.gpu.as_ref().map(|gpu| inner.devices.take(gpu)).unwrap_or_default();
        Ok(Reserved { placed, gpus })
    }

    pub fn release(&self, pool: &Pool, reserved: &Reserved) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        inner.devices.give_back(&reserved.gpus);
        inner.fleet.release(&reserved.placed, &pool.ask);
        let totals = inner.fleet.totals();
        inner.shares.remove(&pool.workspace, &pool.ask, &totals);
        drop(inner);
        if self.contended.load(Ordering::Acquire) {
            self.changed.notify_one();
        }
    }

    /// Somebody wants room that is not there.
    pub fn wanted(&self) {
        self.contended.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The workspace that has to make room for a replica of this function.
    fn yields_to(&self, pool: &Pool) -> Option<String> {
        let inner = self.inner.lock().expect("no panic while locked");
        inner.shares.yields_to(&pool.workspace, &pool.ask).map(String::from)
    }

    fn next(&self, claims: &[Claim<'_>]) -> Option<usize> {
        self.inner.lock().expect("no panic while locked").shares.next(claims)
    }
}

/// Gives room to those who wait for it, the workspace with the smallest share first; takes it from idle replicas.
pub async fn share_out(engine: Arc<Engine>) {
    loop {
        engine.room.changed.notified().await;
        share_once(&engine);
    }
}

fn share_once(engine: &Engine) {
    let mut starved: Vec<Arc<Pool>> = engine.pools().into_iter().filter(|pool| pool.is_starved()).collect();
    while !starved.is_empty() {
        let waits: Vec<u64> = starved.iter().map(|pool| rank(pool)).collect();
        let claims: Vec<_> = starved
            .iter()
            .zip(&waits)
            .enumerate()
            .map(|(index, (pool, waiting_ms))| Claim {
                workspace: &pool.workspace,
                waiting_ms: *waiting_ms,
                index,
            })
            .collect();
        let Some(index) = engine.room.next(&claims) else { break };
        if !starved[index].scale_in_turn() {
            // The next replica that ends makes room.
            reclaim(engine, &starved[index]);
            return;
        }
        if !starved[index].is_starved() {
            starved.remove(index);
        }
    }
    engine.room.contended.store(false, Ordering::Release);
}

/// How long its oldest call waits, in milliseconds; a function without any replica comes before those that have some.
fn rank(pool: &Pool) -> u64 {
    let first = if pool.counts().0 == 0 { u64::MAX / 2 } else { 0 };
    first + pool.longest_wait_ms()
}

/// Makes room for one replica of this function: of an idle replica of another one, or, when all are busy, of one whose
/// owner has to yield, which then takes no more calls and ends with the last it has.
fn reclaim(engine: &Engine, needy: &Pool) {
    let pools = engine.pools();
    let others = || pools.iter().filter(|pool| pool.id != needy.id);
    let longest: Option<(Instant, &Arc<Pool>)> =
        others().filter_map(|pool| Some((pool.idle_since()?, pool))).min_by_key(|(since, _)| *since);
    if let Some((_, pool)) = longest {
        return pool.stop_one_idle();
    }
    // One at a time: what ends already may be room enough.
    if pools.iter().any(|pool| pool.is_making_room()) {
        return;
    }
    let yielding = engine.room.yields_to(needy);
    let must_yield = |pool: &&Arc<Pool>| match &yielding {
        Some(workspace) => *pool.workspace == **workspace,
        // Within one workspace each function gets a first replica.
        None => pool.workspace == needy.workspace && needy.counts().0 == 0 && pool.counts().0 > 1,
    };
    if let Some(pool) = others().filter(must_yield).max_by_key(|pool| pool.counts().0) {
        pool.retire_one();
    }
}

fn machine_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64 * info.mem_unit as u64) >> 20
}

fn free_disk_mib(path: &std::path::Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |disk| (disk.f_bavail * disk.f_frsize) >> 20)
}
