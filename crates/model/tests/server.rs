//! The model server with a real interpreter behind it: what needs settings, or a model that misbehaves on purpose.
//! tests/e2e has the rest, beside Cog's own server.

#[path = "server/staging.rs"]
mod staging;
mod support;

use std::time::Duration;

use clunk_model::Settings;
use serde_json::{Value, json};
use support::{Rig, while_it_ends};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const ASYNC: &str = "prefer: respond-async\r\n";

/// Runs until a file is there.
const GATED: &str = "
import os, time

class Predictor:
    def predict(self, gate: str = '', more: str = '') -> str:
        while gate and not os.path.exists(gate):
            time.sleep(0.002)
        return str(os.getpid())
";

#[tokio::test]
async fn a_full_queue_says_when_to_come_again() {
    let rig = Rig::new(GATED, Settings { queue_max: 1, ..Settings::default() }).await;
    rig.health("READY").await;
    let gate = rig.path("gate");
    let body = |id: &str| json!({"id": id, "input": {"gate": gate}});
    assert_eq!(rig.post("/predictions", ASYNC, body("runs")).await.status, 202);
    rig.health("BUSY").await;
    assert_eq!(rig.post("/predictions", ASYNC, body("waits")).await.status, 202);
    let refused = rig.post("/predictions", ASYNC, body("refused")).await;
    assert_eq!(refused.status, 429);
    assert!(refused.head.contains("\r\nretry-after: 1\r\n"), "{}", refused.head);
    assert_eq!((&refused.json["code"], &refused.json["status"]), (&json!("queue-full"), &json!("failed")));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.ended("waits").await["status"], "succeeded");
    rig.stop().await;
}

#[tokio::test]
async fn a_compressed_body_is_refused_with_words() {
    let rig = Rig::new(GATED, Settings::default()).await;
    rig.health("READY").await;
    let refused = rig.post("/predictions", "content-encoding: gzip\r\n", json!({"input": {}})).await;
    assert_eq!(refused.status, 415);
    assert!(refused.text.contains("`Content-Encoding: gzip`"), "{}", refused.text);
    let taken = rig.post("/predictions", "content-encoding: Identity\r\n", json!({"input": {}})).await;
    assert_eq!(taken.status, 200);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_canceled_while_it_waits_gives_its_room_back() {
    let rig = Rig::new(GATED, Settings { queue_bytes_max: 100_000, ..Settings::default() }).await;
    rig.health("READY").await;
    let gate = rig.path("gate");
    rig.post("/predictions", ASYNC, json!({"id": "runs", "input": {"gate": gate}})).await;
    rig.processing("runs").await;
    // More together than may wait at the same time.
    let large = "x".repeat(60_000);
    for number in 0..3 {
        let body = json!({"id": format!("waits-{number}"), "input": {"gate": large}});
        assert_eq!(rig.post("/predictions", ASYNC, body.clone()).await.status, 202, "{number}");
        let other = json!({"input": body["input"]});
        assert_eq!(rig.post("/predictions", ASYNC, other).await.status, 429, "{number}");
        let path = format!("/predictions/waits-{number}/cancel");
        assert_eq!(rig.post(&path, "", Value::Null).await.status, 200);
    }
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.ended("runs").await["status"], "succeeded");
    rig.stop().await;
}

#[tokio::test]
async fn a_put_is_done_once_and_a_post_each_time() {
    let rig = Rig::new(GATED, Settings::default()).await;
    rig.health("READY").await;
    let started = async |method: &str, path: &str, input: Value| {
        let answer = rig.ask(method, path, "", &json!({"id": "one", "input": input})).await;
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("succeeded")));
        answer.json["started_at"].clone()
    };
    let first = started("PUT", "/predictions/one", json!({})).await;
    assert_eq!(started("PUT", "/predictions/one", json!({})).await, first);
    let other = started("PUT", "/predictions/one", json!({"gate": ""})).await;
    assert_ne!(other, first, "another input is another prediction");
    assert_ne!(started("POST", "/predictions", json!({"gate": ""})).await, other);
    rig.stop().await;
}

