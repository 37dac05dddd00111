//! A later program in a running container.
//!
//! A *waiter* stays outside: it puts its child into the container's control group and namespaces, passes signals on
//! and reports the end. The child takes the same last steps as the container's first process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::fdpass;
use crate::helper::confine;
use crate::helper::program::{self, Files};
use crate::seccomp::Filters;
use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{Event, HelperConfig, Order, ProgramPlan, StdioPlan};

#[derive(Serialize, Deserialize)]
enum Inner {
    /// Beside it: the controlling end of the program's terminal.
    Terminal,
    Failed(Failure),
}

/// The life of a waiter; never returns.
pub(crate) fn run_waiter(
    config: &HelperConfig,
    filters: &Filters,
    container: &OwnedFd,
    group: &Group,
    fds: Vec<OwnedFd>,
) -> ! {
    let _ = sys::die_with_parent();
    let mut fds = fds.into_iter();
    let (Some(plan), Some(control)) = (fds.next(), fds.next()) else { sys::exit(1) };
    let Ok(signals) = sys::signal_fd(&[libc::SIGCHLD]) else { sys::exit(1) };
    let started = confine::read_plan(plan).and_then(|plan: ProgramPlan| {
        let files = Files::take(&plan, fds)?;
        start(config, filters, container, group, &plan, files)
    });
    let (pid, terminal) = match started {
        Ok(started) => started,
        Err(Failure { step, reason, errno }) => {
            let _ = fdpass::send(&control, &Event::Failed { step, reason, errno }, &[]);
            sys::exit(1)
        }
    };
    let beside: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    let _ = fdpass::send(&control, &Event::Started { pid: pid as u32 }, &beside);
    drop(beside);
    sys::close_all_but(&confine::numbers(&[&control, &signals]), None);
    wait(pid, &control, &signals)
}

fn wait(pid: i32, control: &OwnedFd, signals: &OwnedFd) -> ! {
    loop {
        if let Ok(Some((_, status))) = sys::reap(pid, false) {
            let _ = fdpass::send(control, &Event::exited(status), &[]);
            sys::exit(0);
        }
        let mut watched = [PollFd::new(signals, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        if rustix::event::poll(&mut watched, None).is_err() {
            continue;
        }
        let [child_ended, ordered] = watched.map(|fd| !fd.revents().is_empty());
        if child_ended {
            let mut record = [0; size_of::<libc::signalfd_siginfo>()];
            let _ = rustix::io::read(signals, &mut record);
        }
        if ordered {
            match fdpass::try_receive::<Order>(control.as_fd()) {
                Ok(Some((Order::Signal(signal), _))) => drop(sys::kill(pid, signal)),
                Ok(None) => {
                    let _ = sys::kill(pid, libc::SIGKILL);
                    sys::exit(1)
                }
                Err(_) => {}
            }
        }
    }
}

fn start(
    config: &HelperConfig,
    filters: &Filters,
    container: &OwnedFd,
    group: &Group,
    plan: &ProgramPlan,
    files: Files,
) -> Result<(i32, Option<OwnedFd>), Failure> {
    let (ours, theirs) = fdpass::pair().step("enter")?;
    sys::setns(container.as_fd(), libc::CLONE_NEWPID).step("enter")?;
    let Some(pid) = sys::fork().step("enter")? else {
        drop(ours);
        let failure = match enter(config, container, plan, &theirs) {
            Ok(terminal) => program::execute(plan, files, terminal, filters),
            Err(failure) => failure,
        };
        let _ = fdpass::send(&theirs, &Inner::Failed(failure), &[]);
        sys::exit(127)
    };
    drop((theirs, files));
    let joined =
        group.join(pid).step("control group").and_then(|()| fdpass::send(&ours, &(), &[]).step("enter"));
    if let Err(failure) = joined {
        let _ = sys::kill(pid, libc::SIGKILL);
        return Err(failure);
    }
    let mut terminal = None;
    loop {
        match fdpass::receive::<Inner>(ours.as_fd()).step("enter")? {
            Some((Inner::Terminal, fds)) => terminal = fds.into_iter().next(),
            Some((Inner::Failed(failure), _)) => {
                let _ = sys::reap(pid, true);
                return Err(failure);
            }
            // Closed by a successful exec.
            None => return Ok((pid, terminal)),
        }
    }
}

/// In the child: into the container, down to its privileges.
fn enter(
    config: &HelperConfig,
    container: &OwnedFd,
    plan: &ProgramPlan,
    report: &OwnedFd,
) -> Result<Option<OwnedFd>, Failure> {
    sys::die_with_parent().step("enter")?;
    // Wait until the waiter has put this process into the control group.
    if fdpass::receive::<()>(report.as_fd()).step("enter")?.is_none() {
        return Err(Failure::new("enter", "the helper went away"));
    }
    let user = container.try_clone().step("enter")?;
    let rest = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    sys::setns(container.as_fd(), rest).step("enter")?;
    confine::become_tenant(user.as_fd(), config.ids > 1)?;
    confine::drop_privileges(plan.build_profile)?;
    let StdioPlan::Terminal { rows, columns } = plan.stdio else { return Ok(None) };
    let (outer, inner) = program::open_terminal(rows, columns).step("terminal")?;
    fdpass::send(report, &Inner::Terminal, &[outer.as_fd()]).step("terminal")?;
    Ok(Some(inner))
}
