//! This terminal joined to one in a container, and its size.
//!
//! After `101 Switching Protocols` both sides send frames: a byte of kind, four bytes of length, content.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use anyhow::Context;
use clunk_core::api::ErrorAnswer;
use clunk_core::error::ErrorCode;
use rustix::termios::{LocalModes, OptionalActions, Termios};
use serde::Serialize;

use crate::api::client_name;
use crate::home::Target;
use crate::ui;

const INPUT: u8 = 0;
const SIZE: u8 = 1;
const EXIT: u8 = 2;
/// Between two tellings that the input has ended.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(300);
/// Bytes of an error's answer.
const MAX_ANSWER: usize = 1 << 20;

/// Rows and columns of standard output.
pub fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => (24, 80),
    }
}

/// Columns of standard output, if it is a terminal.
pub fn width() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| usize::from(size().1))
}

/// Opens a terminal in a container and joins it to this one, until the command there ends.
pub fn open(target: &Target, path: &str, request: &impl Serialize) -> anyhow::Result<ExitCode> {
    attach(connect(target, path, request)?)
}

/// Asks for the terminal on a connection of its own.
fn connect(target: &Target, path: &str, request: &impl Serialize) -> anyhow::Result<BufReader<TcpStream>> {
    let address = target.url.strip_prefix("http://").unwrap_or(&target.url);
    let mut socket =
        TcpStream::connect(address).with_context(|| format!("the server {} does not answer", target.url))?;
    socket.set_nodelay(true)?;
    let body = serde_json::to_vec(request)?;
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nclunk-client: {}\r\n\
         connection: upgrade\r\nupgrade: clunk-tty\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        target.token,
        client_name(),
        body.len()
    )?;
    socket.write_all(&body)?;
    let mut reader = BufReader::new(socket);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut length: usize = 0;
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
    let mut answer = vec![0; length.min(MAX_ANSWER)];
    reader.read_exact(&mut answer)?;
    match serde_json::from_slice::<ErrorAnswer>(&answer) {
        Ok(answer) => Err(answer.error.into()),
        Err(_) => anyhow::bail!("the server answered {}", status.trim()),
    }
}

/// The terminal's settings as they were, put back when this is dropped.
pub struct Settings(Option<Termios>);

impl Settings {
    /// Every key reaches the program, none is shown, and lines go out as they are.
    fn raw() -> Self {
        Self::change(Termios::make_raw)
    }

    /// Keys come one by one, Ctrl-C as well, and are not shown; output stays as it is.
    pub fn keys() -> Self {
        Self::change(|settings| {
            settings.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        })
    }

    fn change(edit: impl FnOnce(&mut Termios)) -> Self {
        if !std::io::stdin().is_terminal() {
            return Self(None);
        }
        let Ok(before) = rustix::termios::tcgetattr(std::io::stdin()) else { return Self(None) };
        let mut raw = before.clone();
        edit(&mut raw);
        let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw);
        Self(Some(before))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn attach(mut reader: BufReader<TcpStream>) -> anyhow::Result<ExitCode> {
    let raw = Settings::raw();
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
        // A reader that went away is no error.
        if stdout.write_all(&content).and_then(|()| stdout.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
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