#[tokio::test]
async fn an_id_that_is_taken_is_told() {
    let rig = Rig::new(GATED, Settings::default()).await;
    rig.health("READY").await;
    let gate = rig.path("gate");
    // Too large to be shown again in answers.
    let input = |end: &str| json!({"gate": gate, "more": format!("{}{end}", "x".repeat(100_000))});
    let body = |end: &str| json!({"id": "one", "input": input(end)});
    let asked = async |method: &str, path: &str, end: &str| rig.ask(method, path, ASYNC, &body(end)).await;
    assert_eq!(asked("POST", "/predictions", "a").await.status, 202);
    assert_eq!(asked("POST", "/predictions", "a").await.status, 202, "the same again");
    let taken = asked("POST", "/predictions", "b").await;
    assert_eq!((taken.status, &taken.json["status"]), (409, &json!("failed")), "{}", taken.json);
    assert!(taken.json["error"].as_str().unwrap().contains("another input"), "{}", taken.json);
    assert_eq!(asked("PUT", "/predictions/one", "b").await.status, 202, "as Cog");
    std::fs::write(&gate, "").unwrap();
    let ended = rig.ended("one").await;
    assert_eq!(asked("PUT", "/predictions/one", "a").await.json["started_at"], ended["started_at"]);
    assert_ne!(asked("PUT", "/predictions/one", "b").await.json["started_at"], ended["started_at"]);
    let long = "x".repeat(1025);
    for wrong in [&long[..], "%00", "a%0Ab", "%ff"] {
        let path = format!("/predictions/{wrong}");
        assert_eq!(rig.ask("PUT", &path, "", &json!({})).await.status, 422, "{wrong}");
        assert_eq!(rig.ask("GET", &path, "", &Value::Null).await.status, 422, "{wrong}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_client_may_wait_for_a_while() {
    let rig = Rig::new(GATED, Settings::default()).await;
    rig.health("READY").await;
    let body = json!({"id": "long", "input": {"gate": rig.path("gate")}});
    let answer = rig.post("/predictions", "prefer: wait=1\r\n", body).await;
    assert_eq!((answer.status, &answer.json["status"]), (202, &json!("processing")));
    std::fs::write(rig.path("gate"), "").unwrap();
    assert_eq!(rig.ended("long").await["status"], "succeeded");
    let answer = rig.post("/predictions", "prefer: wait=20\r\n", json!({})).await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("succeeded")));
    rig.stop().await;
}

