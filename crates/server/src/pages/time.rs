//! Moments and durations as people read them.

use maud::{Markup, html};

const DAY_MS: u64 = 86_400_000;

/// A moment of the world's clock: `2026-11-21 14:30:22`.
pub fn date(ms: u64) -> String {
    let (year, month, day) = civil(ms / DAY_MS);
    let second = ms % DAY_MS / 1000;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}", second % 60)
}

/// The moment for people and programs.
pub fn moment(ms: u64) -> Markup {
    let text = date(ms);
    html! { time datetime=(format!("{}Z", text.replace(' ', "T"))) { (text) " UTC" } }
}

/// Seconds as people say them.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar: years are counted from March, so that the leap day
/// is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_a_calendar_has_them() {
        for (ms, wanted) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (951_868_799_999, "2000-02-29 23:59:59"),
            (1_709_164_800_000, "2024-02-29 00:00:00"),
            (1_795_271_422_000, "2026-11-21 14:30:22"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date(ms), wanted);
        }
    }

    #[test]
    fn durations_keep_what_matters() {
        let said: Vec<_> = [5, 1500, 61_000, 3_660_000].into_iter().map(duration).collect();
        assert_eq!(said, ["5 ms", "1.5 s", "1 min 01 s", "1 h 01 min"]);
    }
}
