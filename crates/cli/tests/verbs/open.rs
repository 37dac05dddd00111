//! `clunk open`: an address that signs in, for people and for programs.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, ok};

fn server() -> Fake {
    Fake::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/api/tickets") => ok(json!({"ticket": "123.abc", "expires_s": 600})),
        ("GET", "/replicate/v1/models/me/hello") => ok(json!({})),
        _ => Answer::Json(404, json!({"detail": "no", "status": 404})),
    })
}

#[test]
fn the_address_is_data_and_the_rest_is_words() {
    let server = server();
    let ran = server.run(&["open", "me/hello"]);
    assert_eq!((ran.code, ran.out), (0, format!("{}/models/me/hello?token=123.abc\n", server.url)));
    assert!(ran.err.contains("10 min"), "{}", ran.err);
    assert!(!ran.err.contains("opening"), "it opens a browser without a terminal: {}", ran.err);
    let answer: Value = serde_json::from_str(&server.out(&["open", "--json"])).unwrap();
    assert_eq!(answer["url"], format!("{}/?token=123.abc", server.url));
}

#[test]
fn a_model_that_is_not_there_is_told() {
    let server = server();
    let ran = server.run(&["open", "nope/x"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("there is no model nope/x"), "{}", ran.err);
    assert!(ran.err.contains("clunk model list"), "{}", ran.err);
}

#[test]
fn what_is_no_name_is_refused_before_anything_is_asked() {
    let server = server();
    for wrong in ["hello", "Me/Hello", "me/../x", "me/hello?a=b"] {
        let ran = server.run(&["open", wrong]);
        assert_eq!(ran.code, 2, "{wrong}: {}", ran.out);
        assert!(ran.err.contains("clunk open me/hello"), "{}", ran.err);
    }
    assert_eq!(server.seen(), []);
}