#[tokio::test]
async fn a_model_that_cannot_come_back_says_so() {
    let source = "
import os, time

class Predictor:
    def setup(self):
        print('setting up')
        if os.path.exists('broken'):
            os._exit(9)

    def predict(self, crash: bool = False) -> str:
        if crash:
            open('broken', 'w').close()
            os._exit(7)
        return 'fine'
";
    let rig = Rig::new(source, Settings::default()).await;
    let health = rig.health("READY").await;
    assert_eq!(health["setup"]["logs"], "setting up\n");
    let crashed = rig.post("/predictions", "", json!({"input": {"crash": true}})).await;
    assert_eq!((crashed.status, &crashed.json["status"]), (200, &json!("failed")));
    assert!(crashed.json["error"].as_str().unwrap().contains("exit code 7"), "{}", crashed.json);
    let health = rig.health("DEFUNCT").await;
    assert!(health["setup"]["logs"].as_str().unwrap().contains("exit code 9"), "{health}");
    // Whoever asks brings one more start, and hears why it failed.
    let failed = rig.post("/predictions", "", json!({})).await;
    assert_eq!((failed.status, &failed.json["status"]), (200, &json!("failed")));
    assert!(failed.json["error"].as_str().unwrap().contains("exit code 9"), "{}", failed.json);
    rig.health("DEFUNCT").await;
    std::fs::remove_file(rig.folder.path().join("broken")).unwrap();
    let well = rig.post("/predictions", "", json!({})).await;
    assert_eq!(well.json["output"], "fine", "{}", well.json);
    rig.health("READY").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_setup_that_hangs_is_ended_and_told() {
    let source = "
import time

class Predictor:
    def setup(self):
        print('loading', flush=True)
        time.sleep(1000)

    def predict(self) -> str:
        return ''
";
    let limit = Duration::from_millis(700);
    let rig = Rig::new(source, Settings { setup_timeout: limit, ..Settings::default() }).await;
    let refused = rig.post("/predictions", "", json!({})).await;
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    let health = rig.health("SETUP_FAILED").await;
    let logs = health["setup"]["logs"].as_str().unwrap();
    assert!(logs.starts_with("loading\n") && logs.contains("not ready"), "{logs}");
    assert!(!rig.post("/predictions", "", json!({})).await.head.contains("retry-after"));
    rig.stop().await;
}

#[tokio::test]
async fn trainings_have_a_process_of_their_own_while_there_are_any() {
    let source = format!("{GATED}\ndef train(steps: int) -> str:\n    return f'{{steps}} {{os.getpid()}}'\n");
    let rig = Rig::new(&source, Settings::default()).await;
    rig.health("READY").await;
    let train = async |steps: u32| {
        let answer = rig.post("/trainings", "", json!({"input": {"steps": steps}})).await;
        assert_eq!((answer.status, &answer.json["status"]), (200, &json!("succeeded")), "{}", answer.json);
        answer.json["output"]
            .as_str()
            .unwrap()
            .split_once(' ')
            .map(|(steps, pid)| (steps.to_owned(), pid.to_owned()))
            .unwrap()
    };
    let (first, second) = (train(1).await, train(2).await);
    assert_eq!((first.0.as_str(), second.0.as_str()), ("1", "2"));
    let predicted = rig.post("/predictions", "", json!({})).await.json["output"].as_str().unwrap().to_owned();
    assert!(predicted != first.1 && predicted != second.1);
    rig.stop().await;
}

#[tokio::test]
async fn a_sick_model_says_so() {
    let source = "
import os

class Predictor:
    def healthcheck(self):
        if os.path.exists('worse'):
            raise RuntimeError('the device is lost')
        return not os.path.exists('sick')

    def predict(self) -> str:
        return ''
";
    let rig = Rig::new(source, Settings::default()).await;
    rig.health("READY").await;
    std::fs::write(rig.path("sick"), "").unwrap();
    let error = rig.health("UNHEALTHY").await["user_healthcheck_error"].clone();
    assert_eq!(error, "Healthcheck failed: user-defined healthcheck returned False");
    std::fs::write(rig.path("worse"), "").unwrap();
    let error = rig.get("/health-check").await["user_healthcheck_error"].clone();
    assert_eq!(error, "Healthcheck failed: RuntimeError: the device is lost");
    assert_eq!(rig.post("/predictions", "", json!({})).await.json["status"], "succeeded");
    rig.stop().await;
}

/// Two calls on one event loop; one of them blocks it, after it gave a file when it is told to.
const SHARED: &str = "
import asyncio, os, time
from typing import Any, AsyncIterator
from cog import Path, current_scope

class Predictor:
    async def predict(self, gate: str, block: bool = False, file: bool = False) -> AsyncIterator[Any]:
        print('runs')
        current_scope().record_metric('runs', 1, mode='incr')
        if file:
            open('a.txt', 'w').close()
            yield Path('a.txt')
        if block:
            time.sleep(1000)
        while not os.path.exists(gate):
            await asyncio.sleep(0.002)
        yield 'done'
";

/// What became of a call that shared its process with one that did not end.
async fn beside_a_stubborn_one(settings: Settings, file: bool) -> Value {
    let rig = Rig::new(SHARED, Settings { concurrency: Some(2), ..settings }).await;
    rig.health("READY").await;
    let gate = rig.path("gate");
    let input = |block: bool| json!({"gate": gate, "block": block, "file": block && file});
    rig.post("/predictions", ASYNC, json!({"id": "innocent", "input": input(false)})).await;
    rig.logs("innocent", "runs\n").await;
    rig.post("/predictions", ASYNC, json!({"id": "blocks", "input": input(true)})).await;
    if file {
        let failed = rig.ended("blocks").await;
        assert_eq!(failed["status"], "failed", "{failed}");
        assert!(failed["error"].as_str().unwrap().starts_with("could not upload"), "{failed}");
    } else {
        rig.processing("blocks").await;
        assert_eq!(rig.post("/predictions/blocks/cancel", "", Value::Null).await.status, 200);
        assert_eq!(rig.ended("blocks").await["status"], "canceled");
    }
    std::fs::write(&gate, "").unwrap();
    let found = rig.ended("innocent").await;
    rig.stop().await;
    found
}

#[tokio::test]
async fn other_calls_survive_one_that_does_not_stop() {
    // Nobody listens there.
    let nowhere = Settings {
        upload_url: Some(clunk_model::upload_url("http://127.0.0.1:9/").unwrap()),
        ..Settings::default()
    };
    let (canceled, given_up) = tokio::join!(
        beside_a_stubborn_one(Settings::default(), false),
        beside_a_stubborn_one(nowhere, true),
    );
    for found in [canceled, given_up] {
        assert_eq!((&found["status"], &found["output"]), (&json!("succeeded"), &json!(["done"])), "{found}");
        // As if it had begun but once.
        assert_eq!((&found["logs"], &found["metrics"]["runs"]), (&json!("runs\n"), &json!(1)), "{found}");
    }
}

#[tokio::test]
async fn nothing_is_left_behind_by_a_server_that_ends() {
    let rig = Rig::new(SHARED, Settings { concurrency: Some(2), ..Settings::default() }).await;
    rig.health("READY").await;
    let input = |block: bool| json!({"gate": rig.path("gate"), "block": block});
    let stopping = async {
        rig.logs("innocent", "runs\n").await;
        rig.post("/predictions", ASYNC, json!({"id": "blocks", "input": input(true)})).await;
        rig.logs("blocks", "runs\n").await;
        rig.post("/predictions/blocks/cancel", "", Value::Null).await;
        rig.shut_down();
    };
    let waiting = rig.post("/predictions", "", json!({"id": "innocent", "input": input(false)}));
    let (answer, ()) = while_it_ends(async { tokio::join!(waiting, stopping) }).await;
    assert_eq!(
        (&answer.json["status"], &answer.json["error"]),
        (&json!("failed"), &json!("the server was stopped"))
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_server_does_not_wait_for_a_model_that_starts_again() {
    let source = "
import os, time

class Predictor:
    def setup(self):
        while os.path.exists('crashed'):
            time.sleep(0.002)

    def predict(self) -> str:
        open('crashed', 'w').close()
        os._exit(1)
";
    let rig = Rig::new(source, Settings::default()).await;
    rig.health("READY").await;
    assert_eq!(rig.post("/predictions", "", json!({})).await.json["status"], "failed");
    rig.health("STARTING").await;
    let stopping = async {
        rig.get_until("/metrics", "clunk_queue_length{kind=\"prediction\"} 1").await;
        rig.shut_down();
    };
    let waiting = rig.post("/predictions", "", json!({}));
    let (answer, ()) = while_it_ends(async { tokio::join!(waiting, stopping) }).await;
    assert_eq!(answer.json["error"], "the server was stopped", "{}", answer.json);
    rig.stop().await;
}

#[tokio::test]
async fn a_training_canceled_before_it_began_leaves_no_process() {
    let source = "
import os, time

open(f'pid-{os.getpid()}', 'w').close()
while os.path.exists('hold'):
    time.sleep(0.002)

class Predictor:
    def predict(self) -> str:
        return ''

def train(steps: int) -> str:
    return ''
";
    let rig = Rig::new(source, Settings::default()).await;
    let pids = || -> Vec<String> {
        let names = std::fs::read_dir(rig.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.to_str().unwrap().strip_prefix("pid-").map(str::to_owned)).collect()
    };
    rig.health("READY").await;
    let first = pids();
    std::fs::write(rig.path("hold"), "").unwrap();
    rig.post("/trainings", ASYNC, json!({"id": "one", "input": {"steps": 1}})).await;
    rig.holds("its process", || pids().len() == 2).await;
    let process = pids().into_iter().find(|pid| !first.contains(pid)).unwrap();
    rig.post("/trainings/one/cancel", "", Value::Null).await;
    std::fs::remove_file(rig.path("hold")).unwrap();
    rig.holds("its end", || !std::path::Path::new(&format!("/proc/{process}")).exists()).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_upload_that_hangs_ends_with_its_prediction() {
    let source = "
from cog import Path

class Predictor:
    def predict(self) -> Path:
        open('a b.txt', 'w').close()
        return Path('a b.txt')
";
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/put/?key=1", receiver.local_addr().unwrap());
    let upload_url = Some(clunk_model::upload_url(&address).unwrap());
    let rig = Rig::new(source, Settings { upload_url, ..Settings::default() }).await;
    rig.health("READY").await;
    rig.post("/predictions", ASYNC, json!({"id": "hangs"})).await;
    let (mut upload, _) = receiver.accept().await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(upload.read_u8().await.unwrap()));
    }
    assert!(head.starts_with("PUT /put/a%20b.txt?key=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-prediction-id: hangs\r\n") && head.contains("content-length: 0\r\n"), "{head}");
    rig.post("/predictions/hangs/cancel", "", Value::Null).await;
    assert_eq!(rig.ended("hangs").await["status"], "canceled");
    assert_eq!(upload.read(&mut [0]).await.unwrap(), 0, "its connection is closed");
    rig.stop().await;
}

#[tokio::test]
async fn code_that_cleans_up_after_a_cancel_has_time_for_it() {
    let source = "
import os, time

class Predictor:
    def predict(self) -> str:
        try:
            print('in', flush=True)
            time.sleep(1000)
        finally:
            # Longer than code may take that does not react.
            time.sleep(0.3)
            print('out', os.getpid(), flush=True)
";
    let rig = Rig::new(source, Settings::default()).await;
    rig.health("READY").await;
    rig.post("/predictions", ASYNC, json!({"id": "one"})).await;
    rig.logs("one", "in\n").await;
    rig.post("/predictions/one/cancel", "", Value::Null).await;
    let found = rig.ended("one").await;
    assert_eq!((&found["status"], &found["error"]), (&json!("canceled"), &Value::Null), "{found}");
    assert!(found["logs"].as_str().unwrap().starts_with("in\nout "), "{found}");
    rig.get_until("/metrics", "clunk_restarts_total{kind=\"prediction\"} 0").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_setup_that_raises_is_told_once_and_to_who_asks() {
    let source = "
class Predictor:
    def setup(self):
        raise RuntimeError('no weights')

    def predict(self) -> str:
        return ''
";
    let rig = Rig::new(source, Settings::default()).await;
    let health = rig.health("SETUP_FAILED").await;
    let logs = health["setup"]["logs"].as_str().unwrap();
    assert_eq!((logs.matches("Traceback").count(), logs.matches("no weights\n").count()), (1, 1), "{logs}");
    let refused = rig.post("/predictions", "", json!({})).await;
    assert_eq!(refused.status, 503);
    assert!(refused.json["error"].as_str().unwrap().contains("RuntimeError: no weights"), "{}", refused.json);
    rig.stop().await;
}

#[tokio::test]
async fn input_files_do_not_outlive_a_process_that_was_killed() {
    let source = "
import os
from cog import Path

class Predictor:
    def predict(self, file: Path) -> str:
        open('where', 'w').write(str(file))
        os._exit(1)
";
    let rig = Rig::new(source, Settings::default()).await;
    rig.health("READY").await;
    let input = json!({"file": "data:text/plain;base64,aGk="});
    assert_eq!(rig.post("/predictions", "", json!({"input": input})).await.json["status"], "failed");
    let file = std::fs::read_to_string(rig.path("where")).unwrap();
    assert!(file.contains("/inputs-"), "{file}");
    rig.holds("their end", || !std::path::Path::new(&file).exists()).await;
    rig.stop().await;
}
