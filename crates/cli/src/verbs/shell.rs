//! `clunk shell`

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::process::{ExitCode, Stdio};

use clunk_core::api::{ErrorAnswer, OpenShell};
use clunk_core::error::ErrorCode;
use clunk_core::recipe::{Base, Recipe};
use rustix::termios::{OptionalActions, Termios};

use crate::api::{Client, client_name};
use crate::args::Shell;
use crate::home::Target;
use crate::ui::{self, Output};
use crate::verbs::run::python;
use crate::{launch, progress};

const INPUT: u8 = 0;
const SIZE: u8 = 1;
const EXIT: u8 = 2;
/// Between two tellings that the input has ended.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(300);

pub fn run(args: Shell, output: Output) -> anyhow::Result<ExitCode> {
    let target = launch::ensure_server(output)?;
    let client = Client::new(target.clone());
    let mut shell = match (&args.file, &args.image) {
        (Some(file), _) => of_function(&target, file)?,
        (None, Some(image)) => OpenShell { image: Some(full_id(&client, image)?), ..empty() },
        (None, None) => {
            let recipe = Recipe { base: Base::DebianSlim { python: None }, steps: Vec::new() };
            OpenShell { image: Some(progress::build(&client, &recipe, output)?), ..empty() }
        }
    };
    shell.command = args.command;
    shell.term = std::env::var("TERM").unwrap_or_default();
    (shell.rows, shell.columns) = size();
    let socket = connect(client.target(), &shell)?;
    attach(socket)
}

fn empty() -> OpenShell {
    serde_json::from_str("{}").expect("every field has a default")
}

/// Lets the Python half build the image and upload the files of a function.
fn of_function(target: &Target, file: &str) -> anyhow::Result<OpenShell> {
    let answer =
        python(Some(target))?.args(["-m", "clunk", "prepare", file]).stderr(Stdio::inherit()).output()?;
    if !answer.status.success() {
        std::process::exit(answer.status.code().unwrap_or(1));
    }
    Ok(serde_json::from_slice(&answer.stdout)?)
}

/// A state before a failed step is no image in the list, so only its whole id names it.
fn full_id(client: &Client, text: &str) -> anyhow::Result<clunk_core::id::ImageId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let image: clunk_core::api::ImageDetail = client.get(&format!("/api/images/{text}"))?;
    Ok(image.id)
}

fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// Asks for the shell on a connection of its own.
fn connect(target: &Target, shell: &OpenShell) -> anyhow::Result<BufReader<TcpStream>> {
    let address = target.url.strip_prefix("http://").unwrap_or(&target.url);
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let body = serde_json::to_vec(shell)?;
    write!(
        socket,
        "POST /api/shell HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nclunk-client: {}\r\n\
         connection: upgrade\r\nupgrade: clunk-tty\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        target.token,
        client_name(),
        body.len()
    )?;
    socket.write_all(&body)?;
    let mut reader = BufReader::new(socket);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().to_ascii_lowercase().split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(_) => {}
            None => break,
        }
    }
    if status.contains(" 101 ") {
        return Ok(reader);
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Err(serde_json::from_slice::<ErrorAnswer>(&answer)?.error.into())
}

/// The terminal's settings as they were, put back when this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        if !std::io::stdin().is_terminal() {
            return Self(None);
        }
        let Ok(before) = rustix::termios::tcgetattr(std::io::stdin()) else { return Self(None) };
        let mut raw = before.clone();
        raw.make_raw();
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn attach(mut reader: BufReader<TcpStream>) -> anyhow::Result<ExitCode> {
    let raw = Raw::enter();
    let writer = reader.get_ref().try_clone()?;
    std::thread::spawn(move || send_input(writer));
    let mut stdout = std::io::stdout();
    loop {
        let mut head = [0; 5];
        if reader.read_exact(&mut head).is_err() {
            drop(raw);
            return Err(ui::error(
                ErrorCode::Internal,
                "the server closed the shell",
                "`clunk logs --server` may say why",
            ));
        }
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut content = vec![0; length];
        reader.read_exact(&mut content)?;
        if head[0] == EXIT {
            drop(raw);
            let code = content.first_chunk::<4>().map_or(1, |bytes| i32::from_le_bytes(*bytes));
            return Ok(ExitCode::from(code.clamp(0, 255) as u8));
        }
        stdout.write_all(&content)?;
        stdout.flush()?;
    }
}

/// Sends what is typed, and the terminal's size when it changes. The end of a piped input is the terminal's own: ^D.
fn send_input(mut socket: TcpStream) {
    let mut known = size();
    let mut buffer = [0; 4096];
    let mut frame = |kind: u8, content: &[u8]| {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
        bytes.extend_from_slice(content);
        socket.write_all(&bytes)
    };
    let stdin = std::io::stdin();
    loop {
        let mut wait = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
        let readable = rustix::event::poll(&mut wait, Some(&limit)).unwrap_or(0) > 0;
        let now = size();
        if now != known {
            known = now;
            let content = [now.0.to_le_bytes(), now.1.to_le_bytes()].concat();
            if frame(SIZE, &content).is_err() {
                return;
            }
        }
        if readable {
            let count = rustix::io::read(&stdin, &mut buffer).unwrap_or(0);
            let content: &[u8] = if count == 0 { b"\x04" } else { &buffer[..count] };
            if frame(INPUT, content).is_err() {
                return;
            }
            // A shell that is still starting may throw the end of its input away: it is told until it is gone.
            if count == 0 {
                std::thread::sleep(AGAIN);
            }
        }
    }
}
