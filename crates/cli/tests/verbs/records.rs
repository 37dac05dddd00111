//! Records as a server would send them.

use clunk_core::id::{AppId, BatchId, CallId, FunctionId, ReplicaId};
use serde_json::{Value, json};

/// A moment in the past of whoever runs this.
pub const THEN: u64 = 1_760_000_000_000;

pub fn call_id(number: u64) -> CallId {
    CallId::from_parts(THEN + 1000 * number, [0; 10])
}

pub fn app_id(number: u64) -> AppId {
    AppId::from_parts(THEN + 1000 * number, [0; 10])
}

pub fn function_id() -> FunctionId {
    FunctionId::from_parts(THEN, [0; 10])
}

pub fn batch_id() -> BatchId {
    BatchId::from_parts(THEN, [7; 10])
}

pub fn replica_id(number: u64) -> ReplicaId {
    ReplicaId::from_parts(THEN + 1000 * number, [0; 10])
}

pub fn call(number: u64, function: &str, state: &str) -> Value {
    let ended = !matches!(state, "queued" | "running");
    json!({
        "id": call_id(number), "app": app_id(0), "function_id": function_id(), "function": function,
        "state": state, "attempts": 1, "created_ms": THEN, "started_ms": (state != "queued").then_some(THEN + 10),
        "ended_ms": ended.then_some(THEN + 1510), "error": (state == "failed").then_some("it broke"),
        "batch": batch_id(), "index": number,
    })
}

pub fn batch(inputs: u64, ended: u64) -> Value {
    json!({
        "id": batch_id(), "app": app_id(0), "function_id": function_id(), "function": "greet", "created_ms": THEN,
        "inputs": inputs, "ended": ended, "succeeded": ended,
    })
}

pub fn container(number: u64, state: &str) -> Value {
    json!({
        "replica": replica_id(number), "app": app_id(0), "app_name": "hello", "function": "greet", "state": state,
        "running": 2, "pid": 7, "memory_bytes": 12_000_000, "cpu_ms": 1500, "started_ms": THEN,
    })
}

pub fn app(number: u64, name: &str, state: &str) -> Value {
    json!({
        "id": app_id(number), "name": name, "state": state, "created_ms": THEN,
        "stopped_ms": (state == "stopped").then_some(THEN + 65_000), "functions": ["greet", "train"],
    })
}

pub fn function(name: &str) -> Value {
    json!({
        "id": function_id(), "app": app_id(0), "name": name, "is_generator": false, "methods": {},
        "scaling": {"min_containers": 0, "max_containers": 10, "buffer_containers": 0, "scaledown_window_s": 60},
        "queued": 1200, "running": 2, "replicas": 3,
    })
}

pub fn log(text: &str) -> Value {
    json!({
        "type": "log", "time_ms": THEN, "function": "greet", "replica": replica_id(0), "call": call_id(1),
        "stream": "stdout", "text": text,
    })
}

pub fn status(ended: u64) -> Value {
    json!({
        "version": "0.1.0", "pid": 7, "url": "http://here", "state_dir": "/state", "uptime_s": 200,
        "memory_bytes": 35_200_000, "apps_running": 1, "replicas": 1, "calls_running": 2, "calls_queued": 1200,
        "calls_ended": ended, "images": 1,
    })
}
