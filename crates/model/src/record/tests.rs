use serde_json::json;

use super::*;

fn metric(name: &str, mode: MetricMode, value: Value) -> Metric {
    Metric { name: name.into(), mode, value: value.to_string().into() }
}

fn shown(record: &Record) -> Value {
    let json = record.json(&Constant { id: "p1", shown: None, version: None });
    serde_json::from_slice(&json.pieces.concat()).unwrap()
}

#[test]
fn metrics_are_told_and_shown_with_the_time() {
    let mut record = Record::new(SystemTime::UNIX_EPOCH, 2);
    for value in [2, 3, 4] {
        record.measure(&metric("tokens", MetricMode::Increment, json!(value)));
    }
    record.took = Some(Duration::from_micros(1500));
    assert_eq!(shown(&record)["metrics"], json!({"tokens": 9, "predict_time": 0.0015}));
    assert_eq!((record.history.events.len(), record.history.dropped), (2, 1));
    for _ in 0..2 {
        record.measure(&metric("tokens.inner", MetricMode::Replace, json!(1)));
    }
    assert_eq!(record.logs.lines().count(), 1, "{}", record.logs);
}

#[test]
fn a_record_is_one_json_object_with_keys_in_order() {
    let mut record = Record::new(SystemTime::UNIX_EPOCH, 8);
    record.print("stderr", "one \"quoted\"\n");
    record.started = Some(SystemTime::UNIX_EPOCH);
    record.completed = Some(SystemTime::UNIX_EPOCH);
    let large = format!("\"{}\"", "x".repeat(COPY_MAX));
    assert!(record.add(Bytes::from_static(b"1")) && record.add(large.clone().into()));
    record.error = Some("bad\nthing".into());
    record.state = State::Ended(Outcome::Failed);
    let input = Bytes::from_static(b"{\"s\":1}");
    let json = record.json(&Constant { id: "p1", shown: Some(&input), version: Some("v") });
    assert_eq!(json.pieces.len(), 3, "the large chunk is not copied");
    let text = String::from_utf8(json.pieces.concat()).unwrap();
    let keys = [
        "completed_at",
        "created_at",
        "error",
        "id",
        "input",
        "logs",
        "metrics",
        "output",
        "started_at",
        "status",
        "version",
    ];
    let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["output"][0], 1);
    assert_eq!(value["output"][1].as_str().unwrap().len(), COPY_MAX);
    assert_eq!(value["logs"], "one \"quoted\"\n");
}

#[test]
fn what_is_kept_has_bounds() {
    let mut record = Record::new(SystemTime::UNIX_EPOCH, 2);
    let line = "x".repeat(1 << 20);
    for _ in 0..40 {
        record.print("stdout", &line);
    }
    assert!(record.logs.len() < LOGS_MAX + 100 && record.logs.ends_with("is not kept]\n"));
    assert_eq!(record.history.events.len(), 2);
    assert!(record.weight() > LOGS_MAX);
    let mut record = Record::new(SystemTime::UNIX_EPOCH, 65_536);
    for _ in 0..1000 {
        record.measure(&metric("text", MetricMode::Replace, json!("x".repeat(50_000))));
    }
    assert!(record.history.dropped > 500 && record.weight() < HISTORY_BYTES + 100_000);
    record.output_bytes = OUTPUT_MAX;
    assert!(!record.add(Bytes::from_static(b"1")));
}
