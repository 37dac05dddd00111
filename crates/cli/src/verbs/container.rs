//! `clunk container`

use std::process::ExitCode;

use clunk_core::api::ContainerRecord;
use serde_json::json;

use crate::api::Client;
use crate::args::Container;
use crate::table::{Column, number, text};
use crate::ui::{self, Output};
use crate::verbs::logs::{self, Filter};
use crate::{find, home, table, terminal};

pub fn run(verb: Container, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(home::need_server()?);
    match verb {
        Container::List => list(&client, output),
        Container::Logs { id, follow } => {
            let mut filter = Filter::default();
            filter.container(&client, &id)?;
            logs::read(&client, &filter, follow, false, output)
        }
        Container::Exec { id, command } => exec(&client, &id, &command),
        Container::Stop { id } => stop(&client, &id, output),
    }
}

pub const COLUMNS: [Column; 8] = [
    text("CONTAINER"),
    text("APP"),
    text("FUNCTION"),
    text("STATE"),
    number("CALLS"),
    number("MEMORY"),
    number("PROCESSOR"),
    text("STARTED"),
];

pub fn row(container: &ContainerRecord) -> Vec<String> {
    vec![
        container.replica.to_string(),
        ui::one_line(&container.app_name),
        container.function.clone(),
        container.state.clone(),
        container.running.to_string(),
        ui::bytes(container.memory_bytes),
        ui::duration_ms(container.cpu_ms),
        ui::ago(container.started_ms),
    ]
}

fn list(client: &Client, output: Output) -> anyhow::Result<ExitCode> {
    let containers: Vec<ContainerRecord> = client.get("/api/containers")?;
    if output.json {
        ui::print_json(&containers);
    } else if containers.is_empty() {
        output.say("no containers run; a call starts one: clunk run FILE");
    } else {
        let rows: Vec<_> = containers.iter().map(row).collect();
        table::print(&COLUMNS, &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(client: &Client, id: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let container = find::container(client, id)?;
    let (rows, columns) = terminal::size();
    let term = std::env::var("TERM").unwrap_or_default();
    let request = json!({"command": command, "rows": rows, "columns": columns, "term": term});
    terminal::open(client.target(), &format!("/api/containers/{}/exec", container.replica), &request)
}

fn stop(client: &Client, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let container = find::container(client, id)?;
    client.post(&format!("/api/containers/{}/stop", container.replica), &json!({}))?;
    if output.json {
        ui::print_json(&json!({"container": container.replica, "state": "ending"}));
        return Ok(ExitCode::SUCCESS);
    }
    let moved = match container.running {
        0 => String::new(),
        running => format!("; {} given to others", ui::plural(running.into(), "call")),
    };
    output.say(format_args!("{} is ending{moved}", container.replica));
    output.say("what runs now: clunk container list");
    Ok(ExitCode::SUCCESS)
}
