//! Arguments and results: small ones in memory, large ones in an open file that has no name.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes of the arguments of a call, and of a result that is passed on.
pub const MAX_PAYLOAD: u64 = 4 << 30;

/// Opaque bytes on their way between a client and a runner.
#[derive(Debug, Clone)]
pub enum Payload {
    Memory(Bytes),
    /// Read from offset 0. A runner's memory file may change or shrink under the reader: it is read, never mapped.
    File {
        file: Arc<File>,
        len: u64,
    },
}

impl Payload {
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Memory(Bytes::from_static(bytes))
    }
}
