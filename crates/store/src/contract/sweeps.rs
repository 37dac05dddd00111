//! Canceling what waits, and purging what is old.

use clunk_core::Digest;

use super::{
    NOW_MS, Shared, accepted, accepted_batch, calls_of, end, ended, queue_of, recorded_app, submission,
    submitted, value,
};
use crate::{CancelScope, FoundResult, Purged, StoredPayload, StoredResult, Submission, Submitted};

/// Calls that wait are canceled by app, function or batch; those that have ended stay as they are.
pub async fn waiting_calls_are_canceled(store: &Shared) {
    let app = recorded_app(store).await;
    let other = accepted(store, &app, 5).await;
    let (batch, calls) = accepted_batch(store, &app, 5000).await;
    let done = ended(&calls[0].record, "succeeded", NOW_MS + 1);
    end(store, done.clone(), Some(value(b"1"))).await;
    let count = store.cancel_queued(CancelScope::Batch(batch), "by request", NOW_MS + 2).await.unwrap();
    assert_eq!(count, 4999);
    assert_eq!(queue_of(store, &app).await, other);
    let record = store.batch(batch).await.unwrap().unwrap();
    assert_eq!((record.inputs, record.ended, record.succeeded), (5000, 5000, 1));
    assert_eq!(store.call(done.id).await.unwrap(), Some(done));
    let canceled = store.call(calls[4999].record.id).await.unwrap().unwrap();
    assert_eq!((canceled.state.as_str(), canceled.error.as_deref()), ("canceled", Some("by request")));
    assert_eq!(canceled.ended_ms, Some(NOW_MS + 2));
    // A replica that worked on one says so too late.
    end(store, ended(&calls[4999].record, "succeeded", NOW_MS + 3), Some(value(b"late"))).await;
    assert_eq!(store.result(canceled.id).await.unwrap(), FoundResult::Absent);
    assert_eq!(store.call(canceled.id).await.unwrap(), Some(canceled));

    let function = CancelScope::Function(app.functions[1].0);
    assert_eq!(store.cancel_queued(function, "", NOW_MS).await.unwrap(), 0);
    let mut many = calls_of(&app, 4000);
    many[0].record.priority = 3;
    many[1].record.function_id = app.functions[1].0;
    submitted(store, submission(&app, many)).await;
    assert_eq!(store.cancel_queued(CancelScope::App(app.id), "", NOW_MS).await.unwrap(), 4005);
    assert_eq!(store.cancel_queued(CancelScope::App(app.id), "", NOW_MS).await.unwrap(), 0);
}

/// Results go first, then records and batches; what has not ended, or not so long ago, stays. Purges the whole store.
pub async fn old_ends_are_purged(store: &Shared) {
    let app = recorded_app(store).await;
    // The ids of calls are as old as they are, and so the purge needs a time after them.
    let (batch, calls) = accepted_batch(store, &app, 3000).await;
    let begin = calls[0].record.id.created_ms() + 1;
    for (call, offset) in calls.iter().zip(0..).skip(1) {
        let record = ended(&call.record, "succeeded", begin + offset);
        store.record(crate::Change::Ended { record, result: Some(value(b"1")), done: None });
    }
    store.flush().await.unwrap();
    let purged = store.purge(begin + 2900, begin + 2500).await.unwrap();
    assert!((purged.results, purged.records) >= (2899, 2499), "{purged:?}");
    let state = async |place: usize| {
        let id = calls[place].record.id;
        (store.call(id).await.unwrap().is_some(), store.result(id).await.unwrap())
    };
    assert_eq!(state(0).await, (true, FoundResult::Absent));
    assert_eq!(state(2499).await, (false, FoundResult::Absent));
    assert_eq!(state(2500).await, (true, FoundResult::Purged));
    assert_eq!(state(2899).await, (true, FoundResult::Purged));
    assert_eq!(state(2900).await, (true, FoundResult::Kept(value(b"1"))));
    assert_eq!(store.batch_calls(batch, 0, 3000).await.unwrap().len(), 501);
    // The batch stays as long as one of its calls.
    store.purge(begin + 4000, begin + 4000).await.unwrap();
    assert!(store.batch(batch).await.unwrap().is_some());
    end(store, ended(&calls[0].record, "failed", begin + 3900), None).await;
    store.purge(begin + 4000, begin + 4000).await.unwrap();
    assert_eq!(store.batch(batch).await.unwrap(), None);
    assert_eq!(store.purge(begin + 4000, begin + 4000).await.unwrap(), Purged::default());
}

/// A key is forgotten with the results of its time. Purges the whole store.
pub async fn old_keys_are_purged(store: &Shared) {
    let app = recorded_app(store).await;
    let keyed = || Submission { key: Some("k".into()), ..submission(&app, calls_of(&app, 1)) };
    submitted(store, keyed()).await;
    store.purge(NOW_MS, 0).await.unwrap();
    assert!(matches!(store.submit(keyed()).await.unwrap(), Submitted::Again { .. }));
    store.purge(NOW_MS + 1, 0).await.unwrap();
    assert!(matches!(store.submit(keyed()).await.unwrap(), Submitted::New { .. }));
}

/// A blob is given back once no input and no result refers to it, and once only. Purges the whole store.
pub async fn unused_blobs_are_given_back(store: &Shared) {
    let app = recorded_app(store).await;
    let blob = |name: &str| StoredPayload::Blob { digest: Digest::of(name), len: 100_000 };
    let given_back = async |results_before_ms| {
        let mut blobs = store.purge(results_before_ms, 0).await.unwrap().blobs;
        blobs.sort_unstable();
        blobs
    };
    let mut calls = calls_of(&app, 3);
    for (call, name) in calls.iter_mut().zip(["shared", "shared", "alone"]) {
        call.input = blob(name);
    }
    let calls = submitted(store, submission(&app, calls)).await;
    let result = |name| Some(StoredResult { payload: blob(name), ..value(b"") });
    let ended_at = |place: usize, ms| ended(&calls[place].record, "succeeded", NOW_MS + ms);
    end(store, ended_at(0, 1), result("out")).await;
    assert_eq!(given_back(0).await, []);
    // A call may return what it got.
    end(store, ended_at(1, 2), result("shared")).await;
    assert_eq!(given_back(NOW_MS + 1).await, []);
    assert_eq!(given_back(NOW_MS + 2).await, [Digest::of("out")]);
    store.cancel_queued(CancelScope::App(app.id), "", NOW_MS).await.unwrap();
    let mut both = [Digest::of("alone"), Digest::of("shared")];
    both.sort_unstable();
    assert_eq!(given_back(NOW_MS + 9).await, both);
    assert_eq!(given_back(NOW_MS + 9).await, []);
}
