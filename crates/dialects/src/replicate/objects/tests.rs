use clunk_core::id::{AppId, CallId, FileId, FunctionId};
use clunk_core::model::{Configuration, ModelTexts, PredictionId, Release, Webhook};

use super::*;

const BASE: Links = Links { base: "https://clunk.example" };
const ID: &str = "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa";
const CREATED_MS: u64 = 1_700_000_000_123;

fn record(kind: Kind) -> Prediction {
    Prediction {
        id: PredictionId(CallId::from_parts(CREATED_MS, [7; 10])),
        kind,
        model: "acme/hello".parse().unwrap(),
        version: ID.parse().unwrap(),
        deployment: None,
        source: Source::Api,
        input: json!({"text": "Alice"}),
        context: Map::new(),
        output: None,
        logs: "saying hello\n".into(),
        error: None,
        status: Status::Succeeded,
        created_ms: CREATED_MS,
        started_ms: Some(CREATED_MS + 100),
        completed_ms: Some(CREATED_MS + 350),
        metrics: json!({"predict_time": 0.25, "total_time": 0.35}).as_object().cloned().unwrap_or_default(),
        webhook: None,
        deadline_ms: None,
        data_removed: false,
        base_url: "https://clunk.example".into(),
        destination: None,
        trained: None,
    }
}

fn shown(output: Value) -> Shown {
    Shown { output, stream: None }
}

#[test]
fn a_prediction_that_succeeded() {
    let id = record(Kind::Prediction).id.to_string();
    assert_eq!(id.len(), 26);
    assert_eq!(
        prediction(&record(Kind::Prediction), shown("hello Alice".into()), BASE),
        json!({
            "id": id,
            "model": "acme/hello",
            "version": ID,
            "input": {"text": "Alice"},
            "output": "hello Alice",
            "logs": "saying hello\n",
            "error": null,
            "status": "succeeded",
            "created_at": "2023-11-14T22:13:20.123000Z",
            "started_at": "2023-11-14T22:13:20.223000Z",
            "completed_at": "2023-11-14T22:13:20.473000Z",
            "data_removed": false,
            "source": "api",
            "metrics": {"predict_time": 0.25, "total_time": 0.35},
            "urls": {
                "get": format!("https://clunk.example/replicate/v1/predictions/{id}"),
                "cancel": format!("https://clunk.example/replicate/v1/predictions/{id}/cancel"),
                "web": format!("https://clunk.example/predictions/{id}"),
            },
        })
    );
}

#[test]
fn what_only_some_predictions_have() {
    let webhook = Webhook {
        url: "https://example.com/hook".into(),
        events: vec![WebhookEvent::Start, WebhookEvent::Logs],
    };
    let full = Prediction {
        deployment: Some(("acme/front".parse().unwrap(), 3)),
        webhook: Some(webhook),
        deadline_ms: Some(CREATED_MS + 60_000),
        input: Value::Null,
        data_removed: true,
        ..record(Kind::Prediction)
    };
    let stream = Some("https://clunk.example/s".into());
    let object = prediction(&full, Shown { output: Value::Null, stream }, BASE);
    assert_eq!(object["deployment"], "acme/front");
    assert_eq!(object["webhook"], "https://example.com/hook");
    assert_eq!(object["webhook_events_filter"], json!(["start", "logs"]));
    assert_eq!(object["deadline"], "2023-11-14T22:14:20.123000Z");
    assert_eq!(object["urls"]["stream"], "https://clunk.example/s");
    assert_eq!((&object["input"], &object["data_removed"]), (&json!({}), &json!(true)));
    assert!(object["urls"].as_object().unwrap().values().all(Value::is_string));
}

#[test]
fn one_that_still_runs_is_shown_as_starting() {
    let running = Prediction { status: Status::Processing, completed_ms: None, ..record(Kind::Prediction) };
    let object = prediction(&as_starting(running), shown(Value::Null), BASE);
    assert_eq!((&object["status"], &object["output"]), (&json!("starting"), &Value::Null));
    assert_eq!(object["started_at"], Value::Null);
}

