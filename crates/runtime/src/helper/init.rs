//! The container's first process once its program runs: reaps, passes signals on, reports the end.
//!
//! It executes nothing else and holds only three descriptors. When it ends, the kernel kills whatever is left in its
//! pid namespace.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

use crate::fdpass;
use crate::helper::confine;
use crate::seccomp::Filters;
use crate::sys::{self, Status};
use crate::wire::{Event, Order};

const CAP_KILL: u64 = 1 << 5;

impl Event {
    pub(crate) fn exited(status: Status) -> Event {
        match status {
            Status::Code(code) => Event::Exited { code: Some(code), signal: None },
            Status::Signal(signal) => Event::Exited { code: None, signal: Some(signal) },
        }
    }
}

/// Never returns.
pub(crate) fn run(program: i32, control: OwnedFd, helper: OwnedFd, filters: &Filters) -> ! {
    let Ok(signals) = sys::signal_fd(&[libc::SIGCHLD]) else { sys::exit(1) };
    sys::close_all_but(&confine::numbers(&[&control, &helper, &signals]), None);
    // Reaping needs nothing, and signals go to processes of any user inside.
    if sys::set_capabilities(CAP_KILL).is_err() || filters.load().is_err() {
        sys::exit(1);
    }
    loop {
        if let Some(status) = reap_all(program) {
            let _ = fdpass::send(&control, &Event::exited(status), &[]);
            sys::exit(0);
        }
        let mut watched = [
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&control, PollFlags::IN),
            PollFd::new(&helper, PollFlags::IN),
        ];
        if rustix::event::poll(&mut watched, None).is_err() {
            continue;
        }
        let [child_ended, ordered, helper_spoke] = watched.map(|fd| !fd.revents().is_empty());
        if child_ended {
            let mut record = [0; size_of::<libc::signalfd_siginfo>()];
            let _ = rustix::io::read(&signals, &mut record);
        }
        if helper_spoke {
            // The helper never speaks to a running container: it is gone, and so is everything here.
            sys::exit(1);
        }
        if ordered {
            match fdpass::try_receive::<Order>(control.as_fd()) {
                Ok(Some((Order::Signal(signal), _))) => drop(sys::kill(program, signal)),
                // Nobody is left to tell.
                Ok(None) => sys::exit(1),
                Err(_) => {}
            }
        }
    }
}

/// Reaps everything that ended; the status of the program when it is among them.
fn reap_all(program: i32) -> Option<Status> {
    while let Ok(Some((pid, status))) = sys::reap(-1, false) {
        if pid == program {
            return Some(status);
        }
    }
    None
}
