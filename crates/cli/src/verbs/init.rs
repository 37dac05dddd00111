//! `clunk init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clunk_core::error::ErrorCode;

use crate::args::Init;
use crate::ui::{self, Output};

const STARTER: &str = include_str!("../../templates/hello.py");

pub fn run(args: Init, output: Output) -> anyhow::Result<ExitCode> {
    let path = args.file;
    let shown = path.display();
    let mut file = match OpenOptions::new().create_new(true).write(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let hint = "name another file: clunk init other.py";
            return Err(ui::error(
                ErrorCode::BadRequest,
                format!("{shown} exists; nothing was changed"),
                hint,
            ));
        }
        file => file.with_context(|| format!("could not write {shown}"))?,
    };
    file.write_all(STARTER.as_bytes())?;
    output.say(format_args!("wrote {shown}; now try: clunk run {shown}"));
    Ok(ExitCode::SUCCESS)
}
