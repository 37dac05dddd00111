//! Starting a program inside a container, by its first process or for a later one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::pty::OpenptFlags;

use crate::fdpass;
use crate::helper::confine;
use crate::seccomp::Filters;
use crate::step::{Failure, Step};
use crate::sys;
use crate::wire::{ProgramPlan, StdioPlan};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The link's place in the program.
const LINK: usize = 3;

/// The descriptors a program gets.
pub(crate) struct Files {
    pub output: Option<(OwnedFd, OwnedFd)>,
    pub link: Option<OwnedFd>,
}

impl Files {
    /// Takes them in the order in which they travel.
    pub(crate) fn take(plan: &ProgramPlan, fds: impl Iterator<Item = OwnedFd>) -> Result<Files, Failure> {
        let mut fds = fds.take(plan.files());
        let missing = || Failure::new("plan", "descriptors are missing");
        let output = match plan.stdio {
            StdioPlan::Pipes => Some((fds.next().ok_or_else(missing)?, fds.next().ok_or_else(missing)?)),
            StdioPlan::Terminal { .. } => None,
        };
        let link = if plan.link { Some(fds.next().ok_or_else(missing)?) } else { None };
        Ok(Files { output, link })
    }
}

pub(crate) struct Running {
    pub pid: i32,
    /// The controlling end.
    pub terminal: Option<OwnedFd>,
}

/// Forks and executes. Returns when the program runs or cannot.
pub(crate) fn spawn(plan: &ProgramPlan, files: Files, filters: &Filters) -> Result<Running, Failure> {
    let (terminal, inner) = match plan.stdio {
        StdioPlan::Pipes => (None, None),
        StdioPlan::Terminal { rows, columns } => {
            let (outer, inner) = open_terminal(rows, columns).step("terminal")?;
            (Some(outer), Some(inner))
        }
    };
    let (failed, report) = fdpass::pair().step("program")?;
    let Some(pid) = sys::fork().step("program")? else {
        drop((failed, terminal));
        let failure = execute(plan, files, inner, filters);
        let _ = fdpass::send(&report, &failure, &[]);
        sys::exit(127)
    };
    drop((report, files, inner));
    // Closed by a successful exec.
    match fdpass::receive::<Failure>(failed.as_fd()).step("program")? {
        None => Ok(Running { pid, terminal }),
        Some((failure, _)) => {
            let _ = sys::reap(pid, true);
            Err(failure)
        }
    }
}

/// A terminal of the container's own, owned by its root.
pub(crate) fn open_terminal(rows: u16, columns: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    sys::set_terminal_size(outer.as_fd(), rows, columns)?;
    Ok((outer, inner))
}

/// Turns the calling process into the program; returns only why that did not work.
pub(crate) fn execute(
    plan: &ProgramPlan,
    files: Files,
    terminal: Option<OwnedFd>,
    filters: &Filters,
) -> Failure {
    match prepare(plan, files, terminal, filters) {
        Ok(argv) => exec_on_path(plan, &argv),
        Err(failure) => failure,
    }
}

fn prepare(
    plan: &ProgramPlan,
    files: Files,
    terminal: Option<OwnedFd>,
    filters: &Filters,
) -> Result<Vec<CString>, Failure> {
    let argv = strings(plan.argv.iter().cloned())?;
    sys::reset_signals();
    sys::new_session(terminal.as_ref().map(AsFd::as_fd)).step("program")?;
    sys::set_resource_limits().step("program")?;
    rustix::process::chdir(&plan.workdir).map_err(|error| Failure {
        step: "workdir".into(),
        reason: format!("the working directory `{}` cannot be entered: {error}", plan.workdir),
        errno: error.raw_os_error(),
    })?;
    let null =
        rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("program")?;
    let mut places = match (&terminal, &files.output) {
        (Some(terminal), _) => vec![terminal.as_raw_fd(); LINK],
        (None, Some((output, errors))) => vec![null.as_raw_fd(), output.as_raw_fd(), errors.as_raw_fd()],
        (None, None) => vec![null.as_raw_fd(); LINK],
    };
    places.extend(files.link.iter().map(AsRawFd::as_raw_fd));
    sys::set_capabilities(confine::capabilities(plan.build_profile)).step("capabilities")?;
    filters.load().step("system call filter")?;
    if plan.build_profile {
        filters.pretend_owners().step("system call filter")?;
    }
    sys::place_descriptors(&places).step("program")?;
    // The numbers now name the program's descriptors; dropping these would close them.
    std::mem::forget((terminal, files, null));
    Ok(argv)
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, Failure> {
    texts
        .map(|text| CString::new(text).map_err(|_| Failure::new("program", "an argument holds a zero byte")))
        .collect()
}

fn exec_on_path(plan: &ProgramPlan, argv: &[CString]) -> Failure {
    let name = &plan.argv[0];
    let env = match strings(plan.env.iter().map(|(key, value)| format!("{key}={value}"))) {
        Ok(env) => env,
        Err(failure) => return failure,
    };
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        let path = plan.env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{name}")).collect()
    };
    let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
    let mut there = None;
    for candidate in candidates {
        let Ok(path) = CString::new(candidate.clone()) else { continue };
        let error = sys::exec(&path, argv, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {
                if rustix::fs::statat(CWD, candidate.as_str(), AtFlags::empty()).is_ok() {
                    there.get_or_insert(candidate);
                }
            }
            Some(libc::EACCES) => worst = error,
            _ => {
                worst = error;
                break;
            }
        }
    }
    let errno = worst.raw_os_error().unwrap_or_default();
    let reason = match (errno, there) {
        (libc::ENOENT, Some(path)) => {
            format!("program `{path}` is in the image, but the interpreter or loader it names is not")
        }
        (libc::ENOENT, None) => format!("program `{name}` not found in the image"),
        (libc::EACCES, _) => format!("program `{name}` may not be executed: {worst}"),
        (libc::ENOEXEC, _) => format!("program `{name}` is not in a format this machine executes: {worst}"),
        _ => format!("program `{name}` could not be executed: {worst}"),
    };
    Failure { step: "program".into(), reason, errno }
}
