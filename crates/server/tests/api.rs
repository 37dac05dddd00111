//! The API as a client sees it, on a runtime that starts nothing.

mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use clunk_server::endpoints::{self, Access};
use clunk_server::{FromContainer, openapi};
use http_body_util::BodyExt;
use serde_json::Value;
use support::{World, world};
use tower::ServiceExt;

impl World {
    async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = endpoints::router(self.server.clone()).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let bearer = format!("Bearer {}", self.token);
        self.ask(Request::post(path).header("authorization", bearer).body(body.into()).unwrap()).await
    }
}

/// A path with ids of a kind, and names, in its places.
fn filled(path: &str, kind: &str) -> String {
    let id = format!("{kind}-00000000000000000000000000");
    let part = |part: &str| match part {
        "{id}" => id.clone(),
        part => part.trim_matches(['{', '}']).into(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_endpoint_but_health_wants_the_token() {
    let world = world().await;
    for endpoint in endpoints::all() {
        let path = filled(endpoint.path, "fn");
        for bearer in [None, Some("Bearer wrong"), Some("Basic abc")] {
            let mut request = Request::builder().method(endpoint.method.clone()).uri(&path);
            if let Some(bearer) = bearer {
                request = request.header("authorization", bearer);
            }
            let (status, body) = world.ask(request.body(Body::empty()).unwrap()).await;
            match endpoint.access {
                Access::Public => assert_ne!(status, StatusCode::UNAUTHORIZED, "{path}"),
                // crates/server/tests/pages.rs has them.
                Access::Page => {}
                Access::Replicate | Access::ReplicateSigned => {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {path}", endpoint.method);
                    assert_eq!(body["title"], "Unauthenticated");
                    assert!(!body.to_string().contains(&world.token));
                }
                Access::Owner | Access::Container | Access::Signed => {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{} {path}", endpoint.method);
                    assert_eq!(body["error"]["code"], "unauthorized");
                    assert!(!body.to_string().contains(&world.token));
                }
            }
        }
    }
    let public: Vec<_> =
        endpoints::all().iter().filter(|e| e.access == Access::Public).map(|e| e.path).collect();
    assert_eq!(public, ["/api/health", "/replicate/v1/files/{id}/download"]);
}

#[tokio::test]
async fn a_container_sees_its_own_app_and_nothing_else() {
    let world = world().await;
    let app = clunk_core::id::AppId::fresh();
    for endpoint in endpoints::all().iter().filter(|endpoint| endpoint.access != Access::Public) {
        for foreign in ["fn", "call", "batch", "app", "rep", "im"] {
            let path = filled(endpoint.path, foreign);
            let request = Request::builder().method(endpoint.method.clone()).uri(&path);
            // A token does not help it.
            let request = request.header("authorization", format!("Bearer {}", world.token));
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(FromContainer(app));
            let (status, body) = world.ask(request).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{} {path}: {body}", endpoint.method);
        }
    }
}

#[tokio::test]
async fn what_is_no_endpoint_says_so() {
    let world = world().await;
    let (status, body) = world.ask(Request::get("/api/nothing").body(Body::empty()).unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &"not-found".into()));
    let (status, body) = world.ask(Request::put("/api/status").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(body["error"]["message"].as_str().unwrap().contains("PUT"));
}

#[tokio::test]
async fn another_version_is_told_what_to_do() {
    let world = world().await;
    let request = Request::get("/api/status")
        .header("authorization", format!("Bearer {}", world.token))
        .header("clunk-client", "python/99.0.0");
    let (status, body) = world.ask(request.body(Body::empty()).unwrap()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::UPGRADE_REQUIRED, &"version-mismatch".into()));
    assert!(body["error"]["hint"].as_str().unwrap().contains("clunk down"));
}

#[tokio::test]
async fn a_tree_is_registered_when_its_blobs_are_there() {
    let world = world().await;
    let content = b"print('hello')";
    let digest = clunk_core::Digest::of(content);
    let tree =
        format!(r#"{{"files":[{{"path":"/root/a.py","digest":"{digest}","size":{}}}]}}"#, content.len());
    let (status, body) = world.post("/api/trees", tree.clone()).await;
    assert_eq!((status, &body["missing"][0]), (StatusCode::OK, &digest.to_string().into()));

    let mut upload = digest.as_bytes().to_vec();
    upload.extend((content.len() as u64).to_le_bytes());
    upload.extend(content);
    let cut = upload[..upload.len() - 1].to_vec();
    let (status, body) = world.post("/api/blobs", cut).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::BAD_REQUEST, &"bad-request".into()));
    let mut wrong = upload.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(world.post("/api/blobs", wrong).await.0, StatusCode::BAD_REQUEST);
    let (status, body) = world.post("/api/blobs", upload).await;
    assert_eq!((status, &body["stored"]), (StatusCode::OK, &1.into()));
    let (_, body) = world.post("/api/trees", tree).await;
    assert_eq!(body["missing"], serde_json::json!([]));
}

#[tokio::test]
async fn bad_bodies_say_where() {
    let world = world().await;
    let (status, body) = world.post("/api/apps", r#"{"functions": [{"nmae": "x"}]}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"]["message"].as_str().unwrap().contains("nmae"), "{body}");
    let (status, _) = world.post("/api/functions/fn-nonsense/call", "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = world.post("/api/functions/fn-00000000000000000000000000/call", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let app = r#"{"functions":[{"name":"f","entry":{"module":"a","qualname":"f"},"image":"im-00112233445566778899aabbccddeeff"}]}"#;
    let (status, body) = world.post("/api/apps", app).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &"not-found".into()));
}

#[tokio::test]
async fn a_state_that_no_call_has_is_refused() {
    let world = world().await;
    for (state, wanted) in [("queued", StatusCode::OK), ("nonsense", StatusCode::BAD_REQUEST)] {
        let bearer = format!("Bearer {}", world.token);
        let request = Request::get(format!("/api/calls?state={state}")).header("authorization", bearer);
        let (status, body) = world.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, wanted);
        if wanted != StatusCode::OK {
            assert!(body["error"]["hint"].as_str().unwrap().contains("timed_out"), "{body}");
        }
    }
}

/// Run with `UPDATE=1` to write the file anew.
#[test]
fn the_openapi_file_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let today = serde_json::to_string_pretty(&openapi()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &today).unwrap();
    }
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    assert!(checked_in == today, "docs/openapi.json is not what the server serves; run: make openapi");
}

#[test]
fn every_path_takes_one_method_once() {
    let mut seen = std::collections::HashSet::new();
    for endpoint in endpoints::all() {
        assert!(
            seen.insert((endpoint.method.clone(), endpoint.path)),
            "{} {}",
            endpoint.method,
            endpoint.path
        );
        let query = Method::from_bytes(b"QUERY").unwrap();
        let known = [Method::GET, Method::POST, Method::PATCH, Method::DELETE, query];
        assert!(known.contains(&endpoint.method));
    }
}
