//! The one table of endpoints: path, who may call it, what it takes and gives. The router and the OpenAPI file are both
//! made from it, so neither can know an endpoint that the other does not.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post};

use crate::guard;
use crate::pages::guard::page;
use crate::routes::replicate::gate;
use crate::routes::{
    apps, batches, blobs, calls, containers, files, functions, images, logs, models, predictions, serve,
    shell, status, trees, usage,
};
use crate::server::Server;

mod pages;
mod replicate;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the port.
    Public,
    /// Whoever has the server's token.
    Owner,
    /// And the containers of an app, for what is that app's: the id in the path.
    Container,
    /// And whoever has a URL that the server signed.
    Signed,
    /// A browser: the page itself decides what a guest sees.
    Page,
    /// Whoever has the server's token, as Replicate's clients send it; refused in the form that they read.
    Replicate,
    /// And whoever has a URL that the server signed.
    ReplicateSigned,
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
    /// Frames of `docs/api.md`.
    Frames,
    /// Server-sent events of this schema.
    Events(&'static str),
    /// `multipart/form-data`.
    Form,
    Text,
    /// A page.
    Html,
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
    let mut all = vec![];
    all.extend(server_endpoints());
    all.extend(image_endpoints());
    all.extend(app_endpoints());
    all.extend(call_endpoints());
    all.extend(container_endpoints());
    all.extend(model_endpoints());
    all.extend(replicate::endpoints());
    all.extend(pages::endpoints());
    all.extend(serve_endpoints());
    all
}

fn get_endpoint(
    path: &'static str,
    access: Access,
    summary: &'static str,
    gives: Media,
    handler: MethodRouter<Arc<Server>>,
) -> Endpoint {
    Endpoint { method: Method::GET, path, access, summary, takes: Media::Nothing, gives, handler }
}

fn post_endpoint(
    path: &'static str,
    access: Access,
    summary: &'static str,
    (takes, gives): (Media, Media),
    handler: MethodRouter<Arc<Server>>,
) -> Endpoint {
    Endpoint { method: Method::POST, path, access, summary, takes, gives, handler }
}

use Access::{Container, Owner, Public, Signed};
use Media::{Binary, Events, Frames, Json, Lines, Nothing};
use get_endpoint as g;
use post_endpoint as p;

fn server_endpoints() -> Vec<Endpoint> {
    vec![
        g("/api/health", Public, "Whether the server answers", Json("Health"), get(status::health)),
        g("/api/status", Owner, "What the server does now", Json("Status"), get(status::status)),
        p("/api/stop", Owner, "Stop the server", (Nothing, Nothing), post(status::stop)),
        g("/api/usage", Owner, "What was used", Json("UsageRow[]"), get(usage::list)),
    ]
}

fn image_endpoints() -> Vec<Endpoint> {
    let remove = Endpoint {
        method: Method::DELETE,
        path: "/api/images/{id}",
        access: Owner,
        summary: "Remove an image",
        takes: Nothing,
        gives: Json("PruneAnswer"),
        handler: delete(images::remove),
    };
    let (tree, image) =
        ((Json("CreateTree"), Json("TreeAnswer")), (Json("CreateImage"), Lines("BuildEvent")));
    let pruned = (Nothing, Json("PruneAnswer"));
    vec![
        p("/api/trees", Owner, "Register a tree of files", tree, post(trees::create)),
        p("/api/blobs", Owner, "Upload content", (Binary, Json("BlobsAnswer")), post(blobs::create)),
        p("/api/images", Owner, "Build an image", image, post(images::build)),
        g("/api/images", Owner, "List images", Json("ImageRecord[]"), get(images::list)),
        g("/api/images/{id}", Owner, "Show an image", Json("ImageDetail"), get(images::show)),
        remove,
        p(
            "/api/images/{id}/export",
            Owner,
            "Write an image for other engines: an OCI layout as a tar archive",
            (Json("ExportImage"), Binary),
            post(images::export),
        ),
        p("/api/images/prune", Owner, "Remove what no app uses", pruned, post(images::prune)),
        p("/api/shell", Owner, "Open a terminal in an image", (Json("OpenShell"), Binary), post(shell::open)),
    ]
}

fn app_endpoints() -> Vec<Endpoint> {
    let (made, stopped) = ((Json("CreateApp"), Json("CreateAppAnswer")), (Nothing, Json("AppStopped")));
    let events = "Follow an app, and keep it alive";
    let functions = "List the functions of an app";
    vec![
        p("/api/apps", Owner, "Start an app", made, post(apps::create)),
        g("/api/apps", Owner, "List apps", Json("AppRecord[]"), get(apps::list)),
        g("/api/apps/{id}", Owner, "Show an app", Json("AppRecord"), get(apps::show)),
        g("/api/apps/{id}/events", Owner, events, Lines("AppEvent"), get(apps::events)),
        g("/api/apps/{id}/functions", Container, functions, Json("FunctionRecord[]"), get(apps::functions)),
        p("/api/apps/{id}/stop", Owner, "Stop an app", stopped, post(apps::stop)),
        g(
            "/api/logs",
            Owner,
            "Read the log of an app, call or container",
            Lines("AppEvent"),
            get(logs::read),
        ),
    ]
}

