//! The reading half of the link to one runner.
//!
//! One message of the kernel brings as many frames as there are. Small payloads are copied out of the buffer, so that
//! a result that is kept does not keep its neighbours; large ones are received where they stay.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::unix::AsyncFd;

use crate::frame::{FrameError, HEADER_LEN, Header, Kind};
use crate::link::{Link, LinkError};
use crate::payload::Payload;
use crate::polled;

/// Bytes asked of the socket at a time. Frames that do not fit get memory of their own.
const BUFFER: usize = 64 << 10;
/// Descriptors in one message; the protocol attaches one to a frame.
const MAX_DESCRIPTORS: usize = 4;

/// A frame that arrived.
#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    pub call: u64,
    pub control: String,
    pub payload: Payload,
}

/// A frame that is too large for the buffer, on its way.
struct Large {
    header: Header,
    body: Vec<u8>,
    filled: usize,
}

/// The reading half; one task owns it.
pub struct LinkReader {
    link: Arc<Link>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    large: Option<Large>,
    files: VecDeque<OwnedFd>,
    /// Watches for room in the socket, while the link waits for it.
    room: Option<AsyncFd<OwnedFd>>,
}

impl LinkReader {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        // Zeroed memory is not there until it is used.
        let buffer = vec![0; BUFFER];
        Self { link, buffer, start: 0, end: 0, large: None, files: VecDeque::new(), room: None }
    }

    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            std::future::poll_fn(|cx| self.poll_fill(cx)).await?;
        }
    }

    /// Receives once, and writes what waited for room in the socket. Ready: [`LinkReader::parse`] may have frames.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.write(cx)?;
        let link = self.link.clone();
        loop {
            let mut ready = ready!(link.socket.poll_read_ready(cx)).map_err(LinkError::Socket)?;
            match self.fill() {
                Ok(Filled { bytes: 0, .. }) => return Poll::Ready(Err(LinkError::Closed)),
                Ok(filled) => {
                    if filled.all {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Receives what is there now, without waiting. False: nothing is, or the stream has ended.
    pub fn fill_now(&mut self) -> bool {
        self.fill().is_ok_and(|filled| filled.bytes > 0)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), LinkError> {
        while self.link.waits_for_room()? {
            let room = match &mut self.room {
                Some(room) => room,
                None => {
                    let socket = rustix::io::fcntl_dupfd_cloexec(self.link.socket.get_ref(), 0)?;
                    self.room.insert(polled::writable(socket).map_err(LinkError::Socket)?)
                }
            };
            let Poll::Ready(ready) = room.poll_write_ready(cx) else { return Ok(()) };
            let mut ready = ready.map_err(LinkError::Socket)?;
            if !self.link.write_again() {
                ready.clear_ready();
            }
        }
        self.room = None;
        Ok(())
    }

    fn fill(&mut self) -> Result<Filled, Errno> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let space = match &mut self.large {
            Some(large) => &mut large.body[large.filled..],
            None => &mut self.buffer[self.end..],
        };
        let asked = space.len();
        let mut memory = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut memory);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let socket = self.link.socket.get_ref();
        let bytes = recvmsg(socket, &mut [IoSliceMut::new(space)], &mut ancillary, flags)?.bytes;
        let before = self.files.len();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        match &mut self.large {
            Some(large) => large.filled += bytes,
            None => self.end += bytes,
        }
        // The kernel ends a message behind bytes with descriptors; other short ones have taken everything.
        Ok(Filled { bytes, all: bytes < asked && self.files.len() == before })
    }

    /// The next frame that has arrived whole.
    pub fn parse(&mut self) -> Result<Option<Frame>, LinkError> {
        if let Some(large) = self.large.take_if(|large| large.filled == large.body.len()) {
            return self.frame_of(large.header, Bytes::from(large.body)).map(Some);
        }
        if self.large.is_some() {
            return self.waiting();
        }
        let arrived = &self.buffer[self.start..self.end];
        let Some(header) = arrived.first_chunk::<HEADER_LEN>().map(Header::decode).transpose()? else {
            return self.waiting();
        };
        let (length, arrived) = (HEADER_LEN + header.body_len(), &arrived[HEADER_LEN..]);
        if length > BUFFER {
            let mut body = vec![0; header.body_len()];
            let filled = arrived.len().min(body.len());
            body[..filled].copy_from_slice(&arrived[..filled]);
            (self.start, self.end) = (0, 0);
            self.large = Some(Large { header, body, filled });
            return Ok(None);
        }
        if HEADER_LEN + arrived.len() < length {
            return self.waiting();
        }
        let body = Bytes::copy_from_slice(&arrived[..header.body_len()]);
        self.start += length;
        self.frame_of(header, body).map(Some)
    }

    /// Part of a frame has come at most, and so at most one descriptor that belongs to one.
    fn waiting(&self) -> Result<Option<Frame>, LinkError> {
        if self.files.len() > 1 { Err(FrameError::StrayFiles.into()) } else { Ok(None) }
    }

    fn frame_of(&mut self, header: Header, mut body: Bytes) -> Result<Frame, LinkError> {
        let control = body.split_to(header.control_len as usize);
        let control = std::str::from_utf8(&control).map_err(|_| FrameError::Text)?.to_owned();
        let payload = if header.file {
            let file = self.files.pop_front().ok_or(FrameError::NoFile)?;
            // Whoever reads a pipe of a container waits for the container.
            let mode = rustix::fs::fstat(&file)?.st_mode;
            if header.kind.is_from_runner() && !FileType::from_raw_mode(mode).is_file() {
                return Err(FrameError::NotAFile.into());
            }
            Payload::File { file: Arc::new(file.into()), len: header.payload_len }
        } else {
            Payload::Memory(body)
        };
        Ok(Frame { kind: header.kind, call: header.call, control, payload })
    }
}

struct Filled {
    bytes: usize,
    /// Nothing more was there.
    all: bool,
}
