//! `clunk logs`

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clunk_core::api::{AppEvent, AppRecord};
use clunk_core::error::ErrorCode;

use crate::api::Client;
use crate::args::Logs;
use crate::ui::{self, Output};
use crate::{home, launch};

/// A server's log is a plain file; this is how often it is looked at.
const POLL: Duration = Duration::from_millis(200);

pub fn run(args: Logs, output: Output) -> anyhow::Result<ExitCode> {
    if args.server {
        return server_log(&args);
    }
    let client = Client::new(home::need_server()?);
    let query = match &args.of {
        Some(id) if id.starts_with("call-") => format!("call={id}"),
        Some(id) => format!("app={id}"),
        None => format!("app={}", newest(&client, output)?),
    };
    let tail = args.tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
    let follow = if args.follow { "&follow=true" } else { "" };
    for line in client.lines(&format!("/api/logs?{query}{tail}{follow}"))? {
        let line = line?;
        if output.json {
            ui::print(line);
        } else if let Ok(AppEvent::Log(log)) = serde_json::from_str(&line) {
            let text = log.text.as_bytes();
            let written = match log.stream.as_str() {
                "stderr" => std::io::stderr().write_all(text),
                _ => std::io::stdout().write_all(text),
            };
            if written.is_err() {
                break;
            }
        }
    }
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}

fn newest(client: &Client, output: Output) -> anyhow::Result<String> {
    let apps: Vec<AppRecord> = client.get("/api/apps")?;
    let Some(app) = apps.first() else {
        return Err(ui::error(ErrorCode::NotFound, "no app has run here yet", "clunk run FILE runs one"));
    };
    output.say(format_args!("{} ({}, {})", app.id, app.name, ui::ago(app.created_ms)));
    Ok(app.id.to_string())
}

fn server_log(args: &Logs) -> anyhow::Result<ExitCode> {
    let path = launch::log_path();
    let mut file = std::fs::File::open(&path).map_err(|error| {
        let text = format!("could not read {}: {error}", path.display());
        ui::error(ErrorCode::NotFound, text, "a server in the foreground logs to its terminal")
    })?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(args.tail.unwrap_or(usize::MAX))..] {
        ui::print(line);
    }
    if args.follow {
        follow(&mut file)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is appended, until the reader goes away.
fn follow(file: &mut std::fs::File) -> anyhow::Result<()> {
    loop {
        let mut more = String::new();
        file.read_to_string(&mut more)?;
        if more.is_empty() {
            std::thread::sleep(POLL);
        } else {
            ui::print(more.trim_end());
        }
    }
}
