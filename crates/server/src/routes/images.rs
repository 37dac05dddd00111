//! Images: build, list, inspect, remove, prune.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use clunk_core::api::{CreateImage, ImageRecord, LayerRecord, PruneAnswer};
use clunk_core::id::ImageId;
use clunk_image::BuiltImage;
use futures_util::stream;
use tokio::sync::mpsc;

use super::{id, json, lines};
use crate::answer::{Failure, not_found};
use crate::server::Server;

/// Build events between the builder and a slow client.
const MAX_EVENTS: usize = 256;

/// Builds, and says what happens as it happens. A client that goes away gives the build up.
pub async fn build(State(server): State<Arc<Server>>, body: Body) -> Result<Response, Failure> {
    let request: CreateImage = json(body).await?;
    let (events, received) = mpsc::channel(MAX_EVENTS);
    let images = server.engine.images.clone();
    // The last event tells the end; the builder sends it, whether it is done or failed.
    let build = Box::pin(async move {
        let _ = images.build(request.recipe, request.force, events).await;
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

pub async fn list(State(server): State<Arc<Server>>) -> Json<Vec<ImageRecord>> {
    let in_use = server.engine.images_in_use();
    let mut records: Vec<_> =
        server.engine.images.list().iter().map(|image| record(image, in_use.contains(&image.id))).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.created_ms));
    Json(records)
}

pub async fn show(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<Json<ImageRecord>, Failure> {
    let image = find(&server, &text)?;
    let in_use = server.engine.images_in_use().contains(&image.id);
    Ok(Json(record(&image, in_use)))
}

/// An image by its id or the first digits of it.
pub fn find(server: &Server, text: &str) -> Result<Arc<BuiltImage>, Failure> {
    if let Ok(image) = text.parse::<ImageId>() {
        return server.engine.images.get(image).ok_or_else(|| not_found(format_args!("image {text}")));
    }
    let digits = text.strip_prefix("im-").unwrap_or(text);
    let mut found = server.engine.images.list();
    found.retain(|image| !digits.is_empty() && image.id.to_string()["im-".len()..].starts_with(digits));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(not_found(format_args!("image {text}"))),
        many => Err(not_found(format_args!("one image {text}: {many} begin so"))),
    }
}

pub async fn remove(
    State(server): State<Arc<Server>>,
    Path(text): Path<String>,
) -> Result<StatusCode, Failure> {
    let image: ImageId = id(&text)?;
    let in_use = server.engine.images_in_use();
    if in_use.contains(&image) {
        let text = format!("image {image} is in use by a running app");
        return Err(clunk_core::error::ErrorBody::new(clunk_core::ErrorCode::BadRequest, text).into());
    }
    server.engine.images.remove(image).await.map_err(|error| error.body())?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn prune(State(server): State<Arc<Server>>) -> Result<Json<PruneAnswer>, Failure> {
    let in_use = server.engine.images_in_use();
    let pruned = server.engine.images.prune(&in_use).await.map_err(|error| error.body())?;
    Ok(Json(PruneAnswer { freed_bytes: pruned.freed_bytes, images: pruned.images, layers: pruned.layers }))
}

fn record(image: &BuiltImage, in_use: bool) -> ImageRecord {
    let layers = image.layer_info();
    let steps = image.recipe.steps.len();
    let title = match steps {
        0 => image.recipe.base.title(),
        1 => format!("{} + {}", image.recipe.base.title(), image.recipe.steps[0].title()),
        _ => format!("{} + {steps} steps", image.recipe.base.title()),
    };
    ImageRecord {
        id: image.id,
        title,
        python: image.python.as_ref().map(|python| python.version.clone()),
        size_bytes: image.size_bytes,
        created_ms: image.created_ms,
        layers: layers
            .into_iter()
            .map(|layer| LayerRecord {
                title: layer.title,
                digest: layer.digest,
                size_bytes: layer.size_bytes,
            })
            .collect(),
        env: image.config.env.clone(),
        workdir: image.config.workdir.clone(),
        entrypoint: image.config.entrypoint.clone(),
        cmd: image.config.cmd.clone(),
        in_use,
    }
}
