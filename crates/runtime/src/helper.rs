//! The helper: a small single-threaded process that forks containers and cleans up after them.
//!
//! Forking from the asynchronous process would be unsound and slow. The helper ends, and every container with it,
//! when the socket to the asynchronous side closes.

mod confine;
mod exec;
mod host;
mod init;
mod janitor;
mod program;
mod rootfs;
mod rootless;
mod skeleton;
mod stub;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clunk_core::id::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::cgroup::Group;
use crate::fdpass;
use crate::port::Usage;
use crate::seccomp::Filters;
use crate::sys;
use crate::wire::{FromHelper, HelperConfig, StubEvent, ToHelper};
use host::Host;
use janitor::Remains;
use stub::Blueprint;

/// Stubs that are being made at one time: more only queue inside the kernel.
const PREPARING_MAX: usize = 4;
/// Cleaning processes at one time, for the same reason.
const JANITORS_MAX: usize = 2;
/// Containers one cleaning process takes at most.
const JANITOR_BATCH: usize = 8;
/// The pool is refilled when no start came for this long: a new program's first moments need the processors more.
const QUIET: Duration = Duration::from_millis(15);
/// Pause after a stub could not be made.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait at the end for containers to go.
const END_WAIT: Duration = Duration::from_secs(10);

/// Runs the helper on the socket that is its standard input; returns when it is done.
///
/// Call it first thing in `main`, before any thread is started, when the program was run with the words of
/// [`crate::NativeConfig::helper`].
pub fn spawner_main() -> std::process::ExitCode {
    match Helper::begin() {
        Ok(Some(mut helper)) => {
            helper.run();
            std::process::ExitCode::SUCCESS
        }
        Ok(None) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: the container helper could not begin: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// A half-made container.
struct Stub {
    scout: i32,
    socket: OwnedFd,
    group: Group,
    slot: Option<u16>,
    /// Known when it waits for a plan.
    pid: Option<i32>,
}

struct Waiting {
    id: ContainerId,
    nat: bool,
    scratch: Option<PathBuf>,
    keep: Option<PathBuf>,
    fds: Vec<OwnedFd>,
}

struct Running {
    id: ContainerId,
    stub: Stub,
    pidfd: OwnedFd,
    scratch: Option<PathBuf>,
    keep: Option<PathBuf>,
}

struct Ended {
    /// None for a stub that nobody used.
    report: Option<FromHelper>,
    remains: Remains,
}

struct Helper {
    config: HelperConfig,
    filters: Filters,
    host: Host,
    agent: OwnedFd,
    null: OwnedFd,
    signals: OwnedFd,
    preparing: Vec<Stub>,
    ready: Vec<Stub>,
    waiting: VecDeque<Waiting>,
    running: HashMap<i32, Running>,
    ended: VecDeque<Ended>,
    janitors: HashMap<i32, Vec<Ended>>,
    free_slots: VecDeque<u16>,
    made: u64,
    not_before: Instant,
    outbox: VecDeque<(FromHelper, Option<OwnedFd>)>,
    closing: Option<Instant>,
}

impl Helper {
    fn begin() -> io::Result<Option<Helper>> {
        let agent = io::stdin().as_fd().try_clone_to_owned()?;
        // Nothing that is forked from here on may hold the socket.
        let null = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null")?);
        rustix::stdio::dup2_stdin(&null)?;
        // Signals that a terminal sends to its foreground programs are for the asynchronous side alone.
        let _ = rustix::process::setsid();
        sys::hide_command_line();
        sys::set_name(c"clunk-helper");
        sys::set_dumpable(false)?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let Some((ToHelper::Configure(config), _)) = fdpass::receive(&agent)? else { return Ok(None) };
        let filters = crate::seccomp::compile(config.ids).map_err(io::Error::other)?;
        let (host, report) = Host::prepare(&config);
        let fatal = report.fatal.is_some();
        fdpass::send(&agent, &FromHelper::Ready(report), &[])?;
        if fatal {
            return Ok(None);
        }
        let signals = sys::signal_fd(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP])?;
        Ok(Some(Helper {
            config,
            filters,
            host,
            agent,
            null,
            signals,
            preparing: Vec::new(),
            ready: Vec::new(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            ended: VecDeque::new(),
            janitors: HashMap::new(),
            free_slots: (crate::net::FIRST_SLOT..=crate::net::LAST_SLOT).collect(),
            made: 0,
            not_before: Instant::now(),
            outbox: VecDeque::new(),
            closing: None,
        }))
    }

    fn run(&mut self) {
        loop {
            self.flush();
            self.make_stubs();
            self.start_janitors();
            if self.done() {
                break;
            }
            self.wait_and_handle();
        }
        self.host.release(&self.config);
    }

    fn done(&self) -> bool {
        let Some(since) = self.closing else { return false };
        let idle = self.running.is_empty()
            && self.ready.is_empty()
            && self.preparing.is_empty()
            && self.ended.is_empty()
            && self.janitors.is_empty();
        idle || since.elapsed() > END_WAIT
    }

    /// One round of poll and all that it says.
    fn wait_and_handle(&mut self) {
        let out = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let agent_wanted = if self.closing.is_some() { PollFlags::empty() } else { PollFlags::IN | out };
        let mut watched = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if self.closing.is_none() {
            watched.push(PollFd::new(&self.agent, agent_wanted));
        }
        let fixed = watched.len();
        watched.extend(self.preparing.iter().map(|stub| PollFd::new(&stub.socket, PollFlags::IN)));
        let timeout = self
            .timeout()
            .map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() });
        if rustix::event::poll(&mut watched, timeout.as_ref()).is_err() {
            return;
        }
        let happened: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        let spoke: Vec<usize> = (fixed..happened.len()).filter(|&i| happened[i]).map(|i| i - fixed).collect();
        // From the back, so that places in front stay valid.
        for &stub in spoke.iter().rev() {
            self.stub_spoke(stub);
        }
        if happened[0] {
            self.signalled();
        }
        if fixed > 1 && happened[1] {
            self.agent_spoke();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let refill = (self.closing.is_none() && self.shortage().is_some())
            .then(|| self.not_before.saturating_duration_since(now) + Duration::from_millis(1));
        let end = self.closing.map(|_| Duration::from_millis(100));
        refill.into_iter().chain(end).min()
    }

    fn agent_spoke(&mut self) {
        loop {
            match fdpass::try_receive(&self.agent) {
                Ok(Some((ToHelper::Start { id, nat, scratch, keep }, fds))) => {
                    self.start(Waiting { id, nat, scratch, keep, fds });
                }
                Ok(Some((ToHelper::Discard { path }, _))) => {
                    let remains = Remains { scratch: Some(path), ..Remains::default() };
                    self.ended.push_back(Ended { report: None, remains });
                }
                Ok(Some((ToHelper::Exec { id }, fds))) => self.exec(id, fds),
                Ok(Some((ToHelper::Configure(_), _))) => {}
                Ok(None) => return self.close(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(),
            }
        }
    }

    /// Kills everything; the loop goes on until all of it is cleaned up.
    fn close(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(Instant::now());
        self.outbox.clear();
        self.waiting.clear();
        for running in self.running.values() {
            let _ = sys::pidfd_signal(running.pidfd.as_fd(), libc::SIGKILL);
        }
        for stub in &self.preparing {
            let _ = sys::kill(stub.scout, libc::SIGKILL);
        }
        for stub in &self.ready {
            if let Some(pid) = stub.pid {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
    }

    fn start(&mut self, wanted: Waiting) {
        if wanted.nat && self.host.subnet.is_none() {
            let reason = self.host.network_error.clone().unwrap_or_default();
            return self.refuse(wanted, "network", &reason);
        }
        self.not_before = Instant::now() + QUIET;
        match self.ready.iter().position(|stub| stub.slot.is_some() == wanted.nat) {
            Some(at) => {
                let stub = self.ready.remove(at);
                self.assign(stub, wanted);
            }
            None => self.waiting.push_back(wanted),
        }
    }

    fn refuse(&mut self, wanted: Waiting, step: &str, reason: &str) {
        self.tell(FromHelper::Refused { id: wanted.id, step: step.into(), reason: reason.into() }, None);
    }

    fn assign(&mut self, stub: Stub, wanted: Waiting) {
        let Some(pid) = stub.pid else { return };
        let fds: Vec<_> = wanted.fds.iter().map(AsFd::as_fd).collect();
        let handed = fdpass::send(&stub.socket, &(), &fds);
        drop(fds);
        let pidfd = sys::pidfd_open(pid);
        match (handed, pidfd) {
            (Ok(()), Ok(pidfd)) => {
                let copy = pidfd.try_clone().ok();
                let group = stub.group.clone();
                self.tell(FromHelper::Assigned { id: wanted.id, pid: pid as u32, group }, copy);
                let Waiting { id, scratch, keep, .. } = wanted;
                self.running.insert(pid, Running { id, stub, pidfd, scratch, keep });
            }
            // It died while it waited; its end is reaped like any other's.
            _ => {
                self.ready.push(Stub { pid: None, ..stub });
                self.waiting.push_front(wanted);
            }
        }
    }

    fn exec(&mut self, id: ContainerId, fds: Vec<OwnedFd>) {
        // Without a container the descriptors close, which tells the other side.
        let Some(running) = self.running.values().find(|running| running.id == id) else { return };
        if let Ok(None) = sys::fork() {
            let keep: Vec<i32> = fds.iter().chain([&running.pidfd]).map(AsRawFd::as_raw_fd).collect();
            sys::close_all_but(&keep, Some(self.null.as_fd()));
            exec::run_waiter(&self.config, &self.filters, &running.pidfd, &running.stub.group, fds);
        }
    }

    /// The kind of stub to make next: for who waits, then for the pool.
    fn shortage(&self) -> Option<bool> {
        if self.closing.is_some() || self.preparing.len() >= PREPARING_MAX {
            return None;
        }
        let count = |nat| {
            let stubs = self.preparing.iter().chain(&self.ready);
            stubs.filter(|stub| stub.slot.is_some() == nat).count()
        };
        let waiting = |nat| self.waiting.iter().filter(|wanted| wanted.nat == nat).count();
        if count(true) < waiting(true) || count(false) < waiting(false) {
            return Some(count(true) < waiting(true));
        }
        if self.host.subnet.is_some() && count(true) < self.config.pool.nat {
            return Some(true);
        }
        (count(false) < self.config.pool.isolated).then_some(false)
    }

    fn make_stubs(&mut self) {
        while let Some(nat) = self.shortage() {
            if self.waiting.is_empty() && Instant::now() < self.not_before {
                return;
            }
            if let Err(error) = self.make_stub(nat) {
                self.not_before = Instant::now() + BACK_OFF;
                if let Some(wanted) = self.waiting.pop_front() {
                    self.refuse(wanted, "control group", &error.to_string());
                }
                return;
            }
        }
    }

    fn make_stub(&mut self, nat: bool) -> io::Result<()> {
        let slot = match nat {
            false => None,
            true => Some(self.free_slots.pop_front().ok_or_else(|| io::Error::other("no free address"))?),
        };
        self.made += 1;
        let group = self.host.layout.group(&format!("{}-{}", std::process::id(), self.made));
        let (socket, theirs) = fdpass::pair()?;
        let Some(scout) = sys::fork()? else {
            drop(socket);
            let subnet = self.host.subnet.zip(slot);
            stub::run_scout(
                Blueprint {
                    config: &self.config,
                    filters: &self.filters,
                    group,
                    slot: subnet,
                    show_cgroup: self.host.layout.mode == "v2",
                    null: self.null.as_fd(),
                },
                theirs,
            )
        };
        self.preparing.push(Stub { scout, socket, group, slot, pid: None });
        Ok(())
    }

    fn stub_spoke(&mut self, at: usize) {
        match fdpass::try_receive::<StubEvent>(&self.preparing[at].socket) {
            Ok(Some((StubEvent::Waiting { pid }, _))) => {
                let mut stub = self.preparing.swap_remove(at);
                stub.pid = Some(pid as i32);
                if self.closing.is_some() {
                    let _ = sys::kill(pid as i32, libc::SIGKILL);
                }
                let nat = stub.slot.is_some();
                match self.waiting.iter().position(|wanted| wanted.nat == nat) {
                    Some(first) => {
                        if let Some(wanted) = self.waiting.remove(first) {
                            self.assign(stub, wanted);
                        }
                    }
                    None => self.ready.push(stub),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => {
                let (step, reason) = match other {
                    Ok(Some((StubEvent::Failed { step, reason }, _))) => (step, reason),
                    _ => ("namespaces".to_owned(), "the process that prepares containers died".to_owned()),
                };
                let stub = self.preparing.swap_remove(at);
                let nat = stub.slot.is_some();
                self.abandon(stub);
                self.not_before = Instant::now() + BACK_OFF;
                if let Some(first) = self.waiting.iter().position(|wanted| wanted.nat == nat)
                    && let Some(wanted) = self.waiting.remove(first)
                {
                    self.refuse(wanted, &step, &reason);
                }
            }
        }
    }

    fn abandon(&mut self, stub: Stub) {
        let _ = sys::kill(stub.scout, libc::SIGKILL);
        let remains = Remains { group: stub.group, slot: stub.slot, ..Remains::default() };
        self.ended.push_back(Ended { report: None, remains });
    }

    fn signalled(&mut self) {
        let mut record = [0; size_of::<libc::signalfd_siginfo>()];
        while rustix::io::read(&self.signals, &mut record).is_ok_and(|got| got == record.len()) {
            let signal = u32::from_ne_bytes([record[0], record[1], record[2], record[3]]);
            // The others mean the whole service stops; the asynchronous side decides when.
            debug_assert!(signal > 0);
        }
        while let Ok(Some((pid, _))) = sys::reap(-1, false) {
            if let Some(running) = self.running.remove(&pid) {
                self.container_ended(running);
            } else if let Some(done) = self.janitors.remove(&pid) {
                self.cleaned(done);
            } else if let Some(at) = self.ready.iter().position(|stub| stub.pid == Some(pid)) {
                let stub = self.ready.swap_remove(at);
                self.abandon(Stub { scout: pid, ..stub });
            }
        }
    }

    fn container_ended(&mut self, running: Running) {
        let Running { id, stub, scratch, keep, .. } = running;
        let placeholders = match fdpass::try_receive(&stub.socket) {
            Ok(Some((StubEvent::Placeholders(made), _))) => keep.map(|upper| (upper, made)),
            _ => None,
        };
        let usage = stub.group.usage();
        let out_of_memory = stub.group.out_of_memory();
        self.ended.push_back(Ended {
            report: Some(FromHelper::Ended { id, usage: Usage { pids: 0, ..usage }, out_of_memory }),
            remains: Remains { group: stub.group, slot: stub.slot, scratch, placeholders },
        });
    }

    fn start_janitors(&mut self) {
        while !self.ended.is_empty() && self.janitors.len() < JANITORS_MAX {
            let batch: Vec<Ended> = self.ended.drain(..self.ended.len().min(JANITOR_BATCH)).collect();
            match sys::fork() {
                Ok(Some(pid)) => drop(self.janitors.insert(pid, batch)),
                Ok(None) => {
                    sys::close_all_but(&[], Some(self.null.as_fd()));
                    let clean =
                        batch.iter().map(|ended| janitor::remove(&self.config.instance, &ended.remains));
                    let failures = clean.filter(|result| result.is_err()).count();
                    sys::exit(failures.min(1) as i32)
                }
                Err(_) => {
                    // No process to be had: do it here, slowly.
                    for ended in &batch {
                        let _ = janitor::remove(&self.config.instance, &ended.remains);
                    }
                    self.cleaned(batch);
                }
            }
        }
    }

    fn cleaned(&mut self, done: Vec<Ended>) {
        for ended in done {
            self.free_slots.extend(ended.remains.slot);
            if let Some(report) = ended.report {
                self.tell(report, None);
            }
        }
    }

    fn tell(&mut self, message: FromHelper, beside: Option<OwnedFd>) {
        if self.closing.is_none() {
            self.outbox.push_back((message, beside));
            self.flush();
        }
    }

    /// Sends what the other side has room for.
    fn flush(&mut self) {
        while let Some((message, beside)) = self.outbox.front() {
            let fds: Vec<_> = beside.iter().map(AsFd::as_fd).collect();
            match fdpass::try_send(&self.agent, message, &fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(),
                Ok(()) => drop(self.outbox.pop_front()),
            }
        }
    }
}
