//! Times as JSON shows them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a time as `2026-11-21T14:26:54.123456Z`.
pub fn write(time: SystemTime, out: &mut Vec<u8>) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = u64::from(since.subsec_micros());
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    // Three of them are in every answer: digits by hand take a tenth of what formatting does.
    for (place, mut number) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, hour),
        (14..16, minute),
        (17..19, second),
        (20..26, micros),
    ] {
        for digit in text[place].iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
    }
    out.extend_from_slice(&text);
}

/// The day of the Gregorian calendar so many days after 1970-01-01, counted in years that begin with March.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_of_the_calendar() {
        let known =
            [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (19_782, (2024, 2, 29)), (20_088, (2024, 12, 31))];
        assert!(known.iter().all(|(days, day)| date(*days) == *day));
        let mut text = Vec::new();
        write(UNIX_EPOCH + Duration::from_micros(86_399_000_007), &mut text);
        assert_eq!(text, b"1970-01-01T23:59:59.000007Z");
    }
}
