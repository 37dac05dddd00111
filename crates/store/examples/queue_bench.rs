//! How fast the durable queue accepts and drains: `cargo run --release -p clunk-store --example queue_bench [FOLDER]`.
//!
//! It prints durable accepts per second for three sizes of submission, then fills a queue with a million calls and drains
//! it as the engine does: a window is read, each call ends with a result, and the next window is read behind it.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clunk_store::contract::{self, NOW_MS, Shared};
use clunk_store::{Change, NewApp, SqliteStore};

const PENDING: u64 = 1_000_000;
/// Calls of one request of `spawn_map`.
const REQUEST: u64 = 10_000;
/// Calls that the drain holds at a time.
const WINDOW: u32 = 1000;
const TASKS: u64 = 64;
const INPUT: &[u8] = &[7; 64];
const RESULT: &[u8] = &[9; 32];

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{words}").expect("somebody reads");
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// Seconds of processor time of this process; Linux counts them in hundredths.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name may have blanks: fields are counted behind it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

async fn submit(store: &Shared, app: &NewApp, count: u64) {
    let mut calls = contract::calls_of(app, count);
    for call in &mut calls {
        call.input = clunk_store::StoredPayload::Inline(INPUT.into());
    }
    store.submit(contract::submission(app, calls)).await.expect("accepted");
}

/// Accepts in submissions of a size from so many tasks, and gives calls per second.
async fn accept(store: &Shared, tasks: u64, size: u64, submissions: u64) -> f64 {
    let app = contract::recorded_app(store).await;
    let start = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (store, app) = (store.clone(), app.clone());
            tokio::spawn(async move {
                for _ in 0..submissions {
                    submit(&store, &app, size).await;
                }
            })
        })
        .collect();
    let count = tasks.len() as u64 * submissions * size;
    for task in tasks {
        task.await.expect("no panic");
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Ends so many calls from the head of the queue, and gives calls per second.
async fn drain(store: &Shared, app: &NewApp, after_seq: &mut u64, count: u64) -> f64 {
    let start = Instant::now();
    let mut ended = 0;
    while ended < count {
        let window = store.queued(app.functions[0].0, 0, *after_seq, WINDOW, 16 << 20).await.expect("read");
        let Some(last) = window.last() else { break };
        *after_seq = last.seq;
        ended += window.len() as u64;
        for call in window {
            let record = contract::ended(&call.record, "succeeded", NOW_MS);
            store.record(Change::Ended { record, result: Some(contract::value(RESULT)), done: None });
        }
        store.caught_up().await;
    }
    store.flush().await.expect("on disk");
    ended as f64 / start.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).map(PathBuf::from).unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(folder).expect("a folder");
    let path = folder.path().join("clunk.db");
    let opened = Arc::new(SqliteStore::open(&path).await.expect("a store"));
    let store: Shared = opened.clone();
    say(&format!("accept, 1 call x {TASKS} tasks      {:>9.0} calls/s", accept(&store, TASKS, 1, 300).await));
    say(&format!("accept, 100 calls x 4 tasks    {:>9.0} calls/s", accept(&store, 4, 100, 200).await));
    say(&format!("accept, 10,000 calls x 2 tasks {:>9.0} calls/s", accept(&store, 2, REQUEST, 10).await));

    let app = contract::recorded_app(&store).await;
    let start = Instant::now();
    for _ in 0..PENDING / REQUEST {
        submit(&store, &app, REQUEST).await;
    }
    let rate = PENDING as f64 / start.elapsed().as_secs_f64();
    let size = std::fs::metadata(&path).map_or(0, |found| found.len()) >> 20;
    say(&format!(
        "{PENDING} pending: enqueued at {rate:.0} calls/s; {} MiB of memory, {size} MiB of file",
        memory_mib()
    ));
    drop(store);
    Arc::into_inner(opened).expect("nobody else has it").close().await;
    let start = Instant::now();
    let store: Shared = Arc::new(SqliteStore::open(&path).await.expect("a store"));
    let (open_s, start) = (start.elapsed().as_secs_f64(), Instant::now());
    let depths = store.queue_depths().await.expect("counted");
    let count_s = start.elapsed().as_secs_f64();
    say(&format!("opened again in {open_s:.2} s; {} queues counted in {count_s:.2} s", depths.len()));
    let mut after_seq = 0;
    let tenth = PENDING / 10;
    for part in 1..=10 {
        let cpu = cpu_s();
        let rate = drain(&store, &app, &mut after_seq, tenth).await;
        let cpu_us = (cpu_s() - cpu) / tenth as f64 * 1e6;
        say(&format!(
            "drain, tenth {part:>2}: {rate:>9.0} calls/s, {cpu_us:>5.1} us of processor a call, {} MiB of memory",
            memory_mib()
        ));
    }
    let start = Instant::now();
    store.purge(u64::MAX >> 20, u64::MAX >> 20).await.expect("purged");
    say(&format!("purge of all: {:.1} s; {} MiB of memory", start.elapsed().as_secs_f64(), memory_mib()));
}
