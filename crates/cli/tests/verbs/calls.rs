//! `clunk call` and `clunk logs`

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, LIMIT, not_found, ok};
use crate::records::{app, app_id, batch, batch_id, call, call_id, function_id, log, replica_id};

/// The newest 2,500 calls, of which every hundredth is of `rare`.
fn many() -> Fake {
    Fake::start(|seen| {
        let before = seen.parameter("before").map(|id| id.parse().expect("an id"));
        let limit = seen.parameter("limit").map_or(50, |limit| limit.parse().expect("a number"));
        let name = |number| if number % 100 == 0 { "rare" } else { "often" };
        let all = (0..2500).rev().filter(|number| before.is_none_or(|before| call_id(*number) < before));
        ok(all.take(limit).map(|number| call(number, name(number), "succeeded")).collect())
    })
}

fn ids(text: &str) -> Vec<String> {
    let calls: Vec<Value> = serde_json::from_str(text).expect("JSON");
    calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_list_is_asked_for_as_filtered() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/api/apps" => ok(json!([app(1, "hello", "stopped"), app(0, "hello", "running")])),
        _ => ok(json!([call(1, "greet", "failed"), call(0, "greet", "failed")])),
    });
    let words = ["call", "list", "--app", "hello", "--state", "failed", "--limit", "2"];
    let out = fake.out(&words);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("CALL ") && lines[0].ends_with("ERROR"), "{out}");
    assert!(lines[1].starts_with(&format!("{}  greet     failed", call_id(1))), "{out}");
    assert!(lines[1].contains("10 ms  1.5 s") && lines[1].ends_with("it broke"), "{out}");
    let query = format!("limit=2&app={}&state=failed", app_id(0));
    assert_eq!(fake.seen().last().map(|seen| seen.query.clone()), Some(query));
}

#[test]
fn a_long_list_is_read_in_pages() {
    let fake = many();
    assert_eq!(ids(&fake.out(&["call", "list", "--json"])).len(), 20);
    let all = ids(&fake.out(&["call", "list", "--json", "--limit", "2200"]));
    assert_eq!((all.len(), &all[2199]), (2200, &call_id(300).to_string()));
    assert_eq!(ids(&fake.out(&["call", "list", "--json", "--limit", "9000"])).len(), 2500);
}

#[test]
fn calls_of_a_function_are_found_by_its_name() {
    let fake = many();
    let rare = ids(&fake.out(&["call", "list", "--function", "rare", "--json"]));
    assert_eq!((rare.len(), &rare[19]), (20, &call_id(500).to_string()));
    let id = function_id().to_string();
    fake.out(&["call", "list", "--function", &id]);
    assert_eq!(fake.seen().last().and_then(|seen| seen.parameter("function").map(str::to_owned)), Some(id));
}

#[test]
fn an_empty_list_says_what_to_do() {
    let fake = Fake::start(|_| ok(json!([])));
    let ran = fake.run(&["call", "list"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "no calls yet; clunk run FILE makes some\n")
    );
    assert!(fake.run(&["call", "list", "--state", "failed"]).err.starts_with("no such calls"));
    assert_eq!(fake.out(&["call", "list", "--json"]), "[]\n");
    assert_eq!(fake.run(&["call", "list", "--state", "fine"]).code, 2);
}

/// Two calls and a batch, found as the real server finds them.
fn two() -> Fake {
    Fake::start(|seen| {
        let before = seen.parameter("before").map(|id| id.parse().expect("an id"));
        let known = [(2, call(2, "greet", "running")), (1, call(1, "greet", "failed"))];
        let tail = seen.path.strip_prefix("/api/calls/").map(|rest| rest.trim_end_matches("/cancel"));
        if let Some(id) = tail {
            let found = known.iter().find(|(number, _)| call_id(*number).to_string() == id);
            return found.map_or(not_found("this call"), |(_, call)| ok(call.clone()));
        }
        let batches = format!("/api/batches/{}", batch_id());
        match seen.path.as_str() {
            "/api/calls" => {
                let fits = |number: &u64| before.is_none_or(|before| call_id(*number) < before);
                ok(known.into_iter().filter(|(number, _)| fits(number)).map(|(_, call)| call).collect())
            }
            path if path.starts_with(&batches) => ok(batch(10, 4)),
            _ => not_found("this"),
        }
    })
}

#[test]
fn a_call_is_shown_by_as_much_of_its_id_as_is_needed() {
    let fake = two();
    let whole = call_id(1).to_string();
    let tail = whole.strip_prefix("call-").expect("a prefix");
    for text in [whole.as_str(), tail, &tail[..10], &whole[..15], &tail.to_uppercase()] {
        let out = fake.out(&["call", "show", text]);
        assert!(out.starts_with(&format!("{whole}  failed\nfunction   greet (")), "{text}: {out}");
        assert!(out.ends_with("error      it broke\n"), "{text}: {out}");
    }
    let shown: Value = serde_json::from_str(&fake.out(&["call", "show", tail, "--json"])).expect("JSON");
    assert_eq!(shown["state"], "failed");
}

