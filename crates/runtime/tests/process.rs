//! Plain child processes: the port's contract, and what is theirs alone.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use clunk_core::id::ContainerId;
use clunk_runtime::contract::{Act, Bench};
use clunk_runtime::*;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec!["/".into()], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: Vec::new(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("COLOUR".into(), "green".into())],
        workdir: "/tmp".into(),
        hostname: "process".into(),
        limits: Limits::default(),
        network: Network::NatOrNone,
        stdio: Stdio::Pipes,
        link: true,
        profile: Profile::Function,
    }
}

fn script(act: &Act) -> String {
    match act {
        Act::Print { output, errors, code } => {
            format!("printf '%s' '{output}'; printf '%s' '{errors}' >&2; exit {code}")
        }
        Act::Sleep => "exec sleep 1000".into(),
        Act::EchoLink => "read line <&3; echo \"$line\" >&3".into(),
        Act::CatchTerm => "trap 'exit 3' TERM; echo ready >&3; while true; do sleep 0.01; done".into(),
    }
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn gone(pid: i32) {
    let ended = async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the process ends");
}

#[tokio::test]
async fn processes_keep_the_contract() {
    let runtime = ProcessRuntime::new();
    Bench { runtime: &runtime, spec: &|act| shell(&script(act)) }.all().await;
}

#[tokio::test]
async fn a_program_sees_its_own_environment_and_folder_alone() {
    let runtime = ProcessRuntime::new();
    let mut started = runtime.start(shell("env; pwd")).await.unwrap();
    started.control.wait().await;
    let output = std::fs::File::from(started.stdout.take().unwrap());
    let lines: Vec<_> = BufReader::new(output).lines().map(Result::unwrap).collect();
    let mut names: Vec<_> =
        lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["CLUNK_CONTAINER_ID", "COLOUR", "PATH"]);
    assert_eq!(lines.last().map(String::as_str), Some("/tmp"));
}

#[tokio::test]
async fn what_leaves_the_session_ends_with_the_container() {
    let runtime = ProcessRuntime::new();
    // A daemon: a session of its own, and its parent has ended.
    let text = "sh -c 'setsid sleep 1000 >/dev/null 2>&1 & echo $!' & wait; sleep 1000";
    for code in [None, Some(7)] {
        let text = code
            .map_or(text.to_owned(), |code| text.replace("wait; sleep 1000", &format!("wait; exit {code}")));
        let mut started = runtime.start(shell(&text)).await.unwrap();
        let mut line = String::new();
        BufReader::new(std::fs::File::from(started.stdout.take().unwrap())).read_line(&mut line).unwrap();
        let daemon: i32 = line.trim().parse().unwrap();
        if code.is_none() {
            started.control.signal(libc::SIGKILL);
        }
        let exit = tokio::time::timeout(PATIENCE, started.control.wait()).await.unwrap();
        assert_eq!(exit.reason, code.map_or(ExitReason::Signal(libc::SIGKILL), ExitReason::Code));
        gone(daemon).await;
    }
}

#[tokio::test]
async fn what_cannot_be_executed_is_named() {
    let runtime = ProcessRuntime::new();
    let error = |spec| async { runtime.start(spec).await.err().expect("it does not start").to_string() };
    let missing = ContainerSpec { argv: vec!["/no/such/python".into()], ..shell("") };
    assert!(error(missing).await.contains("/no/such/python"));
    let nowhere = ContainerSpec { workdir: "/no/such/folder".into(), ..shell("") };
    assert!(error(nowhere).await.contains("no folder /no/such/folder"));
}

#[tokio::test]
async fn usage_counts_the_whole_session() {
    let runtime = ProcessRuntime::new();
    let mut started = runtime.start(shell("sleep 1000 & sleep 1000 & echo ready; wait")).await.unwrap();
    let mut line = String::new();
    BufReader::new(std::fs::File::from(started.stdout.take().unwrap())).read_line(&mut line).unwrap();
    let usage = started.control.usage();
    assert!(usage.pids >= 3 && usage.memory_bytes > 0, "{usage:?}");
    runtime.shutdown().await;
    assert_eq!(started.control.usage(), Usage::default());
}
