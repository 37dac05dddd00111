//! `clunk push`, `predict`, `train` and `model`: finds or starts the server, then hands over to the Python half.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::launch;
use crate::ui::Output;
use crate::verbs::run::{become_python, says};

/// Runs one of them.
pub fn run(verb: &str, words: &[OsString], output: Output) -> anyhow::Result<ExitCode> {
    let output = Output { quiet: output.quiet || says(words, &["--quiet", "-q"]), ..output };
    // What a project's own source tells, and what is no command, needs no server.
    let asks =
        words.iter().all(|word| word.to_string_lossy().starts_with('-')) || says(words, &["--help", "-h"]);
    let target = if asks { None } else { Some(launch::ensure_server(output)?) };
    become_python(verb, words, target.as_ref(), output)
}
