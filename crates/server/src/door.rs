//! Connections that containers open: the same API, for what belongs to their app.

use std::os::unix::net::UnixStream;

use axum::Router;
use axum::extract::Request;
use clunk_agent::DialPlace;
use clunk_core::id::AppId;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tower::ServiceExt;

use crate::guard::FromContainer;

/// Serves one connection until the container closes it. Whose it is was settled by who handed it out.
pub fn serve(router: Router, app: AppId, socket: UnixStream, place: DialPlace) {
    let stream = match socket.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(socket)) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%app, %error, "could not serve a container's connection"),
    };
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(FromContainer(app));
        router.clone().oneshot(request)
    });
    tokio::spawn(async move {
        let _open = place;
        if let Err(error) = Builder::new(TokioExecutor::new())
            .http1_only()
            .serve_connection(TokioIo::new(stream), service)
            .await
        {
            tracing::debug!(%app, %error, "a container's connection broke");
        }
    });
}
