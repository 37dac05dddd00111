//! A small HTTP server of prepared answers, and the binary as a user runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

/// What never takes this long has hung.
pub const LIMIT: Duration = Duration::from_secs(60);
const TOKEN: &str = "secret";

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    pub body: Value,
}

impl Seen {
    /// The value of a parameter of the query, or nothing.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

pub enum Answer {
    Json(u16, Value),
    /// JSON lines.
    Lines(Vec<Value>),
    /// Whatever this writes, until it returns.
    Stream(Box<dyn FnOnce(BufReader<TcpStream>) + Send>),
}

pub fn ok(value: Value) -> Answer {
    Answer::Json(200, value)
}

pub fn not_found(what: &str) -> Answer {
    Answer::Json(404, json!({"error": {"code": "not-found", "message": format!("{what} is not known")}}))
}

type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

/// A server on a port of its own, as long as the test runs.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub fn start(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let noted = seen.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (handler, noted) = (handler.clone(), noted.clone());
                std::thread::spawn(move || serve(socket, &*handler, &noted));
            }
        });
        Self { url, seen }
    }

    /// Requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while locked").clone()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clunk"));
        command.args(words).env("CLUNK_SERVER_URL", &self.url).env("CLUNK_TOKEN", TOKEN).env("TZ", "UTC");
        command.env("CLUNK_HOME", "/nonexistent").env_remove("NO_COLOR");
        command
    }

    /// Runs one command to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("the binary starts"))
    }

    /// Standard output of a command that must succeed.
    pub fn out(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.err);
        ran.out
    }
}

fn serve(socket: TcpStream, handler: &Handler, noted: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(socket);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let (mut length, mut known) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        match line.trim().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().expect("a number"),
            Some(("authorization", value)) => known = value == format!("bearer {TOKEN}"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let words: Vec<&str> = first.split_whitespace().collect();
    let (path, query) = words[1].split_once('?').unwrap_or((words[1], ""));
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    let seen = Seen { method: words[0].into(), path: path.into(), query: query.into(), body };
    noted.lock().expect("no panic while locked").push(seen.clone());
    let answer = if known { handler(&seen) } else { Answer::Json(401, json!({"error": "no token"})) };
    let (status, text) = match answer {
        Answer::Json(status, value) => (status, value.to_string()),
        Answer::Lines(lines) => (200, lines.iter().map(|line| format!("{line}\n")).collect()),
        Answer::Stream(write) => return write(reader),
    };
    let head = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    // A client may have gone.
    let _ = reader.get_mut().write_all(head.as_bytes());
}

/// What a command left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Waits for a command's end, and kills what hangs.
pub fn finish(mut child: Child) -> Ran {
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let text = |from: mpsc::Receiver<String>, child: &mut Child| {
        from.recv_timeout(LIMIT).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the command hangs")
        })
    };
    let (out, err) = (text(out, &mut child), text(err, &mut child));
    let status = child.wait().expect("it was started");
    Ran { code: status.code().unwrap_or(-1), out, err }
}

fn collect(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (send, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            from.read_to_end(&mut bytes).expect("a pipe");
        }
        send.send(String::from_utf8(bytes).expect("text"))
    });
    text
}
