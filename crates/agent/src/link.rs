//! The sending half of the link to one runner: frames and file descriptors over a Unix stream socket.
//!
//! Sending never waits: what the socket does not take at once is queued and written by the link's reader, which the
//! replica's task polls. So a caller that goes away can never leave half a frame on the stream. Errors reach that task
//! too, and nobody else.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::frame::{self, FrameError, HEADER_LEN, Header, Kind};
use crate::payload::Payload;
use crate::polled;
use crate::reader::LinkReader;

/// Bytes copied for a runner that does not read; more is a runner that hangs. Large arguments are shared, not copied,
/// and bounded by the calls that a replica may have.
const MAX_QUEUED: usize = 64 << 20;
/// Arguments up to this size are copied behind their header: one piece to send instead of two.
const COPY_MAX: usize = 16 << 10;
/// Bytes of small frames that become one piece.
const PIECE_MAX: usize = 64 << 10;
/// Pieces in one message.
const SLICES_MAX: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the runner closed its link")]
    Closed,
    #[error("the runner broke the protocol: {0}")]
    Protocol(#[from] FrameError),
    #[error("the runner does not read: {0} bytes are waiting for it")]
    Stuck(usize),
    #[error("runner link: {0}")]
    Socket(std::io::Error),
}

impl From<Errno> for LinkError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Socket(other.into()),
        }
    }
}

/// A frame to send.
pub struct Outgoing<'a> {
    pub kind: Kind,
    pub call: u64,
    pub control: &'a str,
    pub payload: &'a Payload,
    /// A socket for the runner, instead of a payload.
    pub socket: Option<OwnedFd>,
}

impl<'a> Outgoing<'a> {
    /// A frame without a payload.
    pub fn bare(kind: Kind, call: u64, control: &'a str) -> Self {
        static NOTHING: Payload = Payload::Memory(Bytes::new());
        Self { kind, call, control, payload: &NOTHING, socket: None }
    }
}

enum Attached {
    File(Arc<std::fs::File>),
    Socket(OwnedFd),
}

impl AsFd for Attached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) => file.as_fd(),
            Self::Socket(socket) => socket.as_fd(),
        }
    }
}

enum Bulk {
    Copied(Vec<u8>),
    Shared(Bytes),
}

/// Bytes to send, with what goes with the first of them.
struct Piece {
    bulk: Bulk,
    sent: usize,
    attached: Option<Attached>,
}

impl Piece {
    fn left(&self) -> &[u8] {
        match &self.bulk {
            Bulk::Copied(bytes) => &bytes[self.sent..],
            Bulk::Shared(bytes) => &bytes[self.sent..],
        }
    }
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes that were copied and not sent.
    copied: usize,
    /// More is about to be queued; what is there goes with it.
    corked: bool,
    /// The socket is full; the reader waits for room.
    blocked: bool,
    error: Option<LinkError>,
    /// The last piece's memory, for the next.
    spare: Vec<u8>,
}

/// The sending half; shared.
pub struct Link {
    pub(crate) socket: Arc<AsyncFd<OwnedFd>>,
    queue: Mutex<Queue>,
    /// Of the task that polls the reader.
    wake: Arc<Notify>,
}

impl Link {
    /// Both halves. `wake` is notified when the reader has something to do: write, or report an error.
    pub fn new(socket: OwnedFd, wake: Arc<Notify>) -> std::io::Result<(Arc<Self>, LinkReader)> {
        let socket = Arc::new(polled::readable(socket)?);
        let link = Arc::new(Self { socket, queue: Mutex::default(), wake });
        Ok((link.clone(), LinkReader::new(link)))
    }

    /// Sends a frame, or queues what the socket does not take now.
    pub fn send(&self, frame: Outgoing<'_>) {
        let mut queue = self.locked();
        self.push_locked(&mut queue, frame);
        self.flush_locked(&mut queue);
    }

    /// Queues a frame; [`Link::flush`] sends it.
    pub fn push(&self, frame: Outgoing<'_>) {
        self.push_locked(&mut self.locked(), frame);
    }

    /// Sends what is queued, unless the link is corked.
    pub fn flush(&self) {
        self.flush_locked(&mut self.locked());
    }

    /// Sends a frame at once, even while the link is corked.
    pub fn send_now(&self, frame: Outgoing<'_>) {
        let mut queue = self.locked();
        self.push_locked(&mut queue, frame);
        let corked = std::mem::replace(&mut queue.corked, false);
        self.flush_locked(&mut queue);
        queue.corked = corked;
    }

    /// Lets frames gather until [`Link::uncork`]: answers that came together are followed by calls that go together.
    pub fn cork(&self) {
        self.locked().corked = true;
    }

    pub fn uncork(&self) {
        let mut queue = self.locked();
        queue.corked = false;
        self.flush_locked(&mut queue);
    }

    /// Whether room in the socket is waited for, or the error that the queue met.
    pub(crate) fn waits_for_room(&self) -> Result<bool, LinkError> {
        let mut queue = self.locked();
        match queue.error.take() {
            Some(error) => Err(error),
            None => Ok(queue.blocked),
        }
    }

