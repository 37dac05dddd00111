//! A terminal in a new container of an image.
//!
//! After `101 Switching Protocols` both sides send frames: one byte of kind, four bytes of length (little-endian),
//! content. Client to server: 0 input, 1 size (rows and columns, two bytes each). Server to client: 0 output, 2 exit
//! code (four bytes) and the end.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use clunk_agent::Replica;
use clunk_core::api::OpenShell;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::ImageId;
use clunk_runtime::{Control, ExecSpec, ExitReason, Network, Profile, Started, Stdio};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};

use super::json;
use crate::answer::Failure;
use crate::engine::Held;
use crate::engine::compose::{self, Root};
use crate::server::Server;

pub const PROTOCOL: &str = "clunk-tty";
/// Where a program in a running container is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const INPUT: u8 = 0;
const SIZE: u8 = 1;
const EXIT: u8 = 2;
/// Bytes of one frame.
const MAX_FRAME: usize = 64 << 10;

type Socket = TokioIo<hyper::upgrade::Upgraded>;

pub async fn open(State(server): State<Arc<Server>>, request: Request) -> Result<Response, Failure> {
    let (upgrade, shell) = asked(request).await?;
    let (started, held) = start(&server, shell).await?;
    Ok(attach(upgrade, started, Some(held)))
}

/// A terminal in a container that runs.
pub async fn exec(replica: Arc<Replica>, request: Request) -> Result<Response, Failure> {
    let (upgrade, shell) = asked(request).await?;
    let Some(control) = replica.control() else {
        return Err(ErrorBody::new(ErrorCode::BadRequest, "the container is still starting").into());
    };
    let spec = ExecSpec {
        argv: if shell.command.is_empty() { default_shell() } else { shell.command },
        env: vec![
            ("TERM".into(), term(shell.term)),
            ("HOME".into(), "/root".into()),
            ("PATH".into(), PATH.into()),
        ],
        workdir: "/".into(),
        stdio: Stdio::Terminal { rows: shell.rows, columns: shell.columns },
    };
    let started = control.exec(spec).await;
    let started = started.map_err(|error| ErrorBody::new(ErrorCode::StartFailed, error.to_string()))?;
    Ok(attach(upgrade, started, None))
}

async fn asked(request: Request) -> Result<(hyper::upgrade::OnUpgrade, OpenShell), Failure> {
    let (mut parts, body) = request.into_parts();
    let asked =
        parts.headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes() == PROTOCOL.as_bytes());
    let Some(upgrade) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>().filter(|_| asked) else {
        let error = ErrorBody::new(ErrorCode::BadRequest, "a shell needs a connection of its own");
        return Err(error.hint(format!("send `Connection: upgrade` and `Upgrade: {PROTOCOL}`")).into());
    };
    Ok((upgrade, json(body).await?))
}

fn attach(upgrade: hyper::upgrade::OnUpgrade, started: Started, held: Option<Held>) -> Response {
    tokio::spawn(async move {
        let _held = held;
        let control = started.control.clone();
        match upgrade.await {
            Ok(socket) => serve(TokioIo::new(socket), started).await,
            Err(error) => tracing::debug!(%error, "the shell's client went away"),
        }
        control.signal(rustix::process::Signal::KILL.as_raw());
        control.wait().await;
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, PROTOCOL);
    response.body(Body::empty()).expect("valid headers")
}

fn term(given: String) -> String {
    if given.is_empty() { "xterm-256color".into() } else { given }
}

async fn start(server: &Server, shell: OpenShell) -> Result<(Started, Held), Failure> {
    let engine = &server.engine;
    let _keep = engine.removing.read().await;
    let Some(id) = shell.image.or_else(|| shell.recipe.as_ref().map(|recipe| ImageId::of(recipe.digest())))
    else {
        return Err(ErrorBody::new(ErrorCode::BadRequest, "which image?")
            .hint("give `image` or `recipe`")
            .into());
    };
    let built = engine.images.ready(id).await.map_err(|error| error.body())?;
    let partial = engine.images.partial(id);
    let root = match (&built, &partial) {
        (Some(image), _) => Root::of(image),
        (None, Some(partial)) => Root::before_failure(partial),
        (None, None) => return Err(crate::answer::not_found(format_args!("image {id}"))),
    };
    let held = engine.hold([id], &shell.trees);
    let mut container = compose::base(engine, root, &shell.trees).await?;
    container.argv = if shell.command.is_empty() { default_shell() } else { shell.command };
    container.env.push(("TERM".into(), term(shell.term)));
    container.stdio = Stdio::Terminal { rows: shell.rows, columns: shell.columns };
    container.profile = Profile::Build;
    if shell.block_network {
        container.network = Network::None;
    }
    if let Some(limit) = shell.memory_limit_mib {
        container.limits.memory_bytes = Some(limit << 20);
    }
    let started = engine.runtime.start(container).await;
    let started = started.map_err(|error| ErrorBody::new(ErrorCode::StartFailed, error.to_string()))?;
    Ok((started, held))
}

fn default_shell() -> Vec<String> {
    ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash -l; exec sh"].map(String::from).into()
}

async fn serve(socket: Socket, started: Started) {
    let Some(terminal) = started.terminal else { return };
    let Ok(terminal) = clunk_agent::polled(terminal) else { return };
    let terminal = &terminal;
    let (mut from_client, mut to_client) = tokio::io::split(socket);
    let output = async {
        let mut buffer = vec![0; MAX_FRAME];
        // A terminal whose last process has ended reads as an error.
        while let Ok(count) = terminal
            .async_io(tokio::io::Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?))
            .await
        {
            if count == 0 || send(&mut to_client, INPUT, &buffer[..count]).await.is_err() {
                break;
            }
        }
        to_client
    };
    let control = started.control.clone();
    let input = async {
        while let Ok((kind, content)) = receive(&mut from_client).await {
            match kind {
                INPUT => {
                    let mut rest = &content[..];
                    while !rest.is_empty() {
                        let written = terminal
                            .async_io(tokio::io::Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, rest)?))
                            .await;
                        let Ok(count) = written else { return };
                        rest = &rest[count..];
                    }
                }
                SIZE if content.len() == 4 => {
                    let number = |at: usize| u16::from_le_bytes([content[at], content[at + 1]]);
                    control.resize(number(0), number(2));
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        mut to_client = output => {
            let code = exit_code(&*started.control).await;
            let _ = send(&mut to_client, EXIT, &code.to_le_bytes()).await;
            let _ = to_client.shutdown().await;
        }
        // The client hung up.
        () = input => {}
    }
}

async fn exit_code(control: &dyn Control) -> i32 {
    match control.wait().await.reason {
        ExitReason::Code(code) => code,
        ExitReason::Signal(signal) => 128 + signal,
        ExitReason::OutOfMemory { .. } => 137,
        ExitReason::NotStarted(_) | ExitReason::Lost => 1,
    }
}

async fn send(socket: &mut (impl AsyncWriteExt + Unpin), kind: u8, content: &[u8]) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(5 + content.len());
    frame.push(kind);
    frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
    frame.extend_from_slice(content);
    socket.write_all(&frame).await?;
    socket.flush().await
}

async fn receive(socket: &mut ReadHalf<Socket>) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = socket.read_u8().await?;
    let length = socket.read_u32_le().await? as usize;
    if length > MAX_FRAME {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
    }
    let mut content = vec![0; length];
    socket.read_exact(&mut content).await?;
    Ok((kind, content))
}
