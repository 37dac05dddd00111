//! `kill -9` in the middle of submitting and ending: what was acknowledged is there, and nothing is there twice.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clunk_core::id::{CallId, FunctionId};
use clunk_store::contract::{self, NOW_MS, Shared};
use clunk_store::{CallFilter, Change, FoundResult, NewApp, SqliteStore, Store, Submission, Submitted};
use tokio::sync::oneshot;

const KILLS: usize = 20;
/// Tasks of the child that work at the same time, and calls of each submission.
const TASKS: usize = 8;
const CALLS: u64 = 3;
/// Tells the child its store, and which round it is.
const PATH: &str = "CLUNK_TEST_STORE";
const ROUND: &str = "CLUNK_TEST_ROUND";
/// Before each line of the child, among those of the test's harness.
const MARK: &str = "ack ";

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{words}").and_then(|()| out.flush()).unwrap();
}

async fn the_app(store: &dyn Store) -> NewApp {
    let app = store.running_apps().await.unwrap().remove(0);
    NewApp {
        id: app.id,
        name: app.name,
        workspace: app.workspace,
        lifetime: app.lifetime,
        created_ms: app.created_ms,
        functions: app.functions,
    }
}

fn keyed(app: &NewApp, key: &str) -> Submission {
    Submission { key: Some(key.into()), ..contract::submission(app, contract::calls_of(app, CALLS)) }
}

/// Works until it is killed, and says what was acknowledged.
async fn work(store: Shared, app: NewApp, task: String) {
    for turn in 0.. {
        let key = format!("{task}-{turn}");
        let submission = keyed(&app, &key);
        let calls = submission.calls.clone();
        assert!(matches!(store.submit(submission).await.unwrap(), Submitted::New { .. }));
        say(&format!("accepted {key} {}", calls[0].record.id));
        let mut ends = Vec::new();
        for call in &calls[1..] {
            let (done, synced) = oneshot::channel();
            let id = call.record.id;
            let tell = move |outcome| {
                let _ = done.send(outcome);
            };
            let record = contract::ended(&call.record, "succeeded", NOW_MS + 1);
            let result = Some(contract::value(&id.to_bytes()));
            store.record(Change::Ended { record: record.clone(), result, done: Some(Box::new(tell)) });
            let late = Some(contract::value(b"late"));
            store.record(Change::Ended { record, result: late, done: None });
            ends.push((id, synced));
        }
        for (id, synced) in ends {
            assert_eq!(synced.await, Ok(Ok(())));
            say(&format!("ended {key} {id}"));
        }
    }
}

#[tokio::test]
#[ignore = "the child of the test below"]
async fn child() {
    let path = PathBuf::from(std::env::var_os(PATH).expect("a store"));
    let round = std::env::var(ROUND).expect("a round");
    let store: Shared = Arc::new(SqliteStore::open(&path).await.unwrap());
    let app = the_app(&*store).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(work(store.clone(), app.clone(), format!("{round}-{task}"))))
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[derive(Default)]
struct Acknowledged {
    /// First ids of submissions, by key.
    accepted: HashMap<String, CallId>,
    ended: HashSet<CallId>,
}

/// Runs a child until it has acknowledged so many things, and kills it.
fn kill_one(path: &Path, round: usize, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = 0;
    for line in lines {
        let Ok(line) = line else { break };
        let Some(words) = line.strip_prefix(MARK) else { continue };
        let words: Vec<_> = words.split(' ').collect();
        // The kill may cut the last line.
        let [what, key, id] = words[..] else { continue };
        let Ok(id) = id.parse::<CallId>() else { continue };
        match what {
            "accepted" => drop(acknowledged.accepted.insert(key.into(), id)),
            "ended" => drop(acknowledged.ended.insert(id)),
            other => panic!("the child said {other}"),
        }
        count += 1;
        if count == 1 + round * 9 {
            child.kill().unwrap();
        }
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(count > round * 9, "the child of round {round} ended by itself");
}

async fn everything(store: &dyn Store, function: FunctionId) -> HashMap<CallId, String> {
    let mut found = HashMap::new();
    let mut before = None;
    loop {
        let filter = CallFilter { function: Some(function), before, limit: 1000, ..CallFilter::default() };
        let page = store.calls(filter).await.unwrap();
        let Some(last) = page.last() else { return found };
        before = Some(last.id);
        for call in page {
            assert!(found.insert(call.id, call.state).is_none(), "a call is listed twice");
        }
    }
}

async fn check(store: &Shared, app: &NewApp, acknowledged: &Acknowledged) {
    let all = everything(&**store, app.functions[0].0).await;
    let queue = contract::queue_of(store, app).await;
    let waiting: HashSet<_> = queue.iter().map(|call| call.record.id).collect();
    assert_eq!(waiting.len(), queue.len(), "a call waits twice");
    assert!(queue.is_sorted_by(|one, two| one.seq < two.seq));
    for (key, first) in &acknowledged.accepted {
        let ids: Vec<_> = (0..CALLS).map(|offset| first.offset(offset)).collect();
        assert!(ids.iter().all(|id| all.contains_key(id)), "{key} was accepted and is lost");
        let again = Submitted::Again { calls: ids, batch: None, accepted: CALLS };
        assert_eq!(store.submit(keyed(app, key)).await.unwrap(), again);
    }
    for id in &acknowledged.ended {
        assert_eq!(all[id], "succeeded", "{id} had ended");
    }
    // Each call waits or has ended with its first result, whether that was acknowledged or not.
    for (id, state) in &all {
        let result = store.result(*id).await.unwrap();
        let expected = match state.as_str() {
            "queued" => FoundResult::Absent,
            _ => FoundResult::Kept(contract::value(&id.to_bytes())),
        };
        assert_eq!((waiting.contains(id), result), (state == "queued", expected), "{id}");
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clunk.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.create_app(contract::new_app()).await.unwrap();
    store.close().await;
    let mut acknowledged = Acknowledged::default();
    for round in 0..KILLS {
        kill_one(&path, round, &mut acknowledged);
        let store = Arc::new(SqliteStore::open(&path).await.unwrap());
        let shared: Shared = store.clone();
        let app = the_app(&*shared).await;
        check(&shared, &app, &acknowledged).await;
        drop(shared);
        Arc::into_inner(store).expect("nobody else has it").close().await;
    }
    assert!(acknowledged.ended.len() > KILLS);
}
