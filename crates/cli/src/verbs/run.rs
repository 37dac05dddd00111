//! `clunk run`: finds or starts the server, then hands over to the Python half.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clunk_core::error::ErrorCode;
use clunk_core::model::ModelName;

use crate::args::Run;
use crate::home::Target;
use crate::ui::{self, Output};
use crate::{embed, home, launch};

/// Options of ours that have a value.
const WITH_VALUE: [&str; 9] =
    ["--secret", "-i", "--input", "-o", "--output", "-n", "--name", "-w", "--write-result"];

pub fn run(args: Run, output: Output) -> anyhow::Result<ExitCode> {
    let (ours, _) = split(&args.words);
    let quiet = ours.iter().any(|word| ["--quiet", "-q"].contains(&word.as_ref()));
    let output = Output { quiet: output.quiet || quiet, ..output };
    let target = if needs_server(&args.words) { Some(launch::ensure_server(output)?) } else { None };
    become_python("run", &args.words, target.as_ref(), output)
}

/// Becomes the Python half of a verb; returns only when that cannot be started.
pub fn become_python(
    verb: &str,
    words: &[OsString],
    target: Option<&Target>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut command = python(target)?;
    command.args(["-m", "clunk", verb]);
    command.args(output.json.then_some("--json")).args(output.quiet.then_some("--quiet"));
    let error = command.args(words).exec();
    let hint = "install Python 3.9 or newer, or set CLUNK_PYTHON to one";
    Err(ui::error(ErrorCode::NotFound, format!("could not start {:?}: {error}", command.get_program()), hint))
}

/// The options in front of FILE, or of a model, which are ours, and FILE; what follows is the user's.
fn split(words: &[OsString]) -> (Vec<Cow<'_, str>>, Option<Cow<'_, str>>) {
    let mut ours = Vec::new();
    let mut words = words.iter().map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.as_ref()) {
            words.next();
        } else if word.starts_with('-') && word != "-" {
            ours.push(word);
        } else {
            return (ours, Some(word));
        }
    }
    (ours, None)
}

/// Help, a debugger's run, and a file that is not there need none.
fn needs_server(words: &[OsString]) -> bool {
    let (ours, file) = split(words);
    let says = |names: &[&str]| ours.iter().any(|word| names.contains(&word.as_ref()));
    let Some(file) = file else { return false };
    if says(&["--local", "--help", "-h"]) {
        return false;
    }
    let path = file.split("::").next().unwrap_or_default();
    says(&["-m", "--module"]) || Path::new(path).exists() || is_model(&file)
}

/// `owner/name` or `owner/name:version`. A file that is not there, and has no such name, needs no server.
fn is_model(word: &str) -> bool {
    let name = word.split(':').next().unwrap_or_default();
    !word.ends_with(".py") && name.parse::<ModelName>().is_ok()
}

/// Whether one of the names is among the words.
pub fn says(words: &[OsString], names: &[&str]) -> bool {
    words.iter().any(|word| names.iter().any(|name| word == name))
}

/// A Python with our SDK on its path, told where the server is.
pub fn python(target: Option<&Target>) -> anyhow::Result<Command> {
    let cache = home::cache_dir();
    let sdk = embed::lay_out(&cache).map_err(|error| {
        let text = format!("could not write the Python SDK to {}: {error}", cache.display());
        ui::error(ErrorCode::Internal, text, "set XDG_CACHE_HOME to a folder that you may write to")
    })?;
    let mut command = Command::new(interpreter());
    let mut paths = vec![sdk];
    paths.extend(std::env::var_os("PYTHONPATH").iter().flat_map(std::env::split_paths));
    command.env("PYTHONPATH", std::env::join_paths(paths)?);
    command.env("CLUNK_BIN", std::env::current_exe()?);
    if let Some(target) = target {
        command.env("CLUNK_SERVER_URL", &target.url).env("CLUNK_TOKEN", &target.token);
    }
    Ok(command)
}

fn interpreter() -> PathBuf {
    if let Some(python) = std::env::var_os("CLUNK_PYTHON").filter(|python| !python.is_empty()) {
        return python.into();
    }
    let environment = std::env::var_os("VIRTUAL_ENV").map(|folder| PathBuf::from(folder).join("bin/python"));
    environment.filter(|python| python.exists()).unwrap_or_else(|| "python3".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_work_starts_a_server() {
        assert!(needs_server(&words("/etc/passwd::main --local")));
        assert!(needs_server(&words("-m package.module")));
        assert!(needs_server(&words("-i prompt=hello acme/hello:9f86d0")));
        assert!(needs_server(&words("-n name /etc/passwd::main --local")));
        for text in [
            "--local /etc/passwd",
            "-n name --local /etc/passwd",
            "--help",
            "missing.py",
            "missing.py data/x",
            "-h /etc/passwd",
            "dir/missing.py",
            "./a/b",
            "a/-b",
        ] {
            assert!(!needs_server(&words(text)), "{text}");
        }
    }
}
