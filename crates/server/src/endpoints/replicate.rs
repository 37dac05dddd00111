//! Replicate's HTTP API v1. What its objects hold is in `docs/replicate.md`.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post};

use super::Access::{Public, Replicate, ReplicateSigned};
use super::Media::{Binary, Events, Form, Json, Nothing, Text};
use super::{Endpoint, Media};
use crate::routes::replicate::{
    account, deployments, files, models, predictions, stream, trainings, versions,
};
use crate::server::Server;

const OBJECT: Media = Json("ReplicateObject");
const PAGE: Media = Json("ReplicatePage");

fn reads(
    path: &'static str,
    summary: &'static str,
    gives: Media,
    handler: MethodRouter<Arc<Server>>,
) -> Endpoint {
    Endpoint { method: Method::GET, path, access: Replicate, summary, takes: Nothing, gives, handler }
}

fn does(
    method: Method,
    path: &'static str,
    summary: &'static str,
    (takes, gives): (Media, Media),
    handler: MethodRouter<Arc<Server>>,
) -> Endpoint {
    Endpoint { method, path, access: Replicate, summary, takes, gives, handler }
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut all = runs();
    all.extend(catalogue());
    all.extend(deployed());
    all.extend(uploads());
    all.extend(rest());
    all
}

fn runs() -> Vec<Endpoint> {
    let (made, canceled) = ((OBJECT, OBJECT), (Nothing, OBJECT));
    let training = "/replicate/v1/models/{owner}/{name}/versions/{version}/trainings";
    let streams = |path| Endpoint {
        method: Method::GET,
        path,
        access: ReplicateSigned,
        summary: "Follow a prediction",
        takes: Nothing,
        gives: Events("ReplicateObject"),
        handler: get(stream::read),
    };
    vec![
        does(Method::POST, "/replicate/v1/predictions", "Run a version", made, post(predictions::create)),
        reads("/replicate/v1/predictions", "List predictions", PAGE, get(predictions::list)),
        reads("/replicate/v1/predictions/{id}", "Show a prediction", OBJECT, get(predictions::show)),
        streams("/replicate/v1/predictions/{id}/stream"),
        // Where the JavaScript client expects a stream of files.
        streams("/v1/files/{id}"),
        does(
            Method::POST,
            "/replicate/v1/predictions/{id}/cancel",
            "Cancel a prediction",
            canceled,
            post(predictions::cancel),
        ),
        does(
            Method::POST,
            "/replicate/v1/models/{owner}/{name}/predictions",
            "Run a model",
            made,
            post(predictions::create_of_model),
        ),
        does(
            Method::POST,
            "/replicate/v1/deployments/{owner}/{name}/predictions",
            "Run a deployment",
            made,
            post(predictions::create_of_deployment),
        ),
        does(Method::POST, training, "Train a version", made, post(trainings::create)),
        reads("/replicate/v1/trainings", "List trainings", PAGE, get(predictions::list_trainings)),
        reads("/replicate/v1/trainings/{id}", "Show a training", OBJECT, get(trainings::show)),
        does(
            Method::POST,
            "/replicate/v1/trainings/{id}/cancel",
            "Cancel a training",
            canceled,
            post(trainings::cancel),
        ),
    ]
}

fn catalogue() -> Vec<Endpoint> {
    let (models_path, model) = ("/replicate/v1/models", "/replicate/v1/models/{owner}/{name}");
    let query = Method::from_bytes(b"QUERY").expect("a method's name");
    // Axum routes the methods of the standard only: the handler lets no other pass.
    let search = MethodRouter::new().fallback(models::search);
    let (versions_path, version) = (
        "/replicate/v1/models/{owner}/{name}/versions",
        "/replicate/v1/models/{owner}/{name}/versions/{version}",
    );
    vec![
        reads(models_path, "List models", PAGE, get(models::list)),
        does(Method::POST, models_path, "Make a model", (OBJECT, OBJECT), post(models::create)),
        does(query, models_path, "Search models", (Text, PAGE), search),
        reads(model, "Show a model", OBJECT, get(models::show)),
        does(Method::PATCH, model, "Change a model", (OBJECT, OBJECT), patch(models::update)),
        does(Method::DELETE, model, "Delete a model", (Nothing, Nothing), delete(models::delete)),
        reads("/replicate/v1/models/{owner}/{name}/examples", "List examples", PAGE, get(models::examples)),
        reads("/replicate/v1/models/{owner}/{name}/readme", "Read its readme", Text, get(models::readme)),
        reads(versions_path, "List versions", PAGE, get(versions::list)),
        reads(version, "Show a version", OBJECT, get(versions::show)),
        does(Method::DELETE, version, "Delete a version", (Nothing, Nothing), delete(versions::delete)),
    ]
}

fn deployed() -> Vec<Endpoint> {
    let (all, one) = ("/replicate/v1/deployments", "/replicate/v1/deployments/{owner}/{name}");
    vec![
        reads(all, "List deployments", PAGE, get(deployments::list)),
        does(Method::POST, all, "Deploy a version", (OBJECT, OBJECT), post(deployments::create)),
        reads(one, "Show a deployment", OBJECT, get(deployments::show)),
        does(Method::PATCH, one, "Release anew", (OBJECT, OBJECT), patch(deployments::update)),
        does(Method::DELETE, one, "Delete a deployment", (Nothing, Nothing), delete(deployments::delete)),
    ]
}

fn uploads() -> Vec<Endpoint> {
    let (all, one) = ("/replicate/v1/files", "/replicate/v1/files/{id}");
    let download = Endpoint {
        method: Method::GET,
        path: "/replicate/v1/files/{id}/download",
        access: Public,
        summary: "Fetch a file by a signed address",
        takes: Nothing,
        gives: Binary,
        handler: get(files::download),
    };
    vec![
        does(Method::POST, all, "Upload a file", (Form, OBJECT), post(files::create)),
        reads(all, "List files", PAGE, get(files::list)),
        reads(one, "Show a file", OBJECT, get(files::show)),
        does(Method::DELETE, one, "Delete a file", (Nothing, Nothing), delete(files::delete)),
        download,
    ]
}

fn rest() -> Vec<Endpoint> {
    vec![
        reads("/replicate/v1/account", "Whose server this is", OBJECT, get(account::show)),
        reads(
            "/replicate/v1/hardware",
            "What models run on",
            Json("ReplicateObject[]"),
            get(account::hardware),
        ),
        reads("/replicate/v1/collections", "List collections", PAGE, get(account::collections)),
        reads("/replicate/v1/collections/{slug}", "Show a collection", OBJECT, get(account::collection)),
        reads("/replicate/v1/search", "Search everything", OBJECT, get(account::search)),
        reads(
            "/replicate/v1/webhooks/default/secret",
            "What webhooks are signed with",
            OBJECT,
            get(account::webhook_secret),
        ),
    ]
}
