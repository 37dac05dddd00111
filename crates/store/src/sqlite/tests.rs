//! What only this implementation can show: query plans, a full disk, the size of the file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{Connection, Row, SqliteConnection};
use tokio::sync::oneshot;

use super::jobs::Job;
use super::{SqliteStore, changes, read, submit, sweep};
use crate::calls::{Change, Done, FoundResult, StoredPayload};
use crate::contract::{self, NOW_MS, Shared};

async fn open(folder: &tempfile::TempDir) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&folder.path().join("clunk.db")).await.unwrap())
}

async fn plan(connection: &mut SqliteConnection, text: &str) -> Vec<String> {
    let text = format!("EXPLAIN QUERY PLAN {text}");
    let rows =
        sqlx::query(&text).fetch_all(connection).await.unwrap_or_else(|error| panic!("{text}: {error}"));
    rows.iter().map(|row| row.get("detail")).collect()
}

/// With a million calls, a scan or a sort in any of these would be felt.
#[tokio::test]
async fn nothing_reads_a_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder).await);
    let url = format!("sqlite://{}", folder.path().join("clunk.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let mut texts = vec![
        read::queued_text(),
        read::calls_text("", "c.id = ?"),
        read::RESULT.into(),
        read::PARTS.into(),
        changes::FIND_WAITING.text(2),
        changes::LEAVE_QUEUE.text(2),
        submit::FIND_KEY.into(),
        sweep::FIRST_WAITING.into(),
        sweep::OLD_RECORDS.into(),
        sweep::UNUSED_BLOBS.into(),
    ];
    for (of_function, of_batch) in [(false, false), (true, false), (true, true)] {
        for state in [None, Some(0), Some(2), Some(3), Some(6)] {
            texts.push(read::listing_text(of_function, of_batch, state));
        }
    }
    for text in texts {
        for step in plan(&mut connection, &text).await {
            // Whether a queue is empty is known from its first row.
            let harmless = step == "SCAN queue" && text.contains("EXISTS (SELECT 1 FROM queue )");
            let slow = step.starts_with("SCAN") || step.contains("TEMP B-TREE") || step.contains("AUTOMATIC");
            assert!(!slow || harmless, "{step}, in {text}");
        }
    }
    // Listing all calls, newest first, is a walk along the key, not a sort.
    let text = read::listing_text(false, false, None);
    let steps = plan(&mut connection, &text).await;
    assert!(steps.iter().any(|step| step.contains("SEARCH c USING PRIMARY KEY")), "{steps:?}");
    // The writer takes what is oldest along a key, too.
    for text in [sweep::OLDEST_RESULTS, sweep::OLDEST_KEYS] {
        let steps = plan(&mut connection, text).await;
        assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{steps:?}");
    }
}

async fn pages(store: &SqliteStore) -> i64 {
    sqlx::query("PRAGMA page_count").fetch_one(&store.pool).await.unwrap().get(0)
}

/// Accepting, ending and purging the same amount again takes no more room.
#[tokio::test]
async fn the_file_does_not_grow_with_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let shared: Shared = store.clone();
    let app = contract::recorded_app(&shared).await;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for call in contract::accepted(&shared, &app, 5000).await {
            let record = contract::ended(&call.record, "succeeded", NOW_MS);
            shared.record(Change::Ended { record, result: Some(contract::value(&[7; 100])), done: None });
        }
        shared.flush().await.unwrap();
        shared.purge(u64::MAX >> 20, u64::MAX >> 20).await.unwrap();
        sizes.push(pages(&store).await);
    }
    assert!(sizes[2] <= sizes[0] + sizes[0] / 10, "{sizes:?}");
}

/// Whether a file of the store holds a text.
fn holds(folder: &tempfile::TempDir, text: &[u8]) -> bool {
    let files = std::fs::read_dir(folder.path()).unwrap();
    let contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    contents.into_iter().any(|content| content.windows(text.len()).any(|window| window == text))
}

/// Inputs hold secrets: those of one page, of a part of it, and of several.
#[tokio::test]
async fn inputs_of_ended_calls_are_nowhere_on_disk_after_a_purge() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let shared: Shared = store.clone();
    let app = contract::recorded_app(&shared).await;
    let mut calls = contract::calls_of(&app, 30);
    for (place, call) in calls.iter_mut().enumerate() {
        call.input = StoredPayload::Inline(Bytes::from(b"hush-hush ".repeat(1 << (place % 10))));
    }
    contract::submitted(&shared, contract::submission(&app, calls.clone())).await;
    assert!(holds(&folder, b"hush-hush"));
    for call in &calls {
        let record = contract::ended(&call.record, "succeeded", NOW_MS);
        shared.record(Change::Ended { record, result: Some(contract::value(b"done")), done: None });
    }
    shared.flush().await.unwrap();
    shared.purge(0, 0).await.unwrap();
    assert!(!holds(&folder, b"hush-hush") && holds(&folder, b"done"));
}

async fn limit(store: &SqliteStore, pages: u32) {
    store.job(|answer| Job::Limit(pages, answer)).await.unwrap();
}

/// A full disk refuses what is new with its name, and loses nothing that was recorded.
#[tokio::test]
async fn a_full_disk_loses_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let shared: Shared = store.clone();
    let app = contract::recorded_app(&shared).await;
    let calls = contract::accepted(&shared, &app, 2).await;
    // SQLite takes the size that it has when that is more.
    limit(&store, 1).await;
    let mut large = contract::calls_of(&app, 20);
    for call in &mut large {
        call.input = StoredPayload::Inline(Bytes::from(vec![1; 60_000]));
    }
    let refused = shared.submit(contract::submission(&app, large.clone())).await.unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
    let result = contract::value(&[9; 60_000]);
    let record = |place: usize| contract::ended(&calls[place].record, "succeeded", NOW_MS + 1);
    let (done, synced) = oneshot::channel();
    let tell = move |outcome| {
        let _ = done.send(outcome);
    };
    let done = Some(Box::new(tell) as Done);
    shared.record(Change::Ended { record: record(0), result: Some(result.clone()), done });
    assert_eq!(synced.await, Ok(Err(())), "whoever waits learns that it is not on disk");
    let refused = shared.flush().await.unwrap_err();
    assert!(refused.is_disk_full(), "{refused:?}");
    assert_eq!(contract::queue_of(&shared, &app).await, calls);
    limit(&store, u32::MAX - 1).await;
    // Tried again by itself, without anything that would hurry it.
    let recorded = async {
        while shared.result(calls[0].record.id).await.unwrap() == FoundResult::Absent {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), recorded).await.expect("the change is written");
    assert_eq!(shared.result(calls[0].record.id).await.unwrap(), FoundResult::Kept(result));
    contract::submitted(&shared, contract::submission(&app, large)).await;
    assert_eq!(contract::queue_of(&shared, &app).await.len(), 21);
}
