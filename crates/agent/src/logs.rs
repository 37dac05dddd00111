//! App logs: one append-only file of JSON lines per app, and readers that follow it.
//!
//! The file is the queue: a slow reader reads later, nothing is dropped and no memory grows. What an app may write is
//! bounded; at the bound one line says so.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use clunk_core::api::{AppEvent, LogEvent};
use clunk_core::id::AppId;
use tokio::sync::watch;

/// Bytes of log an app may write; a print in an endless loop must not fill the disk.
pub const MAX_LOG_BYTES: u64 = 256 << 20;
/// Bytes of all logs together; the oldest go first.
const MAX_TOTAL_BYTES: u64 = 2 << 30;
/// Bytes a reader takes at a time.
const READ_CHUNK: usize = 256 << 10;

/// All apps' logs, in one folder.
pub struct Logs {
    folder: PathBuf,
    open: Mutex<HashMap<AppId, Arc<AppLog>>>,
}

impl Logs {
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        trim(folder, MAX_TOTAL_BYTES, |_| false)?;
        Ok(Self { folder: folder.into(), open: Mutex::default() })
    }

    fn path(&self, app: AppId) -> PathBuf {
        self.folder.join(format!("{app}.ndjson"))
    }

    /// The log of a running app; made when it is new.
    pub fn start(&self, app: AppId) -> std::io::Result<Arc<AppLog>> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(self.path(app))?;
        let length = file.metadata()?.len();
        let written = watch::Sender::new(Written { length, finished: false });
        let log = Arc::new(AppLog { file: Mutex::new(file), written, closed: AtomicBool::new(false) });
        self.open.lock().expect("no panic while locked").insert(app, log.clone());
        Ok(log)
    }

    /// No more will be written; readers that have read everything end.
    pub fn finish(&self, app: AppId) {
        if let Some(log) = self.open.lock().expect("no panic while locked").remove(&app) {
            log.written.send_modify(|written| written.finished = true);
        }
        let running: Vec<_> =
            self.open.lock().expect("no panic while locked").keys().map(|app| self.path(*app)).collect();
        if let Err(error) =
            trim(&self.folder, MAX_TOTAL_BYTES, |path| running.iter().any(|other| other == path))
        {
            tracing::warn!(%error, "could not remove old logs");
        }
    }

    /// Reads an app's log; follows it while the app runs if asked to. None: there is no such log.
    pub fn read(&self, app: AppId, start: LogStart, follow: bool) -> std::io::Result<Option<LogReader>> {
        let file = match File::open(self.path(app)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let live =
            self.open.lock().expect("no panic while locked").get(&app).map(|log| log.written.subscribe());
        let offset = match start {
            LogStart::Tail(lines) => tail_offset(&file, lines)?,
            LogStart::Line(line) => line_offset(&file, line)?,
        };
        let written = live.filter(|_| follow);
        Ok(Some(LogReader { file, offset, written }))
    }
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// Behind so many lines.
    Line(u64),
    /// With the last lines.
    Tail(usize),
}

/// Behind the first `lines` lines; the end when there are fewer.
fn line_offset(file: &File, lines: u64) -> std::io::Result<u64> {
    let (mut offset, mut left) = (0, lines);
    let mut chunk = vec![0; READ_CHUNK];
    while left > 0 {
        let count = file.read_at(&mut chunk, offset)?;
        if count == 0 {
            break;
        }
        for (at, _) in chunk[..count].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(offset + at as u64 + 1);
            }
        }
        offset += count as u64;
    }
    Ok(offset)
}

fn tail_offset(file: &File, lines: usize) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; READ_CHUNK];
    let mut seen = 0;
    while end > 0 {
        let start = end.saturating_sub(READ_CHUNK as u64);
        let piece = &mut chunk[..(end - start) as usize];
        file.read_exact_at(piece, start)?;
        for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            seen += 1;
            if seen > lines {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[derive(Clone, Copy)]
struct Written {
    length: u64,
    finished: bool,
}

/// The log of one running app.
pub struct AppLog {
    file: Mutex<File>,
    written: watch::Sender<Written>,
    /// Why nothing more is written, once that is so.
    closed: AtomicBool,
}

impl AppLog {
    /// Appends one event. A full disk, or a log at its bound, loses log lines, never calls.
    pub fn write(&self, event: &AppEvent) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let mut line = to_line(event);
        let length = self.written.borrow().length;
        if length + line.len() as u64 > MAX_LOG_BYTES {
            self.closed.store(true, Ordering::Relaxed);
            let Some(last) = last_words(event) else { return };
            line = to_line(&last);
        }
        let mut file = self.file.lock().expect("no panic while locked");
        match file.write_all(&line) {
            Ok(()) => self.written.send_modify(|written| written.length += line.len() as u64),
            Err(error) => {
                // Half a line would spoil the next one.
                let _ = file.set_len(length);
                if !self.closed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "could not write to an app's log; it ends here");
                }
            }
        }
    }
}