#[test]
fn a_training_gives_a_version() {
    let done = Prediction {
        destination: Some("acme/tuned".parse().unwrap()),
        trained: Some(ID.parse().unwrap()),
        ..record(Kind::Training)
    };
    let output = json!({"version": format!("acme/tuned:{ID}"), "weights": "https://w/x.tar"});
    for weights in [json!("https://w/x.tar"), json!({"weights": "https://w/x.tar"})] {
        let object = prediction(&done, shown(weights), BASE);
        assert_eq!((&object["output"], &object["destination"]), (&output, &json!("acme/tuned")));
        let place = format!("https://clunk.example/replicate/v1/trainings/{}", done.id);
        assert_eq!(object["urls"], json!({"get": place, "cancel": format!("{place}/cancel")}));
    }
    let failed = Prediction { trained: None, status: Status::Failed, ..done };
    assert_eq!(prediction(&failed, shown(Value::Null), BASE)["output"], Value::Null);
}

#[test]
fn models_deployments_and_files() {
    let configuration = Configuration { hardware: "cpu".into(), min_instances: 1, max_instances: 5 };
    let texts = ModelTexts {
        description: Some("Says hello".into()),
        github_url: Some("".into()),
        ..ModelTexts::default()
    };
    let hello = Model {
        name: "acme/hello".parse().unwrap(),
        visibility: Visibility::Private,
        texts,
        configuration: configuration.clone(),
        run_count: 7,
        default_example: None,
        created_ms: CREATED_MS,
        latest_version: None,
        latest_version_ms: None,
    };
    assert_eq!(
        model(&hello, None, None, BASE),
        json!({
            "url": "https://clunk.example/models/acme/hello", "owner": "acme", "name": "hello",
            "description": "Says hello", "visibility": "private", "github_url": null, "paper_url": null,
            "license_url": null, "weights_url": null, "run_count": 7, "cover_image_url": null,
            "default_example": null, "latest_version": null, "is_official": false,
            "created_at": "2023-11-14T22:13:20.123000Z",
        })
    );
    let current = Release {
        number: 2,
        model: "acme/hello".parse().unwrap(),
        version: ID.parse().unwrap(),
        configuration,
        created_ms: CREATED_MS,
        app: AppId::from_parts(1, [0; 10]),
        function: FunctionId::from_parts(1, [0; 10]),
    };
    let front = Deployment { name: "acme/front".parse().unwrap(), created_ms: CREATED_MS, current };
    let by =
        json!({"type": "user", "username": "acme", "name": "acme", "github_url": null, "avatar_url": null});
    assert_eq!(
        deployment(&front, "acme"),
        json!({"owner": "acme", "name": "front", "current_release": {
            "number": 2, "model": "acme/hello", "version": ID, "created_at": "2023-11-14T22:13:20.123000Z",
            "created_by": by, "configuration": {"hardware": "cpu", "min_instances": 1, "max_instances": 5},
        }})
    );
    let upload = File {
        id: FileId::from_parts(CREATED_MS, [9; 10]),
        name: "cat.png".into(),
        content_type: "image/png".into(),
        size: 3,
        sha256: ID.parse().unwrap(),
        md5: "d41d8cd98f00b204e9800998ecf8427e".into(),
        metadata: Map::new(),
        created_ms: CREATED_MS,
        expires_ms: CREATED_MS + 86_400_000,
        prediction: None,
    };
    let object = file(&upload, BASE, "https://clunk.example/d");
    let id = object["id"].as_str().unwrap();
    assert_eq!(id.len(), 26);
    assert_eq!(object["urls"]["get"], format!("https://clunk.example/replicate/v1/files/{id}"));
    assert_eq!(object["expires_at"], "2023-11-15T22:13:20.123000Z");
    assert_eq!((&object["etag"], &object["checksums"]["sha256"]), (&json!(upload.md5), &json!(ID)));
}

#[test]
fn metadata_as_json_or_as_fields() {
    let fields = json!({"a": "1"}).as_object().cloned().unwrap();
    assert_eq!(metadata(Some(r#"{"b":2}"#), Map::new()).unwrap()["b"], 2);
    assert_eq!(metadata(None, fields.clone()).unwrap(), fields);
    assert!(metadata(Some("[1]"), Map::new()).is_err() && metadata(Some("{"), Map::new()).is_err());
}
