//! Arguments and results on their way through HTTP bodies: small ones in memory, large ones through files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clunk_agent::frame::INLINE_MAX;
use clunk_agent::payload::MAX_PAYLOAD;
use clunk_agent::{Payload, Raised};
use clunk_core::api::{CALL_HEADER, JSON_TYPE, LOGS_HEADER, OUTCOME_HEADER, PICKLE_TYPE};
use clunk_core::error::{ErrorBody, ErrorCode};
use futures_util::{StreamExt, stream};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use tokio::sync::mpsc;

use crate::answer::{Failure, io_error};
use crate::engine::live::{End, Finished};

/// Bytes read from a result's file at a time.
const READ_CHUNK: usize = 512 << 10;
/// Chunks that are read before the network takes them.
const MAX_READ_AHEAD: usize = 4;
/// Pieces of a large body between the network and the file.
const MAX_PIECES: usize = 16;

pub async fn read_arguments(
    temporary: &FilePath,
    headers: &HeaderMap,
    body: Body,
) -> Result<Payload, Failure> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_PAYLOAD) {
        return Err(too_large());
    }
    if length.is_some_and(|length| length <= INLINE_MAX) {
        let bytes =
            axum::body::to_bytes(body, INLINE_MAX as usize).await.map_err(|error| cut_short(&error))?;
        return Ok(Payload::Memory(bytes));
    }
    spool(temporary, body).await
}

/// Writes a large body to a file that has no name and goes when it is closed.
async fn spool(temporary: &FilePath, body: Body) -> Result<Payload, Failure> {
    let spool = Spool::begin(temporary);
    let mut stream = body.into_data_stream();
    let mut total = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| cut_short(&error))?;
        total += piece.len() as u64;
        if total > MAX_PAYLOAD {
            return Err(too_large());
        }
        spool.add(piece).await;
    }
    spool.finish().await
}

/// A payload on its way into a file without a name.
pub struct Spool {
    pieces: mpsc::Sender<Bytes>,
    writing: tokio::task::JoinHandle<io::Result<(File, u64)>>,
}

impl Spool {
    pub fn begin(folder: &FilePath) -> Self {
        let folder = folder.to_path_buf();
        let (pieces, mut received) = mpsc::channel::<Bytes>(MAX_PIECES);
        let writing = tokio::task::spawn_blocking(move || -> io::Result<(File, u64)> {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::open(&folder, flags, Mode::RUSR | Mode::WUSR)?);
            let mut length = 0;
            while let Some(piece) = received.blocking_recv() {
                file.write_all(&piece)?;
                length += piece.len() as u64;
            }
            Ok((file, length))
        });
        Self { pieces, writing }
    }

    pub async fn add(&self, piece: Bytes) {
        // A writer that has failed says why at the end; the rest is read all the same, so that the client hears it.
        let _ = self.pieces.send(piece).await;
    }

    pub async fn finish(self) -> Result<Payload, Failure> {
        drop(self.pieces);
        let written =
            self.writing.await.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        let (file, len) = written.map_err(|error| io_error("keep the arguments", &error))?;
        Ok(Payload::File { file: Arc::new(file), len })
    }
}

pub fn cut_short(error: &axum::Error) -> Failure {
    ErrorBody::new(ErrorCode::BadRequest, format!("the arguments did not arrive whole: {error}")).into()
}

pub fn too_large() -> Failure {
    let text = format!("arguments have at most {} GiB", MAX_PAYLOAD >> 30);
    ErrorBody::new(ErrorCode::PayloadTooLarge, text)
        .hint("put large data into a file of the image, or send it in parts")
        .into()
}

pub fn answer(finished: Finished, json: bool) -> Response {
    let media = if json { JSON_TYPE } else { PICKLE_TYPE };
    let mut response = match finished.end {
        End::Value(payload) => payload_answer(StatusCode::OK, media, payload),
        End::Raised(raised) => {
            let mut response = if json { raised_json(&raised) } else { raised_pickle(raised) };
            response.headers_mut().insert(OUTCOME_HEADER, "exception".parse().expect("a valid header"));
            response
        }
        End::Failed(error) => failed(error),
    };
    let id = finished.id.to_string().parse().expect("an id is a valid header");
    response.headers_mut().insert(CALL_HEADER, id);
    response.headers_mut().insert(LOGS_HEADER, finished.logged.into());
    response
}

fn failed(error: ErrorBody) -> Response {
    let mut response = Failure(error).into_response();
    response.headers_mut().insert(OUTCOME_HEADER, "failure".parse().expect("a valid header"));
    response
}

fn raised_pickle(raised: Raised) -> Response {
    payload_answer(StatusCode::INTERNAL_SERVER_ERROR, PICKLE_TYPE, raised.package)
}

fn raised_json(raised: &Raised) -> Response {
    let error = ErrorBody::new(ErrorCode::FunctionRaised, format!("{}: {}", raised.kind, raised.message));
    let exception = json!({"type": raised.kind, "message": raised.message, "traceback": raised.traceback});
    (StatusCode::INTERNAL_SERVER_ERROR, axum::Json(json!({"error": error, "exception": exception})))
        .into_response()
}

fn payload_answer(status: StatusCode, media: &'static str, payload: Payload) -> Response {
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, media)
        .header(header::CONTENT_LENGTH, payload.len());
    let body = match payload {
        Payload::Memory(bytes) => Body::from(bytes),
        Payload::File { file, len } => match clunk_agent::map_sealed(&file, len) {
            Some(bytes) => Body::from(bytes),
            None => Body::from_stream(file_chunks(file, len)),
        },
    };
    builder.body(body).expect("valid headers")
}

/// A file's content, read ahead of the network. The file may be a runner's, and shrink: then the answer is cut off,
/// which the client notices.
pub fn file_chunks(file: Arc<File>, len: u64) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    file_part(file, 0, len)
}

/// The same of `len` bytes from `from`.
pub fn file_part(
    file: Arc<File>,
    from: u64,
    len: u64,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    let (chunks, read) = mpsc::channel(MAX_READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut offset = 0;
        while offset < len {
            let chunk = read_chunk(&file, from + offset, READ_CHUNK.min((len - offset) as usize));
            offset += chunk.as_ref().map_or(len, |chunk| chunk.len() as u64);
            if chunks.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    stream::unfold(read, |mut read| async move { Some((read.recv().await?, read)) })
}

fn read_chunk(file: &File, offset: u64, most: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(most);
    match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut chunk), offset)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(chunk.into()),
    }
}
