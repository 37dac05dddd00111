//! Files: content that clients upload and that predictions give, until it expires.

use std::io;

use bytes::Bytes;
use clunk_core::error::ErrorBody;
use clunk_core::id::FileId;
use clunk_core::model::{File, Page};
use futures_util::Stream;

use super::{Models, NewFile};

impl Models {
    /// Keeps what comes. It expires a day later.
    pub async fn upload(
        &self,
        _new: NewFile,
        _content: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<File, ErrorBody> {
        self.unfinished("uploading")
    }

    pub async fn file(&self, _id: FileId) -> Result<File, ErrorBody> {
        self.unfinished("a file")
    }

    /// Newest first; uploaded ones only.
    pub async fn files(&self, _cursor: Option<&str>, _limit: u32) -> Result<Page<File>, ErrorBody> {
        self.unfinished("listing files")
    }

    pub async fn delete_file(&self, _id: FileId) -> Result<(), ErrorBody> {
        self.unfinished("deleting a file")
    }

    /// The file with its content, to be read from its start.
    pub async fn open_file(&self, _id: FileId) -> Result<(File, std::fs::File), ErrorBody> {
        self.unfinished("a file's content")
    }
}
