//! Images: build, list, inspect, remove, prune.

use std::io::{self, BufWriter};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use clunk_core::api::{
    CreateImage, ExportImage, IMAGE_DIGEST_HEADER, ImageDetail, ImageRecord, LayerRecord, PruneAnswer,
};
use clunk_core::id::ImageId;
use clunk_core::{ErrorBody, ErrorCode};
use clunk_image::{BuildEvent, BuiltImage, ExportOptions, ImageSummary, LayerSize};
use futures_util::stream;
use tokio::sync::mpsc;

use super::{json, lines};
use crate::answer::{Failure, not_found};
use crate::server::Server;
use crate::{leftovers, memory};

/// Build events between the builder and a slow client.
const MAX_EVENTS: usize = 256;

/// Builds, and says what happens as it happens. A client that goes away gives the build up.
pub async fn build(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Failure> {
    let request: CreateImage = json(body).await?;
    let (events, received) = mpsc::channel(MAX_EVENTS);
    let images = server.engine.images.clone();
    let build = Box::pin(async move {
        let begun = Instant::now();
        let cached = images.get(ImageId::of(request.recipe.digest())).is_some() && !request.force;
        let end = match images.build(request.recipe, request.force, events.clone()).await {
            Ok(image) => BuildEvent::done(&image, cached, begun.elapsed().as_millis() as u64),
            Err(error) => BuildEvent::error(&error),
        };
        // A client that is gone hears nothing.
        let _ = events.send(end).await;
        memory::give_back_soon();
    });
    let state = (received, Some(build));
    let stream = stream::unfold(state, |(mut received, mut build)| async move {
        loop {
            let event = match &mut build {
                Some(running) => tokio::select! {
                    biased;
                    event = received.recv() => event,
                    () = running => { build = None; continue }
                },
                None => received.recv().await,
            }?;
            let mut line = serde_json::to_vec(&event).expect("events have a JSON form");
            line.push(b'\n');
            return Some((Ok(Bytes::from(line)), (received, build)));
        }
    });
    Ok(lines(stream))
}

pub async fn list(State(server): State<Arc<Server>>) -> Result<Json<Vec<ImageRecord>>, Failure> {
    let in_use = server.engine.in_use().await?;
    let record = |image: ImageSummary| ImageRecord {
        id: image.id,
        title: image.title,
        python: image.python.map(|python| python.version),
        size_bytes: image.size_bytes,
        own_bytes: image.own_bytes,
        layers: image.layers,
        created_ms: image.created_ms,
        in_use: in_use.images.contains(&image.id),
    };
    Ok(Json(server.engine.images.list().into_iter().map(record).collect()))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<ImageDetail>, Failure> {
    let id = find(&server, &text)?;
    let found = server.engine.images.inspect(id).await.map_err(|error| error.body())?;
    let (image, layers) = found.ok_or_else(|| not_found(format_args!("image {text}")))?;
    let layer = |layer: LayerSize| LayerRecord {
        title: layer.title,
        size_bytes: layer.size_bytes,
        shared: layer.shared,
    };
    Ok(Json(ImageDetail {
        id,
        recipe: image.recipe.clone(),
        python: image.python.as_ref().map(|python| python.version.clone()),
        size_bytes: image.size_bytes,
        created_ms: image.created_ms,
        in_use: server.engine.in_use().await?.images.contains(&id),
        layers: layers.into_iter().map(layer).collect(),
        env: image.config.env.clone(),
        workdir: image.config.workdir.clone(),
        entrypoint: image.config.entrypoint.clone(),
        cmd: image.config.cmd.clone(),
    }))
}

/// An image by its id or the first digits of it.
fn find(server: &Server, text: &str) -> Result<ImageId, Failure> {
    if let Ok(image) = text.parse::<ImageId>() {
        return Ok(image);
    }
    let digits = text.strip_prefix("im-").unwrap_or(text);
    let mut found = server.engine.images.list();
    found.retain(|image| !digits.is_empty() && image.id.to_string()["im-".len()..].starts_with(digits));
    match &found[..] {
        [one] => Ok(one.id),
        [] => Err(not_found(format_args!("image {text}"))),
        many => Err(not_found(format_args!("one image {text}: {} begin so", many.len()))),
    }
}

/// Removes one image and the layers that only it had.
pub async fn remove(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<PruneAnswer>, Failure> {
    let id = find(&server, &text)?;
    let _alone = server.engine.removing.write().await;
    let in_use = server.engine.in_use().await?;
    let freed_bytes = server.engine.images.remove(id, &in_use).await.map_err(|error| error.body())?;
    Ok(Json(PruneAnswer { freed_bytes }))
}

pub async fn prune(State(server): State<Arc<Server>>) -> Result<Json<PruneAnswer>, Failure> {
    let _alone = server.engine.removing.write().await;
    let in_use = server.engine.in_use().await?;
    let freed = server.engine.images.prune(&in_use).await.map_err(|error| error.body())?;
    let uploads = leftovers::once(&server, leftovers::Terms::at_once()).await?;
    Ok(Json(PruneAnswer { freed_bytes: freed + uploads }))
}

/// Pieces of an archive between the disk and a slow client; each is [`PIECE_BYTES`] or less.
const MAX_PIECES: usize = 8;
const PIECE_BYTES: usize = 256 << 10;

/// Packs an image first, so that a failure has an answer of its own, then sends the archive.
pub async fn export(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
    body: Body,
) -> Result<Response, Failure> {
    let request: ExportImage = json(body).await?;
    let id = find(&server, &text)?;
    let image = server.engine.images.ready(id).await.map_err(|error| error.body())?;
    let image = image.ok_or_else(|| not_found(format_args!("image {text}")))?;
    let serve = request.model.map(|model| with_python(model, &image)).transpose()?;
    let options = ExportOptions {
        name: request.name,
        trees: request.trees,
        files: request.files,
        env: request.env,
        labels: request.labels,
        ports: request.ports,
        serve,
    };
    let packed = server.engine.images.export(id, options).await.map_err(|error| error.body())?;
    let (size, digest) = (packed.size_bytes(), packed.digest());
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(MAX_PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        if let Err(error) = packed.write(&mut out) {
            // The body ends too early then, which a client sees by its length.
            tracing::warn!(image = %id, %error, "an archive was not sent whole");
            let _ = pieces.blocking_send(Err(error));
        }
    });
    let stream =
        stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, size.into());
    let digest = HeaderValue::from_str(&format!("sha256:{digest}")).expect("hex digits");
    headers.insert(IMAGE_DIGEST_HEADER, digest);
    Ok(response)
}

/// Settings of a model's server with the image's own interpreter in them.
fn with_python(mut model: serde_json::Value, image: &BuiltImage) -> Result<String, Failure> {
    let bad = |message: &str, hint: &str| Failure(ErrorBody::new(ErrorCode::BadRequest, message).hint(hint));
    let python = image.python.as_ref().ok_or_else(|| {
        bad(
            "the image has no Python that could serve a model",
            "start from an image with Python 3.9 or newer",
        )
    })?;
    let settings = model.as_object_mut().ok_or_else(|| bad("`model` is not an object", "see docs/api.md"))?;
    settings.entry("python").or_insert_with(|| python.path.clone().into());
    settings.entry("python_version").or_insert_with(|| python.version.clone().into());
    Ok(model.to_string())
}

/// A writer into a body; fails when nobody reads it any more.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(&bytes[..bytes.len().min(PIECE_BYTES)]);
        let count = piece.len();
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