    /// Writes after the socket had no room. True when nothing is left.
    pub(crate) fn write_again(&self) -> bool {
        let mut queue = self.locked();
        queue.blocked = false;
        self.flush_locked(&mut queue);
        !queue.blocked
    }

    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while queueing")
    }

    fn push_locked(&self, queue: &mut Queue, frame: Outgoing<'_>) {
        if let Err(error) = queue.push(frame) {
            self.fail(queue, error);
        }
    }

    fn flush_locked(&self, queue: &mut Queue) {
        if queue.corked || queue.blocked || queue.pieces.is_empty() {
            return;
        }
        match self.write(queue) {
            Ok(true) => {}
            Ok(false) => {
                queue.blocked = true;
                self.wake.notify_one();
            }
            // The reader finds the end of the stream behind what the runner still said.
            Err(LinkError::Closed) => queue.clear(),
            Err(error) => self.fail(queue, error),
        }
    }

    fn fail(&self, queue: &mut Queue, error: LinkError) {
        queue.error.get_or_insert(error);
        queue.clear();
        self.wake.notify_one();
    }

    /// Writes what the socket takes. True when nothing is left.
    fn write(&self, queue: &mut Queue) -> Result<bool, LinkError> {
        while let Some(first) = queue.pieces.front() {
            // One message carries the bytes up to the next piece with a descriptor of its own.
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 1;
            slices[0] = IoSlice::new(first.left());
            for next in queue.pieces.iter().skip(1).take(SLICES_MAX - 1) {
                if next.attached.is_some() {
                    break;
                }
                slices[count] = IoSlice::new(next.left());
                count += 1;
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = first.attached.as_ref().map(|attached| [attached.as_fd()]);
            if let Some(descriptors) = &descriptors {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(self.socket.get_ref(), &slices[..count], &mut ancillary, flags) {
                Ok(sent) => queue.advance(sent),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}

impl Queue {
    fn push(&mut self, frame: Outgoing<'_>) -> Result<(), LinkError> {
        let (attached, inline) = match (frame.socket, frame.payload) {
            (Some(socket), _) => (Some(Attached::Socket(socket)), None),
            (None, Payload::Memory(bytes)) if bytes.len() as u64 <= frame::INLINE_MAX => (None, Some(bytes)),
            (None, Payload::Memory(bytes)) => return Err(FrameError::Payload(bytes.len() as u64).into()),
            (None, Payload::File { file, .. }) => (Some(Attached::File(file.clone())), None),
        };
        let header = Header {
            kind: frame.kind,
            file: attached.is_some(),
            control_len: frame.control.len() as u32,
            call: frame.call,
            payload_len: frame.payload.len(),
        };
        let (copied, shared) = match inline {
            Some(bytes) if bytes.len() > COPY_MAX => (&[][..], Some(bytes)),
            Some(bytes) => (&bytes[..], None),
            None => (&[][..], None),
        };
        let length = HEADER_LEN + frame.control.len() + copied.len();
        if self.copied + length > MAX_QUEUED {
            return Err(LinkError::Stuck(self.copied));
        }
        self.copied += length;
        let text = self.text(length, attached);
        text.extend_from_slice(&header.encode());
        text.extend_from_slice(frame.control.as_bytes());
        text.extend_from_slice(copied);
        if let Some(bytes) = shared {
            self.pieces.push_back(Piece { bulk: Bulk::Shared(bytes.clone()), sent: 0, attached: None });
        }
        Ok(())
    }

    /// Where the next `length` bytes go: behind the last small frame, or into a piece of their own.
    fn text(&mut self, length: usize, attached: Option<Attached>) -> &mut Vec<u8> {
        let joins = attached.is_none()
            && matches!(self.pieces.back(), Some(Piece { bulk: Bulk::Copied(text), .. }) if text.len() + length <= PIECE_MAX);
        if !joins {
            let bulk = Bulk::Copied(std::mem::take(&mut self.spare));
            self.pieces.push_back(Piece { bulk, sent: 0, attached });
        }
        match self.pieces.back_mut() {
            Some(Piece { bulk: Bulk::Copied(text), .. }) => text,
            _ => unreachable!("the last piece is one of copied bytes"),
        }
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.copied = 0;
    }

    fn advance(&mut self, mut sent: usize) {
        while let Some(first) = self.pieces.front_mut() {
            let left = first.left().len();
            let part = left.min(sent);
            first.sent += part;
            sent -= part;
            if part > 0 {
                first.attached = None;
            }
            if matches!(first.bulk, Bulk::Copied(_)) {
                self.copied -= part;
            }
            if part < left {
                return;
            }
            if let Some(Piece { bulk: Bulk::Copied(mut text), .. }) = self.pieces.pop_front()
                && text.capacity() <= PIECE_MAX
            {
                text.clear();
                self.spare = text;
            }
            if sent == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
