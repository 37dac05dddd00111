//! File descriptors that the async runtime watches.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and registers it.
pub fn polled(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    registered(fd, Interest::READABLE | Interest::WRITABLE)
}

/// As [`polled`], for reading alone: whoever reads what was written here then wakes nobody.
pub fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    registered(fd, Interest::READABLE)
}

/// As [`polled`], for writing alone.
pub fn writable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    registered(fd, Interest::WRITABLE)
}

fn registered(fd: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` is valid until it is dropped, the `AsyncFd` owns it, and nobody can replace it in there:
    // callers get shared references.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest)? })
}
