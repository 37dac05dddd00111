//! What tests of the service share.

use clunk_core::Digest;
use clunk_core::id::CallId;
use clunk_core::model::{Kind, Prediction, PredictionId, Source, Status};
use serde_json::{Map, Value};

pub fn prediction() -> Prediction {
    Prediction {
        id: PredictionId(CallId::fresh()),
        kind: Kind::Prediction,
        model: "acme/hello".parse().unwrap(),
        version: Digest::of("a version"),
        deployment: None,
        source: Source::Api,
        input: Value::Null,
        context: Map::new(),
        output: None,
        logs: String::new(),
        error: None,
        status: Status::Starting,
        created_ms: 1000,
        started_ms: None,
        completed_ms: None,
        metrics: Map::new(),
        webhook: None,
        deadline_ms: None,
        data_removed: false,
        base_url: "http://localhost".into(),
        destination: None,
        trained: None,
    }
}
