//! Words for people: data to standard output, everything else to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clunk_core::error::{ErrorBody, ErrorCode};

#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// A remark; not data.
    pub fn say(self, text: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// Writes data. A reader that went away is no error: `clunk image list | head` ends quietly.
pub fn print(text: impl std::fmt::Display) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

pub fn print_json(value: &impl serde::Serialize) {
    print(serde_json::to_string_pretty(value).expect("our types have a JSON form"));
}

/// Whether standard error shows colour.
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}

pub fn paint(code: &str, text: &str) -> String {
    if colour() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

/// Prints an error and its hint and gives the exit code that fits.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    let body = error.downcast_ref::<ErrorBody>();
    let text = match body {
        Some(body) => body.message.clone(),
        None => format!("{error:#}"),
    };
    let label = body.map_or_else(|| "error:".into(), |body| format!("error[{}]:", body.code));
    eprintln!("{} {text}", paint("1;31", &label));
    if let Some(hint) = body.and_then(|body| body.hint.as_ref()) {
        eprintln!("{} {hint}", paint("1;36", "hint:"));
    }
    ExitCode::from(match body.map(|body| body.code) {
        Some(ErrorCode::NotFound) => 3,
        Some(ErrorCode::Unauthorized | ErrorCode::ContainersNotPermitted) => 4,
        Some(ErrorCode::BadRequest) => 2,
        _ => 1,
    })
}

/// An error with a code, for [`fail`].
pub fn error(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    ErrorBody::new(code, message).hint(hint).into()
}

/// `1.5 GB` and the like.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// `3 minutes ago` and the like.
pub fn ago(then_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = (now.as_millis() as u64).saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Columns, each as wide as its widest cell.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        print(padded.join("  ").trim_end());
    };
    line(head.to_vec());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [bytes(0), bytes(999), bytes(1500), bytes(123_456_789)],
            ["0 B", "999 B", "1.5 kB", "123.5 MB"]
        );
    }
}
