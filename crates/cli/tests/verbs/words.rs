//! What all verbs have in common: closed pipes, completions, help.

use std::process::Stdio;

use serde_json::json;

use crate::fake::{Fake, finish, ok};
use crate::records::call;

#[test]
fn a_reader_that_went_away_is_no_error() {
    let fake = Fake::start(|_| ok((0..1000).map(|number| call(number, "greet", "failed")).collect()));
    for words in [
        &["call", "list", "--limit", "1000"] as &[&str],
        &["call", "list", "--json"],
        &["completions", "bash"],
        &["explain"],
    ] {
        let mut command = fake.command(words);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stdout.take());
        let ran = finish(child);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}");
    }
}

#[test]
fn nobody_reads_what_is_said() {
    let fake = Fake::start(|_| ok(json!([])));
    for (words, code) in [(&["call", "list"], 0), (&["call", "show"], 2), (&["explain", "moon"], 3)] {
        let mut command = fake.command(words);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        drop(child.stderr.take());
        assert_eq!(finish(child).code, code, "{words:?}");
    }
}

#[test]
fn completions_know_the_verbs() {
    let fake = Fake::start(|_| ok(json!([])));
    for shell in ["bash", "zsh", "fish"] {
        let script = fake.out(&["completions", shell]);
        for word in ["container", "usage", "terminate-containers", "timed_out", "once", "workspace"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn every_error_code_is_explained() {
    let fake = Fake::start(|_| ok(json!([])));
    let all = fake.out(&["explain"]);
    for code in ["call-expired", "cannot-place", "result-expired"] {
        assert!(all.lines().any(|line| line.starts_with(code)), "{code}");
        assert!(fake.out(&["explain", code]).starts_with(&format!("# {code}")), "{code}");
    }
}
