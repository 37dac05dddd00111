//! Times as the API writes and reads them: ISO 8601 in UTC with microseconds and a `Z`.

const DAY_MS: i64 = 86_400_000;
/// The year 9999 ends here: what a four-digit year can say.
const LAST_MS: u64 = 253_402_300_799_999;

/// `2026-01-31T12:00:00.123000Z`, of milliseconds since 1970.
pub fn text(ms: u64) -> String {
    let ms = ms.min(LAST_MS);
    let (year, month, day) = date((ms / DAY_MS as u64) as i64);
    let of_day = ms % DAY_MS as u64;
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}000Z", of_day % 1000)
}

/// Milliseconds since 1970 of an ISO 8601 time: `2026-01-31`, `2026-01-31T12:00`, with seconds, a fraction, `Z` or an
/// offset. Without an offset it is UTC. None of what is no such time, or before 1970.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let (day, rest) = text.split_at_checked(10)?;
    let mut numbers = day.split('-');
    let mut next = |digits: usize| number(numbers.next()?, digits);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let midnight = days(year, month, day) * DAY_MS;
    let ms = if rest.is_empty() { midnight } else { midnight + time_of_day(rest)? };
    u64::try_from(ms).ok()
}

/// `T12:30:00.5+02:00` as milliseconds after the midnight of UTC's day; below zero when the offset says so.
fn time_of_day(text: &str) -> Option<i64> {
    let text = text.strip_prefix(['T', 't', ' '])?;
    // A plus sign that was not escaped in a query arrives as a space.
    let at = text.find(['Z', 'z', '+', '-', ' ']);
    let (time, offset) = at.map_or((text, ""), |at| text.split_at(at));
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut numbers = clock.split(':');
    let (hour, minute) = (number(numbers.next()?, 2)?, number(numbers.next()?, 2)?);
    let second = numbers.next().map_or(Some(0), |text| number(text, 2))?;
    if numbers.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction_ms = fraction_ms(fraction)?;
    Some((hour * 60 + minute - offset_minutes(offset)?) * 60_000 + second * 1000 + fraction_ms)
}

fn fraction_ms(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.bytes().chain([b'0'; 3]).take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn offset_minutes(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (text.len() == 1).then_some(0),
        Some(b'-') => -1,
        Some(_) => 1,
    };
    let digits = text[1..].replace(':', "");
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes, 2)? };
    Some(sign * (number(hours, 2)? * 60 + minutes))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let fits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next_month, 1) - days(year, month, 1)
}

/// Days since 1970 of a day of the Gregorian calendar. Years begin in March here, so that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The day, so many days after 1970 began.
fn date(days_since: i64) -> (i64, i64, i64) {
    // A guess that is never too late, at most a year too early.
    let mut year = 1970 + days_since / 366;
    while days(year + 1, 1, 1) <= days_since {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= days_since).unwrap_or(1);
    (year, month, days_since - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_700_000_000_123), "2023-11-14T22:13:20.123000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(text(u64::MAX), "9999-12-31T23:59:59.999000Z");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ms in (0..4_102_444_800_000).step_by(7_777_777_777) {
            assert_eq!(parse(&text(ms)), Some(ms), "{}", text(ms));
        }
    }

    #[test]
    fn forms_of_one_moment() {
        for same in [
            "2023-11-14T22:13:20Z",
            "2023-11-14 22:13:20",
            "2023-11-14T22:13:20.000000+00:00",
            "2023-11-15T00:13:20+02:00",
            "2023-11-15T00:13:20 02:00",
            "2023-11-14T17:13:20-0500",
        ] {
            assert_eq!(parse(same), Some(1_700_000_000_000), "{same}");
        }
        assert_eq!(parse("2023-11-14"), Some(1_699_920_000_000));
        assert_eq!(parse("2023-11-14T22:13:20.5Z"), Some(1_700_000_000_500));
    }

    #[test]
    fn no_times() {
        for wrong in [
            "",
            "yesterday",
            "2023",
            "2023-13-01",
            "2023-02-29",
            "2023-1-1",
            "2023-11-14T",
            "2023-11-14T25:00",
            "2023-11-14T22:13:20.x",
            "2023-11-14T22:13:20+2",
            "1969-12-31",
            "2023-11-14T22:13:20Zulu",
            "２０２３-11-14",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
