//! Moments in the time of this place.

use std::mem::MaybeUninit;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment as a calendar and a clock on the wall show it.
struct Local {
    year: i32,
    month: usize,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
}

fn local(moment_ms: u64) -> Option<Local> {
    let seconds = libc::time_t::try_from(moment_ms / 1000).ok()?;
    let mut broken_down = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid for the call, and the structure is read only after it was filled.
    let time = unsafe {
        if libc::localtime_r(&seconds, broken_down.as_mut_ptr()).is_null() {
            return None;
        }
        broken_down.assume_init()
    };
    let month = usize::try_from(time.tm_mon).ok()?;
    let year = time.tm_year.checked_add(1900)?;
    let (hour, minute, second) = (time.tm_hour, time.tm_min, time.tm_sec);
    Some(Local { year, month, day: time.tm_mday, hour, minute, second })
}

/// `2026-11-21 11:03:22`
pub fn date_time(moment_ms: u64) -> String {
    match local(moment_ms) {
        Some(at) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            at.year,
            at.month + 1,
            at.day,
            at.hour,
            at.minute,
            at.second
        ),
        None => "-".into(),
    }
}

/// `21 Nov 11:03`
pub fn day_time(moment_ms: u64) -> String {
    match local(moment_ms).and_then(|at| Some((MONTHS.get(at.month)?, at))) {
        Some((month, at)) => format!("{} {month} {:02}:{:02}", at.day, at.hour, at.minute),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-06-15 12:00:00 UTC: every place on Earth has the 15th or the first hours of the 16th then.
    const MOMENT_MS: u64 = 1_749_988_800_000;

    #[test]
    fn moments_are_dates_of_here() {
        let text = date_time(MOMENT_MS);
        assert!(text.starts_with("2025-06-15 ") || text.starts_with("2025-06-16 0"), "{text}");
        assert!(text.ends_with(":00") && text.len() == 19, "{text}");
        assert!(day_time(MOMENT_MS).starts_with("15 Jun ") || day_time(MOMENT_MS).starts_with("16 Jun 0"));
    }
}
