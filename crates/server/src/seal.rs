//! Signatures and their comparison.

use hmac::Mac;

/// HMAC-SHA256 of a message.
pub fn sign(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("a key of any length fits");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Compares in a time that does not tell how much is right.
pub fn same(expected: impl AsRef<[u8]>, given: impl AsRef<[u8]>) -> bool {
    let (expected, given) = (expected.as_ref(), given.as_ref());
    let difference = expected.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b));
    expected.len() == given.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_is_the_same() {
        assert!(same("abc", "abc") && same("", "") && same([1, 2], vec![1, 2]));
        assert!(!same("abc", "abd") && !same("abc", "ab") && !same("ab", "abc") && !same("", "a"));
    }
}
