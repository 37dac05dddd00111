//! `clunk usage`

use serde_json::{Value, json};

use crate::fake::{Fake, ok};
use crate::records::app_id;

/// Two functions in the first span that is asked for.
fn used() -> Fake {
    Fake::start(|seen| {
        let from: u64 = seen.parameter("since_ms").expect("a begin").parse().expect("a number");
        let row = |function: &str, cpu_s: f64| {
            json!({
                "workspace": "main", "app": app_id(0), "app_name": "hello", "function": function, "from_ms": from,
                "calls": 1000, "cpu_s": cpu_s, "memory_gib_s": 0.5, "gpu_s": 0.0, "container_s": 2.0,
            })
        };
        ok(json!([row("greet", 1.5), row("train", 1234.5)]))
    })
}

#[test]
fn a_table_and_a_plot() {
    let fake = used();
    let out = fake.out(&["usage"]);
    let expected = "\
FUNCTION  APP    CALLS  CPU SECONDS  GIB SECONDS  GPU SECONDS  CONTAINER SECONDS
train     hello  1,000      1,234.5          0.5          0.0                2.0
greet     hello  1,000          1.5          0.5          0.0                2.0
all              2,000      1,236.0          1.0          0.0                4.0

CPU seconds, a bar for 30 min
   1,236.0 │█
";
    assert!(out.starts_with(expected), "{out}");
    assert!(!out.contains('\x1b') && out.trim_end().ends_with(" now"), "{out}");
    let asked = fake.seen().pop().expect("a request");
    let number = |name| asked.parameter(name).expect("a parameter").parse::<u64>().expect("a number");
    assert_eq!((number("step_ms"), number("since_ms") % 1_800_000), (1_800_000, 0));
    let back = number("until_ms") - number("since_ms");
    assert!((86_400_000..86_400_000 + 1_800_000).contains(&back), "{back}");
}

#[test]
fn hours_are_asked_for_as_hours() {
    let fake = used();
    let out = fake.out(&["usage", "--by", "hour", "--since", "30d", "--json"]);
    let usage: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((usage["rows"].as_array().map(Vec::len), &usage["total"]["calls"]), (Some(1), &json!(2000)));
    assert_eq!(usage["rows"][0]["hour_ms"], usage["since_ms"]);
    assert_eq!(
        fake.seen().pop().and_then(|seen| seen.parameter("step_ms").map(str::to_owned)),
        Some("3600000".into())
    );
}

#[test]
fn nothing_used_and_nonsense() {
    let fake = Fake::start(|_| ok(json!([])));
    let ran = fake.run(&["usage", "--since", "90min"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert_eq!(ran.err, "nothing was used in the last 1 h 30 min; clunk run FILE uses something\n");
    for words in [["usage", "--since", "soon"], ["usage", "--since", "0h"], ["usage", "--by", "moon"]] {
        assert_eq!(fake.run(&words).code, 2, "{words:?}");
    }
    assert_eq!(fake.run(&["usage", "--by", "hour", "--since", "520w"]).code, 2);
}
