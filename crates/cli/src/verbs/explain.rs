//! `clunk explain`

use std::process::ExitCode;

use clunk_core::error::ErrorCode;

use crate::args::Explain;
use crate::ui;

pub fn run(args: Explain) -> anyhow::Result<ExitCode> {
    let Some(text) = args.code else {
        for code in ErrorCode::ALL {
            let title = code.page().lines().find(|line| !line.starts_with('#') && !line.is_empty());
            ui::print(format_args!("{:<26}{}", code.as_str(), title.unwrap_or_default()));
        }
        return Ok(ExitCode::SUCCESS);
    };
    match text.parse::<ErrorCode>() {
        Ok(code) => ui::print(code.page().trim_end()),
        Err(()) => {
            let hint = "`clunk explain` lists them all";
            return Err(ui::error(ErrorCode::NotFound, format!("there is no error code `{text}`"), hint));
        }
    }
    Ok(ExitCode::SUCCESS)
}
