//! Containers: the [`Runtime`] port, the native runtime, and a fake for tests.
//!
//! A binary that runs containers calls [`spawner_main`] first thing in `main` when it is started with words of its own
//! choice, and gives the same words to the runtime:
//!
//! ```no_run
//! use clunk_runtime::{NativeConfig, NativeRuntime, spawner_main};
//!
//! fn main() -> std::process::ExitCode {
//!     if std::env::args().nth(1).as_deref() == Some("spawn-containers") {
//!         return spawner_main();
//!     }
//!     let program = std::env::current_exe().expect("a program has a path").to_string_lossy().into_owned();
//!     let helper = vec![program, "spawn-containers".into()];
//!     let runtime = NativeRuntime::new(NativeConfig::new("/var/lib/clunk/runtime", helper));
//!     // ... hand it to the agent.
//!     drop(runtime);
//!     std::process::ExitCode::SUCCESS
//! }
//! ```
//!
//! docs/containers.md has the order of confinement, which `helper/` follows line by line.

mod cgroup;
pub mod contract;
mod fake;
mod fdpass;
mod gpu;
mod helper;
mod native;
mod net;
mod port;
mod process;
mod seccomp;
mod step;
mod sys;
mod wire;

pub use fake::{FakeContainer, FakeRuntime};
pub use gpu::machine_gpus;
pub use helper::spawner_main;
pub use native::{NativeConfig, NativeRuntime};
pub use port::*;
pub use process::ProcessRuntime;
pub use wire::PoolSize;
