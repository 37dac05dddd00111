//! Reads forms as browsers send them. What must be known before a file is taken comes before it.

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError, MultipartRejection};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::File;
use futures_util::StreamExt;
use serde_json::Map;

use super::session::Visitor;
use super::submitted::{PREFIX, Submitted};
use crate::models::{Models, NewFile};

/// The text that other sites do not know.
pub const FORM_TOKEN: &str = "form_token";
/// Bytes of all texts of a form.
const MAX_TEXT: usize = 16 << 20;
/// Bytes of all files of a form.
const MAX_FILES: u64 = 4 << 30;
/// Fields of a form: lists have one for each item.
const MAX_FIELDS: usize = 10_000;

/// A form, when what came is one.
pub type Form = Result<Multipart, MultipartRejection>;

/// A form, and the fields of the model in it.
#[derive(Debug, Default)]
pub struct Sent {
    pub input: Submitted,
    /// Fields that are not the model's.
    pub others: Vec<(String, String)>,
    text: usize,
    files: u64,
}

impl Sent {
    pub fn other(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    fn add(&mut self, name: &str, text: String) {
        match name.strip_prefix(PREFIX) {
            Some(name) => self.input.texts.entry(name.into()).or_default().push(text),
            None => self.others.push((name.into(), text)),
        }
    }
}

/// A form without files, from anybody.
pub async fn texts(form: Form) -> Result<Sent, ErrorBody> {
    let mut form = form.map_err(|rejection| unreadable(&rejection.body_text()))?;
    let mut sent = Sent::default();
    for _ in 0..MAX_FIELDS {
        let Some(field) = form.next_field().await.map_err(broken)? else { return Ok(sent) };
        let name = field.name().unwrap_or_default().to_owned();
        if field.file_name().is_some() {
            return Err(ErrorBody::new(ErrorCode::BadRequest, format!("`{name}` is a file, not a text")));
        }
        let text = text(field, &mut sent.text).await?;
        sent.add(&name, text);
    }
    Err(too_much())
}

/// A form of the owner's session; its files are kept, and their addresses stand for them.
pub async fn with_files(
    form: Form,
    visitor: &Visitor,
    models: &Models,
    base_url: &str,
) -> Result<Sent, ErrorBody> {
    let mut form = form.map_err(|rejection| unreadable(&rejection.body_text()))?;
    let mut sent = Sent::default();
    for _ in 0..MAX_FIELDS {
        let Some(field) = form.next_field().await.map_err(broken)? else {
            return if visitor.sent(sent.other(FORM_TOKEN)) { Ok(sent) } else { Err(foreign()) };
        };
        let name = field.name().unwrap_or_default().to_owned();
        match field.file_name().map(str::to_owned) {
            // A control for files that was left alone.
            Some(file) if file.is_empty() => {}
            Some(_) if !visitor.sent(sent.other(FORM_TOKEN)) => return Err(foreign()),
            Some(file) => {
                let kept = keep(field, file, &mut sent.files, models).await?;
                let url = models.file_url(base_url, kept.id, &kept.name);
                let name = name.strip_prefix(PREFIX).unwrap_or(&name);
                sent.input.files.entry(name.into()).or_default().push(url);
            }
            None => {
                let text = text(field, &mut sent.text).await?;
                sent.add(&name, text);
            }
        }
    }
    Err(too_much())
}

async fn text(mut field: Field<'_>, total: &mut usize) -> Result<String, ErrorBody> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        *total += chunk.len();
        if *total > MAX_TEXT {
            return Err(too_much());
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| ErrorBody::new(ErrorCode::BadRequest, "a field is not UTF-8 text"))
}

async fn keep(field: Field<'_>, name: String, total: &mut u64, models: &Models) -> Result<File, ErrorBody> {
    let content_type = field.content_type().unwrap_or("application/octet-stream").to_owned();
    let new = NewFile { name, content_type, metadata: Map::new() };
    let limited = field.map(|chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        *total += chunk.len() as u64;
        if *total > MAX_FILES {
            return Err(std::io::Error::other("the files of a form have at most 4 GiB"));
        }
        Ok(chunk)
    });
    models.upload(new, Box::pin(limited)).await
}

fn broken(error: MultipartError) -> ErrorBody {
    unreadable(&error.body_text())
}

fn unreadable(why: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, format!("the form could not be read: {why}"))
        .hint("a form is sent as multipart/form-data")
}

fn too_much() -> ErrorBody {
    ErrorBody::new(ErrorCode::PayloadTooLarge, "the form is too large")
        .hint("its texts have at most 16 MiB; send more as a file")
}

pub fn foreign() -> ErrorBody {
    ErrorBody::new(ErrorCode::Unauthorized, "this form is not of your session")
        .hint("load the page again and send the form once more")
}
