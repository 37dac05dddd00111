//! The rows of the pages.

use axum::routing::{get, post};

use super::Access::{Owner, Page};
use super::Media::{Binary, Form, Html, Json, Nothing};
use super::{Endpoint, get_endpoint as g, post_endpoint as p};
use crate::pages::{assets, handlers, running, start};

/// Every page, and what pages need.
pub fn endpoints() -> Vec<Endpoint> {
    let (model, sent) = ("/models/{owner}/{name}", (Form, Html));
    vec![
        g("/", Page, "The start page", Html, get(start::page)),
        g("/models", Page, "The page of all models", Html, get(handlers::models)),
        g(model, Page, "The page of a model", Html, get(running::model)),
        p(model, Page, "Run it from its form", sent, post(running::run)),
        p(
            "/models/{owner}/{name}/snippets",
            Page,
            "The same call for programs",
            sent,
            post(running::snippets),
        ),
        g("/predictions/{id}", Page, "The page of a prediction", Html, get(handlers::prediction)),
        p("/predictions/{id}/cancel", Page, "Cancel it from its page", sent, post(handlers::cancel)),
        g("/sign-in", Page, "Ask for the token", Html, get(handlers::sign_in)),
        p("/sign-in", Page, "Sign a browser in", sent, post(handlers::take_token)),
        p("/sign-out", Page, "Sign a browser out", sent, post(handlers::sign_out)),
        g("/assets/{edition}/{name}", Page, "Style and scripts of pages", Binary, get(assets::show)),
        p(
            "/api/tickets",
            Owner,
            "Make a link that signs a browser in",
            (Nothing, Json("Ticket")),
            post(handlers::ticket),
        ),
    ]
}
