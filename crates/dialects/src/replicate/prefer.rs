//! The headers that say how long a request waits, and how long a prediction may take.

use super::Problem;

/// How long `Prefer: wait` waits at most, and without a number. Seconds.
pub const MAX_WAIT_S: u64 = 60;
/// The longest `Cancel-After`: a day, as long as any function may run.
const MAX_CANCEL_AFTER_S: f64 = 86_400.0;
/// And the shortest: what the vendor takes.
const MIN_CANCEL_AFTER_S: f64 = 1.0;

/// What `Prefer` asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub seconds: u64,
    /// Whether the number was written: `Preference-Applied` repeats it then.
    written: bool,
}

impl Wait {
    /// The value of `Preference-Applied`.
    pub fn applied(self) -> String {
        if self.written { format!("wait={}", self.seconds) } else { "wait".into() }
    }
}

/// Reads `Prefer`. Preferences other than `wait` are somebody else's and pass; `respond-async` is what happens anyway.
/// More than 60 seconds become 60, as the answer then says: a preference is no demand.
pub fn prefer(values: &[&str]) -> Result<Option<Wait>, Problem> {
    let preferences = values.iter().flat_map(|value| value.split([',', ';'])).map(str::trim);
    for preference in preferences {
        let (name, value) = preference.split_once('=').map_or((preference, None), |(n, v)| (n, Some(v)));
        if !name.trim().eq_ignore_ascii_case("wait") {
            continue;
        }
        let Some(value) = value else { return Ok(Some(Wait { seconds: MAX_WAIT_S, written: false })) };
        let seconds = whole(value.trim().trim_matches('"')).filter(|seconds| *seconds > 0);
        let wrong = || {
            let detail =
                format!("Prefer: wait must be a whole number of seconds from 1 to 60, not {value:?}");
            Problem::new(400, detail).hint("send `Prefer: wait` or, for example, `Prefer: wait=30`")
        };
        let seconds = seconds.ok_or_else(wrong)?.min(MAX_WAIT_S);
        return Ok(Some(Wait { seconds, written: true }));
    }
    Ok(None)
}

/// Digits only; what does not fit a number is larger than any limit.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads `Cancel-After`: seconds, or a duration like `90s`, `1m`, `1m30s`, `1h`. Milliseconds.
pub fn cancel_after(value: &str) -> Result<u64, Problem> {
    let seconds = duration_s(value.trim());
    let fits = seconds.filter(|s| (MIN_CANCEL_AFTER_S..=MAX_CANCEL_AFTER_S).contains(s));
    fits.map(|seconds| (seconds * 1000.0) as u64).ok_or_else(|| {
        let detail = format!("Cancel-After must be a duration from 1s to 24h, not {value:?}");
        Problem::new(400, detail).hint("for example `Cancel-After: 90`, `90s`, `5m` or `1h30m`")
    })
}

fn duration_s(text: &str) -> Option<f64> {
    let numeric = |byte: char| byte.is_ascii_digit() || byte == '.';
    if text.starts_with(|first: char| !first.is_ascii_digit()) || text.is_empty() {
        return None;
    }
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let unit_at = rest.find(|byte| !numeric(byte)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(unit_at);
        let unit_end = behind.find(numeric).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let seconds = match unit {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(value: &str) -> Option<String> {
        prefer(&[value]).unwrap().map(Wait::applied)
    }

    #[test]
    fn wait_and_what_is_not() {
        assert_eq!(applied("wait").as_deref(), Some("wait"));
        assert_eq!(applied("wait=10").as_deref(), Some("wait=10"));
        assert_eq!(applied("respond-async, Wait=5").as_deref(), Some("wait=5"));
        assert_eq!(applied("wait=61").as_deref(), Some("wait=60"));
        assert_eq!(applied("wait=99999999999999999999").as_deref(), Some("wait=60"));
        assert_eq!(applied("respond-async"), None);
        assert_eq!(applied("return=minimal"), None);
        assert_eq!(prefer(&[]).unwrap(), None);
        assert_eq!(prefer(&["wait"]).unwrap().unwrap().seconds, 60);
    }

    #[test]
    fn a_wrong_wait_is_refused() {
        for wrong in ["wait=0", "wait=", "wait=soon", "wait=-1", "wait=1.5", "wait=1s"] {
            assert_eq!(prefer(&[wrong]).unwrap_err().status, 400, "{wrong}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1500ms", 1500),
            ("1.5s", 1500),
        ] {
            assert_eq!(cancel_after(text).unwrap(), ms, "{text}");
        }
        for wrong in ["", "0", "0.5", "soon", "1d", "-1", "25h", "1m s", "NaN", "1e3", "inf", "m", "1..5s"] {
            assert_eq!(cancel_after(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
