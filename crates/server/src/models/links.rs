//! URLs that open something without a token, for a time; and outputs with the URLs of their files.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clunk_agent::replica::now_ms;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::FileId;
use clunk_core::model::{Output, Prediction};
use serde_json::Value;

use super::Models;
use super::outputs::read_whole;
use crate::answer::io_error;
use crate::seal;

/// How long the URL of a file works at least.
const LINK_LIFETIME: Duration = Duration::from_secs(86_400);
const SECRET_BYTES: usize = 32;
/// What stands behind the server's URL in the addresses of its files: uploads, and signed ones of any file.
const FILES: [&str; 2] = ["/replicate/v1/files/", "/files/"];

/// What webhooks are signed with, or links. Its Debug prints nothing of it.
#[derive(Clone)]
pub struct Secret {
    key: [u8; SECRET_BYTES],
}

impl Secret {
    /// Reads a secret of the state folder, making it at the first start.
    pub(super) fn load(state: &Path, name: &str) -> Result<Self, ErrorBody> {
        let path = state.join(name);
        let failed = |why: &dyn fmt::Display| {
            let text = format!("could not use the secret {}: {why}", path.display());
            ErrorBody::new(ErrorCode::CorruptState, text)
                .hint("remove the file: the next start makes a new secret")
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; SECRET_BYTES];
                getrandom::fill(&mut key).expect("the kernel gives random bytes");
                let secret = Self { key };
                let text = secret.text() + "\n";
                crate::state::write_atomically(&path, text.as_bytes(), 0o600)
                    .map_err(|error| failed(&error))?;
                return Ok(secret);
            }
            Err(error) => return Err(failed(&error)),
        };
        let bytes = text.trim().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let key = bytes.and_then(|bytes| bytes.try_into().ok());
        key.map(|key| Self { key }).ok_or_else(|| failed(&"it does not hold one"))
    }

    /// As receivers of webhooks are given it: `whsec_` and base 64.
    pub fn text(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.key))
    }

    /// HMAC-SHA256.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        seal::sign(&self.key, message)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Models {
    pub fn webhook_secret(&self) -> &Secret {
        &self.secret
    }

    /// What links are signed with. It never leaves the server: receivers of webhooks have the other one.
    pub fn link_secret(&self) -> &Secret {
        &self.link_secret
    }

    /// The path with a query that opens it without a token for so long.
    pub fn sign_path(&self, path: &str, lifetime: Duration) -> String {
        self.sign_until(path, now_ms() / 1000 + lifetime.as_secs())
    }

    fn sign_until(&self, path: &str, expiry: u64) -> String {
        format!("{path}?expiry={expiry}&signature={}", self.path_signature(path, expiry))
    }

    /// Whether [`Models::sign_path`] made this, and its time is not over.
    pub fn is_signed(&self, uri: &Uri) -> bool {
        let value = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            pairs.clone().find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (Some(expiry), Some(signature)) = (value("expiry"), value("signature")) else { return false };
        let Ok(seconds) = expiry.parse::<u64>() else { return false };
        let expected = self.path_signature(uri.path(), seconds);
        seal::same(expected, signature) && seconds >= now_ms() / 1000
    }

    fn path_signature(&self, path: &str, expiry: u64) -> String {
        hex::encode(self.link_secret.sign(format!("{path}\n{expiry}").as_bytes()))
    }

    /// Where a file is fetched without a token. The same for an hour, so that what keeps it need not fetch it again.
    pub fn file_url(&self, base_url: &str, file: FileId, name: &str) -> String {
        let path = format!("/files/{file}/{}", url_name(name));
        let hour = now_ms() / 3_600_000 * 3600;
        let signed = self.sign_until(&path, hour + LINK_LIFETIME.as_secs() + 3600);
        format!("{base_url}{signed}")
    }

    /// An output with the URLs of its files in their places.
    pub fn with_urls(&self, output: &Output, base_url: &str) -> Value {
        let mut value = output.value.clone();
        for file in &output.files {
            put(&mut value, &file.pointer, self.file_url(base_url, file.file, &file.name).into());
        }
        value
    }

    /// Containers reach this server under its own URL, whatever it is called outside: an input names its files by that.
    /// `base_url` is what the caller knows it by.
    pub(super) fn take_files(&self, input: &mut Value, base_url: &str) {
        let own = self.engine.url.get().map_or("", String::as_str);
        each_text(input, &mut |text| {
            if let Some(path) = file_path(text, base_url) {
                *text = format!("{own}{path}");
            }
        });
    }

    /// The way back: an input as its reader knows the addresses of this server's files.
    pub fn show_files(&self, input: &mut Value, base_url: &str) {
        let own = self.engine.url.get().map_or("", String::as_str);
        each_text(input, &mut |text| {
            if let Some(path) = path_under(text, own) {
                *text = format!("{base_url}{path}");
            }
        });
    }

    /// An output with its files as data URLs in their places; one that is gone is null.
    pub async fn with_data(&self, output: &Output) -> Result<Value, ErrorBody> {
        let mut value = output.value.clone();
        for file in &output.files {
            let text = match self.open_file(file.file).await {
                Ok((record, mut content)) => {
                    let read = tokio::task::spawn_blocking(move || read_whole(&mut content, record.size));
                    let read =
                        read.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
                    let bytes = read.map_err(|error| io_error("read a file", &error))?;
                    format!("data:{};base64,{}", file.media_type, STANDARD.encode(bytes)).into()
                }
                Err(error) if error.code == ErrorCode::NotFound => Value::Null,
                Err(error) => return Err(error),
            };
            put(&mut value, &file.pointer, text);
        }
        Ok(value)
    }

    /// A prediction as the native API shows it.
    pub fn shown(&self, prediction: &Prediction) -> Value {
        let mut shown = serde_json::to_value(prediction).expect("a prediction has a JSON form");
        self.show_files(&mut shown["input"], &prediction.base_url);
        // Callers put tokens there, for the model and for nobody else.
        shown.as_object_mut().map(|members| members.shift_remove("context"));
        shown["output"] = prediction
            .output
            .as_ref()
            .map_or(Value::Null, |output| self.with_urls(output, &prediction.base_url));
        shown
    }
}

