//! `clunk serve`: serves a Cog model over HTTP; hands over to the Python half.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clunk_core::error::ErrorCode;

use crate::args::Serve;
use crate::launch;
use crate::ui::{self, Output};
use crate::verbs::run;

pub fn run(args: Serve, output: Output) -> anyhow::Result<ExitCode> {
    let local = has(&args.words, &["--local"]);
    let help = has(&args.words, &["--help", "-h"]);
    if !help {
        output.say(if local { "serving without a container" } else { "preparing the model" });
    }
    let target = if local || help { None } else { Some(launch::ensure_server(output)?) };
    let mut command = run::python(target.as_ref())?;
    command.args(["-m", "clunk", "serve"]);
    command.args(output.json.then_some("--json")).args(output.quiet.then_some("--quiet"));
    let error = command.args(&args.words).exec();
    let hint = "install Python 3.9 or newer, or set CLUNK_PYTHON to one";
    Err(ui::error(ErrorCode::NotFound, format!("could not start {:?}: {error}", command.get_program()), hint))
}

fn has(words: &[OsString], names: &[&str]) -> bool {
    words.iter().any(|word| names.contains(&word.to_string_lossy().as_ref()))
}
