//! The order of Debian's version numbers (deb-version(7)): `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;

pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a) = split_epoch(a);
    let (b_epoch, b) = split_epoch(b);
    let (a_upstream, a_revision) = a.rsplit_once('-').unwrap_or((a, "0"));
    let (b_upstream, b_revision) = b.rsplit_once('-').unwrap_or((b, "0"));
    a_epoch
        .cmp(&b_epoch)
        .then_with(|| part(a_upstream.as_bytes(), b_upstream.as_bytes()))
        .then_with(|| part(a_revision.as_bytes(), b_revision.as_bytes()))
}

/// Whether `version operator wanted` holds.
pub(crate) fn satisfies(version: &str, operator: &str, wanted: &str) -> bool {
    let order = compare(version, wanted);
    match operator {
        "<<" => order.is_lt(),
        "<=" | "<" => order.is_le(),
        "=" => order.is_eq(),
        ">=" | ">" => order.is_ge(),
        ">>" => order.is_gt(),
        _ => false,
    }
}

fn split_epoch(version: &str) -> (u64, &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    }
}

/// `~` sorts before the end, letters before other signs.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Compares by turns a piece without digits and a number.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let is_word = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
        while is_word(a) || is_word(b) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let (a_number, a_rest) = number(a);
        let (b_number, b_rest) = number(b);
        let order = a_number.len().cmp(&b_number.len()).then_with(|| a_number.cmp(b_number));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

/// Leading digits without their zeros, and the rest.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let start = text[..end].iter().position(|&byte| byte != b'0').unwrap_or(end);
    (&text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_as_dpkg_orders() {
        let rising = [
            "1.0~beta1",
            "1.0~rc1",
            "1.0",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-2",
            "1.0a",
            "1.0+dfsg-1",
            "1.2",
            "1.10",
            "1.010.1",
            "2.31-13+deb11u5",
            "2.31-13+deb11u11",
            "1:0.1",
        ];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("1.0-0", "1.0"), Ordering::Equal);
        assert_eq!(compare("0:1.00", "1.0"), Ordering::Equal);
    }

    #[test]
    fn relations() {
        assert!(satisfies("3.13.5-2", ">=", "3.13.5-1~"));
        assert!(!satisfies("1.0~rc1", ">=", "1.0"));
        assert!(satisfies("1.0", "=", "1.0") && satisfies("1.0", "<<", "1.1"));
    }
}
