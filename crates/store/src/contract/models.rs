//! What every [`ModelStore`] must do.

use clunk_core::Digest;
use clunk_core::id::{AppId, CallId, FileId, FunctionId};
use clunk_core::model::{
    Configuration, Deployment, File, Kind, Model, ModelName, ModelTexts, Prediction, PredictionId, Release,
    Source, Status, Version, Visibility,
};
use serde_json::{Map, Value, json};

use super::{NOW_MS, spec};
use crate::calls::StoredPayload;
use crate::models::{
    DueWebhook, ListKey, ModelChange, ModelOrder, ModelStore, PredictionQuery, PredictionWrite, Removal,
    Seek, StoredPrediction,
};

type Store<'a> = &'a dyn ModelStore;

fn configuration() -> Configuration {
    Configuration { hardware: "cpu".into(), min_instances: 0, max_instances: 0 }
}

pub fn model_of(name: &str) -> Model {
    Model {
        name: name.parse().expect("a name"),
        visibility: Visibility::Private,
        texts: ModelTexts::default(),
        configuration: configuration(),
        run_count: 0,
        default_example: None,
        created_ms: NOW_MS,
        latest_version: None,
        latest_version_ms: None,
    }
}

pub fn version_of(model: &ModelName, content: &str, created_ms: u64) -> Version {
    Version {
        id: Digest::of(format!("{model} {content}")),
        model: model.clone(),
        created_ms,
        cog_version: "0.23.1".into(),
        openapi_schema: json!({"openapi": "3.0.2"}),
        config: json!({"predict": content}),
        predict: spec("predict"),
        train: None,
        app: AppId::fresh(),
        predict_function: FunctionId::fresh(),
        train_function: None,
        training: None,
    }
}

