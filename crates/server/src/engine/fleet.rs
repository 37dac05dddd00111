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
use tokio::sync::Notify;

use super::{Engine, Pool};

/// Containers at the same time; each has some 20 mounts and a network namespace.
const MAX_REPLICAS: u32 = 512;
/// Share of the machine's memory that containers may set aside.
const MEMORY_SHARE_PERCENT: u64 = 90;
/// A container asks for an eighth of a core unless told otherwise, and most wait for something most of the time.
const CPU_OVERCOMMIT: f64 = 64.0;
/// Where the driver lists its GPUs.
const NVIDIA_GPUS: &str = "/proc/driver/nvidia/gpus";

pub struct Room {
    inner: Mutex<Inner>,
    cores: usize,
    memory_mib: u64,
    gpu_kinds: Vec<String>,
    /// Somebody waits for room: all who want some stand in line.
    contended: AtomicBool,
    /// Room was freed, or is wanted.
    changed: Notify,
}

struct Inner {
    fleet: Fleet,
    shares: Shares,
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

/// The GPUs of this machine.
pub fn machine_gpus() -> Vec<GpuGroup> {
    gpus(std::path::Path::new(NVIDIA_GPUS))
}

impl Room {
    /// This machine. `state_dir`: on the disk whose space is counted.
    pub fn of_this_machine(state_dir: &std::path::Path) -> Self {
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
            gpus: machine_gpus(),
            replicas: 0,
            max_replicas: MAX_REPLICAS,
            schedulable: true,
        };
        Self::new(node, cores)
    }

    fn new(node: Node, cores: usize) -> Self {
        let memory_mib = node.memory_mib;
        let gpu_kinds = node.gpus.iter().map(|group| group.kind.clone()).collect();
        let mut fleet = Fleet::default();
        fleet.add(node);
        let inner = Mutex::new(Inner { fleet, shares: Shares::default() });
        Self {
            inner,
            cores,
            memory_mib,
            gpu_kinds,
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

    /// Kinds of the GPUs that this machine has.
    pub fn gpu_kinds(&self) -> Vec<String> {
        self.gpu_kinds.clone()
    }

    /// Refuses what can never be placed.
    pub fn check(&self, spec: &FunctionSpec) -> Result<(), ErrorBody> {
        let ask = ask(spec)?;
        let inner = self.inner.lock().expect("no panic while locked");
        inner.fleet.fits_ever(&ask).map_err(|why| never_fits(spec, &why))
    }

    /// Sets room aside for one replica. While others wait for room, only in turn.
    pub fn reserve(&self, pool: &Pool, in_turn: bool) -> Result<Placed, NoRoom> {
        if !in_turn && self.contended.load(Ordering::Acquire) {
            return Err(NoRoom::Now);
        }
        let mut inner = self.inner.lock().expect("no panic while locked");
        let placed = inner.fleet.place(&pool.ask, pool.spec.image)?;
        let totals = inner.fleet.totals();
        inner.shares.add(&pool.workspace, &pool.ask, &totals);
        Ok(placed)
    }

    pub fn release(&self, pool: &Pool, placed: &Placed) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        inner.fleet.release(placed, &pool.ask);
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

/// GPUs by kind, from the driver's list.
fn gpus(folder: &std::path::Path) -> Vec<GpuGroup> {
    let mut groups: Vec<GpuGroup> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path().join("information")).unwrap_or_default();
        let Some(model) = text.lines().find_map(|line| line.strip_prefix("Model:")) else { continue };
        let kind = kind_of(model);
        match groups.iter_mut().find(|group| group.kind == kind) {
            Some(group) => group.total += 1,
            None => groups.push(GpuGroup { kind, total: 1, used: 0 }),
        }
    }
    groups
}

/// `H100` of `NVIDIA H100 80GB HBM3`: the first word with a digit that is no size.
fn kind_of(model: &str) -> String {
    let words = model.trim().split([' ', '-']);
    let mut named = words.filter(|word| word.chars().any(|c| c.is_ascii_digit()) && !word.ends_with("GB"));
    named.next().unwrap_or(model.trim()).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_called_by_its_model() {
        let models =
            ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "Tesla T4", "NVIDIA L40S", "NVIDIA H200"];
        assert_eq!(models.map(kind_of), ["H100", "A100", "T4", "L40S", "H200"]);
    }

    #[test]
    fn the_drivers_list_is_counted_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        for (slot, model) in
            [("1", "NVIDIA H100 80GB HBM3"), ("2", "NVIDIA H100 80GB HBM3"), ("3", "Tesla T4")]
        {
            let path = folder.path().join(slot);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("information"), format!("Model: \t\t {model}\nIRQ: 1\n")).unwrap();
        }
        let mut found: Vec<_> =
            gpus(folder.path()).into_iter().map(|group| (group.kind, group.total)).collect();
        found.sort();
        assert_eq!(found, [("H100".to_string(), 2), ("T4".to_string(), 1)]);
        assert!(gpus(&folder.path().join("none")).is_empty());
    }
}
