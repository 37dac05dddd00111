//! Frames of the runner protocol, as `docs/runner-protocol.md` has them.

/// Bytes in front of every frame.
pub const HEADER_LEN: usize = 24;
/// Control text longer than this is a broken runner.
pub const MAX_CONTROL: u32 = 1 << 20;
/// Larger payloads travel as a file descriptor.
pub const INLINE_MAX: u64 = 4 << 20;

/// Flag bit 0: the payload is in an attached file descriptor.
const FLAG_FILE: u8 = 1;

/// Values of a generator that a runner may send ahead of what was credited.
pub const WINDOW: i64 = 64;

macro_rules! kinds {
    ($($name:ident = $byte:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($name = $byte,)* }

        impl Kind {
            fn of(byte: u8) -> Option<Self> {
                match byte { $($byte => Some(Self::$name),)* _ => None }
            }
        }
    };
}

/// Kinds from this one on come from the runner.
const FROM_RUNNER: u8 = 65;

kinds! {
    Start = 1,
    Call = 2,
    Cancel = 3,
    Stop = 4,
    Credit = 5,
    Batch = 6,
    Worker = 7,
    Ready = 65,
    Result = 66,
    Exception = 67,
    Log = 68,
    StartFailed = 69,
    Yield = 70,
    WorkerEnded = 71,
    Metric = 72,
    File = 73,
    Interrupted = 74,
}

impl Kind {
    pub fn is_from_runner(self) -> bool {
        self as u8 >= FROM_RUNNER
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// The payload is in a file descriptor.
    pub file: bool,
    pub control_len: u32,
    pub call: u64,
    pub payload_len: u64,
}

/// What the other side sent is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("unknown frame kind {0}")]
    Kind(u8),
    #[error("control text of {0} bytes (at most {MAX_CONTROL})")]
    Control(u32),
    #[error("inline payload of {0} bytes (at most {INLINE_MAX})")]
    Payload(u64),
    #[error("a file payload without its file descriptor")]
    NoFile,
    #[error("control text is not UTF-8")]
    Text,
    #[error("file descriptors without a frame they belong to")]
    StrayFiles,
    #[error("a payload in something that is not a regular file")]
    NotAFile,
    #[error("control text without a usable `{0}`")]
    Field(&'static str),
    #[error("more than {} output files of one call", crate::value::MAX_FILES)]
    Files,
    #[error("a frame of kind {0:?} where none may be")]
    Unexpected(Kind),
    #[error("more than {WINDOW} values of one generator that nobody asked for")]
    Window,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = if self.file { FLAG_FILE } else { 0 };
        bytes[4..8].copy_from_slice(&self.control_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.call.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let header = Self {
            kind: Kind::of(bytes[0]).ok_or(FrameError::Kind(bytes[0]))?,
            file: bytes[1] & FLAG_FILE != 0,
            control_len: u32::from_le_bytes(std::array::from_fn(|i| bytes[4 + i])),
            call: word(8),
            payload_len: word(16),
        };
        if header.control_len > MAX_CONTROL {
            return Err(FrameError::Control(header.control_len));
        }
        if !header.file && header.payload_len > INLINE_MAX {
            return Err(FrameError::Payload(header.payload_len));
        }
        Ok(header)
    }

    /// Bytes that follow the header on the stream.
    pub fn body_len(&self) -> usize {
        self.control_len as usize + if self.file { 0 } else { self.payload_len as usize }
    }
}

/// Writes control text: `name=value` lines with escapes.
pub fn control<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        text.push_str(name);
        text.push('=');
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other => text.push(other),
            }
        }
        text.push('\n');
    }
    text
}

/// Reads one field of control text; the first of several with the same name.
pub fn field(control: &str, name: &str) -> Option<String> {
    let value = control.split('\n').find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            }),
            other => text.push(other),
        }
    }
    Some(text)
}

/// Reads one field of control text as a number.
pub fn number(control: &str, name: &str) -> Option<u64> {
    control.split('\n').find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        let header = Header { kind: Kind::Result, file: true, control_len: 9, call: 7, payload_len: 1 << 40 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn a_broken_header_is_refused() {
        let good = Header { kind: Kind::Log, file: false, control_len: 0, call: 0, payload_len: 0 };
        let mut bytes = good.encode();
        bytes[0] = 200;
        assert_eq!(Header::decode(&bytes), Err(FrameError::Kind(200)));
        let long = Header { payload_len: INLINE_MAX + 1, ..good };
        assert_eq!(Header::decode(&long.encode()), Err(FrameError::Payload(INLINE_MAX + 1)));
        let long = Header { control_len: MAX_CONTROL + 1, ..good };
        assert_eq!(Header::decode(&long.encode()), Err(FrameError::Control(MAX_CONTROL + 1)));
    }

    #[test]
    fn control_text_keeps_every_character() {
        let message = "two\nlines \\n and a = sign\r";
        let text = control([("type", "ValueError"), ("message", message)]);
        assert_eq!(field(&text, "message").as_deref(), Some(message));
        assert_eq!(field(&text, "type").as_deref(), Some("ValueError"));
        assert_eq!(field(&text, "mess"), None);
        assert_eq!(number("format=json\ncpu_us=1500\n", "cpu_us"), Some(1500));
        assert_eq!(number("cpu_us=-1\n", "cpu_us").or(number("", "cpu_us")), None);
    }
}
