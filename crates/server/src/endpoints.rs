//! The one table of endpoints: path, who may call it, what it takes and gives. The router and the OpenAPI file are both
//! made from it, so neither can know an endpoint that the other does not.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};

use crate::guard;
use crate::routes::{apps, blobs, calls, containers, functions, images, logs, shell, status, trees};
use crate::server::Server;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the port.
    Public,
    /// Whoever has the server's token.
    Owner,
}

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Nothing,
    /// A JSON value of this schema.
    Json(&'static str),
    /// JSON lines of this schema.
    Lines(&'static str),
    /// Bytes.
    Binary,
}

pub struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub takes: Media,
    pub gives: Media,
    handler: MethodRouter<Arc<Server>>,
}

/// Every endpoint there is.
pub fn all() -> Vec<Endpoint> {
    use Access::{Owner, Public};
    use Media::{Binary, Json, Lines, Nothing};
    let g = |path, access, summary, gives, handler| Endpoint {
        method: Method::GET,
        path,
        access,
        summary,
        takes: Nothing,
        gives,
        handler,
    };
    let p = |path, summary, takes, gives, handler| Endpoint {
        method: Method::POST,
        path,
        access: Owner,
        summary,
        takes,
        gives,
        handler,
    };
    vec![
        g("/api/health", Public, "Whether the server answers", Json("Health"), get(status::health)),
        g("/api/status", Owner, "What the server does now", Json("Status"), get(status::status)),
        p("/api/stop", "Stop the server", Nothing, Nothing, post(status::stop)),
        p(
            "/api/trees",
            "Register a tree of files",
            Json("CreateTree"),
            Json("TreeAnswer"),
            post(trees::create),
        ),
        p("/api/blobs", "Upload content", Binary, Json("BlobsAnswer"), post(blobs::create)),
        p("/api/images", "Build an image", Json("CreateImage"), Lines("BuildEvent"), post(images::build)),
        g("/api/images", Owner, "List images", Json("ImageRecord[]"), get(images::list)),
        g("/api/images/{id}", Owner, "Show an image", Json("ImageDetail"), get(images::show)),
        Endpoint {
            method: Method::DELETE,
            path: "/api/images/{id}",
            access: Owner,
            summary: "Remove an image",
            takes: Nothing,
            gives: Json("PruneAnswer"),
            handler: delete(images::remove),
        },
        p("/api/images/prune", "Remove what no app uses", Nothing, Json("PruneAnswer"), post(images::prune)),
        p("/api/apps", "Start an app", Json("CreateApp"), Json("CreateAppAnswer"), post(apps::create)),
        g("/api/apps", Owner, "List apps", Json("AppRecord[]"), get(apps::list)),
        g("/api/apps/{id}", Owner, "Show an app", Json("AppRecord"), get(apps::show)),
        g(
            "/api/apps/{id}/events",
            Owner,
            "Follow an app, and keep it alive",
            Lines("AppEvent"),
            get(apps::events),
        ),
        p("/api/apps/{id}/stop", "Stop an app", Nothing, Json("AppStopped"), post(apps::stop)),
        p("/api/functions/{id}/call", "Call a function", Binary, Binary, post(functions::call)),
        g("/api/calls", Owner, "List calls", Json("CallRecord[]"), get(calls::list)),
        g("/api/calls/{id}", Owner, "Show a call", Json("CallRecord"), get(calls::show)),
        g("/api/logs", Owner, "Read an app's or a call's log", Lines("AppEvent"), get(logs::read)),
        g(
            "/api/containers",
            Owner,
            "List running containers",
            Json("ContainerRecord[]"),
            get(containers::list),
        ),
        p("/api/shell", "Open a terminal in an image", Json("OpenShell"), Binary, post(shell::open)),
    ]
}

/// The router of the whole API, each endpoint behind its guard.
pub fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    for endpoint in all() {
        let handler = match endpoint.access {
            Access::Public => endpoint.handler,
            Access::Owner => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), guard::owner))
            }
        };
        router = router.route(endpoint.path, handler);
    }
    router
        .fallback(guard::unknown)
        .method_not_allowed_fallback(guard::wrong_method)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(server)
}
