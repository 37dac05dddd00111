//! The system calls that the safe wrappers lack: the one place of this crate with unsafe code.
//!
//! The helper and everything it forks is single-threaded; that is what makes fork sound here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks. `None` in the child.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    // SAFETY: only single-threaded processes call this, so the child finds every lock free.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Forks a child whose parent is the caller's parent, so that the caller may end before it. `None` in the child.
pub(crate) fn fork_sibling() -> io::Result<Option<i32>> {
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: a clone without CLONE_VM and without a new stack is a fork; the process is single-threaded.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as i32))
}

pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: changes only namespaces of this single-threaded process.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

pub(crate) fn setns(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the process is single-threaded.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags) }).map(drop)
}

pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

/// Reaps one child that ended: any, or the one named. `None` when none has; an error when there is none at all.
pub(crate) fn reap(pid: i32, wait: bool) -> io::Result<Option<(i32, Status)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        match check(unsafe { libc::waitpid(pid, &mut status, if wait { 0 } else { libc::WNOHANG }) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
            Ok(0) => return Ok(None),
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Ok(Some((pid, Status::Signal(libc::WTERMSIG(status)))));
            }
            Ok(pid) => return Ok(Some((pid, Status::Code(libc::WEXITSTATUS(status))))),
        }
    }
}

/// Ends the process at once, without running destructors or exit handlers that belong to its parent.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers; the result is a new descriptor nobody else owns.
    unsafe {
        let fd = check_long(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; the info pointer may be null.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: only options without pointers are passed by the functions below.
    check(unsafe { libc::prctl(option, value, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) })
        .map(drop)
}

/// The kernel kills this process when its parent ends. Changing user ids forgets it.
pub(crate) fn die_with_parent() -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

/// Whether this process's memory and descriptors are open to debuggers and `/proc` of equal users.
pub(crate) fn set_dumpable(open: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, open.into())
}

pub(crate) fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

pub(crate) fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the name is a terminated string; the kernel copies at most 16 bytes.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Takes every capability out of the bounding set that is not in `keep`.
pub(crate) fn bound_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..64u32 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability.into()) {
            // The first number this kernel does not know.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// Sets effective and permitted capabilities to `keep`, and the inheritable and ambient ones to none.
pub(crate) fn set_capabilities(keep: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u32| Data { effective: bits, permitted: bits, inheritable: 0 };
    let data = [half(keep as u32), half((keep >> 32) as u32)];
    prctl_ambient_clear()?;
    // SAFETY: both structures have the layout the kernel documents for version 3.
    check_long(unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) }).map(drop)
}

fn prctl_ambient_clear() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)
}

/// Becomes user and group 0 of the user namespace, with no other groups. `groups` is false where the namespace
/// forbids setting them.
pub(crate) fn become_root(groups: bool) -> io::Result<()> {
    // SAFETY: no pointers but a null list of length zero; raw calls change this only thread.
    unsafe {
        check_long(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        if groups {
            check_long(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        }
        check_long(libc::syscall(libc::SYS_setresuid, 0, 0, 0)).map(drop)
    }
}

/// Blocks the signals and gives a descriptor that reads them.
pub(crate) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the result is a new descriptor.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Default action for every signal and an empty mask, as a program expects to find them.
pub(crate) fn reset_signals() {
    const SIGNALS: libc::c_long = 64;
    const SET_SIZE: usize = 8;
    // The kernel's own `struct sigaction` of any architecture fits; all zero is the default action. The C library's
    // function would leave out the two signals it keeps for itself, which may be ignored by whoever started us.
    let default = [0u64; 8];
    // SAFETY: only sets default actions; the set is initialised before use.
    unsafe {
        for signal in 1..=SIGNALS {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, SET_SIZE);
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Puts `fds[i]` at descriptor `i` and closes everything else on exec.
pub(crate) fn place_descriptors(fds: &[RawFd]) -> io::Result<()> {
    // SAFETY: descriptors are plain numbers here; the caller execs or exits next and uses none of the others.
    unsafe {
        let above: Vec<RawFd> = fds
            .iter()
            .map(|&fd| check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 16)))
            .collect::<io::Result<_>>()?;
        for (at, fd) in above.into_iter().enumerate() {
            check(libc::dup2(fd, at as RawFd))?;
        }
        let first = fds.len() as libc::c_uint;
        check_long(libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)).map(drop)
    }
}

/// Closes every descriptor from 3 up that is not in `keep`, and points 0 to 2 at `null`.
pub(crate) fn close_all_but(keep: &[RawFd], null: Option<BorrowedFd<'_>>) {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    // SAFETY: the caller lists every descriptor it goes on using.
    unsafe {
        if let Some(null) = null {
            for fd in 0..3 {
                libc::dup2(null.as_raw_fd(), fd);
            }
        }
        let mut from = 3;
        for fd in keep.into_iter().filter(|&fd| fd >= 3) {
            if fd > from {
                libc::syscall(libc::SYS_close_range, from, fd - 1, 0);
            }
            from = fd + 1;
        }
        libc::syscall(libc::SYS_close_range, from, u32::MAX, 0);
    }
}

/// A new session; the terminal, when there is one, becomes its controlling terminal.
pub(crate) fn new_session(terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    unsafe {
        check(libc::setsid())?;
        if let Some(terminal) = terminal {
            check(libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0))?;
        }
    }
    Ok(())
}

