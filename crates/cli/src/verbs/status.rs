//! `clunk status`

use std::process::ExitCode;

use clunk_core::api::{ContainerRecord, Status};
use serde_json::json;

use crate::api::Client;
use crate::home;
use crate::ui::{self, Output};

pub fn run(output: Output) -> anyhow::Result<ExitCode> {
    let Some(target) = home::find_server()? else {
        if output.json {
            ui::print_json(&json!({"running": false}));
        } else {
            ui::print("no server is running; `clunk up` or any `clunk run` starts one");
        }
        return Ok(ExitCode::from(3));
    };
    let client = Client::new(target);
    let status: Status = client.get("/api/status")?;
    let containers: Vec<ContainerRecord> = client.get("/api/containers")?;
    if output.json {
        ui::print_json(&json!({"running": true, "server": status, "containers": containers}));
        return Ok(ExitCode::SUCCESS);
    }
    show(&status);
    if !containers.is_empty() {
        ui::print("");
        let rows: Vec<_> = containers.iter().map(row).collect();
        ui::table(&["CONTAINER", "FUNCTION", "STATE", "MEMORY", "CPU", "STARTED"], &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) {
    ui::print(format_args!("{}  clunk {}  process {}", status.url, status.version, status.pid));
    ui::print(format_args!(
        "up {} s, {} resident, state in {}",
        status.uptime_s,
        ui::bytes(status.memory_bytes),
        status.state_dir
    ));
    ui::print(format_args!(
        "{} apps, {} containers, {} calls running, {} waiting, {} ended, {} images",
        status.apps_running,
        status.replicas,
        status.calls_running,
        status.calls_queued,
        status.calls_ended,
        status.images
    ));
}

fn row(container: &ContainerRecord) -> Vec<String> {
    vec![
        container.replica.to_string(),
        container.function.clone(),
        container.state.clone(),
        ui::bytes(container.memory_bytes),
        format!("{:.1} s", container.cpu_ms as f64 / 1000.0),
        ui::ago(container.started_ms),
    ]
}
