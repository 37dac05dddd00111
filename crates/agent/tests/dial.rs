//! A container's connections to the server's API.

#[allow(dead_code)]
mod support;

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use clunk_agent::{CONNECTIONS_MAX, DialPlace};
use clunk_runtime::ExitReason;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use support::{Event, ONE, Rig, Runner};

/// Asks for a connection and waits for the answer, as a thread of a container does.
fn dial(socket: &mut UnixStream) -> Option<UnixStream> {
    socket.write_all(&[1]).unwrap();
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(&*socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    assert_eq!(received.unwrap().bytes, 1);
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next().map(UnixStream::from),
        _ => None,
    })
}

async fn connected(rig: &mut Rig) -> (UnixStream, DialPlace) {
    match rig.event().await {
        Event::Connected { socket, place } => (socket, place),
        event => panic!("no connection: {event:?}"),
    }
}

#[tokio::test]
async fn both_ends_of_a_connection_are_joined() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        let talk = move || {
            let mut connection = dial(&mut runner.dial).expect("a connection");
            connection.write_all(b"ping").unwrap();
            let mut answer = [0; 4];
            connection.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"pong");
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
        ExitReason::Code(0)
    });
    let (mut socket, _place) = connected(&mut rig).await;
    socket.set_nonblocking(false).unwrap();
    let talk = move || {
        let mut question = [0; 4];
        socket.read_exact(&mut question).unwrap();
        assert_eq!(&question, b"ping");
        socket.write_all(b"pong").unwrap();
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    rig.ended().await;
}

#[tokio::test]
async fn so_many_connections_are_open_and_no_more() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        let talk = move || {
            let mut open: Vec<_> =
                (0..CONNECTIONS_MAX).map(|_| dial(&mut runner.dial).expect("a connection")).collect();
            assert!(dial(&mut runner.dial).is_none(), "one too many");
            // The test lets one go when it reads this.
            open[0].write_all(b"full").unwrap();
            let mut byte = [0];
            assert_eq!(open[0].read(&mut byte).unwrap(), 0, "the server's end is closed");
            assert!(dial(&mut runner.dial).is_some(), "there is room again");
        };
        tokio::task::spawn_blocking(talk).await.unwrap();
        ExitReason::Code(0)
    });
    let (mut first, place) = connected(&mut rig).await;
    let mut others = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        others.push(connected(&mut rig).await);
    }
    first.set_nonblocking(false).unwrap();
    let talk = move || {
        let mut word = [0; 4];
        first.read_exact(&mut word).unwrap();
        drop(place);
        drop(first);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    connected(&mut rig).await;
    rig.ended().await;
}

#[tokio::test]
async fn a_closed_dial_socket_ends_nothing_else() {
    let mut rig = Rig::new(ONE, |runner: Runner| async move {
        drop(runner.dial);
        runner.wire.ready();
        runner.wire.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    assert_eq!(rig.answer().await.0, 1);
}
