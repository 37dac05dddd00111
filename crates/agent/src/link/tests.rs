use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;

use super::*;

type End = (Arc<Link>, LinkReader);

fn pair() -> (End, End) {
    let (one, two) = UnixStream::pair().unwrap();
    let end = |socket: UnixStream| Link::new(socket.into(), Arc::default()).unwrap();
    (end(one), end(two))
}

/// Polls a reader for ever, as a replica's task does, so that what is queued is written.
fn pump(mut reader: LinkReader) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while reader.next().await.is_ok() {} })
}

fn with<'a>(kind: Kind, call: u64, control: &'a str, payload: &'a Payload) -> Outgoing<'a> {
    Outgoing { kind, call, control, payload, socket: None }
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order() {
    let ((left, left_reader), (_right, mut reader)) = pair();
    let big = Bytes::from(vec![7; 3 << 20]);
    left.send(with(Kind::Call, 1, "id=call-1\n", &Payload::Memory(big.clone())));
    left.send(Outgoing::bare(Kind::Cancel, 2, ""));
    left.send(with(Kind::Call, 3, "", &Payload::from(&b"three"[..])));
    let pump = pump(left_reader);
    let first = reader.next().await.unwrap();
    assert_eq!((first.kind, first.call, first.control.as_str()), (Kind::Call, 1, "id=call-1\n"));
    assert!(matches!(first.payload, Payload::Memory(bytes) if bytes == big));
    let second = reader.next().await.unwrap();
    assert_eq!((second.kind, second.call, second.payload.len()), (Kind::Cancel, 2, 0));
    let third = reader.next().await.unwrap();
    assert!(matches!(third.payload, Payload::Memory(bytes) if bytes == "three"));
    pump.abort();
}

#[tokio::test]
async fn sizes_around_the_buffer_and_the_copy_bound_arrive() {
    let ((left, left_reader), (_right, mut reader)) = pair();
    let sizes = [0, 1, COPY_MAX - 1, COPY_MAX, COPY_MAX + 1, (64 << 10) - HEADER_LEN, 64 << 10, 4 << 20];
    let content = |size: usize| Bytes::from((0..size).map(|at| at as u8).collect::<Vec<_>>());
    let pump = pump(left_reader);
    left.cork();
    for round in 0..3 {
        for (at, size) in sizes.iter().enumerate() {
            let number = (round * sizes.len() + at) as u64;
            left.push(with(Kind::Call, number, "", &Payload::Memory(content(*size))));
        }
    }
    left.uncork();
    for number in 0..3 * sizes.len() {
        let frame = reader.next().await.unwrap();
        assert_eq!(frame.call, number as u64);
        assert!(
            matches!(frame.payload, Payload::Memory(bytes) if bytes == content(sizes[number % sizes.len()]))
        );
    }
    pump.abort();
}

#[tokio::test]
async fn a_file_travels_with_its_frame() {
    let ((left, _keep), (_right, mut reader)) = pair();
    left.cork();
    for content in ["one", "three"] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let payload = Payload::File { file: Arc::new(file), len: content.len() as u64 };
        left.send(Outgoing::bare(Kind::Cancel, 1, ""));
        left.send(with(Kind::Call, 1, "", &payload));
    }
    left.uncork();
    for content in ["one", "three"] {
        assert_eq!(reader.next().await.unwrap().kind, Kind::Cancel);
        let Payload::File { file, len } = reader.next().await.unwrap().payload else { panic!("not a file") };
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
    let (_link, mut reader) = Link::new(one.into(), Arc::default()).unwrap();
    two.write_all(&[200; HEADER_LEN]).unwrap();
    assert!(matches!(reader.next().await, Err(LinkError::Protocol(FrameError::Kind(200)))));
    let ((_left, mut reader), right) = pair();
    right.0.send(Outgoing::bare(Kind::Stop, 0, ""));
    drop(right);
    assert_eq!(reader.next().await.unwrap().kind, Kind::Stop);
    assert!(matches!(reader.next().await, Err(LinkError::Closed)));
}

#[tokio::test]
async fn descriptors_that_belong_to_no_frame_are_an_error() {
    let (one, two) = UnixStream::pair().unwrap();
    let (_link, mut reader) = Link::new(one.into(), Arc::default()).unwrap();
    let file = tempfile::tempfile().unwrap();
    let descriptors = [file.as_fd(), file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&two, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::empty()).unwrap();
    assert!(matches!(reader.next().await, Err(LinkError::Protocol(FrameError::StrayFiles))));
}

#[tokio::test]
async fn a_runner_that_does_not_read_is_found() {
    let ((left, mut left_reader), _right) = pair();
    let control = "x".repeat(1 << 20);
    for number in 0..70 {
        left.send(Outgoing::bare(Kind::Call, number, &control));
    }
    assert!(matches!(left_reader.next().await, Err(LinkError::Stuck(_))));
}
