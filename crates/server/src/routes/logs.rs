//! Logs of apps, whole or filtered.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use clunk_agent::LogStart;
use clunk_core::api::{AppEvent, LogEvent};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, CallId, ReplicaId};
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
    replica: Option<String>,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

pub async fn read(State(server): State<Arc<Server>>, uri: Uri) -> Result<Response, Failure> {
    let filter: Filter = query(&uri)?;
    let call = filter.call.as_deref().map(id::<CallId>).transpose()?;
    let replica = filter.replica.as_deref().map(id::<ReplicaId>).transpose()?;
    let app = match (&filter.app, call, replica) {
        (Some(app), ..) => id::<AppId>(app)?,
        (None, Some(call), _) => server.engine.call(call).await?.app,
        (None, None, Some(replica)) => app_of(&server, replica)?,
        (None, None, None) => {
            let error = ErrorBody::new(ErrorCode::BadRequest, "which log?")
                .hint("give app=app-…, call=call-… or replica=rep-…");
            return Err(error.into());
        }
    };
    let one = call.is_some() || replica.is_some();
    // The lines of one are spread over the app's: their tail cannot be found from the file's end.
    let start = filter.tail.filter(|_| !one).map_or(LogStart::Line(0), LogStart::Tail);
    let reader = server
        .engine
        .logs
        .read(app, start, filter.follow)
        .map_err(|error| io_error("read the log", &error))?;
    let reader = reader.ok_or_else(|| not_found(format_args!("log of app {app}")))?;
    let chunks = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await.transpose()?;
        Some((chunk, reader))
    });
    let wanted = move |log: &LogEvent| {
        call.is_none_or(|call| log.call == Some(call)) && replica.is_none_or(|replica| log.replica == replica)
    };
    // Of a call that has ended nothing more comes.
    let chunks = chunks.map(move |chunk| chunk.map(|chunk| if one { keep(&chunk, wanted) } else { chunk }));
    Ok(lines(chunks.map(|chunk| chunk.map(Bytes::from))))
}

fn app_of(server: &Server, replica: ReplicaId) -> Result<AppId, Failure> {
    let pools = server.engine.pools();
    let pool = pools.iter().find(|pool| pool.replica(replica).is_some());
    pool.map(|pool| pool.app).ok_or_else(|| not_found(format_args!("running container {replica}")))
}

fn keep(chunk: &[u8], wanted: impl Fn(&LogEvent) -> bool) -> Vec<u8> {
    let ours = |line: &&[u8]| match serde_json::from_slice(line) {
        Ok(AppEvent::Log(log)) => wanted(&log),
        _ => false,
    };
    chunk.split_inclusive(|byte| *byte == b'\n').filter(ours).flatten().copied().collect()
}
