//! Files that come as data URLs in an input: decoded once, here, and carried to the model's process beside the JSON.
//!
//! They lie at the start of the memory file of the arguments. Their URLs keep the head, with the media type, and lose the
//! data: `data:image/png;base64,!0`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clunk_dialects::cog::validate::InputSchema;
use serde_json::{Map, Value, json};

use crate::pieces;

/// Characters of a data URL that is worth it; the model's process decodes shorter ones.
pub const LARGE: usize = 256 << 10;
/// Characters decoded at a time; a multiple of four.
const PIECE: usize = 1 << 20;
/// Characters before the comma.
const HEAD_MAX: usize = 1 << 10;

/// What lies before the JSON of the arguments.
#[derive(Debug)]
pub struct Carried {
    pub file: Arc<File>,
    pub len: u64,
    /// Offset and length of each, by its URL.
    pub places: Map<String, Value>,
}

/// Takes large files out of an input that its schema allows. What is not plain base 64 stays: the model's process says
/// what is wrong with it.
pub fn carry(input: &mut Value, schema: &InputSchema) -> Option<Carried> {
    let mut carried = None;
    for (name, value) in input.as_object_mut()? {
        if !schema.is_file(name) {
            continue;
        }
        let items = match value {
            Value::Array(items) => items.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        for item in items {
            if let Value::String(url) = item
                && url.len() >= LARGE
                && let Some(short) = take(url, &mut carried)
            {
                *url = short;
            }
        }
    }
    carried
}

/// Puts a file to the others; its URL from now on. None: it stays where it is.
fn take(url: &str, carried: &mut Option<Carried>) -> Option<String> {
    let comma = url.as_bytes()[..HEAD_MAX].iter().position(|byte| *byte == b',')?;
    let (head, data) = (url.get(..comma)?, &url.as_bytes()[comma + 1..]);
    if !head.starts_with("data:") || !head.ends_with(";base64") {
        return None;
    }
    let into = match carried {
        Some(into) => into,
        None => {
            let file = rustix::fs::memfd_create("arguments", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
            carried.insert(Carried { file: Arc::new(file.into()), len: 0, places: Map::new() })
        }
    };
    let len = decode(data, &into.file, into.len)?;
    let short = format!("{head},!{}", into.places.len());
    into.places.insert(short.clone(), json!([into.len, len]));
    into.len += len;
    Some(short)
}

/// Writes what base 64 says to a place of the file; how many bytes. None: it is no plain base 64.
fn decode(data: &[u8], file: &File, start: u64) -> Option<u64> {
    let pieces = data.chunks(PIECE).enumerate();
    let len = AtomicU64::new(0);
    let write = |(index, piece): (usize, &[u8])| {
        let bytes = STANDARD.decode(piece).map_err(drop)?;
        let begin = (index * PIECE / 4 * 3) as u64;
        // Padding ends it.
        if bytes.len() < PIECE / 4 * 3 && (index + 1) * PIECE < data.len() {
            return Err(());
        }
        len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.write_all_at(&bytes, start + begin).map_err(drop)
    };
    pieces::each(pieces, write).ok()?;
    Some(len.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> InputSchema {
        let file = json!({"type": "string", "format": "uri"});
        let properties =
            json!({"one": file, "more": {"type": "array", "items": file}, "text": {"type": "string"}});
        let input = json!({"type": "object", "properties": properties});
        InputSchema::compile(&json!({"components": {"schemas": {"Input": input}}}), "Input").unwrap().unwrap()
    }

    #[test]
    fn large_files_are_taken_out_and_everything_else_stays() {
        let content: Vec<u8> = (0..2_000_003_u32).map(|number| (number * 7) as u8).collect();
        let url = format!("data:image/png;base64,{}", STANDARD.encode(&content));
        let (broken, early) = (url.replace('=', "!"), format!("{url}AAAA"));
        let mut input = json!({"one": url, "more": [broken, early, "data:,x", "http://x/", url], "text": url, "other": url});
        let before = input.clone();
        let carried = carry(&mut input, &schema()).unwrap();
        assert_eq!(
            (&input["one"], &input["more"][4]),
            (&json!("data:image/png;base64,!0"), &json!("data:image/png;base64,!1"))
        );
        for place in ["/more/0", "/more/1", "/more/2", "/more/3", "/text", "/other"] {
            assert_eq!(input.pointer(place), before.pointer(place), "{place}");
        }
        assert_eq!(carried.len, 2 * content.len() as u64);
        for (url, at) in [("data:image/png;base64,!0", 0), ("data:image/png;base64,!1", content.len())] {
            assert_eq!(carried.places[url], json!([at, content.len()]));
            let mut found = vec![0; content.len()];
            carried.file.read_exact_at(&mut found, at as u64).unwrap();
            assert!(found == content);
        }
        assert!(carry(&mut json!({"one": "data:,x"}), &schema()).is_none());
    }
}
