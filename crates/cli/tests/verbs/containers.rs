//! `clunk container`

use std::io::{Read, Write};

use serde_json::json;

use crate::fake::{Answer, Fake, Seen, ok};
use crate::records::{app_id, container, log, replica_id};

fn running(seen: &Seen) -> Answer {
    match seen.path.as_str() {
        "/api/containers" => ok(json!([container(40_000_000, "busy"), container(1, "starting")])),
        "/api/logs" => Answer::Lines(vec![log("one\n")]),
        path if path.ends_with("/exec") => Answer::Stream(Box::new(|mut client| {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: clunk-tty\r\n\r\n";
            client.get_mut().write_all(head.as_bytes()).expect("a client");
            // A frame: its kind, its length, its content. The first is the input that came through a pipe.
            let mut typed = [0; 5 + 3];
            client.read_exact(&mut typed).expect("input");
            assert_eq!(&typed, b"\0\x03\0\0\0hi\n");
            client.get_mut().write_all(b"\0\x03\0\0\0ho\n\x02\x04\0\0\0\x07\0\0\0").expect("a client");
        })),
        _ => Answer::Json(202, json!({})),
    }
}

#[test]
fn containers_are_listed() {
    let out = Fake::start(running).out(&["container", "list"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0].split_whitespace().next(), Some("CONTAINER"));
    let cells: Vec<&str> = lines[2].split_whitespace().collect();
    let id = replica_id(1).to_string();
    assert_eq!(cells[..8], [&id, "hello", "greet", "starting", "2", "12.0", "MB", "1.5"], "{out}");
}

#[test]
fn no_containers_is_said() {
    let ran = Fake::start(|_| ok(json!([]))).run(&["container", "list"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(ran.err, "no containers run; a call starts one: clunk run FILE\n");
}

#[test]
fn a_container_is_stopped_by_a_beginning_of_its_id() {
    let fake = Fake::start(running);
    let id = replica_id(1).to_string();
    for text in [&id[..], &id[..12], &id[4..12]] {
        let ran = fake.run(&["container", "stop", text]);
        assert_eq!(ran.code, 0, "{text}: {}", ran.err);
        assert!(ran.err.starts_with(&format!("{id} is ending; 2 calls given to others\n")), "{}", ran.err);
        assert_eq!(fake.seen().pop().map(|seen| seen.path), Some(format!("/api/containers/{id}/stop")));
    }
    assert_eq!(fake.run(&["container", "stop", "01"]).code, 2);
    for verb in ["stop", "logs", "exec"] {
        let ran = fake.run(&["container", verb, "zzz"]);
        assert_eq!(ran.code, 3, "{verb}");
        assert!(ran.err.contains("clunk container list"), "{verb}: {}", ran.err);
    }
}

#[test]
fn the_log_of_a_container_is_of_its_app() {
    let fake = Fake::start(running);
    let id = replica_id(1).to_string();
    assert_eq!(fake.out(&["container", "logs", &id[4..12], "-f"]), "one\n");
    let query = format!("app={}&replica={id}&follow=true", app_id(0));
    assert_eq!(fake.seen().pop().map(|seen| seen.query), Some(query));
}

#[test]
fn a_command_in_a_container_has_its_input_output_and_exit_code() {
    let fake = Fake::start(running);
    let id = replica_id(1).to_string();
    let mut command = fake.command(&["container", "exec", &id, "--", "cat", "-n"]);
    command.env("TERM", "plain");
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().expect("the binary starts");
    // It stays open: its end would be told as well.
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"hi\n").expect("a reader");
    let ran = crate::fake::finish(child);
    drop(input);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "ho\n", ""));
    let asked = fake.seen().pop().expect("a request");
    assert_eq!(asked.path, format!("/api/containers/{id}/exec"));
    assert_eq!(asked.body, json!({"command": ["cat", "-n"], "rows": 24, "columns": 80, "term": "plain"}));
}
