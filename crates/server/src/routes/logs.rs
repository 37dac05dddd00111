//! Logs of apps, whole or filtered.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use clunk_core::api::AppEvent;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, CallId};
use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::{id, lines, query};
use crate::answer::{Failure, io_error, not_found};
use crate::server::Server;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    app: Option<String>,
    call: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

pub async fn read(State(server): State<Arc<Server>>, uri: Uri) -> Result<Response, Failure> {
    let filter: Filter = query(&uri)?;
    let call = filter.call.as_deref().map(id::<CallId>).transpose()?;
    let app = match (&filter.app, call) {
        (Some(app), _) => id::<AppId>(app)?,
        (None, Some(call)) => app_of(&server, call).await?,
        (None, None) => {
            let error =
                ErrorBody::new(ErrorCode::BadRequest, "which log?").hint("give app=app-… or call=call-…");
            return Err(error.into());
        }
    };
    // A call's lines are spread over the app's: its tail cannot be found from the file's end.
    let tail = filter.tail.filter(|_| call.is_none());
    let reader = server
        .engine
        .logs
        .read(app, tail, filter.follow)
        .map_err(|error| io_error("read the log", &error))?;
    let reader = reader.ok_or_else(|| not_found(format_args!("log of app {app}")))?;
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await.transpose()?;
        Some((chunk, reader))
    });
    Ok(lines(chunks.map(move |chunk| chunk.map(|chunk| Bytes::from(keep(chunk, call))))))
}

async fn app_of(server: &Server, call: CallId) -> Result<AppId, Failure> {
    server.engine.store.flush().await?;
    let record = server.engine.store.call(call).await?;
    record.map(|record| record.app).ok_or_else(|| not_found(format_args!("call {call}")))
}

fn keep(chunk: Vec<u8>, call: Option<CallId>) -> Vec<u8> {
    let Some(call) = call else { return chunk };
    let of_call = |line: &&[u8]| match serde_json::from_slice(line) {
        Ok(AppEvent::Log(log)) => log.call == Some(call),
        _ => false,
    };
    chunk.split_inclusive(|byte| *byte == b'\n').filter(of_call).flatten().copied().collect()
}