#[test]
fn an_id_that_fits_two_is_a_question() {
    let ran = two().run(&["call", "show", "01"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains(&call_id(1).to_string()) && ran.err.contains(&call_id(2).to_string()),
        "{}",
        ran.err
    );
    assert!(ran.err.ends_with("hint: give more of the id\n"), "{}", ran.err);
}

#[test]
fn an_unknown_id_ends_with_three() {
    let fake = two();
    let unknown = call_id(9).to_string();
    for text in ["call-0zzz", &unknown, "nonsense", "../../x", "7", ""] {
        for verb in [&["call", "show", text], &["call", "logs", text], &["call", "cancel", text]] {
            let ran = fake.run(verb);
            assert_eq!(ran.code, 3, "{verb:?}: {}", ran.err);
            assert!(ran.err.starts_with("error[not-found]: there is no call"), "{verb:?}: {}", ran.err);
        }
    }
}

#[test]
fn a_batch_is_shown_and_canceled_by_its_id() {
    let fake = two();
    let whole = batch_id().to_string();
    let tail = whole.strip_prefix("batch-").expect("a prefix");
    for text in [whole.as_str(), tail, &whole[..22]] {
        let out = fake.out(&["call", "show", text]);
        assert!(
            out.starts_with(&format!("{whole}  running\n")) && out.contains("not ended  6"),
            "{text}: {out}"
        );
    }
    let ran = fake.run(&["call", "cancel", &whole]);
    assert_eq!(ran.err, format!("canceling 6 calls of {whole}; see: clunk call show {whole}\n"));
    let last = fake.seen().pop().expect("a request");
    assert_eq!((last.method.as_str(), last.path), ("POST", format!("/api/batches/{whole}/cancel")));
}

#[test]
fn cancel_says_what_became_of_the_call() {
    let fake = two();
    let (running, ended) = (call_id(2).to_string(), call_id(1).to_string());
    let ran = fake.run(&["call", "cancel", &running, "--terminate-containers"]);
    assert_eq!(
        (ran.code, ran.err),
        (0, format!("{running} is being canceled; see: clunk call show {running}\n"))
    );
    let last = fake.seen().pop().expect("a request");
    assert_eq!(last.body, json!({"terminate_containers": true}));
    assert_eq!(fake.run(&["call", "cancel", &ended]).err, format!("{ended} had ended already: failed\n"));
}

#[test]
fn the_log_of_an_ended_call_is_read_once() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/api/logs" => Answer::Lines(vec![log("one\n"), json!({"type": "ping"}), log("two\n")]),
        path if path.starts_with("/api/predictions/") => not_found("the prediction"),
        _ => ok(call(1, "greet", "failed")),
    });
    let id = call_id(1).to_string();
    for words in [&["call", "logs", &id, "-f"] as &[&str], &["logs", &id], &["logs", "--call", &id]] {
        assert_eq!(fake.out(words), "one\ntwo\n", "{words:?}");
        assert_eq!(fake.seen().pop().map(|seen| seen.query), Some(format!("call={id}")), "{words:?}");
    }
    assert_eq!(fake.out(&["logs", &id, "--json"]).lines().count(), 3);
}

#[test]
fn following_a_call_ends_with_it() {
    // The stream of the log stays open; the call ends once both its lines were read.
    let (ended, printed) = mpsc::channel();
    let (ended, printed) = (Mutex::new(ended), Mutex::new(printed));
    let asked = Arc::new(AtomicUsize::new(0));
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/api/logs" if seen.parameter("follow").is_some() => {
            let ended = ended.lock().expect("no panic while locked").clone();
            Answer::Stream(Box::new(move |mut client| {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                let text = format!("{head}{}\n{}\n", log("one\n"), log("two\n"));
                client.get_mut().write_all(text.as_bytes()).expect("a client");
                ended.send(()).expect("somebody waits");
                // Until the client goes away.
                let _ = std::io::copy(&mut client, &mut std::io::sink());
            }))
        }
        "/api/logs" => Answer::Lines(vec![log("one\n"), log("two\n")]),
        _ if asked.fetch_add(1, Ordering::SeqCst) == 0 => ok(call(1, "greet", "running")),
        _ => {
            assert_eq!(seen.parameter("unless"), Some("running"));
            printed.lock().expect("no panic while locked").recv_timeout(LIMIT).expect("the log was read");
            ok(call(1, "greet", "succeeded"))
        }
    });
    let id = call_id(1).to_string();
    let ran = fake.run(&["call", "logs", &id, "--follow"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\ntwo\n"));
    assert_eq!(ran.err, format!("{id} has ended: succeeded\n"));
}

#[test]
fn logs_are_filtered_by_container() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/api/containers" => ok(json!([crate::records::container(3, "busy")])),
        "/api/apps" => ok(json!([app(1, "hello", "running")])),
        _ => Answer::Lines(vec![log("one\n"), log("two\n"), log("three\n")]),
    });
    let query = || fake.seen().pop().map(|seen| seen.query).expect("a request");
    let id = replica_id(3).to_string();
    assert_eq!(fake.out(&["logs", "--container", &id[..14], "-n", "2"]), "two\nthree\n");
    assert_eq!(query(), format!("app={}&replica={id}", app_id(0)));
    fake.out(&["logs", "-n", "2"]);
    assert_eq!(query(), format!("app={}&tail=2", app_id(1)));
    // One that has ended is in no list.
    fake.out(&["logs", "hello", "--container", &replica_id(9).to_string()]);
    assert_eq!(query(), format!("app={}&replica={}", app_id(1), replica_id(9)));
    let unknown = Fake::start(|_| ok(json!([]))).run(&["logs", "nothing"]);
    assert_eq!(unknown.code, 3);
    assert!(
        unknown.err.starts_with("error[not-found]: there is no app or call \"nothing\"\n"),
        "{}",
        unknown.err
    );
    fake.out(&["logs", "--follow"]);
    assert_eq!(query(), format!("app={}&follow=true", app_id(1)));
}