/// Path and query of an address of one of our files, under the server's URL or whatever host it was made for: `localhost`
/// for one client is `127.0.0.1` for another.
fn file_path<'a>(text: &'a str, base_url: &str) -> Option<&'a str> {
    if let Some(path) = path_under(text, base_url) {
        return Some(path);
    }
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let path = &rest[rest.find('/')?..];
    let id = FILES.iter().find_map(|files| path.strip_prefix(files))?.split(['/', '?']).next()?;
    id.parse::<FileId>().is_ok().then_some(path)
}

fn path_under<'a>(text: &'a str, base_url: &str) -> Option<&'a str> {
    let path = text.strip_prefix(base_url)?;
    FILES.iter().any(|files| path.starts_with(files)).then_some(path)
}

fn each_text(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| each_text(entry, change)),
        Value::Object(members) => members.values_mut().for_each(|member| each_text(member, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn put(value: &mut Value, pointer: &str, new: Value) {
    if let Some(place) = value.pointer_mut(pointer) {
        *place = new;
    }
}

/// A file's name as the last part of a URL's path.
fn url_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_urls_are_escaped() {
        assert_eq!(url_name("a b/é?.png"), "a%20b%2F%C3%A9%3F.png");
    }

    #[test]
    fn files_are_found_under_any_host_and_under_the_servers_url() {
        let id = FileId::fresh();
        let (signed, uploaded) = (format!("/files/{id}/a.png?expiry=1"), format!("/replicate/v1/files/{id}"));
        let base = "https://clunk.example/below";
        let at = |host: &str, path: &str| format!("{host}{path}");
        for (text, path) in [
            (at("http://localhost:1", &signed), Some(&signed)),
            (at("https://x", &uploaded), Some(&uploaded)),
            (at(base, &signed), Some(&signed)),
            (at("http://x", "/files/other/a.png"), None),
            (at("see http://x", &signed), None),
            ("http://x".into(), None),
            (at(base, "/models"), None),
        ] {
            assert_eq!(file_path(&text, base), path.map(String::as_str), "{text}");
        }
    }

    #[test]
    fn a_secret_is_kept_and_shown_to_nobody_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Secret::load(folder.path(), "secret").unwrap();
        assert_eq!(Secret::load(folder.path(), "secret").unwrap().text(), secret.text());
        assert!(secret.text().starts_with("whsec_") && secret.text().matches('_').count() == 1);
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }
}
