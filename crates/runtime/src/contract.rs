//! What every implementation of the port does, as functions that its tests call; each panics where the promise breaks.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::port::{ContainerSpec, ExecSpec, ExitReason, Runtime, RuntimeError, Started, Stdio};

/// Longest wait for anything.
const BOUND: Duration = Duration::from_secs(20);

/// What a program in a container shall do; an implementation's test says how it is asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Prints this on standard output, that on standard error, and ends with a code.
    Print { output: String, errors: String, code: i32 },
    /// Sleeps until it is killed.
    Sleep,
    /// Copies one line from the link back to it and ends with code 0.
    EchoLink,
    /// Writes a line to the link when it is ready for SIGTERM, and ends with code 3 when that comes.
    CatchTerm,
}

/// An implementation, and how its containers are asked to do something.
pub struct Bench<'a> {
    pub runtime: &'a dyn Runtime,
    /// A specification with a fresh id, pipes, and a link.
    pub spec: &'a dyn Fn(&Act) -> ContainerSpec,
}

impl Bench<'_> {
    /// Every promise, one after another.
    pub async fn all(&self) {
        self.output_and_code_arrive().await;
        self.the_link_goes_both_ways().await;
        self.kill_ends_it_and_waits_agree().await;
        self.other_signals_reach_the_program().await;
        self.calls_after_the_end_are_harmless().await;
        self.an_id_runs_once_at_a_time().await;
        self.later_programs_have_ends_of_their_own().await;
        self.what_cannot_be_started_is_refused().await;
        self.shutdown_ends_all().await;
    }

    async fn start(&self, act: Act) -> Started {
        bounded(self.runtime.start((self.spec)(&act))).await.expect("it starts")
    }

    async fn output_and_code_arrive(&self) {
        let act = Act::Print { output: "out".into(), errors: "err".into(), code: 7 };
        let mut started = self.start(act).await;
        let (output, errors) = (started.stdout.take(), started.stderr.take());
        assert!(started.terminal.is_none());
        let exit = bounded(started.control.wait()).await;
        assert_eq!(exit.reason, ExitReason::Code(7));
        assert_eq!((read(output), read(errors)), ("out".into(), "err".into()));
    }

    async fn the_link_goes_both_ways(&self) {
        let mut started = self.start(Act::EchoLink).await;
        let mut link = UnixStream::from(started.link.take().expect("a link was asked for"));
        link.write_all(b"there and back\n").expect("the link takes bytes");
        assert_eq!(read(Some(link.into())), "there and back\n");
        assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Code(0));
    }

    async fn kill_ends_it_and_waits_agree(&self) {
        let started = self.start(Act::Sleep).await;
        let early = tokio::spawn({
            let control = started.control.clone();
            async move { control.wait().await }
        });
        started.control.signal(libc::SIGKILL);
        let exit = bounded(started.control.wait()).await;
        assert_eq!(exit.reason, ExitReason::Signal(libc::SIGKILL));
        assert_eq!(bounded(early).await.expect("it does not panic"), exit);
        assert_eq!(bounded(started.control.wait()).await, exit);
    }

    async fn other_signals_reach_the_program(&self) {
        let mut started = self.start(Act::CatchTerm).await;
        let mut link = UnixStream::from(started.link.take().expect("a link was asked for"));
        let ready = tokio::task::spawn_blocking(move || link.read(&mut [0; 16]));
        bounded(ready).await.expect("it does not panic").expect("it gets ready");
        started.control.signal(libc::SIGTERM);
        assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Code(3));
    }

    async fn calls_after_the_end_are_harmless(&self) {
        let started = self.start(Act::Sleep).await;
        started.control.signal(libc::SIGKILL);
        bounded(started.control.wait()).await;
        started.control.signal(libc::SIGKILL);
        started.control.signal(libc::SIGTERM);
        started.control.resize(1, 1);
        started.control.usage();
        let refused = bounded(started.control.exec(later((self.spec)(&Act::Sleep)))).await;
        assert!(matches!(refused, Err(RuntimeError::Ended(id)) if id == started.control.id()));
    }

    async fn an_id_runs_once_at_a_time(&self) {
        let spec = (self.spec)(&Act::Sleep);
        let started = bounded(self.runtime.start(spec.clone())).await.expect("it starts");
        assert_eq!(started.control.id(), spec.id);
        assert!(bounded(self.runtime.start(spec.clone())).await.is_err());
        started.control.signal(libc::SIGKILL);
        bounded(started.control.wait()).await;
        let again = bounded(self.runtime.start(spec)).await.expect("the id is free again");
        again.control.signal(libc::SIGKILL);
        bounded(again.control.wait()).await;
    }

    async fn later_programs_have_ends_of_their_own(&self) {
        let started = self.start(Act::Sleep).await;
        let act = Act::Print { output: "later".into(), errors: String::new(), code: 5 };
        let mut second =
            bounded(started.control.exec(later((self.spec)(&act)))).await.expect("a later program starts");
        let output = second.stdout.take();
        assert_eq!(bounded(second.control.wait()).await.reason, ExitReason::Code(5));
        assert_eq!(read(output), "later");
        let third =
            bounded(started.control.exec(later((self.spec)(&Act::Sleep)))).await.expect("so does the next");
        started.control.signal(libc::SIGKILL);
        assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Signal(libc::SIGKILL));
        // With the container, everything in it ends.
        assert_eq!(bounded(third.control.wait()).await.reason, ExitReason::Signal(libc::SIGKILL));
    }

    async fn what_cannot_be_started_is_refused(&self) {
        let spec = ContainerSpec { argv: Vec::new(), ..(self.spec)(&Act::Sleep) };
        assert!(matches!(bounded(self.runtime.start(spec)).await, Err(RuntimeError::Start { .. })));
    }

    async fn shutdown_ends_all(&self) {
        let first = self.start(Act::Sleep).await;
        let second = self.start(Act::Sleep).await;
        bounded(self.runtime.shutdown()).await;
        for started in [first, second] {
            assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Signal(libc::SIGKILL));
        }
    }
}

fn later(spec: ContainerSpec) -> ExecSpec {
    ExecSpec { argv: spec.argv, env: spec.env, workdir: spec.workdir, stdio: Stdio::Pipes }
}

fn read(fd: Option<OwnedFd>) -> String {
    let mut text = String::new();
    File::from(fd.expect("it has this output")).read_to_string(&mut text).expect("it can be read");
    text
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it takes too long")
}
