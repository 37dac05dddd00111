//! `clunk __model-server`: serves one model by itself. What an image's entrypoint and `clunk serve --local` run.

use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clunk_core::error::ErrorCode;
use clunk_model::host::{self, Host, HostConfig, HostOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::ModelServer;
use crate::ui::{self, Output};

/// Open files: as many as our containers may have.
const DESCRIPTORS: u64 = 65_536;
/// Threads for large bodies and files.
const MAX_BLOCKING: usize = 8;

pub fn run(args: ModelServer, output: Output) -> anyhow::Result<ExitCode> {
    let level = if args.verbose { "debug" } else { "warn" };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(ui::colour())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("CLUNK_LOG").unwrap_or_else(|_| level.into()),
        )
        .init();
    let config = read(&args.config)?;
    // One thread: a request then costs no wake-up of another, and the second core is the model's.
    let executor = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(MAX_BLOCKING)
        .enable_all()
        .build()?;
    raise_descriptors();
    let listener =
        executor.block_on(host::listen(&args.host, args.port)).map_err(|error| taken(&args, &error))?;
    executor.block_on(async {
        let stopping = CancellationToken::new();
        let options = HostOptions { train_only: args.mode == "train", upload_url: args.upload_url.clone() };
        // Ends with the process.
        tokio::spawn(stop_on_signal(stopping.clone(), args.await_explicit_shutdown)?);
        let address = listener.local_addr()?;
        let host = Host::new(config, options, stopping).map_err(|error| {
            ui::error(
                ErrorCode::BadRequest,
                error.to_string(),
                "look at the model's cog.yaml and environment",
            )
        })?;
        output.say(format_args!("listening on http://{address}"));
        host.serve(listener).await;
        anyhow::Ok(())
    })?;
    // What still reads a large file need not be waited for.
    executor.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Every connection, of clients and of webhooks, is a descriptor: the soft limit of many systems is 1024.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limit.current.is_some_and(|now| now < current)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn read(path: &Path) -> anyhow::Result<HostConfig> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| {
        let text = format!("{} does not say what to serve: {error}", path.display());
        ui::error(ErrorCode::BadRequest, text, "write it with `clunk build` or `clunk serve`")
    })
}

fn taken(args: &ModelServer, error: &io::Error) -> anyhow::Error {
    let (host, port) = (&args.host, args.port);
    let known = (host.as_str(), port).to_socket_addrs().is_ok();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let text = format!("port {port} on {host} is taken by another program");
            ui::error(ErrorCode::PortTaken, text, "stop that program, or set PORT or --port to another port")
        }
        _ if !known => {
            let text = format!("{host:?} is no address of this machine");
            ui::error(ErrorCode::BadRequest, text, "use --host 127.0.0.1, or 0.0.0.0 for everybody")
        }
        _ => ui::error(
            ErrorCode::PortTaken,
            format!("could not listen on {host}:{port}: {error}"),
            "use another port",
        ),
    }
}

/// The first signal lets what runs end, the second does not. With `explicit`, only `POST /shutdown` and Ctrl-C end it.
fn stop_on_signal(stopping: CancellationToken, explicit: bool) -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        for round in 0.. {
            next(&mut terminate, &mut interrupt, explicit).await;
            if round > 0 {
                // The model's processes die with this one.
                std::process::exit(130);
            }
            stopping.cancel();
        }
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal, explicit: bool) {
    loop {
        tokio::select! {
            _ = terminate.recv() => if !explicit { return },
            _ = interrupt.recv() => return,
        }
    }
}
