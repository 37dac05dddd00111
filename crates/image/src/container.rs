//! Runs one program of a build in a container and follows its output.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clunk_core::id::ContainerId;
use clunk_runtime::{
    BindMount, ContainerSpec, Control, ExitReason, Limits, Network, Profile, RootFs, Runtime, Stdio, Upper,
};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::unix::pipe;

use crate::ImageError;
use crate::flight::Log;
use crate::layer::Scratch;

/// Lines of a failed step shown to the user; a Python traceback with its cause fits.
const TAIL_LINES: usize = 20;

/// A line without end is cut here.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Captured output of a probe; ours are a few hundred bytes.
const MAX_CAPTURE_BYTES: usize = 64 << 10;

/// One program to run.
pub(crate) struct Job {
    /// The topmost first.
    pub lowers: Vec<PathBuf>,
    /// Takes what the program changes. None: that is thrown away.
    pub scratch: Option<Arc<Scratch>>,
    pub mounts: Vec<BindMount>,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub workdir: String,
    pub limits: Limits,
    pub network: Network,
    pub timeout: Duration,
}

pub(crate) struct Ended {
    pub reason: ExitReason,
    /// The last lines of output and errors together.
    pub tail: Vec<String>,
    /// The beginning of standard output.
    pub captured: String,
}

impl Ended {
    pub fn ok(&self) -> bool {
        self.reason == ExitReason::Code(0)
    }

    pub fn success(self) -> Result<String, ImageError> {
        match self.ok() {
            true => Ok(self.captured),
            false => Err(ImageError::StepFailed { reason: self.reason, tail: self.tail }),
        }
    }
}

/// Kills the container when the build is dropped, and keeps its files until it is gone.
struct Guard {
    control: Option<Arc<dyn Control>>,
    scratch: Option<Arc<Scratch>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(control) = self.control.take() else { return };
        let scratch = self.scratch.take();
        control.signal(9);
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                control.wait().await;
                drop(scratch);
            });
        }
    }
}

/// Runs the job to its end. `log` gets each line as it comes.
pub(crate) async fn run(
    runtime: &Arc<dyn Runtime>,
    job: Job,
    log: Option<&Log>,
) -> Result<Ended, ImageError> {
    let timeout = job.timeout;
    let scratch = job.scratch.clone();
    let upper = match &job.scratch {
        Some(scratch) => Upper::Keep { upper: scratch.fs(), work: scratch.work() },
        None => Upper::Scratch,
    };
    let spec = ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: job.lowers, upper },
        mounts: job.mounts,
        gpus: Vec::new(),
        argv: job.argv,
        env: job.env.into_iter().collect(),
        workdir: job.workdir,
        hostname: "build".into(),
        limits: job.limits,
        network: job.network,
        stdio: Stdio::Pipes,
        link: false,
        profile: Profile::Build,
    };
    if let (Network::NatOrNone, Some(log)) = (spec.network, log)
        && let Some(reason) = runtime.no_network().await
    {
        log.line(&format!("this step has no network: {reason}"));
    }
    let started = runtime.start(spec).await?;
    let mut guard = Guard { control: Some(started.control.clone()), scratch };
    let mut sink = Sink { tail: VecDeque::new(), captured: String::new(), log };
    let followed = tokio::time::timeout(timeout, async {
        follow(started.stdout, started.stderr, &mut sink).await?;
        Ok::<_, ImageError>(started.control.wait().await)
    });
    let exit = followed.await.map_err(|_| ImageError::StepTimeout { seconds: timeout.as_secs() })??;
    guard.control = None;
    Ok(Ended { reason: exit.reason, tail: sink.tail.into(), captured: sink.captured })
}

struct Sink<'a> {
    tail: VecDeque<String>,
    captured: String,
    log: Option<&'a Log>,
}

impl Sink<'_> {
    fn line(&mut self, bytes: &[u8], standard_output: bool) {
        let text = String::from_utf8_lossy(bytes);
        // Of a progress bar redrawn on one line the last state counts.
        let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().trim_end();
        if standard_output && self.captured.len() + text.len() < MAX_CAPTURE_BYTES {
            self.captured.push_str(text);
            self.captured.push('\n');
        }
        if text.is_empty() {
            return;
        }
        if let Some(log) = self.log {
            log.line(text);
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_string());
    }
}

/// Splits a pipe into lines.
struct Lines {
    pipe: Option<BufReader<pipe::Receiver>>,
    partial: Vec<u8>,
}

impl Lines {
    fn new(fd: Option<OwnedFd>) -> Result<Self, ImageError> {
        let pipe = fd.map(pipe::Receiver::from_owned_fd).transpose();
        let pipe = pipe.map_err(|error| ImageError::io("read output of", "a build container", error))?;
        Ok(Self { pipe: pipe.map(BufReader::new), partial: Vec::new() })
    }

    /// Reads what is there; false at the end.
    async fn fill(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        match pipe.read_buf(&mut self.partial).await {
            Ok(count) if count > 0 => true,
            _ => {
                self.pipe = None;
                false
            }
        }
    }

    fn drain(&mut self, sink: &mut Sink<'_>, standard_output: bool) {
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            sink.line(&line[..end], standard_output);
        }
        if self.partial.len() > MAX_LINE_BYTES || (self.pipe.is_none() && !self.partial.is_empty()) {
            sink.line(&std::mem::take(&mut self.partial), standard_output);
        }
    }
}

async fn follow(
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    sink: &mut Sink<'_>,
) -> Result<(), ImageError> {
    let (mut stdout, mut stderr) = (Lines::new(stdout)?, Lines::new(stderr)?);
    while stdout.pipe.is_some() || stderr.pipe.is_some() {
        tokio::select! {
            _ = stdout.fill() => stdout.drain(sink, true),
            _ = stderr.fill() => stderr.drain(sink, false),
        }
    }
    Ok(())
}