fn to_line(event: &AppEvent) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events have a JSON form");
    line.push(b'\n');
    line
}

/// What the reader of a full log sees.
fn last_words(event: &AppEvent) -> Option<AppEvent> {
    let AppEvent::Log(log) = event else { return None };
    let text = format!(
        "\nclunk: this app has printed {} MiB; what it prints from here on is not kept\n",
        MAX_LOG_BYTES >> 20
    );
    Some(AppEvent::Log(LogEvent { stream: "stderr".into(), text, ..log.clone() }))
}

/// Removes the oldest logs of ended apps until the rest fits.
fn trim(folder: &Path, most: u64, running: impl Fn(&Path) -> bool) -> std::io::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        if let Ok(metadata) = entry.metadata() {
            found.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    found.sort();
    let mut total: u64 = found.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in found {
        if total <= most {
            break;
        }
        if !running(&path) && std::fs::remove_file(&path).is_ok() {
            total -= length;
        }
    }
    Ok(())
}

/// Reads a log, chunk by chunk of whole lines.
pub struct LogReader {
    file: File,
    offset: u64,
    written: Option<watch::Receiver<Written>>,
}

impl LogReader {
    /// The next bytes, ending with a line's end. None: the end. Waits for more while following. Cancel-safe.
    pub async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            // Looked at before reading: what is written in between is found by the next round.
            let finished = self.written.as_mut().is_none_or(|written| {
                let seen = written.borrow_and_update();
                seen.finished
            });
            let mut chunk = vec![0; READ_CHUNK];
            let count = self.file.read_at(&mut chunk, self.offset)?;
            chunk.truncate(count);
            if let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') {
                chunk.truncate(end + 1);
                self.offset += chunk.len() as u64;
                return Ok(Some(chunk));
            }
            match &mut self.written {
                Some(written) if !finished => {
                    // An error is a dropped sender: the app has ended.
                    if written.changed().await.is_err() {
                        self.written = None;
                    }
                }
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> AppEvent {
        AppEvent::App { time_ms: 1, state: text.into() }
    }

    #[tokio::test]
    async fn a_follower_sees_everything_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let app = AppId::fresh();
        let log = logs.start(app).unwrap();
        log.write(&event("one"));
        let mut reader = logs.read(app, LogStart::Line(0), true).unwrap().unwrap();
        assert!(String::from_utf8(reader.next().await.unwrap().unwrap()).unwrap().contains("one"));
        let follower = tokio::spawn(async move {
            let mut text = Vec::new();
            while let Some(chunk) = reader.next().await.unwrap() {
                text.extend(chunk);
            }
            String::from_utf8(text).unwrap()
        });
        for number in 0..100 {
            log.write(&event(&format!("line {number}")));
        }
        logs.finish(app);
        assert_eq!(follower.await.unwrap().lines().count(), 100);
    }

    #[test]
    fn the_oldest_logs_of_ended_apps_go_first() {
        let folder = tempfile::tempdir().unwrap();
        for (age, name) in ["old", "running", "new"].iter().enumerate() {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            file.set_modified(time).unwrap();
        }
        let left = |most| {
            trim(folder.path(), most, |path| path.ends_with("running")).unwrap();
            std::fs::read_dir(folder.path()).unwrap().count()
        };
        assert_eq!([left(300), left(200), left(0)], [3, 2, 1]);
        assert!(folder.path().join("running").exists());
    }

    #[tokio::test]
    async fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let app = AppId::fresh();
        let log = logs.start(app).unwrap();
        for text in ["one", "two", "three"] {
            log.write(&event(text));
        }
        let mut reader = logs.read(app, LogStart::Tail(2), false).unwrap().unwrap();
        let text = String::from_utf8(reader.next().await.unwrap().unwrap()).unwrap();
        assert_eq!((text.lines().count(), text.contains("one")), (2, false));
        for (skipped, left) in [(0, 3), (1, 2), (3, 0), (9, 0)] {
            let mut reader = logs.read(app, LogStart::Line(skipped), false).unwrap().unwrap();
            let text = reader.next().await.unwrap().unwrap_or_default();
            assert_eq!(String::from_utf8(text).unwrap().lines().count(), left, "behind {skipped}");
        }
        assert_eq!(reader.next().await.unwrap(), None);
        assert!(logs.read(AppId::fresh(), LogStart::Line(0), false).unwrap().is_none());
    }
}
