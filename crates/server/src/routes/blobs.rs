//! Blobs: content, one after the other in one body.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use clunk_core::Digest;
use clunk_core::api::BlobsAnswer;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_store::StoreError;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::answer::Failure;
use crate::server::Server;

/// 32 bytes of SHA-256 and 8 of length.
const HEAD_LEN: usize = 40;
/// Pieces of the body between the network and the disk.
const MAX_PIECES: usize = 16;

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the upload ended inside a blob")]
    Short,
}

/// Stores every blob of the body, or none.
pub async fn create(State(server): State<Arc<Server>>, body: Body) -> Result<Json<BlobsAnswer>, Failure> {
    let (pieces, received) = mpsc::channel(MAX_PIECES);
    let writing = tokio::task::spawn_blocking(move || store(&server, received));
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        // A body that broke off ends inside a blob, also when it broke off between two: nothing is committed.
        let broken = piece.is_err();
        let piece = piece.unwrap_or_else(|_| Bytes::from_static(&[0]));
        // A writer that is gone has failed and says why; the rest is read so that the client gets to hear it.
        let _ = pieces.send(piece).await;
        if broken {
            break;
        }
    }
    drop(pieces);
    let stored = writing.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    match stored {
        Ok(stored) => Ok(Json(BlobsAnswer { stored })),
        Err(UploadError::Store(error)) => Err(error.into()),
        Err(error) => Err(ErrorBody::new(ErrorCode::BadRequest, error.to_string()).into()),
    }
}

fn store(server: &Server, mut pieces: mpsc::Receiver<Bytes>) -> Result<usize, UploadError> {
    let mut batch = server.blobs.batch();
    let mut input = Input { pieces: &mut pieces, current: Bytes::new() };
    while let Some(head) = input.head()? {
        let (digest, length) = head.split_at(32);
        let digest = Digest::from_bytes(digest.try_into().expect("32 bytes"));
        let mut left = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        let mut writer = batch.begin(digest)?;
        while left > 0 {
            let piece = input.take(left)?;
            left -= piece.len() as u64;
            writer.write(&piece)?;
        }
        batch.finish(writer)?;
    }
    let _keep = server.engine.removing.blocking_read();
    Ok(batch.commit()?)
}

struct Input<'a> {
    pieces: &'a mut mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Input<'_> {
    fn refill(&mut self) -> bool {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return false,
            }
        }
        true
    }

    /// The next head, or None at the end of the body.
    fn head(&mut self) -> Result<Option<[u8; HEAD_LEN]>, UploadError> {
        if !self.refill() {
            return Ok(None);
        }
        let mut head = [0; HEAD_LEN];
        let mut filled = 0;
        while filled < HEAD_LEN {
            let piece = self.take((HEAD_LEN - filled) as u64)?;
            head[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Ok(Some(head))
    }

    /// Up to `most` bytes.
    fn take(&mut self, most: u64) -> Result<Bytes, UploadError> {
        if !self.refill() {
            return Err(UploadError::Short);
        }
        let count = self.current.len().min(most.min(usize::MAX as u64) as usize);
        Ok(self.current.split_to(count))
    }
}