pub fn prediction_of(version: &Version, created_ms: u64) -> Prediction {
    Prediction {
        id: PredictionId(CallId::from_parts(created_ms, *b"0123456789")),
        kind: Kind::Prediction,
        model: version.model.clone(),
        version: version.id,
        deployment: None,
        source: Source::Api,
        input: Value::Null,
        context: Map::new(),
        output: None,
        logs: String::new(),
        error: None,
        status: Status::Starting,
        created_ms,
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

fn inline(text: &str) -> Option<StoredPayload> {
    Some(StoredPayload::Inline(text.as_bytes().to_vec().into()))
}

fn blob(content: &str) -> Option<StoredPayload> {
    Some(StoredPayload::Blob { digest: Digest::of(content), len: content.len() as u64 })
}

async fn insert(store: Store<'_>, record: &Prediction, input: Option<StoredPayload>) {
    let stored = StoredPrediction { record: record.clone(), input, output: None };
    store.write_prediction(PredictionWrite::Insert(Box::new(stored))).await.unwrap();
}

async fn update(
    store: Store<'_>,
    record: &Prediction,
    output: Option<StoredPayload>,
    webhook_due_ms: Option<u64>,
) {
    let record = Box::new(record.clone());
    store.write_prediction(PredictionWrite::Update { record, output, webhook_due_ms }).await.unwrap();
}

fn query() -> PredictionQuery {
    PredictionQuery {
        kind: Kind::Prediction,
        model: None,
        version: None,
        source: None,
        created_after_ms: None,
        created_before_ms: None,
        examples: false,
        seek: None,
        limit: 100,
    }
}

/// A model and a version of it.
async fn pushed(store: Store<'_>, name: &str) -> Version {
    let model = model_of(name);
    assert!(store.create_model(model.clone()).await.unwrap());
    let version = version_of(&model.name, "one", NOW_MS);
    assert!(store.add_version(version.clone()).await.unwrap());
    version
}

/// Models are made once, changed in part, and deleted when they have no versions.
pub async fn models_are_kept(store: Store<'_>) {
    let model = model_of("acme/hello");
    assert!(store.create_model(model.clone()).await.unwrap());
    assert!(!store.create_model(model.clone()).await.unwrap());
    assert_eq!(store.model(&model.name).await.unwrap(), Some(model.clone()));
    let first = ModelTexts { description: Some("greets".into()), ..ModelTexts::default() };
    let second = ModelTexts { readme: Some("# Hello".into()), ..ModelTexts::default() };
    for texts in [first, second] {
        let change = ModelChange { texts, visibility: Some(Visibility::Public), ..ModelChange::default() };
        assert!(store.change_model(&model.name, change).await.unwrap());
    }
    let found = store.model(&model.name).await.unwrap().unwrap();
    assert_eq!(found.texts.description.as_deref(), Some("greets"));
    assert_eq!((found.texts.readme.as_deref(), found.visibility), (Some("# Hello"), Visibility::Public));
    let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
    assert_eq!(store.search_models(&words("GREETS hello"), 10).await.unwrap().len(), 1);
    assert_eq!(store.search_models(&words("greets nothing"), 10).await.unwrap().len(), 0);

    let version = version_of(&model.name, "one", NOW_MS);
    assert!(store.add_version(version.clone()).await.unwrap());
    assert_eq!(store.delete_model(&model.name).await.unwrap(), Removal::Used { by: "1 version".into() });
    assert_eq!(store.delete_version(version.id).await.unwrap(), Removal::Removed);
    assert_eq!(store.delete_model(&model.name).await.unwrap(), Removal::Removed);
    assert_eq!(store.delete_model(&model.name).await.unwrap(), Removal::Absent);
    assert!(!store.change_model(&model.name, ModelChange::default()).await.unwrap());
}

/// A version is there once, the newest one is its model's, and deleting it brings back the one before.
pub async fn versions_are_kept(store: Store<'_>) {
    let first = pushed(store, "acme/hello").await;
    assert!(!store.add_version(first.clone()).await.unwrap());
    let second = version_of(&first.model, "two", NOW_MS + 1);
    assert!(store.add_version(second.clone()).await.unwrap());
    let latest = async || store.model(&first.model).await.unwrap().unwrap().latest_version;
    assert_eq!(latest().await, Some(second.id));
    let listed = store.versions(&first.model, None, 1).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|(_, version)| version.id).collect();
    assert_eq!(ids, [second.id, first.id], "one more than asked for");
    let rest = Some(Seek { newer: false, key: listed[0].0 });
    assert_eq!(store.versions(&first.model, rest, 1).await.unwrap()[0].1, first);
    let back = Some(Seek { newer: true, key: listed[1].0 });
    assert_eq!(store.versions(&first.model, back, 1).await.unwrap()[0].1, second);
    assert_eq!(store.delete_version(second.id).await.unwrap(), Removal::Removed);
    assert_eq!(latest().await, Some(first.id));
    assert_eq!(store.version(second.id).await.unwrap(), None);
    let moved = Version { predict_function: FunctionId::fresh(), ..first.clone() };
    assert!(store.change_version(moved.clone()).await.unwrap());
    assert_eq!(store.version(first.id).await.unwrap(), Some(moved));
    assert!(!store.change_version(second.clone()).await.unwrap());
    assert!(store.add_version(version_of(&"no/body".parse().unwrap(), "x", NOW_MS)).await.is_err());
}

/// Models are listed by either order, both ways, and in parts without gaps.
pub async fn models_are_listed(store: Store<'_>) {
    for name in ["a/one", "a/two", "a/three"] {
        assert!(store.create_model(model_of(name)).await.unwrap());
    }
    let name = |text: &str| text.parse::<ModelName>().unwrap();
    for (model, ms) in [("a/two", 3), ("a/one", 5)] {
        store.add_version(version_of(&name(model), "x", NOW_MS + ms)).await.unwrap();
    }
    for (order, expected) in [
        (ModelOrder::Created, ["a/three", "a/two", "a/one"]),
        (ModelOrder::LatestVersion, ["a/one", "a/two", "a/three"]),
    ] {
        for ascending in [false, true] {
            let mut expected: Vec<_> = expected.map(name).into();
            if ascending {
                expected.reverse();
            }
            let mut seek = None;
            let mut found = Vec::new();
            loop {
                let part = store.models(order, ascending, seek.take(), 1).await.unwrap();
                found.push(part[0].1.name.clone());
                if part.len() < 2 {
                    break;
                }
                seek = Some(Seek { newer: false, key: part[0].0 });
            }
            assert_eq!(found, expected, "{order:?} {ascending}");
        }
    }
}

/// A prediction is read back, changes until it has ended, and ends once.
pub async fn predictions_are_kept(store: Store<'_>) {
    let version = pushed(store, "acme/hello").await;
    let mut record = prediction_of(&version, NOW_MS);
    insert(store, &record, inline("{}")).await;
    assert_eq!(store.model(&version.model).await.unwrap().unwrap().run_count, 1);
    let found = store.prediction(record.id).await.unwrap().unwrap();
    assert_eq!(found, StoredPrediction { record: record.clone(), input: inline("{}"), output: None });
    record.status = Status::Processing;
    record.logs = "hello\n".into();
    update(store, &record, inline("[1]"), None).await;
    let found = store.prediction(record.id).await.unwrap().unwrap();
    assert_eq!((&found.record, &found.output), (&record, &inline("[1]")));
    assert_eq!(store.unfinished_predictions(None, 10).await.unwrap(), std::slice::from_ref(&record));
    record.status = Status::Succeeded;
    record.completed_ms = Some(NOW_MS + 5);
    update(store, &record, inline("[1,2]"), Some(NOW_MS + 6)).await;
    let late = Prediction { status: Status::Failed, completed_ms: Some(NOW_MS + 9), ..record.clone() };
    update(store, &late, None, Some(NOW_MS + 9)).await;
    let found = store.prediction(record.id).await.unwrap().unwrap();
    assert_eq!((found.record, found.output), (record.clone(), inline("[1,2]")));
    assert_eq!(store.unfinished_predictions(None, 10).await.unwrap(), []);
    let due = DueWebhook { prediction: record.id, due_ms: NOW_MS + 6, attempts: 0 };
    assert_eq!(store.due_webhooks(10).await.unwrap(), [due]);
}

/// Each filter keeps what it should, and lists go on where they ended.
pub async fn predictions_are_listed(store: Store<'_>) {
    let (one, two) = (pushed(store, "acme/one").await, pushed(store, "acme/two").await);
    let mut records = Vec::new();
    for place in 0..6 {
        let version = if place % 2 == 0 { &one } else { &two };
        let mut record = prediction_of(version, NOW_MS + place);
        record.source = if place < 2 { Source::Web } else { Source::Api };
        record.kind = if place == 5 { Kind::Training } else { Kind::Prediction };
        insert(store, &record, inline("{}")).await;
        records.push(record);
    }
    let places = async |query: PredictionQuery| {
        let found = store.predictions(query).await.unwrap();
        found.iter().map(|stored| stored.record.created_ms - NOW_MS).collect::<Vec<_>>()
    };
    assert_eq!(places(query()).await, [4, 3, 2, 1, 0]);
    assert_eq!(places(PredictionQuery { kind: Kind::Training, ..query() }).await, [5]);
    assert_eq!(places(PredictionQuery { version: Some(two.id), ..query() }).await, [3, 1]);
    assert_eq!(places(PredictionQuery { model: Some(one.model.clone()), ..query() }).await, [4, 2, 0]);
    assert_eq!(places(PredictionQuery { source: Some(Source::Web), ..query() }).await, [1, 0]);
    let span = (Some(NOW_MS + 1), Some(NOW_MS + 4));
    let spanned = PredictionQuery { created_after_ms: span.0, created_before_ms: span.1, ..query() };
    assert_eq!(places(spanned).await, [3, 2, 1]);
    let behind = |newer, place: usize| {
        let key = ListKey::of_prediction(records[place].id);
        PredictionQuery { seek: Some(Seek { newer, key }), limit: 1, ..query() }
    };
    assert_eq!(places(behind(false, 3)).await, [2, 1]);
    assert_eq!(places(behind(true, 2)).await, [3, 4]);
    assert!(store.make_example(records[2].id).await.unwrap());
    let examples = PredictionQuery { examples: true, model: Some(one.model.clone()), ..query() };
    assert_eq!(places(examples).await, [2]);
}

/// Payloads of predictions and contents of files are given back when nobody refers to them.
pub async fn data_is_removed<S: ModelStore + crate::Store>(store: &S) {
    let version = pushed(store, "acme/hello").await;
    let mut record = prediction_of(&version, NOW_MS);
    insert(store, &record, blob("input")).await;
    update(store, &record, blob("half an output"), None).await;
    let file = File {
        id: FileId::fresh(),
        name: "out.png".into(),
        content_type: "image/png".into(),
        size: 4,
        sha256: Digest::of("file"),
        md5: "0".repeat(32),
        metadata: Map::new(),
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 9,
        prediction: Some(record.id),
    };
    let upload = File { id: FileId::fresh(), prediction: None, ..file.clone() };
    store.add_files(vec![file.clone(), upload.clone()]).await.unwrap();
    record.status = Status::Succeeded;
    record.completed_ms = Some(NOW_MS + 1);
    update(store, &record, blob("output"), None).await;
    let freed = async || {
        let mut blobs = store.purge(0, 0).await.unwrap().blobs;
        blobs.sort();
        blobs
    };
    assert_eq!(freed().await, [Digest::of("half an output")]);
    let files: Vec<_> = store.files(None, 10).await.unwrap().into_iter().map(|(_, file)| file).collect();
    assert_eq!(files, std::slice::from_ref(&upload));
    assert_eq!(store.remove_data(NOW_MS + 1, 10).await.unwrap(), 0);
    assert_eq!(store.remove_data(NOW_MS + 2, 10).await.unwrap(), 1);
    assert_eq!(store.remove_data(NOW_MS + 2, 10).await.unwrap(), 0);
    let found = store.prediction(record.id).await.unwrap().unwrap();
    assert!(found.record.data_removed && found.input.is_none() && found.output.is_none());
    assert_eq!(store.file(file.id).await.unwrap(), None);
    let mut expected = [Digest::of("input"), Digest::of("output")];
    expected.sort();
    assert_eq!(freed().await, expected);
    assert_eq!(store.expire_files(NOW_MS + 9, 10).await.unwrap(), 0);
    assert_eq!(store.expire_files(NOW_MS + 10, 10).await.unwrap(), 1);
    assert!(!store.delete_file(upload.id).await.unwrap());
    assert_eq!(freed().await, [Digest::of("file")]);
}

/// Releases follow each other, and hold their version.
pub async fn deployments_are_kept(store: Store<'_>) {
    let version = pushed(store, "acme/hello").await;
    let release = |number| Release {
        number,
        model: version.model.clone(),
        version: version.id,
        configuration: configuration(),
        created_ms: NOW_MS,
        app: AppId::fresh(),
        function: FunctionId::fresh(),
    };
    let name: ModelName = "acme/production".parse().unwrap();
    let made = Deployment { name: name.clone(), created_ms: NOW_MS, current: release(1) };
    assert!(store.create_deployment(made.clone()).await.unwrap());
    assert!(!store.create_deployment(made.clone()).await.unwrap());
    assert_eq!(store.deployment(&name).await.unwrap(), Some(made.clone()));
    assert!(store.add_release(&name, release(2)).await.unwrap());
    assert!(!store.add_release(&name, release(2)).await.unwrap(), "another one came before");
    assert_eq!(store.deployment(&name).await.unwrap().unwrap().current.number, 2);
    let other = Deployment { name: "acme/staging".parse().unwrap(), ..made };
    assert!(store.create_deployment(other.clone()).await.unwrap());
    let listed = store.deployments(None, 10).await.unwrap();
    let names: Vec<_> = listed.iter().map(|(_, deployment)| deployment.name.name()).collect();
    assert_eq!(names, ["staging", "production"]);
    let used = Removal::Used { by: "deployment acme/production".into() };
    assert_eq!(store.delete_version(version.id).await.unwrap(), used);
    for name in [&name, &other.name] {
        assert_eq!(store.delete_deployment(name).await.unwrap(), Removal::Removed);
    }
    assert_eq!(store.delete_deployment(&name).await.unwrap(), Removal::Absent);
    assert_eq!(store.delete_version(version.id).await.unwrap(), Removal::Removed);
}

/// Webhooks wait in the order of their times until they are settled.
pub async fn webhooks_wait_their_turn(store: Store<'_>) {
    let webhook = |due_ms, attempts| DueWebhook {
        prediction: PredictionId(CallId::from_parts(u64::from(attempts), [0; 10])),
        due_ms,
        attempts,
    };
    for one in [webhook(30, 1), webhook(10, 2), webhook(20, 1)] {
        store.put_webhook(one).await.unwrap();
    }
    assert_eq!(store.due_webhooks(10).await.unwrap(), [webhook(10, 2), webhook(20, 1)]);
    store.settle_webhook(webhook(0, 2).prediction).await.unwrap();
    assert_eq!(store.due_webhooks(10).await.unwrap(), [webhook(20, 1)]);
}
