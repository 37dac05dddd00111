//! An upload: `multipart/form-data` with the content and what is said about it, in any order.

use std::io;

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use clunk_dialects::replicate::Problem;
use clunk_dialects::replicate::objects::metadata;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Map, Value};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::{Answer, Refused};
use crate::answer::io_error;
use crate::models::NewFile;
use crate::server::Server;

/// Bytes of one upload: weights of a large model in one file.
const MAX_CONTENT: u64 = 16 << 30;
/// Bytes of a text field; metadata is the longest.
const MAX_TEXT: usize = 64 << 10;
/// Bytes of a file's name, as the API has it.
const MAX_NAME: usize = 255;
/// Parts of a form; content, name, type, and metadata by key.
const MAX_PARTS: usize = 64;
/// An upload up to here stays in memory while the rest of its form is read.
const MAX_IN_MEMORY: usize = 1 << 20;

pub struct Form {
    pub new: NewFile,
    content: Content,
}

enum Content {
    Memory(Vec<u8>),
    /// Without a name: gone with the last one who has it open.
    File(tokio::fs::File),
}

#[derive(Default)]
struct Parts {
    content: Option<(Content, Option<String>, Option<String>)>,
    name: Option<String>,
    media_type: Option<String>,
    metadata: Option<String>,
    by_key: Map<String, Value>,
}

impl Form {
    pub async fn read(server: &Server, mut form: Multipart) -> Answer<Self> {
        let mut parts = Parts::default();
        for _ in 0..MAX_PARTS {
            match form.next_field().await.map_err(broken)? {
                Some(field) => parts.take(server, field).await?,
                None => return parts.finish(),
            }
        }
        Err(Problem::new(400, format!("the form has more than {MAX_PARTS} parts")).into())
    }

    /// The description, and the content from its start.
    pub async fn into_stream(self) -> io::Result<(NewFile, BoxStream<'static, io::Result<Bytes>>)> {
        let content = match self.content {
            Content::Memory(bytes) => stream::once(async { Ok(Bytes::from(bytes)) }).boxed(),
            Content::File(mut file) => {
                file.rewind().await?;
                ReaderStream::new(file).boxed()
            }
        };
        Ok((self.new, content))
    }
}

impl Parts {
    async fn take(&mut self, server: &Server, field: Field<'_>) -> Answer<()> {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "content" => {
                let (file_name, media_type) =
                    (field.file_name().map(str::to_owned), field.content_type().map(str::to_owned));
                self.content = Some((keep(server, field).await?, file_name, media_type));
            }
            "filename" => self.name = Some(text(&name, field).await?),
            "type" => self.media_type = Some(text(&name, field).await?),
            "metadata" => self.metadata = Some(text(&name, field).await?),
            _ => match name.strip_prefix("metadata[").and_then(|rest| rest.strip_suffix(']')) {
                Some(key) => drop(self.by_key.insert(key.into(), text(&name, field).await?.into())),
                None => {
                    let problem =
                        Problem::new(422, format!("the form has a part {name:?}, which means nothing here"));
                    return Err(problem.hint("parts are content, filename, type and metadata").into());
                }
            },
        }
        Ok(())
    }

    fn finish(self) -> Answer<Form> {
        let Some((content, file_name, media_type)) = self.content else {
            let problem = Problem::new(422, "the form has no part `content`");
            return Err(problem.hint("for example curl -F 'content=@cat.png;type=image/png'").into());
        };
        let name = self.name.or(file_name).filter(|name| !name.is_empty()).unwrap_or_else(|| "file".into());
        let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let rule = format!("filename must have 1 to {MAX_NAME} bytes and no control characters");
            return Err(Problem::new(422, rule).into());
        }
        let content_type =
            self.media_type.or(media_type).unwrap_or_else(|| "application/octet-stream".into());
        if content_type.len() > MAX_NAME || !content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(Problem::new(422, "type must be a media type, such as image/png").into());
        }
        let metadata =
            metadata(self.metadata.as_deref(), self.by_key).map_err(|text| Problem::new(422, text))?;
        Ok(Form { new: NewFile { name, content_type, metadata }, content })
    }
}

fn broken(error: MultipartError) -> Refused {
    let problem = Problem::new(400, format!("could not read the form: {}", error.body_text()));
    problem.hint("send multipart/form-data with a boundary, as `curl -F` does").into()
}

async fn text(name: &str, mut field: Field<'_>) -> Answer<String> {
    let mut bytes = vec![];
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > MAX_TEXT {
            return Err(Problem::new(413, format!("{name} has more than {MAX_TEXT} bytes")).into());
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Problem::new(422, format!("{name} is not valid UTF-8")).into())
}

/// The content, put aside until the whole form is known: clients send what they say about it behind it.
async fn keep(server: &Server, mut field: Field<'_>) -> Answer<Content> {
    let failed = |error: io::Error| io_error("keep an upload", &error);
    let (mut memory, mut file, mut size) = (vec![], None, 0);
    while let Some(piece) = field.chunk().await.map_err(broken)? {
        size += piece.len() as u64;
        if size > MAX_CONTENT {
            return Err(Problem::new(413, format!("content has more than {MAX_CONTENT} bytes")).into());
        }
        if file.is_none() && memory.len() + piece.len() > MAX_IN_MEMORY {
            file = Some(nameless(server).map_err(failed)?);
        }
        match &mut file {
            None => memory.extend_from_slice(&piece),
            Some(file) => {
                file.write_all(&std::mem::take(&mut memory)).await.map_err(failed)?;
                file.write_all(&piece).await.map_err(failed)?;
            }
        }
    }
    match file {
        None => Ok(Content::Memory(memory)),
        Some(mut file) => {
            file.flush().await.map_err(failed)?;
            Ok(Content::File(file))
        }
    }
}

fn nameless(server: &Server) -> io::Result<tokio::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(flags).mode(0o600);
    options.open(&server.temporary).map(tokio::fs::File::from_std)
}
