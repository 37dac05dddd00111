//! `clunk doctor`: this machine, or a project.

mod project;

use std::process::{Command, ExitCode};

use clunk_runtime::{Check, NativeConfig, NativeRuntime, Runtime, Verdict};
use serde_json::json;

use crate::args::Doctor;
use crate::ui::{self, Output};
use crate::{HELPER_VERB, home};

pub fn run(args: Doctor, output: Output) -> anyhow::Result<ExitCode> {
    match &args.folder {
        Some(folder) => project::run(&args, folder, output),
        None => machine(output),
    }
}

fn machine(output: Output) -> anyhow::Result<ExitCode> {
    let helper = vec![std::env::current_exe()?.display().to_string(), HELPER_VERB.into()];
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // A folder of its own: the state folder may be a running server's.
    let folder = home::state_dir().join(format!(".doctor-{}", std::process::id()));
    let mut checks = executor.block_on(async {
        let config = NativeConfig { driver_root: home::driver_root(), ..NativeConfig::new(&folder, helper) };
        let runtime = NativeRuntime::new(config);
        let checks = runtime.checks().await;
        runtime.shutdown().await;
        checks
    });
    let _ = std::fs::remove_dir_all(&folder);
    checks.push(python());
    checks.push(server());
    let failed = checks.iter().any(|check| check.verdict == Verdict::Failure);
    if output.json {
        let list: Vec<_> = checks.iter().map(to_json).collect();
        ui::print_json(&json!({"ok": !failed, "checks": list}));
    } else {
        checks.iter().for_each(show);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn python() -> Check {
    let name = "python";
    let found =
        Command::new("python3").args(["-c", "import platform; print(platform.python_version())"]).output();
    match found {
        Ok(answer) if answer.status.success() => Check {
            name,
            verdict: Verdict::Ok,
            detail: String::from_utf8_lossy(&answer.stdout).trim().into(),
        },
        _ => Check {
            name,
            verdict: Verdict::Failure,
            detail: "no python3 on the PATH; `clunk run` needs 3.9 or newer: apt-get install python3".into(),
        },
    }
}

fn server() -> Check {
    let detail = match home::local_server() {
        Some(server) => format!("{} runs (version {}, process {})", server.url, server.version, server.pid),
        None => "not running; `clunk run` starts it by itself".into(),
    };
    Check { name: "server", verdict: Verdict::Ok, detail }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failure => "failure",
    }
}

fn to_json(check: &Check) -> serde_json::Value {
    json!({"name": check.name, "verdict": word(check.verdict), "detail": check.detail})
}

fn show(check: &Check) {
    let mark = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warning => "warn",
        Verdict::Failure => "FAIL",
    };
    ui::print(format_args!("{mark}  {:<18} {}", check.name, check.detail));
}
