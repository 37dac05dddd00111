//! The live screen: drawn in place once a second, until a key or a signal ends it.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::frame::{Line, Look, View, frame};
use super::snapshot::{Snapshot, Watch};
use crate::api::Client;
use crate::home::{self, Target};
use crate::terminal::{self, Settings};
use crate::ui;

/// Between two looks at the server.
const EVERY: Duration = Duration::from_secs(1);
/// What has not come after this is not waited for by the first paint.
const FIRST_PAINT: Duration = Duration::from_millis(20);
/// After so long without news the screen says so.
const SILENCE: Duration = Duration::from_secs(3);
/// Looks, and keys, that may wait to be taken: old ones are of no use.
const MAX_WAITING: usize = 1;
/// An exit code says which signal ended a program.
const SIGNALED: u8 = 128;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const ESCAPE: u8 = 0x1b;

type News = Result<Box<Snapshot>, String>;

pub fn run(target: Target) -> anyhow::Result<ExitCode> {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (send, news) = mpsc::channel(MAX_WAITING);
    let url = target.url.clone();
    // Requests block, and a server that hangs must not keep a key from working.
    std::thread::spawn(move || look(target, &send));
    executor.block_on(watch(&url, news))
}

/// Looks at the server until nobody wants to know.
fn look(target: Target, news: &mpsc::Sender<News>) {
    let mut watch = Watch::new(Client::new(target));
    while !news.is_closed() {
        let found = watch.take().map(Box::new).map_err(|error| error.to_string());
        let failed = found.is_err();
        if news.blocking_send(found).is_err() {
            return;
        }
        std::thread::sleep(EVERY);
        // A server that was started again may be at another address.
        if failed && let Ok(Some(target)) = home::find_server() {
            watch = Watch::new(Client::new(target));
        }
    }
}

/// Signals that end the screen or change its size.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    resize: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// The code to end with, or nothing when the size has changed.
    async fn next(&mut self) -> Option<u8> {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
            _ = self.resize.recv() => return None,
        };
        Some(SIGNALED + kind.as_raw_value() as u8)
    }
}

async fn watch(url: &str, mut news: mpsc::Receiver<News>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::new();
    let (send, mut keys) = mpsc::channel(MAX_WAITING);
    // A read of a terminal blocks; it ends with the process.
    std::thread::spawn(move || listen(&send));
    let mut snapshot = None;
    let mut trouble: Option<String> = None;
    let mut patience = FIRST_PAINT;
    loop {
        tokio::select! {
            Some(code) = keys.recv() => return Ok(ExitCode::from(code)),
            code = signals.next() => if let Some(code) = code {
                return Ok(ExitCode::from(code));
            },
            found = news.recv() => match found {
                Some(Ok(found)) => (snapshot, trouble) = (Some(found), None),
                Some(Err(text)) => trouble = Some(text),
                None => anyhow::bail!("the live screen's view of the server broke; try: clunk status --once"),
            },
            () = tokio::time::sleep(patience) => if patience == SILENCE {
                trouble = Some(format!("{url} has not answered for {} s", SILENCE.as_secs()));
            },
        }
        patience = SILENCE;
        let view = View { url, snapshot: snapshot.as_deref(), trouble: trouble.as_deref() };
        if screen.draw(&view).is_err() {
            // The terminal is gone.
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Waits for keys of standard input, where it is a terminal, and tells the codes that they ask for.
fn listen(codes: &mpsc::Sender<u8>) {
    let stdin = std::io::stdin();
    let mut typed = [0; 64];
    while stdin.is_terminal() {
        match rustix::io::read(&stdin, &mut typed) {
            Ok(0) => return,
            Ok(count) => {
                if let Some(code) = meant(&typed[..count]) {
                    let _ = codes.blocking_send(code);
                    return;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The exit code that keys ask for. Those of arrows and the like begin with an escape and mean nothing here.
fn meant(typed: &[u8]) -> Option<u8> {
    if typed.first() == Some(&ESCAPE) {
        return None;
    }
    typed.iter().find_map(|key| match key {
        b'q' | b'Q' | b'\r' | b'\n' | &CTRL_D => Some(0),
        &CTRL_C => Some(SIGNALED + SignalKind::interrupt().as_raw_value() as u8),
        _ => None,
    })
}

/// The part of the terminal that is drawn again and again. Dropped, it leaves the last frame and a terminal as it was.
struct Screen {
    /// Characters of each line that stands there.
    drawn: Vec<usize>,
    colour: bool,
    _settings: Settings,
}

impl Screen {
    fn new() -> Self {
        let settings = Settings::keys();
        // No cursor, and no new line where the edge is.
        put("\x1b[?25l\x1b[?7l").ok();
        Self { drawn: Vec::new(), colour: ui::colour_out(), _settings: settings }
    }

    fn draw(&mut self, view: &View<'_>) -> std::io::Result<()> {
        let (rows, columns) = terminal::size();
        // The cursor stands in the line below.
        let height = usize::from(rows).saturating_sub(1);
        let lines = frame(view, columns.into(), height);
        let text = redraw(&self.drawn, &lines, usize::from(columns), height, self.colour);
        self.drawn = lines.iter().map(|line| line.text.chars().count()).collect();
        put(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put("\x1b[?7h\x1b[?25h").ok();
    }
}

fn put(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Text that replaces the lines drawn before by others, shown at once by terminals that can.
fn redraw(drawn: &[usize], lines: &[Line], width: usize, height: usize, colour: bool) -> String {
    // A terminal that became narrower has folded long lines.
    let folded = |length: &usize| length.div_ceil(width.max(1)).max(1);
    let up = drawn.iter().map(folded).sum::<usize>().min(height);
    let mut text = String::from("\x1b[?2026h\r");
    if up > 0 {
        let _ = write!(text, "\x1b[{up}A");
    }
    for line in lines {
        let code = match line.look {
            Look::Plain => "",
            _ if !colour => "",
            Look::Head => "1",
            Look::Faint => "2",
            Look::Bad => "31",
        };
        let _ = match code {
            "" => writeln!(text, "{}\x1b[K", line.text),
            code => writeln!(text, "\x1b[{code}m{}\x1b[0m\x1b[K", line.text),
        };
    }
    text + "\x1b[J\x1b[?2026l"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(look: Look, text: &str) -> Line {
        Line { look, text: text.into() }
    }

    #[test]
    fn keys_end_the_screen() {
        assert_eq!(["q", "Q", "\r", "\n", "\x04", "xyq"].map(|keys| meant(keys.as_bytes())), [Some(0); 6]);
        assert_eq!(meant(b"\x03"), Some(130));
        assert_eq!(["", "x", "\x1b[A", "\x1bOq", "\x1a"].map(|keys| meant(keys.as_bytes())), [None; 5]);
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let lines = [line(Look::Head, "ab"), line(Look::Plain, "c")];
        let body = "ab\x1b[K\nc\x1b[K\n\x1b[J\x1b[?2026l";
        assert_eq!(redraw(&[], &lines, 80, 24, false), format!("\x1b[?2026h\r{body}"));
        assert_eq!(redraw(&[2, 0, 5], &lines, 80, 24, false), format!("\x1b[?2026h\r\x1b[3A{body}"));
        assert!(redraw(&[], &lines, 80, 24, true).contains("\x1b[1mab\x1b[0m\x1b[K\nc\x1b[K"));
    }

    #[test]
    fn a_narrower_terminal_has_folded_lines() {
        assert!(redraw(&[100, 40], &[], 40, 24, false).contains("\x1b[4A"));
        assert!(redraw(&[100; 40], &[], 40, 9, false).contains("\x1b[9A"));
    }
}
