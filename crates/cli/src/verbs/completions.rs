//! `clunk completions`

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Completions};

pub fn run(args: Completions) -> anyhow::Result<ExitCode> {
    clap_complete::generate(args.shell, &mut Cli::command(), "clunk", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
