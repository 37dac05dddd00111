//! What `/proc` says of processes.

use std::fs;
use std::time::Duration;

use crate::port::Usage;

/// The numbers of a process in `/proc/PID/stat` that are of use here.
struct Stat {
    state: char,
    parent: i32,
    session: i32,
    /// User and system time, in ticks.
    ticks: u64,
    /// Of children that have ended.
    child_ticks: u64,
    threads: u64,
    pages: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, those too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let numbers: Vec<i64> = fields.map_while(|field| field.parse().ok()).collect();
    // Field 4 of proc_pid_stat(5) is the first of these.
    let number = |field: usize| numbers.get(field - 4).copied().unwrap_or_default();
    let count = |field: usize| number(field).unsigned_abs();
    Some(Stat {
        state,
        parent: number(4) as i32,
        session: number(6) as i32,
        ticks: count(14) + count(15),
        child_ticks: count(16) + count(17),
        threads: count(20),
        pages: count(24),
    })
}

/// Every process that can be seen.
fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes with `NAME=value` in the environment they were started with.
pub(super) fn marked(mark: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids().filter(has).collect()
}

/// Whether a child has ended and was not reaped.
pub(super) fn is_dead(pid: i32) -> bool {
    stat(pid).is_none_or(|stat| stat.state == 'Z')
}

/// Children of this process that have ended and were not reaped.
pub(super) fn dead_children() -> Vec<i32> {
    let own = std::process::id() as i32;
    pids().filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == own && stat.state == 'Z')).collect()
}

/// What the session of a process uses, and what its ended children used.
pub(super) fn usage(leader: i32) -> Usage {
    let page = rustix::param::page_size() as u64;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut usage = Usage::default();
    let mut ticks = 0;
    for stat in pids().filter_map(stat).filter(|stat| stat.session == leader) {
        ticks += stat.ticks + stat.child_ticks;
        usage.memory_bytes += stat.pages * page;
        usage.pids += stat.threads;
    }
    usage.cpu = Duration::from_millis(ticks * 1000 / ticks_per_second);
    usage.memory_peak_bytes = usage.memory_bytes;
    usage
}
