//! Metrics of a prediction: one JSON object that a model builds name by name.

use clunk_agent::{Metric, MetricMode};
use serde_json::{Map, Value};

/// Bytes that all metrics of one prediction may take.
pub const METRICS_BYTES: usize = 2 << 20;
/// Parts of a metric's name; each is an object within the one before.
const DEPTH_MAX: usize = 4;
/// About what a value takes beside its text.
const VALUE_BYTES: usize = 32;

/// Notes a metric: `a.b` is `b` in the object `a`; null takes a metric away. False: it was not taken, because something
/// else is in its place or there would be more than [`METRICS_BYTES`].
pub fn measure(metrics: &mut Map<String, Value>, metric: &Metric) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(&metric.value) else { return false };
    let parts: Vec<&str> = metric.name.split('.').collect();
    if parts.len() > DEPTH_MAX {
        return false;
    }
    if metric.mode == MetricMode::Replace && value.is_null() {
        remove(metrics, &parts);
        return true;
    }
    let old = parts.iter().try_fold(None, |found: Option<&Value>, part| {
        let inner = found.map_or(Some(&*metrics), Value::as_object)?;
        Some(Some(inner.get(*part)?))
    });
    // A number in the place of a number makes nothing larger.
    let grows = !(metric.mode != MetricMode::Append && value.is_number() && old.flatten().is_some());
    if grows {
        let more = parts.iter().map(|part| VALUE_BYTES + part.len()).sum::<usize>() + weigh(&value);
        if weigh_all(metrics) + more > METRICS_BYTES {
            return false;
        }
    }
    put(metrics, &parts, value, metric.mode)
}

fn put(metrics: &mut Map<String, Value>, parts: &[&str], value: Value, mode: MetricMode) -> bool {
    match parts {
        [] => false,
        [name] => {
            match (mode, metrics.get_mut(*name)) {
                (MetricMode::Replace, _) | (MetricMode::Increment, None) => {
                    metrics.insert((*name).into(), value);
                }
                (MetricMode::Append, None) => {
                    metrics.insert((*name).into(), Value::Array(vec![value]));
                }
                (MetricMode::Increment, Some(old)) => *old = sum(old, &value),
                (MetricMode::Append, Some(Value::Array(list))) => list.push(value),
                (MetricMode::Append, Some(old)) => *old = Value::Array(vec![old.take(), value]),
            }
            true
        }
        [name, rest @ ..] => {
            let inner = metrics.entry((*name).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            inner.as_object_mut().is_some_and(|inner| put(inner, rest, value, mode))
        }
    }
}

fn remove(metrics: &mut Map<String, Value>, parts: &[&str]) {
    match parts {
        [] => {}
        [name] => drop(metrics.remove(*name)),
        [name, rest @ ..] => {
            if let Some(inner) = metrics.get_mut(*name).and_then(Value::as_object_mut) {
                remove(inner, rest);
            }
        }
    }
}

fn sum(one: &Value, other: &Value) -> Value {
    match (one.as_i64(), other.as_i64()) {
        (Some(one), Some(other)) => one.saturating_add(other).into(),
        _ => (one.as_f64().unwrap_or_default() + other.as_f64().unwrap_or_default()).into(),
    }
}

/// About how many bytes metrics take.
pub fn weigh_all(metrics: &Map<String, Value>) -> usize {
    metrics.iter().map(|(name, value)| name.len() + weigh(value)).sum()
}

fn weigh(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weigh).sum(),
            Value::Object(members) => weigh_all(members),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(name: &str, mode: MetricMode, value: &Value) -> Metric {
        Metric { name: name.into(), mode, value: value.to_string().into() }
    }

    #[test]
    fn metrics_are_replaced_added_and_listed() {
        let mut metrics = Map::new();
        for (name, mode, value, taken) in [
            ("tokens", MetricMode::Increment, json!(2), true),
            ("tokens", MetricMode::Increment, json!(3), true),
            ("rate", MetricMode::Increment, json!(1), true),
            ("rate", MetricMode::Increment, json!(0.5), true),
            ("steps", MetricMode::Append, json!("a"), true),
            ("steps", MetricMode::Append, json!("b"), true),
            ("timing.load", MetricMode::Replace, json!(0.1), true),
            ("timing.run", MetricMode::Replace, json!(0.2), true),
            ("timing.run", MetricMode::Replace, json!(null), true),
            ("never.was", MetricMode::Replace, json!(null), true),
            ("tokens.inner", MetricMode::Replace, json!(1), false),
            ("a.b.c.d.e", MetricMode::Replace, json!(1), false),
        ] {
            assert_eq!(measure(&mut metrics, &metric(name, mode, &value)), taken, "{name}");
        }
        let want = json!({"tokens": 5, "rate": 1.5, "steps": ["a", "b"], "timing": {"load": 0.1}});
        assert_eq!(Value::from(metrics), want);
    }

    #[test]
    fn no_name_and_no_list_grows_without_end() {
        for name in ["list", "{}", "inner.{}", "a.{}.b"] {
            let (mut metrics, mut number) = (Map::new(), 0);
            let append = |metrics: &mut Map<String, Value>, number: u32| {
                let name = name.replace("{}", &number.to_string());
                measure(metrics, &metric(&name, MetricMode::Append, &json!("x".repeat(10_000))))
            };
            while append(&mut metrics, number) {
                number += 1;
                assert!(number < 1000, "{name}");
            }
            assert!(weigh_all(&metrics) <= METRICS_BYTES);
        }
        // What is there is still counted.
        let mut metrics = Map::from_iter([("tokens".to_owned(), json!(1))]);
        while measure(&mut metrics, &metric("list", MetricMode::Append, &json!("x".repeat(50_000)))) {}
        while measure(&mut metrics, &metric("list", MetricMode::Append, &json!(1))) {}
        assert!(measure(&mut metrics, &metric("tokens", MetricMode::Increment, &json!(1))));
        assert!(!measure(&mut metrics, &metric("other", MetricMode::Increment, &json!(1))));
        assert_eq!(metrics["tokens"], 2);
    }
}
