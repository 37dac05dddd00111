//! Ends, results, and lists of calls.

use bytes::Bytes;
use clunk_core::Digest;
use clunk_core::api::CallRecord;
use clunk_core::id::{CallId, FunctionId};

use super::{
    NOW_MS, Shared, accepted, accepted_batch, call_of, calls_of, end, ended, queue_of, recorded_app,
    submission, submitted, value,
};
use crate::{CallFilter, Change, FoundResult, ResultKind, StoredPayload, StoredResult};

/// A durable call that has ended has left the queue, and its result is kept as it was given.
pub async fn results_are_kept(store: &Shared) {
    let app = recorded_app(store).await;
    let (batch, calls) = accepted_batch(store, &app, 4).await;
    let blob = StoredPayload::Blob { digest: Digest::of("out"), len: 70_000 };
    let inline = StoredPayload::Inline(Bytes::from_static(b"content"));
    let results = [
        StoredResult { kind: ResultKind::Value, json: true, payload: blob },
        StoredResult { kind: ResultKind::Exception, json: false, payload: inline.clone() },
        StoredResult { kind: ResultKind::Failure, json: true, payload: inline },
    ];
    for ((call, result), state) in calls.iter().zip(&results).zip(["succeeded", "failed", "timed_out"]) {
        let record = ended(&call.record, state, NOW_MS + 5);
        end(store, record.clone(), Some(result.clone())).await;
        assert_eq!(store.call(record.id).await.unwrap(), Some(record.clone()));
        assert_eq!(store.result(record.id).await.unwrap(), FoundResult::Kept(result.clone()));
    }
    assert_eq!(queue_of(store, &app).await, calls[3..]);
    let record = store.batch(batch).await.unwrap().unwrap();
    assert_eq!((record.inputs, record.ended, record.succeeded), (4, 3, 1));
    assert_eq!(store.result(calls[3].record.id).await.unwrap(), FoundResult::Absent);
    assert_eq!(store.result(CallId::fresh()).await.unwrap(), FoundResult::Absent);
}

