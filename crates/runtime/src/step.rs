//! Which step of setting a container up failed, and why. The names are those of docs/containers.md.

use std::io;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub step: String,
    pub reason: String,
    /// The system's error number, or 0.
    pub errno: i32,
}

impl Failure {
    pub(crate) fn new(step: &str, reason: impl Into<String>) -> Self {
        Self { step: step.into(), reason: reason.into(), errno: 0 }
    }
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    fn step(self, name: &str) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, name: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step: name.into(),
            reason: error.to_string(),
            errno: error.raw_os_error().unwrap_or_default(),
        })
    }
}

impl<T> Step<T> for rustix::io::Result<T> {
    fn step(self, name: &str) -> Result<T, Failure> {
        self.map_err(io::Error::from).step(name)
    }
}

impl<T> Step<T> for Result<T, String> {
    fn step(self, name: &str) -> Result<T, Failure> {
        self.map_err(|reason| Failure::new(name, reason))
    }
}
