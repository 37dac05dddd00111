//! File descriptors that the async runtime watches.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Makes a descriptor non-blocking and registers it.
pub fn polled(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` is valid until it is dropped, the `AsyncFd` owns it, and nobody can replace it in there:
    // callers get shared references.
    Ok(unsafe { AsyncFd::register(fd)? })
}
