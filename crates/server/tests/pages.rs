//! Pages as a browser gets them, on a runtime that starts nothing: who sees what, sign-in, and what headers forbid.

mod support;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use clunk_server::endpoints::{self, Access};
use http_body_util::BodyExt;
use serde_json::Value;
use support::{World, world};
use tower::ServiceExt;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `NAME=VALUE` of the cookie it sets.
    fn cookie(&self) -> &str {
        self.header("set-cookie").split(';').next().unwrap()
    }
}

impl World {
    async fn ask(&self, request: Request<Body>) -> Answer {
        let answer = endpoints::router(self.server.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.ask(Request::get(path).header("cookie", cookie).body(Body::empty()).unwrap()).await
    }

    /// A form as a browser sends it.
    async fn send(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
        let part = |(name, text): &(&str, &str)| {
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let body = fields.iter().map(part).collect::<String>() + "--edge--\r\n";
        let request = Request::post(path).header("cookie", cookie);
        let request = request.header("content-type", "multipart/form-data; boundary=edge");
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn session(&self) -> String {
        let answer = self.get(&format!("/sign-in?token={}", self.token), "").await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        answer.cookie().to_owned()
    }
}

/// The text that the forms of a page carry.
fn form_token(page: &str) -> &str {
    page.split("name=\"form_token\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap()
}

#[tokio::test]
async fn a_guest_is_asked_to_sign_in_whatever_the_page() {
    let world = world().await;
    for path in [
        "/",
        "/models",
        "/models/a/b",
        "/predictions/00000000000000000000000000",
        "/sign-in",
        "/predictions/x",
    ] {
        for cookie in ["", "clunk_000000000000=1.2", "a=b; c"] {
            let page = world.get(path, cookie).await;
            assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
            assert!(page.body.contains("clunk open") && page.body.contains("name=\"token\""), "{path}");
        }
    }
    for endpoint in endpoints::all().iter().filter(|one| one.access == Access::Page && one.method == "POST") {
        let answer = world.send(endpoint.path, "", &[("version", "x")]).await;
        let refused = answer.status.is_client_error() || endpoint.path == "/sign-out";
        assert!(refused && answer.header("set-cookie").is_empty(), "{}: {}", endpoint.path, answer.status);
    }
}

#[tokio::test]
async fn the_token_becomes_a_cookie_that_is_not_the_token() {
    let world = world().await;
    let answer = world.get(&format!("/models?a=1&token={}&b=2", world.token), "").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/models?a=1&b=2"));
    let cookie = answer.header("set-cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
        "{cookie}"
    );
    assert!(!cookie.contains(&world.token) && !cookie.contains("Secure"));
    let page = world.get("/sign-in", answer.cookie()).await;
    assert_eq!((page.status, page.header("location")), (StatusCode::SEE_OTHER, "/"));

    let wrong = world.get("/?token=wrong", "").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains("not the server's token") && wrong.header("set-cookie").is_empty());
    // Behind a proxy with TLS the cookie stays within it.
    let request = Request::get(format!("/?token={}", world.token)).header("host", "ai.example");
    let answer = world.ask(request.header("x-forwarded-proto", "https").body(Body::empty()).unwrap()).await;
    assert!(answer.header("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn the_form_signs_in_and_leads_nowhere_else() {
    let world = world().await;
    for (next, place) in [("/models", "/models"), ("//evil.example", "/"), ("https://evil.example", "/")] {
        let answer = world.send("/sign-in", "", &[("next", next), ("token", &world.token)]).await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, place));
    }
    let answer = world.send("/sign-in", "", &[("next", "/a\"><b>"), ("token", "wrong")]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("aria-invalid=\"true\"") && !answer.body.contains("<b>"));
}

#[tokio::test]
async fn a_ticket_signs_in_as_the_token_does() {
    let world = world().await;
    let request = Request::post("/api/tickets").header("authorization", format!("Bearer {}", world.token));
    let answer = world.ask(request.body(Body::empty()).unwrap()).await;
    let ticket: Value = serde_json::from_str(&answer.body).unwrap();
    let ticket = ticket["ticket"].as_str().unwrap();
    let answer = world.get(&format!("/?token={ticket}"), "").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/"));
    let late = format!("1{}", &ticket[1..]).replacen(&ticket[..2], "99", 1);
    assert_eq!(world.get(&format!("/?token={late}"), "").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn no_page_runs_what_is_not_ours() {
    let world = world().await;
    let session = world.session().await;
    for (path, cookie) in [("/sign-in", ""), ("/", session.as_str()), ("/predictions/x", session.as_str())] {
        let page = world.get(path, cookie).await;
        let policy = page.header("content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(
            (page.header("x-content-type-options"), page.header("cache-control")),
            ("nosniff", "no-store")
        );
        assert!(!page.body.contains("style=\"") && !page.body.contains("onclick"), "{}", page.body);
        assert!(!page.body.contains(&world.token));
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let world = world().await;
    let session = world.session().await;
    let path = "/predictions/00000000000000000000000000/cancel";
    for fields in [vec![], vec![("form_token", "")], vec![("form_token", "00")]] {
        let answer = world.send(path, &session, &fields).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        assert!(answer.body.contains("not of your session"));
    }
    let page = world.get("/predictions/x", &session).await;
    let token = form_token(&page.body).to_owned();
    let answer = world.send(path, &session, &[("form_token", &token)]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.body);
    // With its token a session ends.
    let answer = world.send("/sign-out", &session, &[("form_token", &token)]).await;
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
}

#[tokio::test]
async fn style_and_scripts_are_kept_by_browsers() {
    let world = world().await;
    let page = world.get("/sign-in", "").await;
    let path = page
        .body
        .split("href=\"")
        .find(|rest| rest.contains("style.css"))
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let style = world.get(path, "").await;
    assert_eq!(style.status, StatusCode::OK);
    assert!(style.header("cache-control").contains("immutable") && style.body.contains(".panel"));
    assert_eq!(world.get("/assets/old/page.js", "").await.header("cache-control"), "no-cache");
    for path in ["/assets/x/..%2F..%2Ftoken", "/assets/x/token"] {
        assert_eq!(world.get(path, "").await.status, StatusCode::NOT_FOUND);
    }
    let request = Request::get(path).header("accept-encoding", "gzip, br").body(Body::empty()).unwrap();
    assert_eq!(world.ask(request).await.header("content-encoding"), "gzip");
}

#[tokio::test]
async fn a_browser_is_told_in_words_that_a_page_is_not_there() {
    let world = world().await;
    let request = Request::get("/nothing%3Cb%3E").header("accept", "text/html,*/*");
    let page = world.ask(request.body(Body::empty()).unwrap()).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.body.contains("there is no page /nothing") && !page.body.contains("<b>"), "{}", page.body);
    assert!(world.get("/nothing", "").await.body.starts_with("{\"error\""));
}
