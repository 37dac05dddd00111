//! Typed ids: a prefix that names the kind, then 26 characters that sort by time.
//!
//! The text after the prefix is a 128-bit number in lower-case Crockford base 32: 48 bits of milliseconds since
//! 1970, then 80 random bits. Two ids made in the same millisecond sort arbitrarily.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 26;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no id of this kind (want `{prefix}-` and 26 letters or digits)")]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

fn encode(number: u128) -> String {
    (0..TEXT_LEN).rev().map(|i| ALPHABET[(number >> (5 * i)) as usize & 31] as char).collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != TEXT_LEN || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |number, byte| {
        let digit = ALPHABET.iter().position(|&a| a == byte)?;
        Some(number << 5 | digit as u128)
    })
}

fn compose(now_ms: u64, random: [u8; 10]) -> u128 {
    let tail = random.iter().fold(0u128, |tail, &byte| tail << 8 | byte as u128);
    (now_ms as u128 & 0xffff_ffff_ffff) << 80 | tail
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The text in front of the dash.
            pub const PREFIX: &'static str = $prefix;

            /// An id from a time in milliseconds since 1970 and 80 random bits; simulations use this one.
            pub fn from_parts(now_ms: u64, random: [u8; 10]) -> Self {
                Self(compose(now_ms, random))
            }

            /// A new id from the system's clock and randomness.
            pub fn fresh() -> Self {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let mut random = [0; 10];
                getrandom::fill(&mut random).expect("the kernel gives random bytes");
                Self::from_parts(now.as_millis() as u64, random)
            }

            /// When the id was made, in milliseconds since 1970.
            pub fn created_ms(&self) -> u64 {
                (self.0 >> 80) as u64
            }

            /// The id as 16 bytes that sort as the ids do.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The id that is `count` after this one: ids of one batch are made from its first.
            pub fn offset(&self, count: u64) -> Self {
                Self(self.0.wrapping_add(count as u128))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{}"), encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "-"))
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.into(), prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A named set of functions deployed together.
    AppId = "app";
    /// One immutable function version.
    FunctionId = "fn";
    /// One durable invocation.
    CallId = "call";
    /// Calls that were submitted as one, such as those of `spawn_map`.
    BatchId = "batch";
    /// A machine with an agent.
    NodeId = "node";
    /// One container that serves one function version.
    ReplicaId = "rep";
    /// Content that was uploaded, or that a prediction gave.
    FileId = "file";
    /// One container of any use: a replica, a build step, a shell.
    ContainerId = "ct";
}

/// An image: the digest of its recipe. Text is `im-` and the first 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId([u8; 16]);

impl ImageId {
    pub fn of(recipe: crate::Digest) -> Self {
        let mut head = [0; 16];
        head.copy_from_slice(&recipe.as_bytes()[..16]);
        Self(head)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "im-{}", hex::encode(self.0))
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ImageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 16];
        let digits =
            text.strip_prefix("im-").filter(|digits| hex::decode_to_slice(digits, &mut bytes).is_ok());
        digits.map(|_| Self(bytes)).ok_or_else(|| IdError { text: text.into(), prefix: "im" })
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = CallId::from_parts(1_700_000_000_000, [7; 10]);
        assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
        assert_eq!(id.created_ms(), 1_700_000_000_000);
    }

    #[test]
    fn later_ids_sort_later() {
        let early = CallId::from_parts(1, [255; 10]).to_string();
        let late = CallId::from_parts(2, [0; 10]).to_string();
        assert!(early < late);
    }

    #[test]
    fn another_kind_is_refused_by_name() {
        let text = AppId::from_parts(1, [0; 10]).to_string();
        let error = text.parse::<CallId>().unwrap_err().to_string();
        assert!(error.contains("want `call-`"), "{error}");
    }
}
