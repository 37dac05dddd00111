//! Values of a model as JSON: files become addresses where they were put, or data URLs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clunk_agent::{OutputFile, Payload, Value, map_sealed};
use reqwest::Url;
use serde_json::Value as Json;

use crate::client::Client;
use crate::pieces;
use crate::prediction::Prediction;
use crate::record::{OUTPUT_MAX, write_text};

/// Bytes of a file that are encoded without leaving the task that received it.
const SMALL: u64 = 64 << 10;
/// Bytes encoded at a time; a multiple of three, so that no padding comes in between.
const ENCODE_CHUNK: usize = 768 << 10;
/// Bytes of a file that are in memory while it is uploaded.
const UPLOAD_CHUNK: u64 = 1 << 20;
/// An upload that takes longer has failed.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(25);

/// Where files of outputs go.
#[derive(Clone)]
pub struct Files {
    /// They are put below this address.
    pub upload_url: Option<Url>,
    pub client: Client,
}

impl Files {
    /// The JSON of a value that needs no waiting.
    pub fn at_once(&self, value: &Value) -> Option<Bytes> {
        match &value.payload {
            Payload::Memory(json) if value.files.is_empty() => Some(json.clone()),
            Payload::Memory(json) if self.upload_url.is_none() && is_small(&value.files) => {
                let texts = value.files.iter().map(|file| encode(file).ok()).collect::<Option<Vec<_>>>()?;
                splice(json, &value.files, &texts).ok()
            }
            Payload::Memory(_) | Payload::File { .. } => None,
        }
    }

    /// The JSON of any value of a prediction. An error says which file could not be delivered, and why.
    pub async fn deliver(&self, prediction: &Prediction, value: Value) -> Result<Bytes, String> {
        let Value { payload, files } = value;
        let json = match payload {
            Payload::Memory(json) => json,
            Payload::File { file, len } => blocking(move || whole(&file, len)).await?,
        };
        if files.is_empty() {
            return Ok(json);
        }
        let most = OUTPUT_MAX as u64 / 2;
        let total: u64 = files.iter().map(|file| file.content.len()).sum();
        if self.upload_url.is_none() && total > most {
            let (names, total, most) = (names(&files), total >> 20, most >> 20);
            return Err(format!(
                "{names} of the output have {total} MiB, and data URLs at most {most} MiB together: start the server with --upload-url"
            ));
        }
        let mut texts = Vec::with_capacity(files.len());
        for file in &files {
            let text = match &self.upload_url {
                Some(url) => self.upload(url, prediction, file).await?,
                None => {
                    let file = file.clone();
                    blocking(move || encode(&file)).await?
                }
            };
            texts.push(text);
        }
        blocking(move || splice(&json, &files, &texts)).await
    }

    /// Puts a file below the address; where it is then, as JSON.
    async fn upload(&self, url: &Url, prediction: &Prediction, file: &OutputFile) -> Result<Bytes, String> {
        let name = &file.name;
        let failed = |reason: String| format!("could not upload output file {name}: {reason}");
        let body = match &file.content {
            Payload::Memory(bytes) => bytes.clone().into(),
            Payload::File { file, len } => in_pieces(file.clone(), *len),
        };
        let http = self.client.get().await.map_err(failed)?;
        let address = below(url, &prediction.name_file(name));
        let host = address.authority().to_owned();
        let request = http.put(address).timeout(UPLOAD_TIMEOUT).body(body);
        let request = request
            .header("content-type", &file.media_type)
            .header("content-length", file.content.len())
            // As Cog says it: files of other predictions may have the same name.
            .header("x-prediction-id", &prediction.id);
        let answer = request.send().await.map_err(|error| failed(crate::client::reason(&error)))?;
        if !answer.status().is_success() {
            return Err(failed(format!("{host} answered {}", answer.status())));
        }
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let place = match location {
            // It may be a path of the same host.
            Some(location) => {
                answer.url().join(location).map(String::from).unwrap_or_else(|_| location.into())
            }
            None => {
                let mut place = answer.url().clone();
                place.set_query(None);
                place.into()
            }
        };
        let mut text = Vec::new();
        write_text(&mut text, &place);
        Ok(text.into())
    }
}

