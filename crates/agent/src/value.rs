//! What calls give: values, the files that belong into them, and metrics.

use bytes::Bytes;

use crate::frame::{self, FrameError};
use crate::payload::Payload;

/// Output files of one call that no value has taken yet.
pub const MAX_FILES: usize = 10_000;

/// What a call returned, or one thing that a generator yielded.
#[derive(Debug, Clone)]
pub struct Value {
    pub payload: Payload,
    /// Files of a Cog model's output. The payload, JSON, has `null` in their places.
    pub files: Vec<OutputFile>,
}

impl From<Payload> for Value {
    fn from(payload: Payload) -> Self {
        Self { payload, files: Vec::new() }
    }
}

/// A file of an output.
#[derive(Debug, Clone)]
pub struct OutputFile {
    /// Where it belongs: a JSON pointer into the value.
    pub pointer: String,
    /// Base name, as the container said it.
    pub name: String,
    /// `image/png`
    pub media_type: String,
    /// A file's content is read, never mapped: its container may still write to it.
    pub content: Payload,
}

/// A number or text that a call reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    pub name: String,
    pub mode: MetricMode,
    /// As JSON.
    pub value: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricMode {
    Replace,
    /// Added to what was there.
    Increment,
    /// Put behind what was there, in a list.
    Append,
}

/// The content of a FILE frame, until a value says where it belongs.
#[derive(Debug)]
pub(crate) struct Part {
    index: u64,
    name: String,
    media_type: String,
    content: Payload,
}

impl Part {
    pub fn read(control: &str, content: Payload) -> Result<Self, FrameError> {
        let index = frame::number(control, "index").ok_or(FrameError::Field("index"))?;
        // A base name, whatever the container says.
        let name = frame::field(control, "name").unwrap_or_default();
        let name =
            name.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | "..")).unwrap_or("output");
        let media_type = frame::field(control, "type").unwrap_or_else(|| "application/octet-stream".into());
        Ok(Self { index, name: name.into(), media_type, content })
    }
}

/// A value with the files that its control text names. They are taken out of `parts`.
pub(crate) fn value(payload: Payload, control: &str, parts: &mut Vec<Part>) -> Result<Value, FrameError> {
    let Some(named) = frame::field(control, "files") else { return Ok(payload.into()) };
    let named: Vec<(String, u64)> = serde_json::from_str(&named).map_err(|_| FrameError::Field("files"))?;
    let mut files = Vec::with_capacity(named.len());
    for (pointer, index) in named {
        let at = parts.iter().position(|part| part.index == index).ok_or(FrameError::Field("files"))?;
        let Part { name, media_type, content, .. } = parts.swap_remove(at);
        files.push(OutputFile { pointer, name, media_type, content });
    }
    Ok(Value { payload, files })
}

pub(crate) fn metric(control: &str, payload: Payload) -> Result<Metric, FrameError> {
    let name = frame::field(control, "name").ok_or(FrameError::Field("name"))?;
    let mode = match frame::field(control, "mode").as_deref() {
        Some("replace") | None => MetricMode::Replace,
        Some("incr") => MetricMode::Increment,
        Some("append") => MetricMode::Append,
        Some(_) => return Err(FrameError::Field("mode")),
    };
    match payload {
        Payload::Memory(value) => Ok(Metric { name, mode, value }),
        Payload::File { .. } => Err(FrameError::Field("value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: u64, name: &str) -> Part {
        let control = frame::control([("index", index.to_string().as_str()), ("name", name)]);
        Part::read(&control, Payload::from(&b"x"[..])).unwrap()
    }

    #[test]
    fn a_value_takes_its_files_and_no_others() {
        let mut parts = vec![part(0, "a.png"), part(1, "../../etc/passwd"), part(2, "..")];
        let control = frame::control([("files", r#"[["/1",2],["/0",1]]"#)]);
        let found = value(Payload::from(&b"[null,null]"[..]), &control, &mut parts).unwrap();
        let named: Vec<_> =
            found.files.iter().map(|file| (file.pointer.as_str(), file.name.as_str())).collect();
        assert_eq!(named, [("/1", "output"), ("/0", "passwd")]);
        assert_eq!(parts.len(), 1);
        assert!(value(Payload::from(&b"null"[..]), &control, &mut parts).is_err());
    }

    #[test]
    fn a_broken_metric_is_refused() {
        let good = frame::control([("name", "tokens"), ("mode", "incr")]);
        let read = metric(&good, Payload::from(&b"2"[..])).unwrap();
        assert_eq!((read.name.as_str(), read.mode), ("tokens", MetricMode::Increment));
        assert!(metric("mode=incr\n", Payload::from(&b"2"[..])).is_err());
        assert!(metric("name=a\nmode=b\n", Payload::from(&b"2"[..])).is_err());
    }
}
