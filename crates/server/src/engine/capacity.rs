//! What this machine has room for.

use std::sync::Mutex;

use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::{DEFAULT_MEMORY_MIB, FunctionSpec};

/// Containers at the same time; each has some 20 mounts and a network namespace.
const MAX_REPLICAS: usize = 512;
/// Share of the machine's memory that containers may set aside.
const MEMORY_SHARE_PERCENT: u64 = 90;

/// Memory is counted against the machine; cores are shared by weight, so that many waiting containers fit on few.
pub struct Capacity {
    memory_mib: u64,
    /// Asked once: the answer is read from files.
    cores: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    memory_mib: u64,
    replicas: usize,
}

/// MiB that one replica sets aside.
pub fn memory_of(spec: &FunctionSpec) -> u64 {
    spec.resources.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB)
}

impl Capacity {
    pub fn of_this_machine() -> Self {
        Self::new(machine_memory_mib() * MEMORY_SHARE_PERCENT / 100)
    }

    fn new(memory_mib: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory_mib, cores, used: Mutex::default() }
    }

    /// MiB that a container without a limit of its own may use at most.
    pub fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Refuses what can never be placed here.
    pub fn check(&self, spec: &FunctionSpec) -> Result<(), ErrorBody> {
        let wanted = memory_of(spec);
        if wanted <= self.memory_mib {
            return Ok(());
        }
        let text = format!(
            "function `{}` asks for {wanted} MiB of memory; this machine has {} MiB for containers",
            spec.name, self.memory_mib
        );
        Err(ErrorBody::new(ErrorCode::BadRequest, text).hint("ask for less: memory= is in MiB"))
    }

    /// Sets memory aside for one replica, if there is room.
    pub fn reserve(&self, memory_mib: u64) -> bool {
        let mut used = self.used.lock().expect("no panic while locked");
        let fits = used.memory_mib + memory_mib <= self.memory_mib && used.replicas < MAX_REPLICAS;
        if fits {
            used.memory_mib += memory_mib;
            used.replicas += 1;
        }
        fits
    }

    pub fn release(&self, memory_mib: u64) {
        let mut used = self.used.lock().expect("no panic while locked");
        used.memory_mib -= memory_mib;
        used.replicas -= 1;
    }
}

fn machine_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64 * info.mem_unit as u64) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let capacity = Capacity::new(300);
        assert!(capacity.reserve(128) && capacity.reserve(128));
        assert!(!capacity.reserve(128));
        capacity.release(128);
        assert!(capacity.reserve(100));
    }
}
