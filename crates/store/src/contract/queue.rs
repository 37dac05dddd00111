//! Accepting calls, and giving them out.

use std::collections::HashSet;

use clunk_core::Digest;
use clunk_core::id::{BatchId, CallId, FunctionId};

use super::{
    NOW_MS, Shared, accepted, accepted_batch, call_of, calls_of, end, ended, queue_of, queued_call,
    recorded_app, submission, submitted, value,
};
use crate::{Change, IntoBatch, QueueDepth, StoreError, StoredPayload, Submission, Submitted};

/// What was accepted is in the queue as it was given, and its record can be read.
pub async fn accepted_calls_wait(store: &Shared) {
    let app = recorded_app(store).await;
    let mut call = queued_call(call_of(&app, CallId::fresh()), b"input");
    call.json = true;
    call.expires_ms = Some(NOW_MS + 1);
    call.due_ms = NOW_MS + 2;
    call.record.method = "predict".into();
    call.record.priority = -100;
    let large = StoredPayload::Blob { digest: Digest::of("large"), len: 1 << 20 };
    let second = crate::QueuedCall { input: large, ..queued_call(call_of(&app, CallId::fresh()), b"") };
    let calls = submitted(store, submission(&app, vec![call, second])).await;
    let function = app.functions[0].0;
    assert_eq!(store.queued(function, -100, 0, 10, u64::MAX).await.unwrap(), calls[..1]);
    assert_eq!(store.queued(function, 0, 0, 10, u64::MAX).await.unwrap(), calls[1..]);
    assert_eq!(store.call(calls[0].record.id).await.unwrap().as_ref(), Some(&calls[0].record));
}

/// A queue is read in the order of arrival, a page at a time, bounded in calls and bytes.
pub async fn queues_keep_the_order_of_arrival(store: &Shared) {
    let app = recorded_app(store).await;
    let mut calls = accepted(store, &app, 700).await;
    // Ids do not decide: this one is older.
    let early = queued_call(call_of(&app, CallId::from_parts(1, [3; 10])), b"early");
    calls.extend(submitted(store, submission(&app, vec![early])).await);
    let function = app.functions[0].0;
    let mut read = Vec::new();
    loop {
        let after = read.last().map_or(0, |call: &crate::QueuedCall| call.seq);
        let page = store.queued(function, 0, after, 300, u64::MAX).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, calls);
    // Each input has 8 bytes.
    assert_eq!(store.queued(function, 0, 0, 300, 80).await.unwrap().len(), 10);
    assert_eq!(store.queued(function, 0, 0, 300, 0).await.unwrap().len(), 1);
    assert_eq!(store.queued(function, 1, 0, 300, u64::MAX).await.unwrap(), []);
}

/// Depths are counted by function and priority.
pub async fn depths_are_counted(store: &Shared) {
    let app = recorded_app(store).await;
    let mut calls = calls_of(&app, 5);
    calls[3].record.priority = 7;
    calls[4].record.function_id = app.functions[1].0;
    submitted(store, submission(&app, calls)).await;
    let mut depths = store.queue_depths().await.unwrap();
    depths.retain(|depth| app.functions.iter().any(|(id, _)| *id == depth.function));
    depths.sort_by_key(|depth| (depth.function != app.functions[0].0, depth.priority));
    let depth =
        |place: usize, priority, calls| QueueDepth { function: app.functions[place].0, priority, calls };
    assert_eq!(depths, [depth(0, 0, 3), depth(0, 7, 1), depth(1, 0, 1)]);
}

/// A submission that cannot be accepted leaves nothing, and does not hold up those that came with it.
pub async fn submissions_are_all_or_nothing(store: &Shared) {
    let app = recorded_app(store).await;
    let other = recorded_app(store).await;
    let mut foreign = calls_of(&app, 10);
    foreign[9].record.function_id = other.functions[0].0;
    let mut unknown = calls_of(&app, 10);
    unknown[9].record.function_id = FunctionId::fresh();
    let mut twice = calls_of(&app, 10);
    twice[9].record.id = twice[0].record.id;
    let batch = Submission {
        batch: Some(IntoBatch::Existing(BatchId::fresh())),
        ..submission(&app, calls_of(&app, 2))
    };
    let good = calls_of(&app, 10);
    let ids: Vec<_> = good.iter().map(|call| call.record.id).collect();
    let (foreign, unknown, twice, batch, good) = tokio::join!(
        store.submit(submission(&app, foreign)),
        store.submit(submission(&app, unknown)),
        store.submit(submission(&app, twice)),
        store.submit(batch),
        store.submit(submission(&app, good)),
    );
    assert!(matches!(foreign, Err(StoreError::UnknownFunction(_))), "{foreign:?}");
    assert!(matches!(unknown, Err(StoreError::UnknownFunction(_))), "{unknown:?}");
    assert!(matches!(twice, Err(StoreError::Query { .. })), "{twice:?}");
    assert!(matches!(batch, Err(StoreError::UnknownBatch(_))), "{batch:?}");
    assert!(matches!(good, Ok(Submitted::New { .. })), "{good:?}");
    let waiting: Vec<_> = queue_of(store, &app).await.into_iter().map(|call| call.record.id).collect();
    assert_eq!(waiting, ids);
}

