//! What tests of the service share.

use clunk_core::Digest;
use clunk_core::id::{CallId, ImageId};
use clunk_core::model::{Kind, Prediction, PredictionId, PushVersion, Source, Status};
use serde_json::{Map, Value};

use super::catalogue;

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

/// Of what is pushed only the content counts: clients write members in orders of their own.
#[test]
fn a_version_is_the_same_in_whatever_order_its_members_come() {
    let push = |config: &str, schema: &str| -> PushVersion {
        let entry = r#"{"module": "predict.py", "qualname": "Predictor"}"#;
        let image = ImageId::of(Digest::of("image"));
        let predict = format!(r#"{{"name": "predict", "entry": {entry}, "image": "{image}"}}"#);
        let text = format!(r#"{{"config": {config}, "openapi_schema": {schema}, "predict": {predict}}}"#);
        serde_json::from_str(&text).unwrap()
    };
    let identity =
        |config, schema| catalogue::identity(&"acme/hello".parse().unwrap(), &push(config, schema));
    let one = identity(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#, r#"{"x": [{"p": 1, "q": 2}], "y": 0}"#);
    assert_eq!(one, identity(r#"{"b": {"d": 3, "c": 2}, "a": 1}"#, r#"{"y": 0, "x": [{"q": 2, "p": 1}]}"#));
    assert_ne!(one, identity(r#"{"a": 1, "b": {"c": 2, "d": 4}}"#, r#"{"x": [{"p": 1, "q": 2}], "y": 0}"#));
}
