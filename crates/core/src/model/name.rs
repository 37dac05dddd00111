//! `owner/name`, of a model or a deployment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters of an owner or a name.
const MAX_LEN: usize = 64;

/// Both halves are of lower-case letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    owner: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a model: want owner/name, each of 1 to {MAX_LEN} lower-case letters, digits, `-`, `_` or `.`, \
     with a letter or digit at both ends"
)]
pub struct NameError(String);

impl ModelName {
    pub fn new(owner: &str, name: &str) -> Result<Self, NameError> {
        if is_name(owner) && is_name(name) {
            return Ok(Self { owner: owner.into(), name: name.into() });
        }
        Err(NameError(format!("{owner}/{name}").chars().take(3 * MAX_LEN).collect()))
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let inner = |byte: &u8| plain(*byte) || matches!(byte, b'-' | b'_' | b'.');
    bytes.len() <= MAX_LEN && plain(*first) && plain(*last) && bytes.iter().all(inner)
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ModelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (owner, name) = text.split_once('/').ok_or_else(|| NameError(text.into()))?;
        Self::new(owner, name)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_none() {
        for good in ["a/b", "acme/hello-world", "a1/v2.5_turbo"] {
            assert_eq!(good.parse::<ModelName>().unwrap().to_string(), good);
        }
        for bad in ["a", "a/b/c", "/b", "a/", "A/b", "a/-b", "a/b.", "a/b c", "../x", "a/é"] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad}");
        }
        assert!(ModelName::new(&"a".repeat(65), "b").is_err());
    }
}