/// The same key gives the same answer and adds nothing; another app's is another key.
pub async fn keys_make_repeats_harmless(store: &Shared) {
    let (app, other) = (recorded_app(store).await, recorded_app(store).await);
    let keyed =
        |app: &crate::NewApp| Submission { key: Some("once".into()), ..submission(app, calls_of(app, 3)) };
    let first = keyed(&app);
    let mut ids: Vec<_> = first.calls.iter().map(|call| call.record.id).collect();
    // Sent again while it is still on its way, and later.
    let (one, two) = tokio::join!(store.submit(first), store.submit(keyed(&app)));
    assert!(matches!(one, Ok(Submitted::New { .. })), "{one:?}");
    let again = Submitted::Again { calls: ids.clone(), batch: None, accepted: 3 };
    assert_eq!(two.unwrap(), again);
    assert_eq!(store.submit(keyed(&app)).await.unwrap(), again);
    ids.sort_unstable();
    assert_eq!(queue_of(store, &app).await.len(), 3);
    assert!(matches!(store.submit(keyed(&other)).await.unwrap(), Submitted::New { .. }));
}

/// A batch is filled by several submissions, whose calls have their places in it, and its keys are remembered.
pub async fn batches_are_filled(store: &Shared) {
    let app = recorded_app(store).await;
    let (batch, mut calls) = accepted_batch(store, &app, 3).await;
    let mut more = Submission {
        batch: Some(IntoBatch::Existing(batch)),
        key: Some("more".into()),
        // Ids that do not follow each other.
        ..submission(&app, (0..4).map(|n| queued_call(call_of(&app, CallId::fresh()), &[n])).collect())
    };
    calls.extend(submitted(store, more.clone()).await);
    more.calls = calls_of(&app, 4);
    let again = Submitted::Again { calls: Vec::new(), batch: Some(batch), accepted: 4 };
    assert_eq!(store.submit(more).await.unwrap(), again);
    let record = store.batch(batch).await.unwrap().unwrap();
    assert_eq!(
        (record.app, record.function_id, record.function.as_str()),
        (app.id, app.functions[0].0, "square")
    );
    assert_eq!((record.created_ms, record.inputs, record.ended, record.succeeded), (NOW_MS, 7, 0, 0));
    let records: Vec<_> = calls.iter().map(|call| call.record.clone()).collect();
    assert_eq!(store.batch_calls(batch, 0, u64::MAX).await.unwrap(), records);
    assert_eq!(store.batch_calls(batch, 2, 5).await.unwrap(), records[2..5]);
    assert_eq!(store.batch_calls(batch, 7, 9).await.unwrap(), []);
    assert_eq!(queue_of(store, &app).await, calls);
    assert_eq!(store.batch(BatchId::fresh()).await.unwrap(), None);
    assert_eq!(store.batch_calls(BatchId::fresh(), 0, 9).await.unwrap(), []);
}

/// A batch belongs to its app, and may be empty.
pub async fn batches_are_of_their_app(store: &Shared) {
    let (app, other) = (recorded_app(store).await, recorded_app(store).await);
    let (batch, _) = accepted_batch(store, &app, 0).await;
    let foreign =
        Submission { batch: Some(IntoBatch::Existing(batch)), ..submission(&other, calls_of(&other, 1)) };
    assert!(matches!(store.submit(foreign).await, Err(StoreError::UnknownBatch(_))));
    assert_eq!(store.batch(batch).await.unwrap().unwrap().inputs, 0);
}

/// A call that is tried again waits at its old place, with what its attempts came to.
pub async fn retries_wait_at_their_place(store: &Shared) {
    let app = recorded_app(store).await;
    let mut calls = accepted(store, &app, 3).await;
    for round in 1..=2 {
        let record = &mut calls[1].record;
        record.attempts = round;
        record.started_ms = Some(NOW_MS + 5);
        record.error = Some("ValueError: no".into());
        record.cpu_us = 11;
        store.record(Change::Requeued {
            record: record.clone(),
            due_ms: NOW_MS + 1000,
            failures: round,
            losses: round + 1,
        });
    }
    store.flush().await.unwrap();
    (calls[1].due_ms, calls[1].failures, calls[1].losses) = (NOW_MS + 1000, 2, 3);
    assert_eq!(queue_of(store, &app).await, calls);
    // What comes after the end changes nothing.
    let record = ended(&calls[1].record, "succeeded", NOW_MS + 9);
    end(store, record.clone(), Some(value(b"9"))).await;
    store.record(Change::Requeued { record: calls[1].record.clone(), due_ms: 0, failures: 0, losses: 0 });
    store.flush().await.unwrap();
    assert_eq!(store.call(record.id).await.unwrap(), Some(record));
    assert_eq!(queue_of(store, &app).await, [calls[0].clone(), calls[2].clone()]);
}

/// Many tasks submit at the same time: each of their calls is there once, in one order.
pub async fn concurrent_submissions_share_an_order(store: &Shared) {
    let app = recorded_app(store).await;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (store, app) = (store.clone(), app.clone());
            tokio::spawn(async move { accepted(&store, &app, 5).await })
        })
        .collect();
    let mut calls = Vec::new();
    for task in tasks {
        calls.extend(task.await.unwrap());
    }
    calls.sort_by_key(|call| call.seq);
    assert_eq!(calls.iter().map(|call| call.seq).collect::<HashSet<_>>().len(), 160);
    assert_eq!(queue_of(store, &app).await, calls);
}