/// The address of a file below another one, whose query it keeps.
fn below(url: &Url, name: &str) -> Url {
    let mut address = url.clone();
    if let Ok(mut path) = address.path_segments_mut() {
        path.pop_if_empty().push(name);
    }
    address
}

/// A file that is read while it is sent.
fn in_pieces(file: Arc<File>, len: u64) -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::try_unfold(0, move |offset: u64| {
        let file = file.clone();
        async move {
            let size = UPLOAD_CHUNK.min(len - offset);
            let read = move || {
                let mut piece = vec![0; size as usize];
                file.read_exact_at(&mut piece, offset).map_err(|error| error.to_string())?;
                Ok(Bytes::from(piece))
            };
            match size {
                0 => Ok(None),
                _ => blocking(read)
                    .await
                    .map(|piece| Some((piece, offset + size)))
                    .map_err(std::io::Error::other),
            }
        }
    }))
}

/// The first few names of files.
fn names(files: &[OutputFile]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = files.iter().take(SHOWN).map(|file| file.name.as_str()).collect();
    let more =
        if files.len() > SHOWN { format!(" and {} more files", files.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn is_small(files: &[OutputFile]) -> bool {
    files.iter().all(|file| matches!(file.content, Payload::Memory(_)))
        && files.iter().map(|file| file.content.len()).sum::<u64>() <= SMALL
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// A large value: the runner's memory file as it is, where that is safe.
fn whole(file: &File, len: u64) -> Result<Bytes, String> {
    if len > OUTPUT_MAX as u64 {
        return Err(format!("the output is {} MiB; at most {} MiB are taken", len >> 20, OUTPUT_MAX >> 20));
    }
    map_sealed(file, len).map_or_else(|| read(file, len), Ok)
}

fn read(file: &File, len: u64) -> Result<Bytes, String> {
    let mut content = vec![0; usize::try_from(len).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut content, 0).map_err(|error| error.to_string())?;
    Ok(content.into())
}

/// A file as a data URL, in quotes.
fn encode(file: &OutputFile) -> Result<Bytes, String> {
    let len = file.content.len();
    let media_type: String =
        file.media_type.chars().filter(|c| c.is_ascii_graphic() && !"\"\\,".contains(*c)).collect();
    let head = format!("\"data:{media_type};base64,");
    let mut text = vec![0; head.len() + (len as usize).div_ceil(3) * 4 + 1];
    text[..head.len()].copy_from_slice(head.as_bytes());
    *text.last_mut().expect("there is room for a quotation mark") = b'"';
    let end = text.len() - 1;
    let space = &mut text[head.len()..end];
    match &file.content {
        Payload::Memory(bytes) => encode_into(bytes, space),
        Payload::File { file: content, len } => {
            let pieces = space.chunks_mut(ENCODE_CHUNK / 3 * 4).enumerate();
            let encode = |(index, space): (usize, &mut [u8])| {
                let offset = (index * ENCODE_CHUNK) as u64;
                let mut chunk = vec![0; ENCODE_CHUNK.min((*len - offset) as usize)];
                content.read_exact_at(&mut chunk, offset)?;
                encode_into(&chunk, space);
                Ok(())
            };
            pieces::each(pieces, encode).map_err(|error: std::io::Error| {
                format!("could not read output file {}: {error}", file.name)
            })?;
        }
    }
    Ok(text.into())
}

fn encode_into(bytes: &[u8], space: &mut [u8]) {
    let written = STANDARD.encode_slice(bytes, space).expect("the space is as long as the encoding");
    debug_assert_eq!(written, space.len());
}

/// Puts texts where the value has `null` for files.
fn splice(json: &[u8], files: &[OutputFile], texts: &[Bytes]) -> Result<Bytes, String> {
    if let ([file], [text]) = (files, texts)
        && file.pointer.is_empty()
    {
        return Ok(text.clone());
    }
    let value: Json =
        serde_json::from_slice(json).map_err(|error| format!("the output is not JSON: {error}"))?;
    let places: Vec<(&str, &Bytes)> = files.iter().map(|file| file.pointer.as_str()).zip(texts).collect();
    let mut out = Vec::with_capacity(json.len() + texts.iter().map(Bytes::len).sum::<usize>());
    write(&value, &mut String::new(), &places, &mut out);
    Ok(out.into())
}

fn write(value: &Json, path: &mut String, places: &[(&str, &Bytes)], out: &mut Vec<u8>) {
    let length = path.len();
    match value {
        Json::Null => match places.iter().find(|(pointer, _)| pointer == path) {
            Some((_, text)) => out.extend_from_slice(text),
            None => out.extend_from_slice(b"null"),
        },
        Json::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                path.push('/');
                path.push_str(&index.to_string());
                write(item, path, places, out);
                path.truncate(length);
            }
            out.push(b']');
        }
        Json::Object(members) => {
            out.push(b'{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(out, name);
                out.push(b':');
                path.push('/');
                path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                write(member, path, places, out);
                path.truncate(length);
            }
            out.push(b'}');
        }
        Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(out, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn file(pointer: &str, content: Payload) -> OutputFile {
        OutputFile {
            pointer: pointer.into(),
            name: "a b.png".into(),
            media_type: "image/png".into(),
            content,
        }
    }

    fn prediction() -> Arc<Prediction> {
        let asked = crate::request::Asked::default();
        Prediction::new("p".into(), &asked, Payload::from(&b""[..]), 0, None, false)
    }

    fn files() -> Files {
        Files { upload_url: None, client: Client::new("test") }
    }

    #[tokio::test]
    async fn files_become_data_urls_where_they_belong() {
        let mut large = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..2_000_000_u32).map(|number| number as u8).collect();
        large.write_all(&content).unwrap();
        let payload = json!({"a/b": [1, null], "c": null, "d": "text"}).to_string();
        let value = Value {
            payload: Payload::Memory(payload.into()),
            files: vec![
                file("/a~1b/1", Payload::from(&b"hi"[..])),
                file("/c", Payload::File { file: Arc::new(large), len: content.len() as u64 }),
            ],
        };
        assert!(files().at_once(&value).is_none(), "a file is read elsewhere");
        let found = files().deliver(&prediction(), value).await.unwrap();
        let found: Json = serde_json::from_slice(&found).unwrap();
        assert_eq!(found["a/b"], json!([1, "data:image/png;base64,aGk="]));
        assert_eq!(found["d"], "text");
        let text = found["c"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        assert_eq!(STANDARD.decode(text).unwrap(), content);
    }

    #[test]
    fn small_things_need_no_waiting() {
        let files = files();
        let plain = Value::from(Payload::from(&b"[1,null]"[..]));
        assert_eq!(files.at_once(&plain).unwrap(), "[1,null]");
        let whole =
            Value { payload: Payload::from(&b"null"[..]), files: vec![file("", Payload::from(&b"hi"[..]))] };
        assert_eq!(files.at_once(&whole).unwrap(), "\"data:image/png;base64,aGk=\"");
        let uploading = Files { upload_url: Some(Url::parse("http://localhost/x").unwrap()), ..files };
        assert!(uploading.at_once(&whole).is_none());
    }

    #[tokio::test]
    async fn data_urls_have_a_bound_together() {
        let half = || {
            let file =
                Payload::File { file: Arc::new(tempfile::tempfile().unwrap()), len: OUTPUT_MAX as u64 / 3 };
            self::file("/0", file)
        };
        let value = Value { payload: Payload::from(&b"[null]"[..]), files: vec![half(), half()] };
        let error = files().deliver(&prediction(), value).await.unwrap_err();
        assert!(error.contains("682 MiB") && error.contains("at most 512 MiB"), "{error}");
    }

    #[test]
    fn files_are_put_below_the_address_under_names_of_their_own() {
        let place = |url: &str, name: &str| String::from(below(&Url::parse(url).unwrap(), name));
        assert_eq!(place("http://a/put/?key=1", "a b/ü.png"), "http://a/put/a%20b%2F%C3%BC.png?key=1");
        assert_eq!(place("http://a", "50%?#"), "http://a/50%25%3F%23");
        let prediction = prediction();
        let named =
            ["a.png", "a.png", "a-1.png", "a.png", ".env", ".env"].map(|name| prediction.name_file(name));
        assert_eq!(named, ["a.png", "a-1.png", "a-1-1.png", "a-2.png", ".env", ".env-1"]);
    }
}
