//! `clunk completions`

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::ui;

pub fn run(args: Completions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "clunk", &mut script);
    ui::print(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}
