//! The pages: what a person sees of models and predictions. Plain HTML that works by itself; the scripts in `web` make it
//! live, and ask for the same parts that a browser without them would load.

pub mod assets;
mod fields;
mod form;
pub mod guard;
pub mod handlers;
mod layout;
mod markdown;
mod model_page;
mod multipart;
mod output;
mod panel;
pub mod running;
mod session;
mod snippets;
pub mod start;
mod submitted;
#[cfg(test)]
mod tests;
mod time;

use std::sync::Arc;

use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use clunk_core::error::{ErrorBody, ErrorCode};

use crate::server::Server;

/// For a browser that asks for what is nowhere.
pub fn unknown(server: &Arc<Server>, headers: &HeaderMap, uri: &Uri) -> Response {
    let error = ErrorBody::new(ErrorCode::NotFound, format!("there is no page {}", uri.path()));
    layout::failed(&error, &session::Visitor::of(server, headers))
}

/// The beginning of a text: so many bytes at most, whole letters.
fn clip(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The end of a text: so many bytes at most, whole letters.
fn clip_start(text: &str, most: usize) -> &str {
    let start = (text.len().saturating_sub(most)..=text.len()).find(|start| text.is_char_boundary(*start));
    &text[start.unwrap_or_default()..]
}
