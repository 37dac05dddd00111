//! `clunk up`

use std::io::{IsTerminal, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clunk_core::error::ErrorBody;
use clunk_runtime::{NativeConfig, NativeRuntime};
use clunk_server::{Bound, StateDir};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::Up;
use crate::ui::{self, Output};
use crate::{embed, home, launch};

/// Threads that wait for many things; what works is in containers.
const WORKERS: usize = 2;
/// Threads for file operations at the same time.
const MAX_BLOCKING: usize = 16;

pub fn run(args: Up, output: Output) -> anyhow::Result<ExitCode> {
    if args.foreground {
        return foreground(args, output);
    }
    let url = launch::start(&["--host".into(), args.host, "--port".into(), args.port.to_string()])?;
    if output.json {
        ui::print_json(&json!({"url": url}));
    } else {
        output.say(format_args!("clunk is up: {url}"));
        output.say("try: clunk run FILE, clunk status, clunk down");
    }
    Ok(ExitCode::SUCCESS)
}

fn foreground(args: Up, output: Output) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // Telling standard error that it cannot be written to would panic: its disk may be full.
        .log_internal_errors(false)
        .with_ansi(ui::colour())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CLUNK_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    // SAFETY: the parent opened this descriptor for us and nothing else uses it.
    let tell = args.ready_fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let tell = tell.map(std::fs::File::from);
    match serve(&args, tell.as_ref(), output) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            if let (Some(mut tell), Some(body)) = (tell, error.downcast_ref::<ErrorBody>()) {
                let _ = writeln!(tell, "error {}", serde_json::to_string(body)?);
            }
            Err(error)
        }
    }
}

fn serve(args: &Up, tell: Option<&std::fs::File>, output: Output) -> anyhow::Result<()> {
    clunk_server::memory::settle();
    let path = home::state_dir();
    // Whoever cannot have the folder or the port hears so before anything is touched.
    let state = StateDir::take(&path)?;
    let bound = Bound::bind(&args.host, args.port)?;
    let runner = embed::lay_out(&path.join("runner")).context("could not lay out the runner")?;
    let helper = vec![std::env::current_exe()?.display().to_string(), crate::HELPER_VERB.into()];
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(MAX_BLOCKING)
        .enable_all()
        .build()?;
    executor.block_on(async {
        let config = NativeConfig { driver_root: home::driver_root(), ..NativeConfig::new(&path, helper) };
        let runtime = Arc::new(NativeRuntime::new(config));
        let stopping = CancellationToken::new();
        tokio::spawn(stop_on_signal(stopping.clone()));
        let ready = |url: &str| {
            tracing::info!(url, version = clunk_server::VERSION, "clunk is up");
            if let Some(mut tell) = tell {
                let _ = writeln!(tell, "ready {url}");
            } else if std::io::stderr().is_terminal() {
                output.say("Ctrl-C stops it");
            }
        };
        clunk_server::serve(state, bound, runtime, runner, stopping, ready).await
    })?;
    Ok(())
}

/// The first signal stops in order, the second at once.
async fn stop_on_signal(stopping: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    for round in 0.. {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if round > 0 {
            // The helper process cleans up after us.
            std::process::exit(130);
        }
        stopping.cancel();
    }
}
