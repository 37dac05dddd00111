//! `clunk init`

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clunk_core::error::ErrorCode;

use crate::args::Init;
use crate::ui::{self, Output};

const STARTER: &str = include_str!("../../templates/hello.py");

/// The word that asks for a Cog project instead of a file.
const COG: &str = "cog";

const COG_STARTER: &[(&str, &str)] = &[
    ("cog.yaml", include_str!("../../templates/cog/cog.yaml")),
    ("run.py", include_str!("../../templates/cog/run.py")),
];

pub fn run(args: Init, output: Output) -> anyhow::Result<ExitCode> {
    if args.file == Path::new(COG) {
        return cog(args.folder.unwrap_or_else(|| ".".into()), output);
    }
    if let Some(folder) = args.folder {
        let text = format!("{} is one word too many: a first file has no folder", folder.display());
        return Err(ui::error(ErrorCode::BadRequest, text, "write: clunk init FILE, or: clunk init cog DIR"));
    }
    let path = args.file;
    let shown = path.display();
    write_new(&path, STARTER, "name another file: clunk init other.py")?;
    output.say(format_args!("wrote {shown}; now try: clunk run {shown}"));
    Ok(ExitCode::SUCCESS)
}

fn cog(folder: PathBuf, output: Output) -> anyhow::Result<ExitCode> {
    let hint = "name another folder: clunk init cog my-model";
    for (name, _) in COG_STARTER {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            let text = format!("{} exists; nothing was changed", path.display());
            return Err(ui::error(ErrorCode::BadRequest, text, hint));
        }
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not make the folder {}", folder.display()))?;
    for (name, content) in COG_STARTER {
        write_new(&folder.join(name), content, hint)?;
    }
    let names: Vec<_> = COG_STARTER.iter().map(|(name, _)| *name).collect();
    let shown = folder.display();
    output.say(format_args!("wrote {} in {shown}; now try:", names.join(" and ")));
    output.say(format_args!("  clunk doctor {shown}              check it"));
    output.say(format_args!("  clunk run {shown} -i name=world   one prediction, in a container"));
    output.say(format_args!("  clunk serve {shown}               its HTTP API on this machine"));
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, content: &str, hint: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let mut file = match OpenOptions::new().create_new(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!("{shown} exists; nothing was changed");
            return Err(ui::error(ErrorCode::BadRequest, text, hint));
        }
        file => file.with_context(|| format!("could not write {shown}"))?,
    };
    file.write_all(content.as_bytes()).with_context(|| format!("could not write {shown}"))
}
