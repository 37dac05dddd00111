//! What every page has: its head, the bar, the foot; and the pages that are only words.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use clunk_core::error::{ErrorBody, ErrorCode};
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::multipart::FORM_TOKEN;
use super::session::Visitor;

/// Nothing but our own scripts and styles runs or loads, nobody frames a page, and forms lead here only. Pictures and sound
/// may be in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     media-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub struct Page<'a> {
    pub title: &'a str,
    pub visitor: &'a Visitor,
    /// Load it again after a second, for browsers without scripts.
    pub refreshes: bool,
    pub body: Markup,
}

impl Page<'_> {
    fn markup(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " \u{2013} Clunk" }
                    link rel="icon" href=(assets::url("icon.svg"));
                    link rel="stylesheet" href=(assets::url("style.css"));
                    link rel="modulepreload" href=(assets::url("live.js"));
                    link rel="modulepreload" href=(assets::url("form.js"));
                    script type="module" src=(assets::url("page.js")) {}
                    @if self.refreshes { noscript { meta http-equiv="refresh" content="1"; } }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    header.bar {
                        a.brand href="/" { "Clunk" }
                        nav aria-label="Clunk" { a href="/models" { "Models" } }
                        @if self.visitor.is_owner() {
                            form.out method="post" action="/sign-out" enctype="multipart/form-data" {
                                (form_token(self.visitor))
                                button.plain type="submit" { "Sign out" }
                            }
                        } @else {
                            a.out href="/sign-in" { "Sign in" }
                        }
                    }
                    main id="main" { (self.body) }
                }
            }
        }
    }

    pub fn answer(&self) -> Response {
        self.answer_with(StatusCode::OK)
    }

    pub fn answer_with(&self, status: StatusCode) -> Response {
        guarded((status, Html(self.markup().into_string())).into_response())
    }
}

/// The hidden field that other sites cannot send. It stands before all others.
pub fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(FORM_TOKEN) value=(visitor.form_token()); }
}

/// A part of a page.
pub fn part(markup: Markup) -> Response {
    guarded(Html(markup.into_string()).into_response())
}

pub fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An error for people.
pub fn failed(error: &ErrorBody, visitor: &Visitor) -> Response {
    let status = crate::answer::status(error.code);
    let title = match error.code {
        ErrorCode::NotFound => "Not found",
        ErrorCode::Unauthorized => "Not allowed",
        ErrorCode::QueueFull => "Too much at once",
        _ => "This did not work",
    };
    let body = html! {
        div.words {
            h1 { (title) }
            p { (error.message) }
            @if let Some(hint) = &error.hint { p.hint { (hint) } }
            p { a href="/models" { "All models" } }
        }
    };
    Page { title, visitor, refreshes: false, body }.answer_with(status)
}

/// Where a browser without a session ends up.
pub fn sign_in(next: &str, wrong: bool) -> Response {
    let visitor = Visitor::Guest;
    let body = html! {
        div.words {
            h1 { "Sign in" }
            p { "This server asks for its token. On the machine it runs on, this opens a signed-in page:" }
            pre.command { "clunk open" }
            p { "Or paste the token; it is in the file " code { "token" } " of the server's state folder." }
            form.stack method="post" action="/sign-in" enctype="multipart/form-data" {
                input type="hidden" name="next" value=(next);
                div.field {
                    label.label for="token" { "Token" }
                    input type="password" id="token" name="token" required autocomplete="current-password"
                        aria-describedby="problem.token" aria-invalid=[wrong.then_some("true")] autofocus;
                    p.problem id="problem.token" role="alert" { @if wrong { "This is not the server's token." } }
                }
                button type="submit" { "Sign in" }
            }
        }
    };
    Page { title: "Sign in", visitor: &visitor, refreshes: false, body }.answer_with(StatusCode::UNAUTHORIZED)
}
