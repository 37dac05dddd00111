//! Apps, functions, usage.

use clunk_core::api::{Lifetime, UsageRow};
use clunk_core::id::{AppId, FunctionId};

use super::{NOW_MS, Shared, accepted, new_app, queue_of, recorded_app, spec};
use crate::{NewApp, Recovered};

/// An app is read back as it was written, and stops once.
pub async fn apps_are_kept(store: &Shared) {
    let one = recorded_app(store).await;
    let found = store.app(one.id).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.state.as_str(), found.stopped_ms), ("demo", "running", None));
    assert_eq!(found.functions.len(), 2);
    store.stop_app(one.id, 2000).await.unwrap();
    store.stop_app(one.id, 3000).await.unwrap();
    assert_eq!(store.app(one.id).await.unwrap().unwrap().stopped_ms, Some(2000));
    assert!(store.app(AppId::fresh()).await.unwrap().is_none());
    assert!(store.apps(10).await.unwrap().iter().any(|found| found.id == one.id));
}

/// A restarted server finds the apps that ran, with the functions that were added to them.
pub async fn running_apps_are_found(store: &Shared) {
    let stopped = recorded_app(store).await;
    store.stop_app(stopped.id, NOW_MS).await.unwrap();
    let app = NewApp { workspace: "research".into(), lifetime: Lifetime::Detached, ..new_app() };
    store.create_app(app.clone()).await.unwrap();
    let variant = FunctionId::fresh();
    for _ in 0..2 {
        store.add_function(app.id, variant, spec("square")).await.unwrap();
    }
    let running = store.running_apps().await.unwrap();
    assert!(running.iter().all(|found| found.id != stopped.id));
    let found = running.iter().find(|found| found.id == app.id).unwrap();
    assert_eq!(
        (found.workspace.as_str(), found.lifetime, found.created_ms),
        ("research", Lifetime::Detached, NOW_MS)
    );
    let ids: Vec<_> = found.functions.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [app.functions[0].0, app.functions[1].0, variant]);
    store.retire_function(variant).await.unwrap();
    let running = store.running_apps().await.unwrap();
    let found = running.iter().find(|found| found.id == app.id).unwrap();
    assert_eq!(found.functions.len(), 2);
    assert!(store.function(variant).await.unwrap().is_some());
    // Its record names each function once.
    assert_eq!(store.app(app.id).await.unwrap().unwrap().functions, ["cube", "square"]);
}

/// A function is found by its id, also when its app has stopped.
pub async fn functions_are_found(store: &Shared) {
    let app = recorded_app(store).await;
    store.stop_app(app.id, NOW_MS).await.unwrap();
    let (id, spec) = app.functions[1].clone();
    assert_eq!(store.function(id).await.unwrap(), Some((app.id, spec)));
    assert_eq!(store.function(FunctionId::fresh()).await.unwrap(), None);
}

/// A function for an app that does not exist is refused.
pub async fn functions_need_their_app(store: &Shared) {
    assert!(store.add_function(AppId::fresh(), FunctionId::fresh(), spec("square")).await.is_err());
}

/// Apps that nobody keeps are stopped and their calls ended, once; those of others stay in the queue. Ends what other
/// apps of the store have left.
pub async fn recovery_ends_what_nobody_keeps(store: &Shared) {
    store.recover(&[], 1).await.unwrap();
    let (kept, lost) = (recorded_app(store).await, recorded_app(store).await);
    let (waiting, dropped) = (accepted(store, &kept, 3).await, accepted(store, &lost, 5000).await);
    let recovered = store.recover(&[kept.id], NOW_MS + 9).await.unwrap();
    assert_eq!(recovered, Recovered { apps: 1, calls: 5000 });
    assert_eq!(store.recover(&[kept.id], NOW_MS + 10).await.unwrap(), Recovered::default());
    assert_eq!(store.app(lost.id).await.unwrap().unwrap().state, "stopped");
    assert_eq!(store.app(kept.id).await.unwrap().unwrap().state, "running");
    assert_eq!(queue_of(store, &kept).await, waiting);
    assert_eq!(queue_of(store, &lost).await, []);
    let record = store.call(dropped[4999].record.id).await.unwrap().unwrap();
    assert_eq!((record.state.as_str(), record.ended_ms), ("failed", Some(NOW_MS + 9)));
    assert!(record.error.unwrap().starts_with("app-stopped"));
}

/// Usage is added up, and summed into steps.
pub async fn usage_is_summed(store: &Shared) {
    let row = |function: &str, from_ms: u64, calls: u64| UsageRow {
        workspace: "usage".into(),
        app: "app-1".into(),
        app_name: "demo".into(),
        function: function.into(),
        from_ms,
        calls,
        cpu_s: 0.5,
        memory_gib_s: 2.0,
        gpu_s: 1.0,
        container_s: 4.0,
    };
    store
        .add_usage(vec![row("square", 1000, 1), row("cube", 1000, 2), row("square", 2000, 4)])
        .await
        .unwrap();
    store.add_usage(vec![row("square", 1000, 8), row("square", 3500, 16)]).await.unwrap();
    let spans = async |since_ms, until_ms, step_ms| {
        let found = store.usage(since_ms, until_ms, step_ms).await.unwrap();
        found.iter().map(|row| (row.from_ms, row.function.clone(), row.calls)).collect::<Vec<_>>()
    };
    let span = |from_ms, function: &str, calls| (from_ms, String::from(function), calls);
    assert_eq!(
        spans(1000, 4000, 1500).await,
        [span(1000, "cube", 2), span(1000, "square", 13), span(2500, "square", 16)]
    );
    assert_eq!(spans(1000, 3500, 0).await, [span(1000, "cube", 2), span(1000, "square", 13)]);
    let one = store.usage(1000, 1001, 0).await.unwrap().into_iter().find(|row| row.function == "square");
    let expected =
        UsageRow { cpu_s: 1.0, memory_gib_s: 4.0, gpu_s: 2.0, container_s: 8.0, ..row("square", 1000, 9) };
    assert_eq!(one, Some(expected));
}
