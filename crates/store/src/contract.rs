//! What every [`Store`] must do, as functions that a test of each implementation calls.

use clunk_core::api::CallRecord;
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, CallId, FunctionId};

use crate::{NewApp, Recovered, Store};

fn app(created_ms: u64) -> NewApp {
    let spec = r#"{"name":"square","entry":{"module":"app","qualname":"square"},
        "image":"im-00112233445566778899aabbccddeeff"}"#;
    let spec: FunctionSpec = serde_json::from_str(spec).expect("a valid function");
    NewApp {
        id: AppId::fresh(),
        name: "demo".into(),
        created_ms,
        functions: vec![(FunctionId::fresh(), spec)],
    }
}

fn call(app: &NewApp) -> CallRecord {
    CallRecord {
        id: CallId::fresh(),
        app: app.id,
        function_id: app.functions[0].0,
        function: "square".into(),
        state: "queued".into(),
        attempts: 0,
        created_ms: 1,
        started_ms: None,
        ended_ms: None,
        error: None,
        method: String::new(),
        batch: None,
        index: None,
        priority: 0,
        durable: false,
        cpu_us: 0,
    }
}

/// An app is read back as it was written, and stops once.
pub async fn apps_are_kept(store: &dyn Store) {
    let one = app(1000);
    store.create_app(one.clone()).await.unwrap();
    let found = store.app(one.id).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.state.as_str(), found.stopped_ms), ("demo", "running", None));
    assert_eq!(found.functions, ["square"]);
    store.stop_app(one.id, 2000).await.unwrap();
    store.stop_app(one.id, 3000).await.unwrap();
    assert_eq!(store.app(one.id).await.unwrap().unwrap().stopped_ms, Some(2000));
    assert!(store.app(AppId::fresh()).await.unwrap().is_none());
    assert!(store.apps(10).await.unwrap().iter().any(|found| found.id == one.id));
}

/// The last record of a call wins, and lists are newest first.
pub async fn calls_are_kept(store: &dyn Store) {
    let app = app(1000);
    store.create_app(app.clone()).await.unwrap();
    let mut first = call(&app);
    let second = CallRecord { id: CallId::from_parts(first.id.created_ms() + 1, [0; 10]), ..call(&app) };
    store.record_call(first.clone());
    store.record_call(second.clone());
    first.state = "succeeded".into();
    first.ended_ms = Some(5);
    store.record_call(first.clone());
    store.flush().await.unwrap();
    assert_eq!(store.call(first.id).await.unwrap(), Some(first.clone()));
    let ids: Vec<_> = store.calls(Some(app.id), 10).await.unwrap().iter().map(|call| call.id).collect();
    assert_eq!(ids, [second.id, first.id]);
    assert_eq!(store.calls(Some(app.id), 1).await.unwrap().len(), 1);
}

/// What a killed server left running is ended, once.
pub async fn recovery_ends_what_was_running(store: &dyn Store) {
    store.recover(1).await.unwrap();
    let app = app(1000);
    store.create_app(app.clone()).await.unwrap();
    let call = call(&app);
    store.record_call(call.clone());
    store.flush().await.unwrap();
    assert_eq!(store.recover(9000).await.unwrap(), Recovered { apps: 1, calls: 1 });
    assert_eq!(store.recover(9001).await.unwrap(), Recovered::default());
    let ended = store.call(call.id).await.unwrap().unwrap();
    assert_eq!((ended.state.as_str(), ended.ended_ms), ("failed", Some(9000)));
    assert_eq!(store.app(app.id).await.unwrap().unwrap().state, "stopped");
}
