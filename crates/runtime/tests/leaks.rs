//! Nothing stays behind: after normal ends, crashes, kills, and the death of helper or owner.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio as Pipe};
use std::time::{Duration, Instant};

use clunk_runtime::*;
use support::*;

/// Everything on the host that belongs to this runtime, with counts.
fn traces(world: &World) -> BTreeMap<&'static str, usize> {
    let instance = world.runtime.instance();
    let group = format!("clunk_{instance}");
    let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
    let interfaces =
        interfaces.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("ck{instance}-")));
    let mut groups = 0;
    count_groups(Path::new("/sys/fs/cgroup"), &group, &mut groups);
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|text| text.contains(&group))
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let state = world.state_dir.to_string_lossy().into_owned();
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    BTreeMap::from([
        ("interfaces", interfaces.count()),
        ("groups", groups),
        ("processes", processes.count()),
        ("mounts", mounts.lines().filter(|line| line.contains(&state)).count()),
        ("scratch", fs::read_dir(world.state_dir.join("containers")).map_or(0, Iterator::count)),
        ("tables", String::from_utf8_lossy(&tables.stdout).matches(&group).count()),
    ])
}

fn count_groups(dir: &Path, name: &str, count: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.path().to_string_lossy().contains(name) {
            *count += 1;
        }
        count_groups(&entry.path(), name, count);
    }
}

fn nothing() -> BTreeMap<&'static str, usize> {
    ["interfaces", "groups", "processes", "mounts", "scratch", "tables"]
        .into_iter()
        .map(|name| (name, 0))
        .collect()
}

/// Waits until what is asked for holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < BOUND, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_end_leaves_nothing() {
    let Some(world) = world() else { return };
    for network in [Network::None, Network::Nat] {
        for (script, kill) in
            [("true", false), ("kill -11 $$", false), ("tail /dev/zero", false), ("sleep 1000", true)]
        {
            let mut spec = world.shell(&format!("echo x > /root/file; {script}"));
            spec.network = network;
            let started = world.runtime.start(spec).await.unwrap();
            let scratch = world.state_dir.join("containers").join(started.control.id().to_string());
            let pid = started.control.pid();
            if kill {
                started.control.signal(9);
            }
            bounded(started.control.wait()).await;
            assert!(!scratch.exists(), "{script}");
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{script}");
        }
    }
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_leaves_nothing() {
    let Some(world) = world() else { return };
    for step in 0..4 {
        let mut spec = world.spec(&["nope"]);
        spec.network = Network::Nat;
        match step {
            0 => {}
            1 => spec.workdir = "/absent".into(),
            2 => spec.root.lowers.push("/absent".into()),
            _ => {
                spec.mounts.push(BindMount { source: "/absent".into(), target: "/x".into(), read_only: true })
            }
        }
        assert!(world.runtime.start(spec).await.is_err());
        assert_eq!(traces(&world)["scratch"], 0, "step {step}");
    }
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_nobody_waits_for_leaves_nothing() {
    let Some(world) = world() else { return };
    world.runtime.warm_up().await.unwrap();
    for wait in 0..8 {
        let start = world.runtime.start(world.shell("sleep 1000"));
        let _ = tokio::time::timeout(Duration::from_millis(wait), start).await;
    }
    // Those that did start in time were dropped and run on, until the runtime ends.
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_and_a_hundred_in_turn() {
    let Some(world) = world() else { return };
    let starts = (0..50).map(|number| {
        let mut spec = world.shell(&format!("echo {number}"));
        spec.network = Network::Nat;
        async { world.run(spec).await }
    });
    for (number, output) in futures_util::future::join_all(starts).await.into_iter().enumerate() {
        assert_eq!(output.stdout, format!("{number}\n"));
    }
    for _ in 0..100 {
        assert_eq!(world.run(world.shell("echo on")).await.stdout, "on\n");
    }
    assert_eq!(traces(&world)["scratch"], 0);
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_helper_is_noticed_and_cleaned_up_after() {
    let Some(world) = world() else { return };
    let mut spec = world.shell("echo x > /root/file; sleep 1000");
    spec.network = Network::Nat;
    let started = world.runtime.start(spec).await.unwrap();
    let helper = world.runtime.helper_pid().await.unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(helper as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Lost);
    // Dead, and gone as soon as the host's first process has reaped it.
    let status = format!("/proc/{}/status", started.control.pid());
    assert!(fs::read_to_string(status).map_or(true, |text| text.contains("State:\tZ")));
    assert_eq!(traces(&world)["scratch"], 0);
    assert_eq!(world.run(world.shell("echo again")).await.stdout, "again\n");
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}

/// An owner in a process of its own: this test run again, told by the environment to start containers and say so.
const OWNER: &str = "CLUNK_TEST_OWNER_STATE";

#[tokio::test(flavor = "multi_thread")]
async fn owner_for_the_test_below() {
    let Ok(state_dir) = std::env::var(OWNER) else { return };
    let Some(mut world) = world() else { return };
    world.runtime = runtime(Path::new(&state_dir));
    let mut containers = Vec::new();
    for network in [Network::Nat, Network::None] {
        let mut spec = world.shell("sleep 1000");
        spec.network = network;
        containers.push(world.runtime.start(spec).await.unwrap());
    }
    std::io::stdout().write_all(b"\nrunning\n").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_owner_ends_its_containers() {
    let Some(world) = world() else { return };
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_for_the_test_below", "--nocapture"])
        .env(OWNER, &world.state_dir)
        .stdout(Pipe::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "running"));
    assert!(traces(&world)["processes"] > 2);
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the end of every trace", || traces(&world) == nothing());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_owner_sweeps_what_a_killed_pair_left() {
    let Some(world) = world() else { return };
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_for_the_test_below", "--nocapture"])
        .env(OWNER, &world.state_dir)
        .stdout(Pipe::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "running"));
    let helper = fs::read_dir("/proc").unwrap().flatten().find(|entry| {
        let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        read("comm") == "clunk-helper\n" && read("status").contains(&format!("PPid:\t{}\n", owner.id()))
    });
    let helper: i32 = helper.unwrap().file_name().to_str().unwrap().parse().unwrap();
    // The owner first must not get to react, so it is stopped; then both go at once.
    let signal =
        |pid, signal| rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal);
    signal(owner.id() as i32, rustix::process::Signal::STOP).unwrap();
    signal(helper, rustix::process::Signal::KILL).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the end of the processes", || traces(&world)["processes"] == 0);
    assert_eq!(traces(&world)["scratch"], 2);
    let swept = world.runtime.sweep().await.unwrap();
    assert_eq!(swept.containers, 2);
    assert!(swept.cgroups >= 2, "{swept:?}");
    assert_eq!(traces(&world)["scratch"], 0);
    world.runtime.shutdown().await;
    assert_eq!(traces(&world), nothing());
}
