//! `clunk app`

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Seen, not_found, ok};
use crate::records::{app, app_id, function};

fn apps(seen: &Seen) -> Answer {
    let all = json!([
        app(40_000_000, "twice", "running"),
        app(20_000_000, "twice", "running"),
        app(2, "hello", "stopped"),
        app(1, "hello", "running"),
        app(0, "old", "stopped"),
    ]);
    let running = format!("/api/apps/{}", app_id(1));
    match seen.path.as_str() {
        "/api/apps" => ok(all),
        path if path == running => ok(app(1, "hello", "running")),
        path if path == running.clone() + "/functions" => ok(json!([function("greet")])),
        path if path == running.clone() + "/stop" => ok(json!({"app": app_id(1), "state": "stopped"})),
        _ => not_found("this"),
    }
}

#[test]
fn apps_are_listed() {
    let fake = Fake::start(apps);
    let out = fake.out(&["app", "list"]);
    assert_eq!(out.lines().count(), 6, "{out}");
    assert!(
        out.contains(&format!("{}  old    stopped", app_id(0))) && out.contains("1 min 5 s  greet, train"),
        "{out}"
    );
    assert_eq!(fake.out(&["app", "list", "--running"]).lines().count(), 4);
    let none = Fake::start(|_| ok(json!([]))).run(&["app", "list"]);
    assert_eq!((none.code, none.err.as_str()), (0, "no apps yet; clunk run FILE runs one\n"));
}

#[test]
fn an_app_is_shown_with_its_functions() {
    let fake = Fake::start(apps);
    let id = app_id(1).to_string();
    let ran = fake.run(&["app", "show", "hello"]);
    assert!(ran.err.starts_with(&format!("{id} (running, ")), "{}", ran.err);
    assert!(ran.out.starts_with(&format!("{id}  hello  running\nstarted  ")), "{}", ran.out);
    assert!(ran.out.ends_with("greet    1,200        2           3  0 to 10  1 min\n"), "{}", ran.out);
    let shown: Value = serde_json::from_str(&fake.out(&["app", "show", &id, "--json"])).expect("JSON");
    assert_eq!((&shown["app"]["name"], &shown["functions"][0]["queued"]), (&json!("hello"), &json!(1200)));
}

#[test]
fn an_app_is_stopped_by_its_name() {
    let fake = Fake::start(apps);
    let ran = fake.run(&["app", "stop", "hello"]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.starts_with(&format!("stopped {} (hello)\n", app_id(1))), "{}", ran.err);
    let stops = |fake: &Fake| fake.seen().iter().filter(|seen| seen.method == "POST").count();
    assert_eq!(stops(&fake), 1);
    let ended = fake.run(&["app", "stop", "old"]);
    assert_eq!((ended.code, ended.err), (0, format!("{} (old) had stopped already\n", app_id(0))));
    // Which of two that run is meant is not guessed.
    let two = fake.run(&["app", "stop", "twice"]);
    assert_eq!(two.code, 2);
    assert!(two.err.contains(&app_id(20_000_000).to_string()), "{}", two.err);
    for text in ["nothing", "app-0zzz", &app_id(77).to_string()] {
        assert_eq!(fake.run(&["app", "stop", text]).code, 3, "{text}");
    }
    assert_eq!(stops(&fake), 1);
}
