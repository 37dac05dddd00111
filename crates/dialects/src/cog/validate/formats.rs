//! Formats of texts that are looked at before the model is: what is refused here would fail there. Everything that Python's
//! own readers may take passes.

use serde_json::Value;

struct Format {
    /// In the schema.
    name: &'static str,
    /// Under which it is checked: the library's own checks are stricter than Python.
    ours: &'static str,
    words: &'static str,
    check: fn(&str) -> bool,
}

const FORMATS: [Format; 5] = [
    Format { name: "uri", ours: "file-url", words: "an http, https or data URL", check: is_file },
    Format {
        name: "date-time",
        ours: "python-date-time",
        words: "a date and time such as 2026-01-31T12:00:00Z",
        check: is_date_time,
    },
    Format { name: "date", ours: "python-date", words: "a date such as 2026-01-31", check: is_date },
    Format { name: "time", ours: "python-time", words: "a time such as 12:00:00", check: is_time },
    Format { name: "uuid", ours: "python-uuid", words: "a UUID", check: is_uuid },
];

pub fn options() -> jsonschema::ValidationOptions {
    let options = jsonschema::options().should_validate_formats(true);
    FORMATS.into_iter().fold(options, |options, format| options.with_format(format.ours, format.check))
}

/// What a text of this format is.
pub fn words(ours: &str) -> &'static str {
    FORMATS.iter().find(|format| format.ours == ours).map_or("in its format", |format| format.words)
}

/// Leaves the formats above to be checked: what others say, the model's own annotations know better.
pub fn only_known(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(name) = members.get("format").and_then(Value::as_str) {
                match FORMATS.iter().find(|format| format.name == name) {
                    Some(format) => members["format"] = format.ours.into(),
                    None => _ = members.shift_remove("format"),
                }
            }
            members.values_mut().for_each(only_known);
        }
        Value::Array(items) => items.iter_mut().for_each(only_known),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What the model gets as a file. A path would be opened where the model runs: a caller could read any file there.
fn is_file(text: &str) -> bool {
    let begins =
        |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    begins("http://") || begins("https://") || text.starts_with("data:")
}

fn only(text: &str, more: &[u8]) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || more.contains(&byte))
}

/// A number of so many digits at the start.
fn leading(text: &str, digits: usize) -> Option<u32> {
    text.get(..digits).filter(|text| only(text, b""))?.parse().ok()
}

/// `2026-01-31`, `20260131`, `2026-W05-6`.
fn is_date(text: &str) -> bool {
    let number = |from: usize| text.get(from..).and_then(|rest| leading(rest, 2));
    let extended = text.len() == 10 && text.as_bytes()[7] == b'-';
    let sound = !extended
        || number(5).is_some_and(|month| (1..=12).contains(&month))
            && number(8).is_some_and(|day| (1..=31).contains(&day));
    leading(text, 4).is_some_and(|year| year > 0)
        && only(text, b"-W")
        && text.len() >= 7
        && sound
        && (extended || text.len() == 8 || text.contains('W'))
}

/// `12:00`, `12:00:00.5+01:00`, `T120000Z`.
fn is_time(text: &str) -> bool {
    let text = text.strip_prefix('T').unwrap_or(text);
    leading(text, 2).is_some_and(|hour| hour <= 24) && only(text, b":.,+-Zz")
}

/// A date, or a date and a time with one character between them.
fn is_date_time(text: &str) -> bool {
    let parts = |at: usize| {
        let (date, rest) = (text.get(..at)?, text.get(at..)?);
        let time = rest.get(rest.chars().next()?.len_utf8()..)?;
        Some(is_date(date) && is_time(time))
    };
    is_date(text) || [7, 8, 10].into_iter().any(|at| parts(at).unwrap_or(false))
}

/// With or without hyphens, braces and `urn:uuid:`.
fn is_uuid(text: &str) -> bool {
    let text = text.replace("urn:", "").replace("uuid:", "");
    let digits = text.trim_matches(['{', '}']).replace('-', "");
    digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_reads_passes_and_words_do_not() {
        type Check = fn(&str) -> bool;
        for (check, right, wrong) in [
            (
                is_date as Check,
                &["2026-01-31", "20260131", "2026-W05-6", "2026W056", "2026-W05", "2026W05"][..],
                &[
                    "soon",
                    "",
                    "2026",
                    "31.01.2026",
                    "2026-13-01",
                    "2026-01-32",
                    "0000-01-01",
                    "2026-01-31T12:00",
                ][..],
            ),
            (
                is_time,
                &["12:00", "12", "12:00:00.5", "T12:00", "120000Z", "23:59:59,123456+01:00", "24:00"],
                &["noon", "", "1:00", "25:00", "12:00 pm"],
            ),
            (
                is_date_time,
                &[
                    "2026-01-31",
                    "2026-01-31T12:00:00Z",
                    "2026-01-31 12:00",
                    "2026-01-31\u{e9}12",
                    "20260131T120000",
                    "2026W05T12",
                ],
                &["soon", "", "12:00", "2026-01-31Tnoon", "1769860800", "tomorrow 12:00"],
            ),
            (
                is_uuid,
                &[
                    "12345678-1234-5678-1234-567812345678",
                    "{12345678123456781234567812345678}",
                    "urn:uuid:12345678-1234-5678-1234-567812345678",
                ],
                &["", "12345678", "g2345678-1234-5678-1234-567812345678"],
            ),
            (
                is_file,
                &["HTTP://h/a", "https://h", "data:,x"],
                &["", "file:///x", "/x", "http:/x", "DATA:,x", "\u{e9}\u{e9}\u{e9}\u{e9}"],
            ),
        ] {
            for text in right {
                assert!(check(text), "{text}");
            }
            for text in wrong {
                assert!(!check(text), "{text}");
            }
        }
    }
}
