//! The store's contract on SQLite, and what is particular to a file.

use std::sync::Arc;

use clunk_core::api::Lifetime;
use clunk_store::{CallFilter, SqliteStore, StoreError, contract};

async fn open(folder: &tempfile::TempDir) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&folder.path().join("clunk.db")).await
}

/// Each part of the contract on a store of its own.
macro_rules! contract_holds {
    ($($name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            let store: contract::Shared = Arc::new(open(&folder).await.unwrap());
            contract::$name(&store).await;
        }
    )*};
}

contract_holds! {
    apps_are_kept,
    running_apps_are_found,
    functions_are_found,
    functions_need_their_app,
    usage_is_summed,
    accepted_calls_wait,
    queues_keep_the_order_of_arrival,
    depths_are_counted,
    submissions_are_all_or_nothing,
    keys_make_repeats_harmless,
    batches_are_filled,
    batches_are_of_their_app,
    retries_wait_at_their_place,
    concurrent_submissions_share_an_order,
    results_are_kept,
    calls_end_once,
    attached_calls_are_recorded,
    impossible_changes_are_dropped,
    calls_are_listed,
    recording_catches_up,
    waiting_calls_are_canceled,
    old_ends_are_purged,
    old_keys_are_purged,
    unused_blobs_are_given_back,
    recovery_ends_what_nobody_keeps,
}

/// The parts hold one after the other on the same store, too, and what is left is sound.
#[tokio::test]
async fn the_contract_holds_on_a_used_store() {
    let folder = tempfile::tempdir().unwrap();
    let store: contract::Shared = Arc::new(open(&folder).await.unwrap());
    contract::accepted_calls_wait(&store).await;
    contract::results_are_kept(&store).await;
    contract::waiting_calls_are_canceled(&store).await;
    contract::old_ends_are_purged(&store).await;
    contract::recovery_ends_what_nobody_keeps(&store).await;
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("clunk.db"),
        "this is no database, and it is long enough to be read as one",
    )
    .unwrap();
    let error = open(&folder).await.err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_store_of_the_future_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder).await.unwrap());
    let url = format!("sqlite://{}", folder.path().join("clunk.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(open(&folder).await.err().unwrap(), StoreError::Newer { found: 99, .. }));
}

/// The fixture was written by the release that had schema 1: two apps, one of them running, and six calls.
#[tokio::test]
async fn a_store_of_schema_1_is_brought_along() {
    let folder = tempfile::tempdir().unwrap();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema-1.db");
    std::fs::copy(old, folder.path().join("clunk.db")).unwrap();
    let store: contract::Shared = Arc::new(open(&folder).await.unwrap());
    let apps = store.apps(10).await.unwrap();
    let names: Vec<_> = apps.iter().map(|app| (app.name.as_str(), app.state.as_str())).collect();
    assert_eq!(names, [("still", "running"), ("old", "stopped")]);
    assert_eq!(apps[1].functions, ["cube", "square"]);
    let running = store.running_apps().await.unwrap();
    assert_eq!(
        (running.len(), running[0].workspace.as_str(), running[0].lifetime),
        (1, "main", Lifetime::Leased)
    );

    let calls = store.calls(CallFilter { limit: 10, ..CallFilter::default() }).await.unwrap();
    let found: Vec<_> =
        calls.iter().map(|call| (call.function.as_str(), call.state.as_str(), call.attempts)).collect();
    // What had not ended was lost with its server.
    let expected = [
        ("wait", "failed", 0),
        ("wait", "failed", 1),
        ("cube", "canceled", 1),
        ("cube", "timed_out", 1),
        ("square", "failed", 1),
        ("square", "succeeded", 1),
    ];
    assert_eq!(found, expected);
    assert!(calls[0].error.as_ref().unwrap().starts_with("app-stopped"));
    let begin = 1_760_000_000_000;
    let first = &calls[5];
    assert_eq!((first.app, first.id.created_ms(), first.durable), (apps[1].id, begin + 11, false));
    assert_eq!(
        (first.created_ms, first.started_ms, first.ended_ms),
        (begin + 11, Some(begin + 21), Some(begin + 31))
    );
    assert_eq!(calls[4].error.as_deref(), Some("ValueError: no"));
    let of_app = CallFilter { app: Some(apps[1].id), limit: 10, ..CallFilter::default() };
    assert_eq!(store.calls(of_app).await.unwrap(), calls[2..]);

    // It works on, also when it is opened again.
    contract::accepted_calls_wait(&store).await;
    drop(store);
    let store: contract::Shared = Arc::new(open(&folder).await.unwrap());
    contract::results_are_kept(&store).await;
    assert_eq!(store.call(first.id).await.unwrap().as_ref(), Some(first));
}

/// Each part of the contract of models on a store of its own.
macro_rules! models_contract_holds {
    ($($name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let folder = tempfile::tempdir().unwrap();
            let store = open(&folder).await.unwrap();
            contract::models::$name(&store).await;
        }
    )*};
}

models_contract_holds! {
    models_are_kept,
    versions_are_kept,
    models_are_listed,
    predictions_are_kept,
    predictions_are_listed,
    data_is_removed,
    deployments_are_kept,
    webhooks_wait_their_turn,
}
