//! Frames of arguments, read as they come, and of results, sent as they come; `docs/api.md` has both.

use std::io;
use std::path::PathBuf;

use axum::body::{Body, BodyDataStream};
use axum::http::header;
use axum::response::Response;
use bytes::{Buf, Bytes, BytesMut};
use clunk_agent::Payload;
use clunk_agent::payload::MAX_PAYLOAD;
use clunk_core::api::FRAMES_TYPE;
use clunk_core::error::{ErrorBody, ErrorCode};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};

use super::payloads::{Spool, cut_short, file_chunks, too_large};
use crate::engine::durable::fits_in_memory;
use crate::engine::outbox::{self, JOINED_MAX};

const HEADER_LEN: usize = 16;

pub struct Frames {
    body: BodyDataStream,
    buffer: BytesMut,
    /// Whole pieces as they came: a small frame is cut out of one without a copy.
    piece: Bytes,
    temporary: PathBuf,
}

impl Frames {
    pub fn new(body: Body, temporary: PathBuf) -> Self {
        Self { body: body.into_data_stream(), buffer: BytesMut::new(), piece: Bytes::new(), temporary }
    }

    /// The next frame; None when the body ended behind one.
    pub async fn next(&mut self) -> Result<Option<(u64, Payload)>, ErrorBody> {
        let Some(mut header) = self.take(HEADER_LEN).await? else { return Ok(None) };
        let (index, len) = (header.get_u64_le(), header.get_u64_le());
        if len > MAX_PAYLOAD {
            return Err(too_large().0);
        }
        let payload = if fits_in_memory(len) {
            let content = self.take(len as usize).await?;
            Payload::Memory(content.ok_or_else(|| half_a_frame(len))?)
        } else {
            self.spool(len).await?
        };
        Ok(Some((index, payload)))
    }

    /// The next bytes; None when the body ended before the first.
    async fn take(&mut self, len: usize) -> Result<Option<Bytes>, ErrorBody> {
        if self.piece.len() >= len {
            return Ok(Some(self.piece.split_to(len)));
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.piece);
        self.piece.clear();
        while self.buffer.len() < len {
            if !self.read().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(half_a_frame(len as u64));
            }
            let wanted = (len - self.buffer.len()).min(self.piece.len());
            self.buffer.extend_from_slice(&self.piece.split_to(wanted));
        }
        Ok(Some(self.buffer.split().freeze()))
    }

    /// Reads another piece. False: there is none.
    async fn read(&mut self) -> Result<bool, ErrorBody> {
        match self.body.next().await {
            Some(Ok(piece)) => {
                self.piece = piece;
                Ok(true)
            }
            Some(Err(error)) => Err(cut_short(&error).0),
            None => Ok(false),
        }
    }

    /// Writes a large frame to a file without a name.
    async fn spool(&mut self, len: u64) -> Result<Payload, ErrorBody> {
        let spool = Spool::begin(&self.temporary);
        let mut left = len;
        while left > 0 {
            if self.piece.is_empty() && !self.read().await? {
                return Err(half_a_frame(len));
            }
            let piece = self.piece.split_to(self.piece.len().min(left as usize));
            left -= piece.len() as u64;
            spool.add(piece).await;
        }
        spool.finish().await.map_err(|failure| failure.0)
    }
}

/// An answer of frames, or of pieces of them.
pub fn answer(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    Response::builder()
        .header(header::CONTENT_TYPE, FRAMES_TYPE)
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::from_stream(pieces))
        .expect("valid headers")
}

/// A frame as pieces of a body.
pub fn frame(kind: u8, index: u64, payload: Payload) -> BoxStream<'static, io::Result<Bytes>> {
    let header = outbox::header(kind, index, payload.len());
    match payload {
        // Copying a little costs less than a write of its own.
        Payload::Memory(bytes) if bytes.len() <= JOINED_MAX => {
            let joined = [&header[..], &bytes].concat();
            stream::once(async move { Ok(joined.into()) }).boxed()
        }
        payload => {
            let header = Bytes::copy_from_slice(&header);
            stream::once(async move { Ok(header) }).chain(content(payload)).boxed()
        }
    }
}

/// A payload as pieces of a body.
pub fn content(payload: Payload) -> BoxStream<'static, io::Result<Bytes>> {
    match payload {
        Payload::Memory(bytes) => stream::once(async move { Ok(bytes) }).boxed(),
        Payload::File { file, len } => file_chunks(file, len).boxed(),
    }
}

fn half_a_frame(len: u64) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, format!("the body ended inside a frame of {len} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(index: u64, content: &[u8]) -> Vec<u8> {
        [&index.to_le_bytes()[..], &(content.len() as u64).to_le_bytes(), content].concat()
    }

    fn frames(bytes: Vec<u8>, piece: usize) -> Frames {
        let pieces: Vec<_> =
            bytes.chunks(piece).map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part))).collect();
        Frames::new(Body::from_stream(futures_util::stream::iter(pieces)), std::env::temp_dir())
    }

    #[tokio::test]
    async fn frames_are_found_however_the_network_cuts_them() {
        let bytes = [frame(7, b"hello"), frame(8, b""), frame(9, &[1; 300])].concat();
        for piece in [1, 5, 16, 21, 1000] {
            let mut frames = frames(bytes.clone(), piece);
            let mut found = Vec::new();
            while let Some((index, Payload::Memory(content))) = frames.next().await.unwrap() {
                found.push((index, content.len()));
            }
            assert_eq!(found, [(7, 5), (8, 0), (9, 300)], "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn half_a_frame_is_an_error() {
        let mut bytes = frame(1, b"hello");
        bytes.pop();
        let error = frames(bytes, 4).next().await.unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
    }

    #[tokio::test]
    async fn a_large_frame_goes_through_a_file() {
        let content = vec![7; (clunk_agent::frame::INLINE_MAX + 1) as usize];
        let mut frames = frames([frame(0, &content), frame(1, b"x")].concat(), 1 << 20);
        let (_, payload) = frames.next().await.unwrap().unwrap();
        assert!(matches!(payload, Payload::File { len, .. } if len == content.len() as u64));
        assert_eq!(frames.next().await.unwrap().unwrap().0, 1);
    }
}
