//! Predictions that the process has before their turn: nobody can tell them from others that wait.

use super::support::{Rig, while_it_ends};
use clunk_model::Settings;
use serde_json::{Value, json};

const ASYNC: &str = "prefer: respond-async\r\n";

/// Quick without a gate; with one it runs until the gate is there. Every begin is noted.
const GATED: &str = "
import os, time

class Predictor:
    def predict(self, gate: str = '', name: str = '', then: str = '', note: str = '') -> str:
        if note:
            with open(note, 'a') as file:
                file.write(name + '\\n')
        while gate and not os.path.exists(gate):
            try:
                time.sleep(0.002)
            except BaseException:
                if then != 'deaf':
                    raise
        if then == 'die':
            os._exit(3)
        return str(os.getpid())
";

/// A server whose last prediction was a quick one, and the process that ran it.
async fn brisk(settings: Settings) -> (Rig, Value) {
    let rig = Rig::new(GATED, settings).await;
    rig.health("READY").await;
    for _ in 0..20 {
        rig.post("/predictions", "", json!({"input": {}})).await;
    }
    let last = rig.post("/predictions", "", json!({"input": {}})).await;
    (rig, last.json["output"].clone())
}

async fn begin(rig: &Rig, id: &str, input: Value) {
    let body = json!({"id": id, "input": input});
    assert_eq!(rig.post("/predictions", ASYNC, body).await.status, 202, "{id}");
}

#[tokio::test]
async fn one_that_is_canceled_before_its_turn_leaves_the_others_alone() {
    let (rig, pid) = brisk(Settings::default()).await;
    let gate = rig.path("gate");
    let (begun, note) = (rig.path("begun"), rig.path("note"));
    begin(&rig, "runs", json!({"gate": gate, "note": begun})).await;
    rig.holds("begun", || begun.exists()).await;
    begin(&rig, "a", json!({"gate": rig.path("never"), "name": "a", "note": note})).await;
    begin(&rig, "b", json!({})).await;
    assert_eq!(rig.get("/predictions/a").await["status"], "starting");
    assert_eq!(rig.post("/predictions/a/cancel", "", Value::Null).await.status, 200);
    assert_eq!(rig.get("/predictions/a").await["status"], "canceled");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.ended("b").await["output"], pid, "the same process went on");
    assert_eq!(rig.ended("runs").await["status"], "succeeded");
    assert!(rig.get("/predictions/a").await["started_at"].is_null());
    assert!(!note.exists(), "its code did not begin");
    rig.stop().await;
}

#[tokio::test]
async fn what_the_process_had_not_begun_with_outlives_it() {
    let (rig, pid) = brisk(Settings::default()).await;
    for (end, status) in [("die", "failed"), ("deaf", "canceled")] {
        let (gate, note) = (rig.path(&format!("gate-{end}")), rig.path(&format!("note-{end}")));
        let last = format!("last-{end}");
        begin(&rig, end, json!({"gate": gate, "then": end})).await;
        rig.processing(end).await;
        begin(&rig, &format!("first-{end}"), json!({"name": "first", "note": note})).await;
        begin(&rig, &last, json!({"name": "last", "note": note})).await;
        match end {
            "die" => std::fs::write(&gate, "").unwrap(),
            _ => _ = rig.post("/predictions/deaf/cancel", "", Value::Null).await,
        }
        let found = while_it_ends(rig.ended(&last)).await;
        assert_eq!((&found["status"], found["output"] != pid), (&json!("succeeded"), true), "{found}");
        assert_eq!(rig.ended(end).await["status"], status);
        assert_eq!(std::fs::read_to_string(&note).unwrap(), "first\nlast\n", "once each, in order");
        // The next process is as quick as the first.
        rig.post("/predictions", "", json!({"input": {}})).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn they_count_as_waiting() {
    let (rig, _) = brisk(Settings { queue_max: 1, ..Settings::default() }).await;
    let gate = rig.path("gate");
    begin(&rig, "runs", json!({"gate": gate})).await;
    rig.processing("runs").await;
    begin(&rig, "waits", json!({})).await;
    assert_eq!(rig.post("/predictions", ASYNC, json!({"input": {}})).await.status, 429);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rig.ended("waits").await["status"], "succeeded");
    rig.stop().await;
}
