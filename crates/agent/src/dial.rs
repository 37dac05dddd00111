//! The dial socket: a container's way to the server's API.
//!
//! Each byte that the runner writes asks for a connection; one byte with a socket answers it, or one byte alone when
//! too many are open. A runner that does not take its answers is asked no more questions.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use tokio::io::unix::AsyncFd;

use crate::polled::polled;

/// Connections of one container that are open at a time: more than threads that a program has any use for, and few
/// enough that many containers together do not use up the server's descriptors.
pub const CONNECTIONS_MAX: usize = 256;
/// Requests read at a time.
const REQUESTS: usize = 16;

/// The agent's end of one dial socket.
pub struct Dial {
    socket: AsyncFd<OwnedFd>,
    /// Requests that were read and not answered.
    owed: usize,
    open: Arc<AtomicUsize>,
    closed: bool,
}

/// Keeps the place of one open connection; dropped with its socket.
#[derive(Debug)]
pub struct DialPlace(Arc<AtomicUsize>);

impl Drop for DialPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Dial {
    /// The dial and the runner's end of it.
    pub fn new() -> std::io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let dial = Self { socket: polled(ours.into())?, owed: 0, open: Arc::default(), closed: false };
        Ok((dial, theirs.into()))
    }

    /// The agent's end of the next connection; never ready once the runner has closed its end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(UnixStream, DialPlace)> {
        while !self.closed {
            while self.owed == 0 && !self.closed {
                ready!(self.poll_requests(cx));
            }
            while self.owed > 0 && !self.closed {
                if let Some(connection) = ready!(self.poll_answer(cx)) {
                    return Poll::Ready(connection);
                }
            }
        }
        Poll::Pending
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Ok(mut ready) = ready!(self.socket.poll_read_ready(cx)) else {
            self.closed = true;
            return Poll::Ready(());
        };
        match recv(self.socket.get_ref(), &mut [0; REQUESTS], RecvFlags::DONTWAIT) {
            Ok((_, count)) if count > 0 => self.owed = count,
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => self.closed = true,
        }
        Poll::Ready(())
    }

    /// Answers one request, with a connection when there may be one more.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<(UnixStream, DialPlace)>> {
        let Ok(mut ready) = ready!(self.socket.poll_write_ready(cx)) else {
            self.closed = true;
            return Poll::Ready(None);
        };
        let connection = self.connection();
        let theirs = connection.as_ref().map(|(_, _, theirs)| theirs.as_fd());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if let Some(theirs) = &theirs {
            ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(theirs)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(self.socket.get_ref(), &[IoSlice::new(&[1])], &mut ancillary, flags) {
            Ok(_) => {
                self.owed -= 1;
                return Poll::Ready(connection.map(|(ours, place, _)| (ours, place)));
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(_) => self.closed = true,
        }
        Poll::Ready(None)
    }

    fn connection(&self) -> Option<(UnixStream, DialPlace, UnixStream)> {
        // Only this task adds, so nobody else can take the last place in between.
        if self.open.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            return None;
        }
        let (ours, theirs) = UnixStream::pair().ok()?;
        ours.set_nonblocking(true).ok()?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Some((ours, DialPlace(self.open.clone()), theirs))
    }
}
