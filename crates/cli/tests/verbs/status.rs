//! `clunk status`, once and as a live screen on a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, LIMIT, Seen, ok};
use crate::records::{app, app_id, call, container, function, status};

fn busy(seen: &Seen, ended: u64) -> Answer {
    let functions = format!("/api/apps/{}/functions", app_id(0));
    match seen.path.as_str() {
        "/api/status" => ok(status(ended)),
        "/api/containers" => ok(json!([container(0, "busy")])),
        "/api/calls" => ok(json!([call(1, "greet", "failed")])),
        "/api/apps" => ok(json!([app(1, "old", "stopped"), app(0, "hello", "running")])),
        path if path == functions => ok(json!([function("greet")])),
        _ => crate::fake::not_found("this"),
    }
}

#[test]
fn without_a_terminal_it_is_printed_once() {
    let fake = Fake::start(|seen| busy(seen, 5));
    let out = fake.out(&["status"]);
    assert!(out.starts_with("http://here  clunk 0.1.0  process 7  up 3 min 20 s\n35.2 MB resident"), "{out}");
    assert!(out.contains("\ngreet     hello    1,200        2  1 busy\n"), "{out}");
    assert!(out.contains("\nCONTAINER ") && !out.contains('\x1b'), "{out}");
    assert_eq!(fake.out(&["status", "--once"]).lines().count(), out.lines().count());
    let data: Value = serde_json::from_str(&fake.out(&["status", "--json"])).expect("JSON");
    assert_eq!(
        (&data["running"], &data["server"]["pid"], &data["containers"][0]["state"]),
        (&json!(true), &json!(7), &json!("busy"))
    );
}

/// A command on a terminal of its own, and what stands on it.
struct Terminal {
    child: Child,
    keys: File,
    shown: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn start(fake: &Fake) -> Self {
        let controller =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&controller).expect("ours");
        unlockpt(&controller).expect("ours");
        tcsetwinsize(&controller, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })
            .expect("a size");
        let name = ptsname(&controller, Vec::new()).expect("a name").into_string().expect("text");
        let end = || Stdio::from(File::options().read(true).write(true).open(&name).expect("a terminal"));
        let mut command = fake.command(&["status"]);
        command.stdin(end()).stdout(end()).stderr(end()).env("NO_COLOR", "1");
        let child = command.spawn().expect("the binary starts");
        let mut reader = File::from(controller.try_clone().expect("a descriptor"));
        let (send, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // It fails when the other end is closed.
            while let Ok(count) = reader.read(&mut chunk) {
                if send.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys: File::from(controller), shown, text: String::new() }
    }

    /// Waits for a text on the screen.
    fn wait_for(&mut self, wanted: &str) {
        let end = Instant::now() + LIMIT;
        while !self.text.contains(wanted) {
            let left = end.saturating_duration_since(Instant::now());
            let chunk = self.shown.recv_timeout(left);
            let chunk = chunk.unwrap_or_else(|_| panic!("{wanted:?} does not come: {:.4000?}", self.text));
            self.text += &String::from_utf8_lossy(&chunk);
        }
    }

    fn shows_typing(&self) -> bool {
        let modes = tcgetattr(&self.keys).expect("a terminal").local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Waits for the end: the exit code, with the terminal as it was.
    fn end(mut self) -> i32 {
        self.wait_for("\x1b[?7h\x1b[?25h");
        let code = self.child.wait().expect("it was started").code();
        assert!(self.shows_typing(), "the terminal is not as it was");
        code.expect("it ended by itself")
    }
}

#[test]
fn the_live_screen_is_drawn_in_place_until_a_key() {
    let ended = AtomicU64::new(0);
    let fake = Fake::start(move |seen| busy(seen, ended.fetch_add(1, Ordering::SeqCst)));
    let mut terminal = Terminal::start(&fake);
    terminal.wait_for("q ends this\x1b[K\r\n\x1b[J");
    assert!(
        terminal.text.contains("\x1b[?25l\x1b[?7l\x1b[?2026h\rhttp://here  clunk 0.1.0"),
        "{:?}",
        terminal.text
    );
    assert!(terminal.text.contains("LAST CALLS") && terminal.text.contains("1 busy"), "{:?}", terminal.text);
    assert!(!terminal.shows_typing());
    // The second frame has a rate, and goes over the first.
    terminal.wait_for("calls/s");
    assert!(terminal.text.contains("\x1b[?2026h\r\x1b[11Ahttp://here"), "{:?}", terminal.text);
    terminal.keys.write_all(b"x\x1b[Aq").expect("a terminal");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn enter_ctrl_c_and_signals_end_the_live_screen() {
    let fake = Fake::start(|seen| busy(seen, 0));
    for (key, code) in [(b"\r", 0), (b"\x03", 130)] {
        let mut terminal = Terminal::start(&fake);
        terminal.wait_for("q ends this");
        terminal.keys.write_all(key).expect("a terminal");
        assert_eq!(terminal.end(), code);
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut terminal = Terminal::start(&fake);
        terminal.wait_for("q ends this");
        kill_process(Pid::from_child(&terminal.child), signal).expect("it runs");
        assert_eq!(terminal.end(), code);
    }
}

#[test]
fn a_server_that_hangs_or_fails_does_not_hold_the_screen() {
    let silent = Fake::start(|_| {
        Answer::Stream(Box::new(|mut client| {
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }))
    });
    let mut terminal = Terminal::start(&silent);
    terminal.wait_for(&format!("{} …", silent.url));
    terminal.wait_for("has not answered for 3 s");
    terminal.keys.write_all(b"q").expect("a terminal");
    assert_eq!(terminal.end(), 0);

    let broken = Arc::new(AtomicBool::new(true));
    let switch = broken.clone();
    let fake = Fake::start(move |seen| match switch.load(Ordering::SeqCst) {
        true => Answer::Json(500, json!({"error": {"code": "internal", "message": "it is broken"}})),
        false => busy(seen, 0),
    });
    let mut terminal = Terminal::start(&fake);
    terminal.wait_for("it is broken");
    broken.store(false, Ordering::SeqCst);
    terminal.wait_for("LAST CALLS");
    terminal.keys.write_all(b"q").expect("a terminal");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_new_size_is_drawn_at_once() {
    let fake = Fake::start(|seen| busy(seen, 0));
    let mut terminal = Terminal::start(&fake);
    terminal.wait_for("q ends this");
    let size = Winsize { ws_row: 24, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal.keys, size).expect("a size");
    // Whoever has no controlling terminal is told by hand.
    kill_process(Pid::from_child(&terminal.child), Signal::WINCH).expect("it runs");
    terminal.wait_for("http://here  clunk …\x1b[K");
    terminal.keys.write_all(b"q").expect("a terminal");
    assert_eq!(terminal.end(), 0);
}
