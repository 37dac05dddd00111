//! A container's standard output and error, read as text that is never cut inside a character.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::polled::readable;

/// Bytes read at a time: what a pipe holds.
const READ_CHUNK: usize = 64 << 10;

struct Pipe {
    fd: AsyncFd<OwnedFd>,
    stream: &'static str,
    open: bool,
    /// The first bytes of a character whose rest has not come.
    rest: Vec<u8>,
}

/// Both pipes.
pub struct Pipes([Pipe; 2]);

impl Pipes {
    /// Takes over the reading ends of standard output and standard error.
    pub fn new([stdout, stderr]: [OwnedFd; 2]) -> std::io::Result<Self> {
        let pipe = |fd: OwnedFd, stream| {
            Ok::<_, std::io::Error>(Pipe { fd: readable(fd)?, stream, open: true, rest: Vec::new() })
        };
        Ok(Self([pipe(stdout, "stdout")?, pipe(stderr, "stderr")?]))
    }

    /// The next text of either; never ready when both have ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(&'static str, Vec<u8>)> {
        for pipe in &mut self.0 {
            if let Poll::Ready(text) = pipe.poll_next(cx) {
                return Poll::Ready((pipe.stream, text));
            }
        }
        Poll::Pending
    }

    /// The next text of either; waits for ever when both have ended. Cancel-safe.
    pub async fn next(&mut self) -> (&'static str, Vec<u8>) {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What is there now. One system call when nothing is: this is asked before every answer, and what the async
    /// runtime knows of a pipe may be older than the answer.
    pub fn try_next(&mut self) -> Option<(&'static str, Vec<u8>)> {
        let open = self.0.each_ref().map(|pipe| if pipe.open { PollFlags::IN } else { PollFlags::empty() });
        if open.iter().all(PollFlags::is_empty) {
            return None;
        }
        let [stdout, stderr] = &self.0;
        let mut polled =
            [PollFd::new(stdout.fd.get_ref(), open[0]), PollFd::new(stderr.fd.get_ref(), open[1])];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if !rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|found| found > 0) {
            return None;
        }
        self.0.iter_mut().find_map(|pipe| Some((pipe.stream, pipe.read()?)))
    }
}

impl Pipe {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        while self.open {
            let Ok(mut ready) = ready!(self.fd.poll_read_ready(cx)) else {
                self.open = false;
                break;
            };
            match read_text(self.fd.get_ref(), &mut self.open, &mut self.rest) {
                Ok(Some(text)) => return Poll::Ready(text),
                Ok(None) => {}
                Err(()) => ready.clear_ready(),
            }
        }
        Poll::Pending
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        read_text(self.fd.get_ref(), &mut self.open, &mut self.rest).ok().flatten()
    }
}

/// Text; None when only part of a character or the end came; an error when nothing is there yet.
fn read_text(fd: &OwnedFd, open: &mut bool, rest: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    if !*open {
        return Err(());
    }
    let mut bytes = std::mem::take(rest);
    let start = bytes.len();
    bytes.resize(start + READ_CHUNK, 0);
    match rustix::io::read(fd, &mut bytes[start..]) {
        Ok(0) => {
            *open = false;
            bytes.truncate(start);
            Ok((!bytes.is_empty()).then_some(bytes))
        }
        Ok(count) => {
            bytes.truncate(start + count);
            *rest = bytes.split_off(bytes.len() - incomplete(&bytes));
            Ok((!bytes.is_empty()).then_some(bytes))
        }
        Err(errno) => {
            bytes.truncate(start);
            *rest = bytes;
            if !matches!(errno, Errno::AGAIN | Errno::INTR) {
                *open = false;
            }
            Err(())
        }
    }
}

/// How many bytes at the end begin a UTF-8 character and do not end it.
fn incomplete(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(back) = tail.iter().rev().position(|byte| byte & 0xc0 != 0x80) else { return 0 };
    let lead = tail[tail.len() - 1 - back];
    let want = match lead {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    if back + 1 < want { back + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_not_cut() {
        let text = "aé€𝄞".as_bytes();
        for end in 0..=text.len() {
            let whole = end - incomplete(&text[..end]);
            assert!(std::str::from_utf8(&text[..whole]).is_ok(), "cut at {end}");
        }
        assert_eq!(incomplete("aé€𝄞".as_bytes()), 0);
        assert_eq!(incomplete(b"\x80\x80\x80"), 0);
    }

    #[tokio::test]
    async fn both_streams_are_read_to_their_ends() {
        let (out, out_writer) = rustix::pipe::pipe().unwrap();
        let (err, err_writer) = rustix::pipe::pipe().unwrap();
        let mut pipes = Pipes::new([out, err]).unwrap();
        assert!(pipes.try_next().is_none());
        rustix::io::write(&out_writer, b"hello").unwrap();
        assert_eq!(pipes.next().await, ("stdout", b"hello".to_vec()));
        rustix::io::write(&err_writer, b"oops").unwrap();
        drop((out_writer, err_writer));
        assert_eq!(pipes.next().await, ("stderr", b"oops".to_vec()));
        assert!(pipes.try_next().is_none());
    }
}
