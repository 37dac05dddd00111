//! What the server does at one moment.

use std::collections::VecDeque;
use std::time::Instant;

use clunk_core::api::{AppRecord, CallRecord, ContainerRecord, Status};
use clunk_core::id::AppId;

use crate::api::Client;
use crate::ui;
use crate::verbs::app;

/// Running apps of which the functions are asked for: each is a request.
const MAX_APPS: usize = 20;
/// Calls that are shown: more lines than a screen has are of no use.
const CALLS: usize = 60;
/// Rates that are kept, one for each look.
const MAX_RATES: usize = 60;

/// A function of an app that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub app: AppId,
    pub app_name: String,
    pub name: String,
    pub queued: u64,
    pub running: u64,
}

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub now_ms: u64,
    pub status: Status,
    pub functions: Vec<Function>,
    /// Running apps that were not asked for their functions.
    pub more_apps: usize,
    pub containers: Vec<ContainerRecord>,
    /// Newest first.
    pub calls: Vec<CallRecord>,
    /// Calls that ended in a second, the newest rate last; empty before the second look.
    pub rates: Vec<f64>,
}

/// A line for each name of an app: what was made from a function with other options counts with it. Containers of what was
/// not asked for have lines as well. What works stands first; the order is otherwise the one in which they came.
fn lines_of(functions: Vec<Function>, containers: &[ContainerRecord]) -> Vec<Function> {
    let mut lines: Vec<Function> = Vec::new();
    for function in functions {
        match lines.iter_mut().find(|line| line.app == function.app && line.name == function.name) {
            Some(line) => {
                line.queued += function.queued;
                line.running += function.running;
            }
            None => lines.push(function),
        }
    }
    let asked = lines.len();
    for container in containers {
        let at = lines.iter().position(|line| line.app == container.app && line.name == container.function);
        match at {
            Some(at) if at < asked => {}
            Some(at) => lines[at].running += u64::from(container.running),
            None => lines.push(Function {
                app: container.app,
                app_name: ui::one_line(&container.app_name),
                name: container.function.clone(),
                queued: 0,
                running: container.running.into(),
            }),
        }
    }
    lines.sort_by_key(|line| line.queued + line.running == 0);
    lines
}

/// Looks at a server again and again.
pub struct Watch {
    client: Client,
    /// When the last look was, and how many calls had ended then.
    last: Option<(Instant, u64)>,
    rates: VecDeque<f64>,
}

impl Watch {
    pub fn new(client: Client) -> Self {
        Self { client, last: None, rates: VecDeque::new() }
    }

    pub fn take(&mut self) -> anyhow::Result<Snapshot> {
        let status: Status = self.client.get("/api/status")?;
        self.count(Instant::now(), status.calls_ended);
        let containers: Vec<ContainerRecord> = self.client.get("/api/containers")?;
        let calls: Vec<CallRecord> = self.client.get(&format!("/api/calls?limit={CALLS}"))?;
        let mut apps: Vec<AppRecord> = self.client.get("/api/apps")?;
        apps.retain(|app| app.state == "running");
        let more_apps = apps.len().saturating_sub(MAX_APPS);
        let mut functions = Vec::new();
        for app in apps.into_iter().take(MAX_APPS) {
            functions.extend(self.functions(&app)?);
        }
        let functions = lines_of(functions, &containers);
        let rates = self.rates.iter().copied().collect();
        Ok(Snapshot { now_ms: ui::now_ms(), status, functions, more_apps, containers, calls, rates })
    }

    fn functions(&self, app: &AppRecord) -> anyhow::Result<Vec<Function>> {
        let of = |name: &str, queued, running| Function {
            app: app.id,
            app_name: ui::one_line(&app.name),
            name: name.into(),
            queued,
            running,
        };
        let records = app::functions(&self.client, app)?;
        Ok(records.iter().map(|record| of(&record.name, record.queued, record.running)).collect())
    }

    fn count(&mut self, now: Instant, ended: u64) {
        if let Some((then, before)) = self.last.replace((now, ended)) {
            let seconds = now.duration_since(then).as_secs_f64();
            // A server that was started again has begun to count anew.
            let rate = ended.saturating_sub(before) as f64 / seconds.max(f64::EPSILON);
            self.rates.push_back(rate);
            if self.rates.len() > MAX_RATES {
                self.rates.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::home::Target;

    #[test]
    fn a_line_for_each_name_of_an_app() {
        let app = AppId::from_parts(1, [0; 10]);
        let other = AppId::from_parts(2, [0; 10]);
        let function = |app, name: &str, queued, running| Function {
            app,
            app_name: "hello".into(),
            name: name.into(),
            queued,
            running,
        };
        let container = |app, function: &str, running| ContainerRecord {
            replica: clunk_core::id::ReplicaId::from_parts(1, [0; 10]),
            app,
            app_name: "hello".into(),
            function: function.into(),
            state: "busy".into(),
            running,
            pid: 1,
            memory_bytes: 0,
            cpu_ms: 0,
            started_ms: 0,
        };
        let functions =
            vec![function(app, "idle", 0, 0), function(app, "greet", 1, 2), function(app, "greet", 10, 20)];
        let containers =
            [container(app, "greet", 4), container(other, "greet", 1), container(other, "greet", 2)];
        let lines = lines_of(functions, &containers);
        let expected =
            [function(app, "greet", 11, 22), function(other, "greet", 0, 3), function(app, "idle", 0, 0)];
        assert_eq!(lines, expected);
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let target = Target { url: "http://127.0.0.1:1".into(), token: String::new() };
        let mut watch = Watch::new(Client::new(target));
        let start = Instant::now();
        for (seconds, ended) in [(0, 100), (2, 300), (3, 310), (4, 0)] {
            watch.count(start + Duration::from_secs(seconds), ended);
        }
        assert_eq!(watch.rates, [100.0, 10.0, 0.0]);
        for second in 5..200 {
            watch.count(start + Duration::from_secs(second), 0);
        }
        assert_eq!(watch.rates.len(), MAX_RATES);
    }
}
