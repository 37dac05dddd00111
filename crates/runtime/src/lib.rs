//! Containers: the [`Runtime`] port, the native runtime, and a fake for tests.

mod port;

pub use port::*;
