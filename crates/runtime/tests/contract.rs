//! The port's contract against each implementation.

mod support;

use clunk_core::id::ContainerId;
use clunk_runtime::contract::{Act, Bench};
use clunk_runtime::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_native_runtime_keeps_the_contract() {
    let Some(world) = world() else { return };
    for network in [Network::None, Network::Nat] {
        let runtime = runtime(&world.state_dir);
        let spec = |act: &Act| {
            let script = match act {
                Act::Print { output, errors, code } => {
                    format!("printf '%s' '{output}'; printf '%s' '{errors}' >&2; exit {code}")
                }
                Act::Sleep => "exec sleep 1000".into(),
                Act::EchoLink => "read line <&3; echo \"$line\" >&3".into(),
                Act::CatchTerm => {
                    "trap 'exit 3' TERM; echo ready >&3; while true; do sleep 0.01; done".into()
                }
            };
            ContainerSpec { network, link: true, ..world.shell(&script) }
        };
        Bench { runtime: &runtime, spec: &spec }.all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_keeps_the_contract() {
    let runtime = FakeRuntime::new(|mut container: FakeContainer| async move {
        use std::io::{BufRead, BufReader, Write};
        let argv = container.spec.argv.clone();
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words[..] {
            ["print", output, errors, code] => {
                container.print(output);
                container.print_error(errors);
                ExitReason::Code(code.parse().unwrap())
            }
            ["echo"] => {
                let mut link = container.link.take().unwrap();
                let mut line = String::new();
                BufReader::new(link.try_clone().unwrap()).read_line(&mut line).unwrap();
                link.write_all(line.as_bytes()).unwrap();
                ExitReason::Code(0)
            }
            ["catch"] => {
                container.link.take().unwrap().write_all(b"ready\n").unwrap();
                assert_eq!(container.signals.recv().await, Some(15));
                ExitReason::Code(3)
            }
            _ => std::future::pending().await,
        }
    });
    let spec = |act: &Act| {
        let argv = match act {
            Act::Print { output, errors, code } => ["print", output, errors, &code.to_string()].join("\n"),
            Act::Sleep => "sleep".into(),
            Act::EchoLink => "echo".into(),
            Act::CatchTerm => "catch".into(),
        };
        ContainerSpec {
            id: ContainerId::fresh(),
            root: RootFs { lowers: vec!["/".into()], upper: Upper::Scratch },
            mounts: Vec::new(),
            gpus: Vec::new(),
            argv: argv.split('\n').map(str::to_owned).collect(),
            env: Vec::new(),
            workdir: "/".into(),
            hostname: "fake".into(),
            limits: Limits::default(),
            network: Network::None,
            stdio: Stdio::Pipes,
            link: true,
            profile: Profile::Function,
        }
    };
    Bench { runtime: &runtime, spec: &spec }.all().await;
}
