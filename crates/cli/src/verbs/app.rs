//! `clunk app`

use std::process::ExitCode;

use clunk_core::api::{AppRecord, FunctionRecord, Scaling};
use serde_json::json;

use crate::api::Client;
use crate::args::App;
use crate::table::{number, text};
use crate::ui::{self, Output};
use crate::{clock, find, home, table};

pub fn run(verb: App, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(home::need_server()?);
    match verb {
        App::List { running } => list(&client, running, output)?,
        App::Show { app } => show(&client, &app, output)?,
        App::Stop { app } => stop(&client, &app, output)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(client: &Client, running: bool, output: Output) -> anyhow::Result<()> {
    let mut apps: Vec<AppRecord> = client.get("/api/apps")?;
    apps.retain(|app| !running || app.state == "running");
    if output.json {
        ui::print_json(&apps);
        return Ok(());
    }
    if apps.is_empty() {
        output.say(if running {
            "no app runs; clunk run FILE runs one"
        } else {
            "no apps yet; clunk run FILE runs one"
        });
        return Ok(());
    }
    let row = |app: &AppRecord| {
        let lasted = app.stopped_ms.map(|end| ui::duration_ms(end.saturating_sub(app.created_ms)));
        vec![
            app.id.to_string(),
            ui::one_line(&app.name),
            app.state.clone(),
            ui::ago(app.created_ms),
            lasted.unwrap_or_default(),
            app.functions.join(", "),
        ]
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    let columns =
        [text("APP"), text("NAME"), text("STATE"), text("STARTED"), text("LASTED"), text("FUNCTIONS")];
    table::print(&columns, &rows);
    Ok(())
}

/// The functions of an app that runs; one that has stopped has none.
pub fn functions(client: &Client, app: &AppRecord) -> anyhow::Result<Vec<FunctionRecord>> {
    Ok(find::if_known(client, &format!("/api/apps/{}/functions", app.id))?.unwrap_or_default())
}

fn show(client: &Client, name: &str, output: Output) -> anyhow::Result<()> {
    let app = find::app(client, name, output)?;
    let functions = functions(client, &app)?;
    if output.json {
        ui::print_json(&json!({"app": app, "functions": functions}));
        return Ok(());
    }
    ui::print(format_args!("{}  {}  {}", app.id, ui::one_line(&app.name), app.state));
    ui::print(format_args!("started  {} ({})", ui::ago(app.created_ms), clock::date_time(app.created_ms)));
    if let Some(end) = app.stopped_ms {
        let lasted = ui::duration_ms(end.saturating_sub(app.created_ms));
        ui::print(format_args!("stopped  {} ({}), after {lasted}", ui::ago(end), clock::date_time(end)));
    }
    if functions.is_empty() {
        ui::print(format_args!("functions  {}", app.functions.join(", ")));
        return Ok(());
    }
    ui::print("");
    let rows: Vec<_> = functions.iter().map(row).collect();
    let columns = [
        text("FUNCTION"),
        text("NAME"),
        number("WAITING"),
        number("RUNNING"),
        number("CONTAINERS"),
        text("OF"),
        text("IDLE FOR"),
    ];
    table::print(&columns, &rows);
    Ok(())
}

fn row(function: &FunctionRecord) -> Vec<String> {
    vec![
        function.id.to_string(),
        function.name.clone(),
        ui::count(function.queued),
        ui::count(function.running),
        ui::count(function.replicas.into()),
        limits(&function.scaling),
        function.scaling.scaledown_window_s.map_or_else(|| "-".into(), ui::duration_s),
    ]
}

/// `0 to 100`, `2 or more`, `0 to 10, 1 spare`.
fn limits(scaling: &Scaling) -> String {
    let least = scaling.min_containers.unwrap_or(0);
    let range = match scaling.max_containers {
        Some(most) => format!("{least} to {most}"),
        None => format!("{least} or more"),
    };
    match scaling.buffer_containers {
        Some(spare) if spare > 0 => format!("{range}, {spare} spare"),
        _ => range,
    }
}

fn stop(client: &Client, name: &str, output: Output) -> anyhow::Result<()> {
    let app = find::app_to_stop(client, name)?;
    if app.state != "running" {
        if output.json {
            ui::print_json(&json!({"app": app.id, "state": app.state}));
        } else {
            output.say(format_args!("{} ({}) had stopped already", app.id, ui::one_line(&app.name)));
        }
        return Ok(());
    }
    let stopped: serde_json::Value = client.post_for(&format!("/api/apps/{}/stop", app.id), &json!({}))?;
    if output.json {
        ui::print_json(&stopped);
    } else {
        output.say(format_args!("stopped {} ({})", app.id, ui::one_line(&app.name)));
        output.say(format_args!("what it did: clunk call list --app {}", app.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_a_range() {
        let scaling = |min_containers, max_containers, buffer_containers| Scaling {
            min_containers,
            max_containers,
            buffer_containers,
            scaledown_window_s: None,
        };
        assert_eq!(limits(&scaling(None, Some(100), Some(0))), "0 to 100");
        assert_eq!(limits(&scaling(Some(2), None, None)), "2 or more");
        assert_eq!(limits(&scaling(Some(0), Some(10), Some(1))), "0 to 10, 1 spare");
    }
}
