//! Before every page: who looks, and the link that signs in.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::layout;
use super::session::{self, Visitor};
use crate::address::base_url;
use crate::answer::not_found;
use crate::guard::FromContainer;
use crate::server::Server;

/// Lets everybody pass but containers, and says who it is: pages decide what a guest sees.
pub async fn page(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<FromContainer>().is_some() {
        return not_found(format_args!("{} for a container", request.uri().path())).into_response();
    }
    if request.method() == Method::GET
        && let Some((place, given)) = take_token(request.uri())
    {
        if !session::opens(&server.token, &given) {
            return layout::sign_in(&place, true);
        }
        let secure = base_url(&server, request.headers()).starts_with("https:");
        return signed_in(&server, &place, secure);
    }
    let visitor = Visitor::of(&server, request.headers());
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// Goes on with a session, without the token in the address.
pub fn signed_in(server: &Server, place: &str, secure: bool) -> Response {
    let headers = [
        (header::SET_COOKIE, session::sign_in(&server.token, secure)),
        (header::LOCATION, place.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The parameter `token` of an address, and the address without it.
fn take_token(uri: &Uri) -> Option<(String, String)> {
    let (mut given, mut rest) = (None, Vec::new());
    for pair in uri.query()?.split('&') {
        match pair.strip_prefix("token=") {
            Some(token) => given = Some(token.to_owned()),
            None => rest.push(pair),
        }
    }
    let place =
        if rest.is_empty() { uri.path().into() } else { format!("{}?{}", uri.path(), rest.join("&")) };
    Some((session::place(Some(&place)).to_owned(), given?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_leaves_the_address() {
        let taken = |text: &str| take_token(&text.parse().unwrap());
        assert_eq!(taken("/a?x=1&token=t&y=2"), Some(("/a?x=1&y=2".into(), "t".into())));
        assert_eq!(taken("/a?token=t"), Some(("/a".into(), "t".into())));
        assert_eq!(taken("//evil.example?token=t"), Some(("/".into(), "t".into())));
        assert_eq!(taken("/a?tokens=t"), None);
        assert_eq!(taken("/a"), None);
    }
}
