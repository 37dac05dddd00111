//! `clunk status`: what the server does, once or as a live screen.

mod frame;
mod live;
mod snapshot;

use std::io::IsTerminal;
use std::process::ExitCode;

use clunk_core::api::{ContainerRecord, Status as ServerStatus};
use serde_json::json;

use crate::api::Client;
use crate::args::Status;
use crate::ui::{self, Output};
use crate::verbs::container;
use crate::{home, table};

pub fn run(args: Status, output: Output) -> anyhow::Result<ExitCode> {
    let Some(target) = home::find_server()? else {
        if output.json {
            ui::print_json(&json!({"running": false}));
        } else {
            ui::print("no server is running; `clunk up` or any `clunk run` starts one");
        }
        return Ok(ExitCode::from(3));
    };
    if !args.once && !output.json && std::io::stdout().is_terminal() {
        return live::run(target);
    }
    let client = Client::new(target);
    if output.json {
        let status: ServerStatus = client.get("/api/status")?;
        let containers: Vec<ContainerRecord> = client.get("/api/containers")?;
        ui::print_json(&json!({"running": true, "server": status, "containers": containers}));
        return Ok(ExitCode::SUCCESS);
    }
    let snapshot = snapshot::Watch::new(client).take()?;
    frame::server_lines(&snapshot).iter().for_each(|line| ui::print(&line.text));
    if !snapshot.functions.is_empty() {
        ui::print("");
        frame::function_lines(&snapshot).iter().for_each(|line| ui::print(&line.text));
    }
    if !snapshot.containers.is_empty() {
        ui::print("");
        let rows: Vec<_> = snapshot.containers.iter().map(container::row).collect();
        table::print(&container::COLUMNS, &rows);
    }
    Ok(ExitCode::SUCCESS)
}
