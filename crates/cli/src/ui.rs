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
            warn(text);
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

/// Writes a line to standard error, if somebody reads it.
pub fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard error shows colour.
pub fn colour() -> bool {
    wanted() && std::io::stderr().is_terminal()
}

/// Whether standard output shows colour.
pub fn colour_out() -> bool {
    wanted() && std::io::stdout().is_terminal()
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
    warn(format_args!("{} {text}", paint("1;31", &label)));
    if let Some(hint) = body.and_then(|body| body.hint.as_ref()) {
        warn(format_args!("{} {hint}", paint("1;36", "hint:")));
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

/// `3 min ago` and the like.
pub fn ago(then_ms: u64) -> String {
    ago_at(now_ms(), then_ms)
}

/// [`ago`] as seen from a given moment.
pub fn ago_at(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64
}

/// `350 µs`, `12 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration_us(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    let s = us / 1_000_000;
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match us {
        0 => "0 s".into(),
        1..1000 => format!("{us} µs"),
        1000..9950 => format!("{ms:.1} ms"),
        9950..999_500 => format!("{ms:.0} ms"),
        999_500..59_950_000 => format!("{:.1} s", ms / 1000.0),
        _ if s < 60 => "1 min".into(),
        _ if s < 3600 => two(s / 60, "min", s % 60, "s"),
        _ if s < 86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

pub fn duration_ms(ms: u64) -> String {
    duration_us(ms.saturating_mul(1000))
}

/// What is known in whole seconds: `40 s`, `3 min 20 s`.
pub fn duration_s(s: u64) -> String {
    if s < 60 { format!("{s} s") } else { duration_us(s.saturating_mul(1_000_000)) }
}

/// `12,345`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 app`, `2 apps`.
pub fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// At most so many characters; what is cut off leaves `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.into();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { String::new() } else { kept + "…" }
}

/// One line of text of somebody else's: no line ends, and nothing that a terminal obeys.
pub fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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

    #[test]
    fn durations_are_as_people_say_them() {
        let cases = [
            (0, "0 s"),
            (350, "350 µs"),
            (3_249, "3.2 ms"),
            (9_999, "10 ms"),
            (999_499, "999 ms"),
            (999_500, "1.0 s"),
            (1_240_000, "1.2 s"),
            (59_949_999, "59.9 s"),
            (59_999_999, "1 min"),
            (60_000_000, "1 min"),
            (200_000_000, "3 min 20 s"),
            (3_600_000_000, "1 h"),
            (7_500_000_000, "2 h 5 min"),
            (273_600_000_000, "3 d 4 h"),
        ];
        for (us, text) in cases {
            assert_eq!(duration_us(us), text);
        }
        assert_eq!([0, 40, 200].map(duration_s), ["0 s", "40 s", "3 min 20 s"]);
        assert_eq!(duration_ms(u64::MAX), "213503982 d 8 h");
    }

    #[test]
    fn moments_are_seen_from_now() {
        let now = 1_000_000_000;
        let seen = [now + 5_000, now - 3_999, now - 60_000, now - 7_200_000, now - 172_800_000];
        let texts = seen.map(|then| ago_at(now, then));
        assert_eq!(texts, ["0 s ago", "3 s ago", "1 min ago", "2 h ago", "2 d ago"]);
    }

    #[test]
    fn numbers_are_read_in_threes() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(count),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
        assert_eq!(
            [plural(1, "app"), plural(0, "app"), plural(1200, "app")],
            ["1 app", "0 apps", "1,200 apps"]
        );
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!([cut("größer", 6), cut("größer", 4), cut("a", 0)], ["größer", "grö…", ""]);
        assert_eq!(one_line(" a\nb\x1b[31mc "), "a b [31mc");
    }
}