/// The first end of a call counts: together with the second in one commit, or before it.
pub async fn calls_end_once(store: &Shared) {
    let app = recorded_app(store).await;
    let (batch, calls) = accepted_batch(store, &app, 1).await;
    let first = ended(&calls[0].record, "succeeded", NOW_MS + 1);
    let second = ended(&calls[0].record, "failed", NOW_MS + 2);
    let change = |record: &CallRecord, content: &[u8]| Change::Ended {
        record: record.clone(),
        result: Some(value(content)),
        done: None,
    };
    store.record(change(&first, b"first"));
    store.record(change(&second, b"second"));
    store.flush().await.unwrap();
    end(store, second, Some(value(b"third"))).await;
    assert_eq!(store.call(first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(store.result(first.id).await.unwrap(), FoundResult::Kept(value(b"first")));
    let record = store.batch(batch).await.unwrap().unwrap();
    assert_eq!((record.ended, record.succeeded), (1, 1));
}

/// An attached call is recorded whole when it has ended, once.
pub async fn attached_calls_are_recorded(store: &Shared) {
    let app = recorded_app(store).await;
    let attached = CallRecord { durable: false, method: "predict".into(), ..call_of(&app, CallId::fresh()) };
    let record = ended(&attached, "failed", NOW_MS + 3);
    let record = CallRecord { error: Some("ValueError: no".into()), ..record };
    store.record(Change::Ended { record: record.clone(), result: None, done: None });
    end(store, CallRecord { state: "canceled".into(), ..record.clone() }, None).await;
    assert_eq!(store.call(record.id).await.unwrap(), Some(record.clone()));
    assert_eq!(store.result(record.id).await.unwrap(), FoundResult::Absent);
    assert_eq!(queue_of(store, &app).await, []);
}

/// A change that can never be recorded does not hold up the others.
pub async fn impossible_changes_are_dropped(store: &Shared) {
    let app = recorded_app(store).await;
    let attached = |id| CallRecord { durable: false, ..ended(&call_of(&app, id), "succeeded", NOW_MS) };
    let unknown = CallRecord { function_id: FunctionId::fresh(), ..attached(CallId::fresh()) };
    let (good, odd) = (attached(CallId::fresh()), attached(CallId::fresh()));
    let odd = CallRecord { state: "lost".into(), ..odd };
    for record in [&unknown, &odd, &good] {
        store.record(Change::Ended { record: record.clone(), result: None, done: None });
    }
    store.flush().await.unwrap();
    assert_eq!(store.call(good.id).await.unwrap(), Some(good));
    assert_eq!(store.call(unknown.id).await.unwrap(), None);
    assert_eq!(store.call(odd.id).await.unwrap(), None);
}

/// Lists are newest first, and each part of the filter restricts them.
pub async fn calls_are_listed(store: &Shared) {
    let app = recorded_app(store).await;
    let (batch, mut calls) = accepted_batch(store, &app, 4).await;
    let mut more = calls_of(&app, 4);
    more[3].record.function_id = app.functions[1].0;
    more[3].record.function = "cube".into();
    calls.extend(submitted(store, submission(&app, more)).await);
    for (place, state) in [(0, "succeeded"), (1, "failed"), (4, "failed"), (7, "expired")] {
        calls[place].record = ended(&calls[place].record, state, NOW_MS + 1);
        end(store, calls[place].record.clone(), None).await;
    }
    calls.sort_by_key(|call| std::cmp::Reverse(call.record.id));
    let all: Vec<_> = calls.into_iter().map(|call| call.record).collect();
    let square = app.functions[0].0;
    let base = CallFilter { app: Some(app.id), limit: 100, ..CallFilter::default() };
    let check = async |filter: CallFilter, keep: &dyn Fn(&CallRecord) -> bool| {
        let expected: Vec<_> = all.iter().filter(|call| keep(call)).cloned().collect();
        assert!(!expected.is_empty());
        assert_eq!(store.calls(filter).await.unwrap(), expected);
    };
    check(base.clone(), &|_| true).await;
    check(CallFilter { function: Some(square), ..base.clone() }, &|call| call.function_id == square).await;
    check(CallFilter { batch: Some(batch), ..base.clone() }, &|call| call.batch == Some(batch)).await;
    for state in ["queued", "succeeded", "failed", "expired"] {
        let filter = CallFilter { state: Some(state.into()), ..base.clone() };
        check(filter, &|call| call.state == state).await;
    }
    let filter = CallFilter { batch: Some(batch), state: Some("failed".into()), ..base.clone() };
    check(filter, &|call| call.batch == Some(batch) && call.state == "failed").await;
    let before = Some(all[2].id);
    check(CallFilter { before, ..base.clone() }, &|call| call.id < all[2].id).await;
    let page = store.calls(CallFilter { limit: 3, ..base.clone() }).await.unwrap();
    assert_eq!(page, all[..3]);
    for nothing in [
        CallFilter { state: Some("timed_out".into()), ..base.clone() },
        CallFilter { state: Some("no such state".into()), ..base.clone() },
        CallFilter { function: Some(FunctionId::fresh()), ..base.clone() },
    ] {
        assert_eq!(store.calls(nothing).await.unwrap(), []);
    }
    let everywhere = store.calls(CallFilter { limit: 1, ..CallFilter::default() }).await.unwrap();
    assert_eq!(everywhere.len(), 1);
}

/// Recording never waits, and catching up ends when the changes are on disk.
pub async fn recording_catches_up(store: &Shared) {
    let app = recorded_app(store).await;
    // More than the store lets wait, so that it says so whatever the disk does meanwhile.
    let calls = accepted(store, &app, 10).await;
    let mut last = None;
    let mut said = false;
    for _ in 0..200_000 {
        let record =
            CallRecord { durable: false, ..ended(&call_of(&app, CallId::fresh()), "succeeded", NOW_MS) };
        last = Some(record.id);
        store.record(Change::Ended { record, result: None, done: None });
        said |= store.behind();
        if said {
            break;
        }
    }
    assert!(said, "the store said that it is behind");
    store.caught_up().await;
    assert!(!store.behind());
    store.flush().await.unwrap();
    assert!(store.call(last.unwrap()).await.unwrap().is_some());
    assert_eq!(queue_of(store, &app).await, calls);
}
