//! How a model is, and how its setup went.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::clock;
use crate::life::Health;

/// Bytes of what a setup prints that are kept.
const LOGS_MAX: usize = 1 << 20;
/// Where a probe of Kubernetes looks for the file.
const READINESS_FOLDER: &str = "/var/run/cog";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupStatus {
    Starting,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone)]
pub struct Setup {
    started: Option<SystemTime>,
    completed: Option<SystemTime>,
    status: SetupStatus,
    logs: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self { started: None, completed: None, status: SetupStatus::Starting, logs: String::new() }
    }
}

impl Setup {
    pub fn begin(now: SystemTime) -> Self {
        Self { started: Some(now), ..Self::default() }
    }

    pub fn print(&mut self, text: &str) {
        if self.logs.len() + text.len() <= LOGS_MAX {
            self.logs.push_str(text);
        }
    }

    pub fn end(&mut self, status: SetupStatus, now: SystemTime) {
        self.status = status;
        self.completed = Some(now);
    }

    /// What an answer says of a setup that failed.
    pub fn last_line(&self) -> &str {
        self.logs.trim_end().lines().next_back().unwrap_or("it said nothing")
    }

    fn json(&self) -> Value {
        let time = |time: SystemTime| {
            let mut text = Vec::new();
            clock::write(time, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let status = match self.status {
            SetupStatus::Starting => "starting",
            SetupStatus::Succeeded => "succeeded",
            SetupStatus::Failed => "failed",
        };
        let mut value = json!({"logs": self.logs, "status": status});
        for (name, at) in [("started_at", self.started), ("completed_at", self.completed)] {
            if let Some(at) = at {
                value[name] = time(at).into();
            }
        }
        value
    }
}

/// What a lane shows of itself.
pub struct View {
    pub health: Health,
    pub busy: bool,
    pub setup: Setup,
    pub queued: usize,
    pub running: usize,
}

impl View {
    pub fn status(&self, sick: bool) -> &'static str {
        match self.health {
            Health::Up if sick => "UNHEALTHY",
            Health::Up if self.busy => "BUSY",
            Health::Up => "READY",
            Health::Starting | Health::Restarting { .. } => "STARTING",
            Health::SetupFailed => "SETUP_FAILED",
            Health::Defunct => "DEFUNCT",
            Health::Cold => "UNKNOWN",
        }
    }

    /// The answer to `GET /health-check`.
    pub fn json(&self, sick: Option<&str>, version: &Value) -> Value {
        let mut value =
            json!({"setup": self.setup.json(), "status": self.status(sick.is_some()), "version": version});
        if let Some(sick) = sick {
            value["user_healthcheck_error"] = sick.into();
        }
        value
    }
}

/// Says to Kubernetes that the model is ready.
pub fn write_readiness_file() {
    let written = std::fs::create_dir_all(READINESS_FOLDER)
        .and_then(|()| std::fs::write(format!("{READINESS_FOLDER}/ready"), b""));
    if let Err(error) = written {
        tracing::warn!(%error, folder = READINESS_FOLDER, "could not say that the model is ready");
    }
}
