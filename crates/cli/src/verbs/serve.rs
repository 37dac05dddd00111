//! `clunk serve`: serves a Cog model over HTTP; hands over to the Python half.

use std::process::ExitCode;

use crate::args::Serve;
use crate::launch;
use crate::ui::Output;
use crate::verbs::run::{become_python, says};

pub fn run(args: Serve, output: Output) -> anyhow::Result<ExitCode> {
    let words = &args.words;
    let output = Output { quiet: output.quiet || says(words, &["--quiet", "-q"]), ..output };
    let local = says(words, &["--local"]);
    let help = says(words, &["--help", "-h"]);
    if !help {
        output.say(if local { "serving without a container" } else { "preparing the model" });
    }
    let target = if local || help { None } else { Some(launch::ensure_server(output)?) };
    become_python("serve", words, target.as_ref(), output)
}
