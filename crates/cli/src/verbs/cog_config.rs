//! `clunk __cog-config`: a model's settings for other programs.

use std::process::ExitCode;

use crate::args::CogConfig;
use crate::cog;
use crate::ui;

pub fn run(args: CogConfig) -> anyhow::Result<ExitCode> {
    let described = cog::describe(&args.folder, args.file.as_deref())?;
    ui::print(serde_json::to_string(&described)?);
    Ok(ExitCode::SUCCESS)
}
