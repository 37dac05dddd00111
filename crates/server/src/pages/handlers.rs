//! What each page's address answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::model::{Kind, Prediction, PredictionId, Version};
use maud::html;
use serde_json::json;

use super::layout::{self, Page};
use super::model_page;
use super::multipart::{self, FORM_TOKEN};
use super::panel::Panel;
use super::session::{self, Visitor};
use super::{guard, time};
use crate::address::base_url;
use crate::answer::Failure;
use crate::models::ModelSort;
use crate::server::Server;

/// Models on one page of the list.
const LISTED_MODELS: u32 = 50;

type Shared = State<Arc<Server>>;

pub(super) fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The page behind a result, or the page of its error.
pub(super) fn shown(result: Result<Response, ErrorBody>, visitor: &Visitor) -> Response {
    result.unwrap_or_else(|error| layout::failed(&error, visitor))
}

/// `GET /models`
pub async fn models(State(server): Shared, Extension(visitor): Extension<Visitor>, uri: Uri) -> Response {
    if !visitor.is_owner() {
        return layout::sign_in("/models", false);
    }
    let made = async {
        let cursor = query(&uri, "cursor");
        let page = server.models.models(ModelSort::LatestVersion, false, cursor, LISTED_MODELS).await?;
        let body = html! {
            div.title { h1 { "Models" } }
            @if page.results.is_empty() && cursor.is_none() { (model_page::beginning()) }
            @else { (model_page::models(&page.results)) }
            nav.pages aria-label="Pages" {
                @if let Some(cursor) = &page.previous { a rel="prev" href=(format!("/models?cursor={cursor}")) { "Newer" } }
                @if let Some(cursor) = &page.next { a rel="next" href=(format!("/models?cursor={cursor}")) { "Older" } }
            }
        };
        Ok(Page { title: "Models", visitor: &visitor, refreshes: false, body }.answer())
    };
    shown(made.await, &visitor)
}

async fn version_of(server: &Server, prediction: &Prediction) -> Option<Version> {
    server.models.version(prediction.version).await.ok()
}

fn prediction_id(text: &str) -> Result<PredictionId, ErrorBody> {
    text.parse().map_err(|_| ErrorBody::new(ErrorCode::NotFound, format!("there is no prediction {text}")))
}

/// The part of a page that shows a prediction.
pub(super) async fn panel(server: &Arc<Server>, visitor: &Visitor, prediction: &Prediction) -> maud::Markup {
    let version = version_of(server, prediction).await;
    Panel { server, visitor, prediction, version: version.as_ref(), shared: None }.markup()
}

/// `GET /predictions/{id}`, also for whoever has its signed address.
pub async fn prediction(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    let signed = server.models.is_signed(&uri);
    if !visitor.is_owner() && !signed {
        return layout::sign_in(uri.path(), false);
    }
    let signature = ["expiry", "signature"].map(|name| Some(format!("{name}={}", query(&uri, name)?)));
    let signature = signature.into_iter().collect::<Option<Vec<_>>>().map(|pairs| pairs.join("&"));
    let shared = signature.as_deref().filter(|_| signed && !visitor.is_owner());
    let made = async {
        let prediction = server.models.prediction(prediction_id(&id)?).await?;
        let version = version_of(&server, &prediction).await;
        let panel = Panel {
            server: &server,
            visitor: &visitor,
            prediction: &prediction,
            version: version.as_ref(),
            shared,
        };
        match query(&uri, "part") {
            Some("panel") => return Ok(layout::part(panel.markup())),
            Some("json") => return Ok(layout::guarded(Json(panel.json()).into_response())),
            _ => {}
        }
        let kind = if prediction.kind == Kind::Training { "Training" } else { "Prediction" };
        let body = html! {
            div.title {
                h1 { (kind) }
                p.facts {
                    a href=(format!("/models/{}", prediction.model)) { (prediction.model) } " \u{b7} "
                    code { (prediction.version.to_string().chars().take(model_page::SHORT_ID).collect::<String>()) }
                    " \u{b7} " (time::moment(prediction.created_ms))
                }
            }
            div.work.result {
                section.ask aria-label="Input" { h2 { "Input" } (panel.input()) }
                div.answer data-place="panel" { (panel.markup()) }
            }
        };
        let refreshes = !prediction.status.is_terminal();
        let title = format!("{kind} of {}", prediction.model);
        Ok(Page { title: &title, visitor: &visitor, refreshes, body }.answer())
    };
    shown(made.await, &visitor)
}

/// `POST /predictions/{id}/cancel`
pub async fn cancel(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    form: multipart::Form,
) -> Response {
    if !visitor.is_owner() {
        return layout::sign_in(&format!("/predictions/{id}"), false);
    }
    let made = async {
        let id = prediction_id(&id)?;
        let sent = multipart::texts(form).await?;
        if !visitor.sent(sent.other(FORM_TOKEN)) {
            return Err(multipart::foreign());
        }
        server.models.cancel(id).await?;
        Ok(see_other(&format!("/predictions/{id}")))
    };
    shown(made.await, &visitor)
}

pub(super) fn see_other(place: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

/// `GET /sign-in`
pub async fn sign_in(Extension(visitor): Extension<Visitor>, uri: Uri) -> Response {
    let next = session::place(query(&uri, "next"));
    if visitor.is_owner() { see_other(next) } else { layout::sign_in(next, false) }
}

/// `POST /sign-in`
pub async fn take_token(State(server): Shared, headers: HeaderMap, form: multipart::Form) -> Response {
    let sent = match multipart::texts(form).await {
        Ok(sent) => sent,
        Err(error) => return layout::failed(&error, &Visitor::Guest),
    };
    let next = session::place(sent.other("next"));
    if !sent.other("token").is_some_and(|given| session::opens(&server.token, given)) {
        return layout::sign_in(next, true);
    }
    let secure = base_url(&server, &headers).starts_with("https:");
    guard::signed_in(&server, next, secure)
}

/// `POST /sign-out`
pub async fn sign_out(
    State(server): Shared,
    Extension(visitor): Extension<Visitor>,
    form: multipart::Form,
) -> Response {
    let sent = multipart::texts(form).await.unwrap_or_default();
    let mut answer = see_other("/sign-in");
    if visitor.sent(sent.other(FORM_TOKEN)) {
        let cookie = session::sign_out(&server.token).parse().expect("a valid header");
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// `POST /api/tickets`: what a link carries that signs a browser in.
pub async fn ticket(State(server): Shared) -> Result<Json<serde_json::Value>, Failure> {
    Ok(Json(json!({"ticket": session::ticket(&server.token), "expires_s": session::TICKET_S})))
}
