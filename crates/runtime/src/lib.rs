//! Containers: the [`Runtime`] port, the native runtime, and a fake for tests.

mod cgroup;
pub mod contract;
mod fake;
mod fdpass;
mod helper;
mod native;
mod net;
mod port;
mod seccomp;
mod step;
mod sys;
mod wire;

pub use fake::{FakeContainer, FakeRuntime};
pub use helper::spawner_main;
pub use native::{NativeConfig, NativeRuntime};
pub use port::*;
pub use wire::PoolSize;
