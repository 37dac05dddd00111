//! `clunk open`

use std::io::IsTerminal;
use std::process::{Command, ExitCode, Stdio};

use clunk_core::error::ErrorCode;
use clunk_core::model::ModelName;
use serde::Deserialize;
use serde_json::json;

use crate::api::Client;
use crate::args::Open;
use crate::launch;
use crate::ui::{self, Output};

#[derive(Deserialize)]
struct Ticket {
    ticket: String,
    expires_s: u64,
}

pub fn run(args: Open, output: Output) -> anyhow::Result<ExitCode> {
    let model = args.model.as_deref().map(name).transpose()?;
    let client = Client::new(launch::ensure_server(output)?);
    let path = match model {
        Some(model) if !client.has(&format!("/replicate/v1/models/{model}"))? => {
            let text = format!("there is no model {model}");
            return Err(ui::error(ErrorCode::NotFound, text, "`clunk model list` shows those that are"));
        }
        Some(model) => format!("/models/{model}"),
        None => "/".into(),
    };
    let Ticket { ticket, expires_s } = client.post_for("/api/tickets", &json!({}))?;
    let url = format!("{}{path}?token={ticket}", client.target().url);
    if output.json {
        ui::print_json(&json!({"url": url, "expires_s": expires_s}));
        return Ok(ExitCode::SUCCESS);
    }
    ui::print(&url);
    output.say(format_args!("whoever opens this within {} min is signed in", expires_s / 60));
    if std::io::stdout().is_terminal() && has_desktop() {
        // A machine without a browser says so by itself, and the address stands above.
        let show = Command::new("xdg-open").arg(&url).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        if show.is_ok() {
            output.say("opening it in your browser");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn name(text: &str) -> anyhow::Result<ModelName> {
    let (owner, name) = text.split_once('/').unwrap_or(("", text));
    ModelName::new(owner, name).map_err(|error| {
        ui::error(ErrorCode::BadRequest, error.to_string(), "for example: clunk open me/hello")
    })
}

fn has_desktop() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