fn call_endpoints() -> Vec<Endpoint> {
    let spawned = (Frames, Json("SpawnAnswer"));
    let variant = (Json("CreateVariant"), Json("VariantAnswer"));
    let scaling = (Json("Scaling"), Json("FunctionRecord"));
    let canceled = (Json("CancelCall"), Json("CallRecord"));
    vec![
        g("/api/functions/{id}", Container, "Show a function", Json("FunctionRecord"), get(functions::show)),
        p("/api/functions/{id}/call", Container, "Call a function", (Binary, Binary), post(functions::call)),
        p(
            "/api/functions/{id}/stream",
            Container,
            "Run a generator",
            (Binary, Frames),
            post(functions::stream),
        ),
        p(
            "/api/functions/{id}/map",
            Container,
            "Call it for many inputs",
            (Frames, Frames),
            post(functions::map),
        ),
        p("/api/functions/{id}/spawn", Container, "Call it later, for sure", spawned, post(functions::spawn)),
        p("/api/functions/{id}/variants", Container, "Make it differ", variant, post(functions::variant)),
        p(
            "/api/functions/{id}/scaling",
            Container,
            "Change how it scales",
            scaling,
            post(functions::scaling),
        ),
        g("/api/calls", Owner, "List calls", Json("CallRecord[]"), get(calls::list)),
        g("/api/calls/events", Owner, "Follow calls", Events("CallEvent"), get(calls::events)),
        g(
            "/api/calls/{id}",
            Container,
            "Show a call, or wait for a change",
            Json("CallRecord"),
            get(calls::show),
        ),
        g("/api/calls/{id}/result", Container, "Wait for a call's result", Binary, get(calls::result)),
        p("/api/calls/{id}/cancel", Container, "Cancel a call", canceled, post(calls::cancel)),
        g("/api/batches/{id}", Container, "Show a batch", Json("BatchRecord"), get(batches::show)),
        g("/api/batches/{id}/results", Container, "Read its results in order", Frames, get(batches::results)),
        p(
            "/api/batches/{id}/cancel",
            Container,
            "Cancel it",
            (Nothing, Json("BatchRecord")),
            post(batches::cancel),
        ),
    ]
}

fn container_endpoints() -> Vec<Endpoint> {
    let terminal = (Json("OpenShell"), Binary);
    vec![
        g(
            "/api/containers",
            Owner,
            "List running containers",
            Json("ContainerRecord[]"),
            get(containers::list),
        ),
        p("/api/containers/{id}/stop", Owner, "Stop a container", (Nothing, Nothing), post(containers::stop)),
        p("/api/containers/{id}/exec", Owner, "Run a program in it", terminal, post(containers::exec)),
    ]
}

fn serve_endpoints() -> Vec<Endpoint> {
    let served = (Json("ServeModel"), Lines("ServeEvent"));
    vec![p("/api/serve", Owner, "Serve a Cog model on a port of its own", served, post(serve::model))]
}

fn model_endpoints() -> Vec<Endpoint> {
    let pushed = (Json("PushVersion"), Json("PushAnswer"));
    let configured = (Json("Configuration"), Json("Configuration"));
    vec![
        p(
            "/api/models/{owner}/{name}/versions",
            Owner,
            "Push a version of a model",
            pushed,
            post(models::push),
        ),
        p(
            "/api/models/{owner}/{name}/configuration",
            Owner,
            "Say on what a model runs, and how often at once",
            configured,
            post(models::configure),
        ),
        p(
            "/api/models/{owner}/{name}/predictions",
            Owner,
            "Run a model, and wait for it",
            (Json("CreatePrediction"), Json("Prediction")),
            post(predictions::create),
        ),
        g(
            "/api/predictions/{id}",
            Owner,
            "Wait for a prediction",
            Json("Prediction"),
            get(predictions::show),
        ),
        p(
            "/api/predictions/{id}/cancel",
            Owner,
            "Cancel it",
            (Nothing, Json("Prediction")),
            post(predictions::cancel),
        ),
        g(
            "/api/predictions/{id}/events",
            Signed,
            "Follow a prediction",
            Events("PredictionEvent"),
            get(predictions::events),
        ),
        p(
            "/api/predictions/{id}/webhook",
            Owner,
            "Send its webhook again",
            (Nothing, Nothing),
            post(predictions::redeliver),
        ),
        g("/files/{id}/{name}", Signed, "Fetch a file", Binary, get(files::fetch)),
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
            Access::Signed => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), guard::signed))
            }
            Access::Container => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), guard::container))
            }
            Access::Page => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), page))
            }
            Access::Replicate => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), gate::owner))
            }
            Access::ReplicateSigned => {
                endpoint.handler.layer(axum::middleware::from_fn_with_state(server.clone(), gate::signed))
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