pub(crate) fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open and the structure is what TIOCSWINSZ reads.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// Limits that do not depend on the host's: no core dumps, and as many descriptors as servers need.
pub(crate) fn set_resource_limits() -> io::Result<()> {
    const DESCRIPTORS: u64 = 65_536;
    // SAFETY: `limit` is a valid place for both calls.
    unsafe {
        // Not 0: a host that pipes core dumps to a program does so for 0 as well, but not for 1 (core(5)).
        let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        check(libc::setrlimit(libc::RLIMIT_CORE, &limit))?;
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_max = limit.rlim_max.min(1 << 20);
        limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS);
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit)).map(drop)
    }
}

/// Starts a child in a session of its own, which is killed when the thread that started it ends, with `link` as
/// descriptor 3. Its process id; nobody has waited for it.
pub(crate) fn spawn(command: &mut Command, link: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    const LINK: RawFd = 3;
    // Taken while the child is made, so that nothing that the standard library opens for itself lies there.
    let guard = std::fs::File::open("/dev/null")?;
    let link = link.map(|link| rustix::io::fcntl_dupfd_cloexec(link, LINK + 1)).transpose()?;
    let link = link.as_ref().map(AsRawFd::as_raw_fd);
    let parent = std::process::id() as i32;
    let prepare = move || {
        reset_signals();
        new_session(None)?;
        die_with_parent()?;
        // It may have ended before the kernel was told.
        // SAFETY: takes no pointers.
        if unsafe { libc::getppid() } != parent {
            exit(1);
        }
        if let Some(link) = link {
            // SAFETY: takes no pointers; descriptor 3 of the child is nobody's.
            check(unsafe { libc::dup2(link, LINK) })?;
        }
        Ok(())
    };
    // SAFETY: after the fork only system calls are made: nothing allocates or locks.
    unsafe { command.pre_exec(prepare) };
    let pid = command.spawn()?.id() as i32;
    drop(guard);
    Ok(pid)
}

/// Only returns when the program could not be executed.
pub(crate) fn exec(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds mount attributes to a mount and every mount below it.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> io::Result<()> {
    let attributes = MountAttr { attr_set: set, ..MountAttr::default() };
    // SAFETY: the path is a terminated empty string and the structure has the size passed.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Overwrites the command line that `ps` and `/proc` show, which names a path of the host.
pub(crate) fn hide_command_line() {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The name in parentheses may hold spaces; fields are counted after it. Numbers 48 and 49 of proc_pid_stat(5).
    let Some(rest) = stat.rsplit(')').next() else { return };
    let mut numbers = rest.split_whitespace().skip(45).map_while(|field| field.parse::<usize>().ok());
    let (Some(start), Some(end)) = (numbers.next(), numbers.next()) else { return };
    if start == 0 || end <= start {
        return;
    }
    // SAFETY: the kernel says that the process's own argument strings lie there; they are writable, and the
    // arguments were copied out before the helper began.
    unsafe { std::ptr::write_bytes(start as *mut u8, 0, end - start) };
}

/// Locks the whole file for this process alone; not inherited by forks. False when another holds it.
pub(crate) fn lock_file(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: zero is valid for every field of `flock`.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    // SAFETY: the descriptor is open and the structure is what F_SETLK reads.
    match check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock) }) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The descriptor under the eyes of the asynchronous runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open file until it is dropped, and nothing here takes it out.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(fd) }?)
}
