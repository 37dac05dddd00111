//! App logs: one append-only file of JSON lines per app, and readers that follow it.
//!
//! The file is the queue: a slow reader reads later, and no memory grows. What is kept of an app is bounded: beyond it
//! the oldest lines go, and one line in their place says so. They leave a hole at the file's begin, so that the places of
//! all others stay as they are; a file beside it says where the rest begins.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use clunk_core::api::{AppEvent, LogEvent};
use clunk_core::id::AppId;
use tokio::sync::watch;

/// Bytes of log that are kept of an app; a print in an endless loop must not fill the disk.
pub const MAX_LOG_BYTES: u64 = 256 << 20;
/// Bytes that go together when there are more.
const SEGMENT_BYTES: u64 = 32 << 20;
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
        let begin = Begin::of(&self.path(app));
        let log = Arc::new(AppLog {
            path: self.path(app),
            file: Mutex::new((file, begin)),
            written,
            most: MAX_LOG_BYTES,
            closed: AtomicBool::new(false),
        });
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
        let path = self.path(app);
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let begin = Begin::of(&path);
        let live =
            self.open.lock().expect("no panic while locked").get(&app).map(|log| log.written.subscribe());
        let offset = match start {
            LogStart::Tail(lines) => tail_offset(&file, begin.offset, lines)?,
            LogStart::Line(line) => line_offset(&file, begin, line)?,
        };
        let written = live.filter(|_| follow);
        Ok(Some(LogReader { path, file, offset, written }))
    }
}

/// Where what is left of a log begins, and how many lines were before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Begin {
    offset: u64,
    lines: u64,
}

impl Begin {
    fn beside(log: &Path) -> PathBuf {
        log.with_extension("begin")
    }

    fn of(log: &Path) -> Self {
        let text = std::fs::read_to_string(Self::beside(log)).unwrap_or_default();
        let mut words = text.split_whitespace().map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(offset)), Some(Ok(lines))) => Self { offset, lines },
            _ => Self::default(),
        }
    }

    fn keep(self, log: &Path) -> std::io::Result<()> {
        let temporary = log.with_extension("begin-new");
        std::fs::write(&temporary, format!("{} {}\n", self.offset, self.lines))?;
        std::fs::rename(&temporary, Self::beside(log))
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
fn line_offset(file: &File, begin: Begin, lines: u64) -> std::io::Result<u64> {
    let (mut offset, mut left) = (begin.offset, lines.saturating_sub(begin.lines));
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

fn tail_offset(file: &File, begin: u64, lines: usize) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; READ_CHUNK];
    let mut seen = 0;
    while end > begin {
        let start = end.saturating_sub(READ_CHUNK as u64).max(begin);
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
    Ok(begin)
}

#[derive(Clone, Copy)]
struct Written {
    length: u64,
    finished: bool,
}

/// The log of one running app.
pub struct AppLog {
    path: PathBuf,
    file: Mutex<(File, Begin)>,
    written: watch::Sender<Written>,
    /// Bytes that are kept.
    most: u64,
    /// Nothing more is written.
    closed: AtomicBool,
}

impl AppLog {
    /// Appends one event. A full disk loses log lines, never calls.
    pub fn write(&self, event: &AppEvent) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        let line = to_line(event);
        let mut locked = self.file.lock().expect("no panic while locked");
        let (file, begin) = &mut *locked;
        let length = self.written.borrow().length;
        let kept = if length - begin.offset + line.len() as u64 > self.most {
            self.roll(file, begin, length, event)
        } else {
            Ok(())
        };
        match kept.and_then(|()| file.write_all(&line)) {
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

    /// Lets the oldest lines go. One line in their place says so.
    fn roll(&self, file: &File, begin: &mut Begin, length: u64, event: &AppEvent) -> std::io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let AppEvent::Log(log) = event else { return Ok(()) };
        let goal = begin.offset + SEGMENT_BYTES.min(self.most / 4);
        let (mut at, mut lines) = (begin.offset, begin.lines);
        let mut chunk = vec![0; READ_CHUNK];
        while at < goal {
            let most = READ_CHUNK.min((length - at) as usize);
            file.read_exact_at(&mut chunk[..most], at)?;
            let Some(end) = chunk[..most].iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
            lines += chunk[..=end].iter().filter(|byte| **byte == b'\n').count() as u64;
            at += end as u64 + 1;
        }
        // It counts as the last of those that go: the numbers of all others stay.
        let gone = lines - 1;
        let text = format!(
            "clunk: of this app the newest {} MiB are kept; {gone} lines before this were let go\n",
            self.most >> 20
        );
        let note =
            to_line(&AppEvent::Log(LogEvent { call: None, stream: "stderr".into(), text, ..log.clone() }));
        let next = Begin { offset: at - note.len() as u64, lines: gone };
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A file that only appends does so also where a place is given.
        let writable = OpenOptions::new().write(true).open(&self.path)?;
        next.keep(&self.path)?;
        fallocate(&writable, hole, begin.offset, next.offset - begin.offset)?;
        writable.write_all_at(&note, next.offset)?;
        *begin = next;
        Ok(())
    }
}

fn to_line(event: &AppEvent) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events have a JSON form");
    line.push(b'\n');
    line
}

