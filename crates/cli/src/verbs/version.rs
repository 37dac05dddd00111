//! `clunk version`

use std::process::ExitCode;

use serde_json::json;

use crate::ui::{self, Output};
use crate::{embed, home};

pub fn run(output: Output) -> anyhow::Result<ExitCode> {
    let server = home::local_server().map(|server| server.version);
    if output.json {
        ui::print_json(&json!({"version": env!("CARGO_PKG_VERSION"), "sdk": embed::KEY, "server": server}));
    } else {
        ui::print(format_args!("clunk {}", env!("CARGO_PKG_VERSION")));
        if let Some(server) = server.filter(|server| server != env!("CARGO_PKG_VERSION")) {
            output.say(format_args!(
                "the running server is {server}; `clunk down` and `clunk up` bring it up to date"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
