//! Files: content that clients upload and that predictions give, until it expires.

use std::io::{self, Seek, Write};

use bytes::Bytes;
use clunk_agent::replica::now_ms;
use clunk_core::Digest;
use clunk_core::digest::Hasher;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::FileId;
use clunk_core::model::{File, Page};
use futures_util::{Stream, StreamExt};
use md5::Digest as _;
use tokio::sync::mpsc;

use super::lists::{self, MAX_LISTED};
use super::{Models, NewFile};
use crate::answer::{io_error, not_found, store_error};

/// How long an uploaded file is kept.
const LIFETIME_MS: u64 = 24 * 3600 * 1000;
/// Bytes of one file: as much as the arguments of a call.
const MAX_FILE: u64 = clunk_agent::payload::MAX_PAYLOAD;
/// Bytes of the JSON of `metadata`.
const MAX_METADATA: usize = 64 << 10;
const MAX_NAME: usize = 255;
/// Pieces between the network and the disk.
const MAX_PIECES: usize = 16;

/// What was written of an upload.
struct Spooled {
    file: std::fs::File,
    size: u64,
    sha256: Digest,
    md5: String,
}

fn spool(folder: &std::path::Path, mut pieces: mpsc::Receiver<Bytes>) -> io::Result<Spooled> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?);
    let (mut sha256, mut md5, mut size) = (Hasher::default(), md5::Md5::new(), 0);
    while let Some(piece) = pieces.blocking_recv() {
        sha256.update(&piece);
        md5.update(&piece);
        file.write_all(&piece)?;
        size += piece.len() as u64;
    }
    file.rewind()?;
    Ok(Spooled { file, size, sha256: sha256.finish(), md5: hex::encode(md5.finalize()) })
}

/// A name without folders.
fn base_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|character| !character.is_control()).take(MAX_NAME).collect();
    if matches!(plain.as_str(), "" | "." | "..") { "file".into() } else { plain }
}

impl Models {
    /// Keeps what comes. It expires a day later.
    pub async fn upload(
        &self,
        new: NewFile,
        mut content: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<File, ErrorBody> {
        let metadata = serde_json::to_vec(&new.metadata).expect("JSON has a JSON form");
        if metadata.len() > MAX_METADATA {
            let text = format!("metadata has at most {} KiB", MAX_METADATA >> 10);
            return Err(ErrorBody::new(ErrorCode::PayloadTooLarge, text));
        }
        let folder = self.temporary.clone();
        let (pieces, received) = mpsc::channel(MAX_PIECES);
        let writing = tokio::task::spawn_blocking(move || spool(&folder, received));
        let mut size = 0;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|error| {
                ErrorBody::new(ErrorCode::BadRequest, format!("the file did not arrive whole: {error}"))
            })?;
            size += piece.len() as u64;
            if size > MAX_FILE {
                let text = format!("a file has at most {} GiB", MAX_FILE >> 30);
                return Err(ErrorBody::new(ErrorCode::PayloadTooLarge, text));
            }
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let spooled =
            writing.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        self.keep_upload(new, spooled.map_err(|error| io_error("keep a file", &error))?).await
    }

    async fn keep_upload(&self, new: NewFile, spooled: Spooled) -> Result<File, ErrorBody> {
        let created_ms = now_ms();
        let record = File {
            id: FileId::fresh(),
            name: base_name(&new.name),
            content_type: new.content_type,
            size: spooled.size,
            sha256: spooled.sha256,
            md5: spooled.md5,
            metadata: new.metadata,
            created_ms,
            expires_ms: created_ms + LIFETIME_MS,
            prediction: None,
        };
        let used = self.engine.payload_use.clone().read_owned().await;
        let payloads = self.engine.payloads.clone();
        let put = move || payloads.put_file(&spooled.file, spooled.size);
        let put = tokio::task::spawn_blocking(put).await;
        put.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?
            .map_err(|error| store_error(&error))?;
        self.store.add_files(vec![record.clone()]).await.map_err(|error| store_error(&error))?;
        drop(used);
        Ok(record)
    }

    pub async fn file(&self, id: FileId) -> Result<File, ErrorBody> {
        let found = self.store.file(id).await.map_err(|error| store_error(&error))?;
        let found = found.filter(|file| file.expires_ms > now_ms());
        found.ok_or_else(|| not_found(format_args!("file {id}")).0)
    }

    /// Newest first; uploaded ones only.
    pub async fn files(&self, cursor: Option<&str>, limit: u32) -> Result<Page<File>, ErrorBody> {
        let (seek, limit) = (lists::seek(cursor)?, limit.clamp(1, MAX_LISTED));
        let found = self.store.files(seek.clone(), limit).await;
        Ok(lists::page(found.map_err(|error| store_error(&error))?, seek.as_ref(), limit))
    }

    pub async fn delete_file(&self, id: FileId) -> Result<(), ErrorBody> {
        match self.store.delete_file(id).await.map_err(|error| store_error(&error))? {
            true => Ok(()),
            false => Err(not_found(format_args!("file {id}")).0),
        }
    }

    /// The file with its content, to be read from its start.
    pub async fn open_file(&self, id: FileId) -> Result<(File, std::fs::File), ErrorBody> {
        let record = self.file(id).await?;
        let gone = || not_found(format_args!("content of file {id} any more")).0;
        let path = self.engine.payloads.path(record.sha256).ok_or_else(gone)?;
        let file = std::fs::File::open(path).map_err(|error| io_error("open a file", &error))?;
        Ok((record, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_folders() {
        for (given, kept) in
            [("a/b.png", "b.png"), ("C:\\x\\y.txt", "y.txt"), ("..", "file"), ("", "file"), ("a\nb", "ab")]
        {
            assert_eq!(base_name(given), kept);
        }
    }
}