/// Removes the oldest logs of ended apps until the rest fits.
fn trim(folder: &Path, most: u64, running: impl Fn(&Path) -> bool) -> std::io::Result<()> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)?.flatten() {
        if let Ok(metadata) = entry.metadata() {
            found.push((metadata.modified()?, metadata.len().min(metadata.blocks() * 512), entry.path()));
        }
    }
    found.sort();
    let mut total: u64 = found.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in found {
        if total <= most {
            break;
        }
        let log = path.with_extension("ndjson");
        if !running(&log) && std::fs::remove_file(&path).is_ok() {
            total -= length;
        }
    }
    Ok(())
}

/// Reads a log, chunk by chunk of whole lines.
pub struct LogReader {
    path: PathBuf,
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
            // Nothing else holds zeros: what was to be read is gone.
            let whole = chunk[..count].iter().position(|byte| *byte == 0).unwrap_or(count);
            chunk.truncate(whole);
            if whole < count && !chunk.contains(&b'\n') {
                let begin = Begin::of(&self.path).offset;
                if begin <= self.offset {
                    return Ok(None);
                }
                self.offset = begin;
                continue;
            }
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
        for (age, name) in ["old.ndjson", "running.ndjson", "new.ndjson"].iter().enumerate() {
            let mut file = File::create(folder.path().join(name)).unwrap();
            file.write_all(&[b'x'; 100]).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            file.set_modified(time).unwrap();
        }
        let left = |most| {
            trim(folder.path(), most, |path| path.ends_with("running.ndjson")).unwrap();
            std::fs::read_dir(folder.path()).unwrap().count()
        };
        assert_eq!([left(300), left(200), left(0)], [3, 2, 1]);
        assert!(folder.path().join("running.ndjson").exists());
    }

    #[tokio::test]
    async fn beyond_the_bound_the_oldest_lines_go_and_a_line_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let app = AppId::fresh();
        let mut log = Arc::into_inner({
            let log = logs.start(app).unwrap();
            logs.open.lock().unwrap().clear();
            log
        })
        .unwrap();
        log.most = 1 << 20;
        let log = Arc::new(log);
        logs.open.lock().unwrap().insert(app, log.clone());
        let printed = |number: u64| {
            AppEvent::Log(LogEvent {
                time_ms: number,
                function: "f".into(),
                replica: clunk_core::id::ReplicaId::from_parts(1, [0; 10]),
                call: None,
                stream: "stdout".into(),
                text: format!("{number} {}", "x".repeat(1000)),
            })
        };
        let number = |line: &str| match serde_json::from_str(line).unwrap() {
            AppEvent::Log(log) if log.stream == "stdout" => Some(log.time_ms),
            _ => None,
        };
        log.write(&printed(0));
        let mut slow = logs.read(app, LogStart::Line(0), true).unwrap().unwrap();
        (1..5000).for_each(|number| log.write(&printed(number)));
        let meta = std::fs::metadata(logs.path(app)).unwrap();
        assert!(
            meta.len() > 5 << 20 && meta.blocks() * 512 < 3 << 19,
            "the disk has {}",
            meta.blocks() * 512
        );
        let all = |mut reader: LogReader| async move {
            let mut text = Vec::new();
            while let Some(chunk) = reader.next().await.unwrap() {
                text.extend(chunk);
            }
            String::from_utf8(text).unwrap()
        };
        let text = all(logs.read(app, LogStart::Line(0), false).unwrap().unwrap()).await;
        assert!(text.lines().next().unwrap().contains("were let go"), "{}", &text[..300]);
        let left: Vec<_> = text.lines().skip(1).map(|line| number(line).unwrap()).collect();
        assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]) && left.last() == Some(&4999));
        // Lines keep their numbers, also under the next server and for who was far behind.
        let from = all(logs.read(app, LogStart::Line(4990), false).unwrap().unwrap()).await;
        assert_eq!(
            from.lines().map(|line| number(line).unwrap()).collect::<Vec<_>>(),
            (4990..5000).collect::<Vec<_>>()
        );
        let late = slow.next().await.unwrap().unwrap();
        assert!(String::from_utf8(late).unwrap().lines().next().unwrap().contains("were let go"));
        drop(log);
        logs.finish(app);
        assert_eq!(logs.start(app).unwrap().file.lock().unwrap().1, Begin::of(&logs.path(app)));
        let tail = all(logs.read(app, LogStart::Tail(3), false).unwrap().unwrap()).await;
        assert_eq!(tail.lines().count(), 3);
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
