//! The link to one runner: frames and file descriptors over a Unix stream socket.
//!
//! Sending never waits: what the socket does not take at once is queued and written by [`Link::pump`], which the
//! replica's task drives beside reading. So a caller that goes away can never leave half a frame on the stream.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::frame::{self, FrameError, HEADER_LEN, Header, Kind};
use crate::payload::Payload;
use crate::polled::polled;

/// Bytes asked of the socket at a time.
const READ_CHUNK: usize = 64 << 10;
/// Bytes queued towards a runner that does not read; more is a runner that hangs.
const MAX_QUEUED: usize = 64 << 20;
/// Descriptors in one message; the protocol attaches one to a frame.
const MAX_DESCRIPTORS: usize = 4;

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

/// A frame that arrived.
#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    pub call: u64,
    pub control: String,
    pub payload: Payload,
}

struct Outgoing {
    bytes: Bytes,
    /// Sent with the first byte.
    file: Option<Arc<std::fs::File>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    bytes: usize,
}

/// The sending half; shared.
pub struct Link {
    socket: Arc<AsyncFd<OwnedFd>>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Link {
    pub fn new(socket: OwnedFd) -> std::io::Result<(Arc<Self>, LinkReader)> {
        let socket = Arc::new(polled(socket)?);
        let link = Self { socket: socket.clone(), queue: Mutex::default(), wake: Notify::new() };
        let reader =
            LinkReader { socket, buffer: BytesMut::with_capacity(READ_CHUNK), files: VecDeque::new() };
        Ok((Arc::new(link), reader))
    }

    /// Sends a frame, or queues what the socket does not take now.
    pub fn send(&self, kind: Kind, call: u64, control: &str, payload: &Payload) -> Result<(), LinkError> {
        let (file, inline) = match payload {
            Payload::Memory(bytes) if bytes.len() as u64 <= frame::INLINE_MAX => (None, Some(bytes)),
            Payload::Memory(bytes) => return Err(FrameError::Payload(bytes.len() as u64).into()),
            Payload::File { file, .. } => (Some(file.clone()), None),
        };
        let header = Header {
            kind,
            file: file.is_some(),
            control_len: control.len() as u32,
            call,
            payload_len: payload.len(),
        };
        let mut head = BytesMut::with_capacity(HEADER_LEN + control.len());
        head.extend_from_slice(&header.encode());
        head.extend_from_slice(control.as_bytes());
        let mut queue = self.queue.lock().expect("no panic while queueing");
        let queued = head.len() + inline.map_or(0, Bytes::len);
        if queue.bytes + queued > MAX_QUEUED {
            return Err(LinkError::Stuck(queue.bytes));
        }
        queue.bytes += queued;
        queue.waiting.push_back(Outgoing { bytes: head.freeze(), file });
        if let Some(bytes) = inline.filter(|bytes| !bytes.is_empty()) {
            queue.waiting.push_back(Outgoing { bytes: bytes.clone(), file: None });
        }
        if !self.write(&mut queue)? {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Writes what the socket takes. True when nothing is left.
    fn write(&self, queue: &mut Queue) -> Result<bool, LinkError> {
        while let Some(first) = queue.waiting.front() {
            // One message carries the bytes up to the next one with a descriptor of its own.
            let batch: Vec<&[u8]> = std::iter::once(first)
                .chain(queue.waiting.iter().skip(1).take_while(|next| next.file.is_none()))
                .take(8)
                .map(|outgoing| outgoing.bytes.as_ref())
                .collect();
            let slices: Vec<IoSlice<'_>> = batch.iter().map(|bytes| IoSlice::new(bytes)).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = first.file.as_ref().map(|file| [file.as_fd()]);
            if let Some(descriptors) = &descriptors {
                ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            match sendmsg(
                self.socket.get_ref(),
                &slices,
                &mut ancillary,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => queue.advance(sent),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// Writes queued bytes as the socket takes them; returns only with an error. Cancel-safe.
    pub async fn pump(&self) -> LinkError {
        loop {
            self.wake.notified().await;
            loop {
                let mut ready = match self.socket.writable().await {
                    Ok(ready) => ready,
                    Err(error) => return LinkError::Socket(error),
                };
                let done = self.write(&mut self.queue.lock().expect("no panic while queueing"));
                match done {
                    Ok(true) => break,
                    Ok(false) => ready.clear_ready(),
                    Err(error) => return error,
                }
            }
        }
    }
}

impl Queue {
    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(first) = self.waiting.front_mut() {
            if sent > 0 || first.bytes.is_empty() {
                first.file = None;
            }
            if sent < first.bytes.len() {
                let _ = first.bytes.split_to(sent);
                return;
            }
            sent -= first.bytes.len();
            self.waiting.pop_front();
            if sent == 0 {
                return;
            }
        }
    }
}

/// The reading half; one task owns it.
pub struct LinkReader {
    socket: Arc<AsyncFd<OwnedFd>>,
    buffer: BytesMut,
    files: VecDeque<OwnedFd>,
}

impl LinkReader {
    /// The next frame. Cancel-safe.
    pub async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            let socket = self.socket.clone();
            let mut ready = socket.readable().await.map_err(LinkError::Socket)?;
            match self.fill() {
                Ok(0) => return Err(LinkError::Closed),
                Ok(_) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn fill(&mut self) -> Result<usize, Errno> {
        // Room for the rest of a known body, so that a large one does not come in small pieces.
        let wanted = self.header().ok().flatten().map_or(0, |header| HEADER_LEN + header.body_len());
        let start = self.buffer.len();
        self.buffer.resize(start.max(wanted.saturating_sub(READ_CHUNK)) + READ_CHUNK, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut self.buffer[start..])];
        let received = recvmsg(self.socket.get_ref(), &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let count = received.as_ref().map_or(0, |message| message.bytes);
        self.buffer.truncate(start + count);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.files.extend(descriptors);
            }
        }
        received.map(|message| message.bytes)
    }

    fn header(&self) -> Result<Option<Header>, FrameError> {
        self.buffer.first_chunk::<HEADER_LEN>().map(Header::decode).transpose()
    }

    fn parse(&mut self) -> Result<Option<Frame>, LinkError> {
        let Some(header) = self.header()? else { return Ok(None) };
        if self.buffer.len() < HEADER_LEN + header.body_len() {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEADER_LEN + header.body_len()).freeze();
        let _ = frame.split_to(HEADER_LEN);
        let control = frame.split_to(header.control_len as usize);
        let control = std::str::from_utf8(&control).map_err(|_| FrameError::Text)?.to_owned();
        let payload = if header.file {
            let file = self.files.pop_front().ok_or(FrameError::NoFile)?;
            Payload::File { file: Arc::new(file.into()), len: header.payload_len }
        } else {
            Payload::Memory(frame)
        };
        Ok(Some(Frame { kind: header.kind, call: header.call, control, payload }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Arc<Link>, LinkReader, Arc<Link>, LinkReader) {
        let (one, two) = UnixStream::pair().unwrap();
        let (left, left_reader) = Link::new(one.into()).unwrap();
        let (right, right_reader) = Link::new(two.into()).unwrap();
        (left, left_reader, right, right_reader)
    }

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order() {
        let (left, _keep, _right, mut reader) = pair();
        let big = Bytes::from(vec![7; 3 << 20]);
        let pump = {
            let left = left.clone();
            tokio::spawn(async move { left.pump().await })
        };
        left.send(Kind::Call, 1, "id=call-1\n", &Payload::Memory(big.clone())).unwrap();
        left.send(Kind::Cancel, 2, "", &Payload::Memory(Bytes::new())).unwrap();
        let first = reader.next().await.unwrap();
        assert_eq!((first.kind, first.call, first.control.as_str()), (Kind::Call, 1, "id=call-1\n"));
        assert!(matches!(first.payload, Payload::Memory(bytes) if bytes == big));
        let second = reader.next().await.unwrap();
        assert_eq!((second.kind, second.call, second.payload.len()), (Kind::Cancel, 2, 0));
        pump.abort();
    }

    #[tokio::test]
    async fn a_file_travels_with_its_frame() {
        let (left, _keep, _right, mut reader) = pair();
        for content in ["one", "three"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let payload = Payload::File { file: Arc::new(file), len: content.len() as u64 };
            left.send(Kind::Call, 1, "", &payload).unwrap();
        }
        for content in ["one", "three"] {
            let Payload::File { file, len } = reader.next().await.unwrap().payload else {
                panic!("not a file")
            };
            let mut text = String::new();
            let mut file = file.try_clone().unwrap();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), len), (content, content.len() as u64));
        }
    }

    #[tokio::test]
    async fn garbage_and_a_closed_end_are_errors() {
        let (one, mut two) = UnixStream::pair().unwrap();
        let (_link, mut reader) = Link::new(one.into()).unwrap();
        two.write_all(&[200; HEADER_LEN]).unwrap();
        assert!(matches!(reader.next().await, Err(LinkError::Protocol(FrameError::Kind(200)))));
        let (one, two) = UnixStream::pair().unwrap();
        let (_link, mut reader) = Link::new(one.into()).unwrap();
        drop(two);
        assert!(matches!(reader.next().await, Err(LinkError::Closed)));
    }
}
