//! A replica whose program takes the inputs itself.

#[allow(dead_code)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use clunk_agent::frame::{HEADER_LEN, Kind, field};
use clunk_agent::{Blame, CallEnd, DialPlace, Ended, Logs, Replica, ReplicaOwner, Value};
use clunk_core::api::AppEvent;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, ReplicaId};
use clunk_runtime::FakeRuntime;
use clunk_runtime::{ExitReason, RuntimeError};
use support::{Event, ONE, Rig, Runner, Shape, calls, returned, spec};
use tokio::sync::mpsc;

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();
const SIGSEGV: i32 = rustix::process::Signal::SEGV.as_raw();
const SIGUSR1: i32 = rustix::process::Signal::USR1.as_raw();

fn shape(concurrency: u32) -> Shape {
    Shape { concurrency, ..ONE }
}

#[tokio::test]
async fn as_many_calls_run_as_may_and_the_others_wait() {
    let mut rig = Rig::new(shape(4), |mut runner: Runner| async move {
        runner.wire.ready();
        let mut running = Vec::new();
        for _ in 0..4 {
            running.push(runner.wire.expect(Kind::Call).await);
        }
        assert!(runner.wire.is_empty(), "a fifth call before an answer");
        for call in running.iter().rev() {
            runner.wire.echo(call);
        }
        runner.wire.serve().await
    });
    rig.send(&[1, 2, 3, 4, 5, 6]);
    rig.ready().await;
    let mut answered = Vec::new();
    for _ in 0..6 {
        let (number, end) = rig.answer().await;
        assert_eq!(returned(&end), number.to_string());
        answered.push(number);
    }
    assert_eq!(answered, [4, 3, 2, 1, 5, 6]);
    rig.replica.stop();
    assert!(!rig.replica.send(&calls(&[7]), false), "it takes no more");
    let (ended, lost) = rig.ended().await;
    assert!(matches!(ended, Ended::Stopped) && lost.is_empty());
}

#[tokio::test]
async fn a_batch_comes_together_and_takes_one_place() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        for first in [1, 4] {
            let batch = runner.wire.expect(Kind::Batch).await;
            assert_eq!(field(&batch.control, "count").as_deref(), Some("3"));
            let mut calls = Vec::new();
            for number in first..first + 3 {
                calls.push(runner.wire.expect(Kind::Call).await);
                assert_eq!(calls.last().unwrap().call, number);
            }
            assert!(runner.wire.is_empty(), "the next batch before the answers to this one");
            calls.iter().for_each(|call| runner.wire.echo(call));
        }
        runner.wire.serve().await
    });
    rig.ready().await;
    assert!(rig.replica.send(&calls(&[1, 2, 3]), true) && rig.replica.send(&calls(&[4, 5, 6]), true));
    for number in 1..=6 {
        assert_eq!(rig.answer().await.0, number);
    }
}

#[tokio::test]
async fn a_stop_lets_what_runs_end_and_gives_back_what_waits() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await;
        runner.wire.expect(Kind::Stop).await;
        runner.wire.echo(&call);
        ExitReason::Code(0)
    });
    rig.ready().await;
    rig.send(&[1, 2, 3]);
    rig.replica.stop();
    let (numbers, _, blame) = rig.lost().await;
    assert_eq!((numbers, blame), (vec![2, 3], Blame::Machine));
    assert_eq!(rig.answer().await.0, 1);
    let (ended, lost) = rig.ended().await;
    assert!(matches!(ended, Ended::Stopped) && lost.is_empty());
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_ended() {
    let shape = Shape { startup: Duration::ZERO, ..ONE };
    let mut rig = Rig::new(shape, |runner: Runner| runner.wire.hang());
    let (ended, _) = rig.ended().await;
    let Ended::NotStarted { error, blame: Blame::Call } = ended else { panic!("{ended:?}") };
    assert!(error.message.contains("not ready"), "{error}");
    assert_eq!(rig.runtime.running(), 0);
}

#[tokio::test]
async fn a_canceled_call_that_ends_in_time_leaves_its_process() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await;
        assert_eq!(runner.container.signals.recv().await, Some(SIGUSR1));
        assert_eq!(runner.wire.expect(Kind::Cancel).await.call, call.call);
        runner.wire.say(Kind::Exception, call.call, "type=InputCancellation\nmessage=\n");
        runner.wire.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    rig.replica.cancel(1);
    let (number, end) = rig.answer().await;
    assert!(number == 1 && matches!(end, CallEnd::Raised(raised) if raised.kind == "InputCancellation"));
    rig.send(&[2]);
    assert_eq!(rig.answer().await.0, 2);
}

#[tokio::test]
async fn a_canceled_call_that_does_not_end_takes_its_process_along() {
    let mut rig = Rig::new(shape(3), |runner: Runner| async move {
        runner.wire.ready();
        runner.wire.hang().await
    });
    rig.ready().await;
    rig.send(&[1, 2, 3, 4]);
    rig.replica.cancel(2);
    let (numbers, _, blame) = rig.lost().await;
    assert_eq!((numbers, blame), (vec![4], Blame::Machine), "the one that waited");
    let (ended, lost) = rig.ended().await;
    assert_eq!(lost, [1, 2, 3]);
    assert!(matches!(ended, Ended::Crashed { blame: Blame::Machine, .. }), "{ended:?}");
}

#[tokio::test]
async fn a_call_canceled_while_it_waits_is_given_back() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let first = runner.wire.expect(Kind::Call).await;
        runner.wire.echo(&first);
        let third = runner.wire.expect(Kind::Call).await;
        assert_eq!(third.call, 3);
        runner.wire.echo(&third);
        runner.wire.serve().await
    });
    rig.send(&[1, 2, 3]);
    rig.replica.cancel(2);
    let mut seen = (Vec::new(), Vec::new());
    while seen.0.len() + seen.1.len() < 3 {
        match rig.event().await {
            Event::Answered { number, .. } => seen.0.push(number),
            Event::Lost { numbers, .. } => seen.1.extend(numbers),
            event => assert!(matches!(event, Event::Ready), "{event:?}"),
        }
    }
    assert_eq!(seen, (vec![1, 3], vec![2]));
}

/// How a replica ends whose program takes these calls and then ends like this.
async fn end_of(reason: ExitReason, numbers: &'static [u64]) -> (ErrorBody, Blame, Vec<u64>) {
    let mut rig = Rig::new(shape(8), move |mut runner: Runner| {
        let reason = reason.clone();
        async move {
            runner.wire.ready();
            for _ in numbers {
                runner.wire.expect(Kind::Call).await;
            }
            reason
        }
    });
    rig.send(numbers);
    rig.ready().await;
    match rig.ended().await {
        (Ended::Crashed { error, blame }, lost) => (error, blame, lost),
        (ended, _) => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn blame_follows_what_ended_the_process() {
    let memory = ExitReason::OutOfMemory { limit_bytes: 1 << 20 };
    let cases = [
        (ExitReason::Code(3), &[1][..], Blame::Call, "code 3"),
        (ExitReason::Code(3), &[1, 2], Blame::Machine, "code 3"),
        (ExitReason::Signal(SIGSEGV), &[1], Blame::Call, "SIGSEGV"),
        (ExitReason::Signal(SIGKILL), &[1], Blame::Machine, "SIGKILL"),
        (memory, &[1], Blame::Call, "memory"),
        (ExitReason::Lost, &[1], Blame::Machine, "helper"),
    ];
    for (reason, numbers, expected, words) in cases {
        let (error, blame, lost) = end_of(reason.clone(), numbers).await;
        assert_eq!((blame, lost.as_slice()), (expected, numbers), "{reason:?}");
        assert!(error.message.contains(words), "{reason:?}: {error}");
    }
}

#[tokio::test]
async fn a_start_that_fails_says_whose_fault_it_was() {
    let cases = [
        (ExitReason::Code(1), Blame::Call),
        (ExitReason::Signal(SIGSEGV), Blame::Call),
        (ExitReason::Signal(SIGKILL), Blame::Machine),
        (ExitReason::NotStarted("no program".into()), Blame::Machine),
    ];
    for (reason, expected) in cases {
        let mut rig = Rig::on(ONE, {
            let reason = reason.clone();
            FakeRuntime::new(move |_| std::future::ready(reason.clone()))
        });
        rig.replica.send(&calls(&[1]), false);
        assert_eq!(rig.lost().await.0, [1], "it never reached a process");
        let (ended, lost) = rig.ended().await;
        assert!(
            matches!(ended, Ended::NotStarted { blame, .. } if blame == expected),
            "{reason:?}: {ended:?}"
        );
        assert!(lost.is_empty());
    }
    let runtime = FakeRuntime::exiting(0);
    runtime.fail_next_start(RuntimeError::DiskFull("/".into()));
    let (ended, _) = Rig::on(ONE, runtime).ended().await;
    let full = |error: &ErrorBody| error.code == ErrorCode::DiskFull;
    assert!(matches!(ended, Ended::NotStarted { error, blame: Blame::Machine } if full(&error)));
}

#[tokio::test]
async fn an_exception_before_ready_is_the_replicas_end() {
    let mut rig = Rig::new(ONE, |runner: Runner| async move {
        runner.wire.say(Kind::StartFailed, 0, "type=ImportError\nmessage=no module\n");
        runner.wire.hang().await
    });
    let (ended, _) = rig.ended().await;
    assert!(matches!(ended, Ended::Raised(raised) if raised.message == "no module"));
    assert_eq!(rig.runtime.running(), 0);
}

#[tokio::test]
async fn frames_that_may_not_be_end_the_replica() {
    for kind in [Kind::Call, Kind::Worker, Kind::StartFailed] {
        let mut rig = Rig::new(ONE, move |mut runner: Runner| async move {
            runner.wire.ready();
            let call = runner.wire.expect(Kind::Call).await.call;
            runner.wire.say(kind, call, "");
            runner.wire.hang().await
        });
        rig.send(&[1]);
        rig.ready().await;
        let (ended, lost) = rig.ended().await;
        assert!(matches!(ended, Ended::Crashed { blame: Blame::Call, .. }), "{kind:?}: {ended:?}");
        assert_eq!(lost, [1]);
    }
}

#[tokio::test]
async fn an_unknown_frame_ends_the_replica() {
    let runtime = FakeRuntime::new(|mut container| async move {
        let mut link = container.link.take().unwrap();
        std::io::Write::write_all(&mut link, &[200; 24]).unwrap();
        std::future::pending().await
    });
    let (ended, _) = Rig::on(ONE, runtime).ended().await;
    let Ended::NotStarted { error, blame: Blame::Call } = ended else { panic!("{ended:?}") };
    assert!(error.message.contains("unknown frame kind 200"), "{error}");
}

#[tokio::test]
async fn answers_to_calls_that_nobody_made_are_not_passed_on() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await;
        runner.wire.say(Kind::Result, 77, "");
        runner.wire.say(Kind::Yield, 77, "");
        runner.wire.echo(&call);
        runner.wire.echo(&call);
        runner.wire.serve().await
    });
    rig.send(&[1]);
    rig.ready().await;
    assert_eq!(rig.answer().await.0, 1);
    rig.send(&[2]);
    assert_eq!(rig.answer().await.0, 2);
}

#[tokio::test]
async fn what_was_printed_before_the_end_is_logged_before_it() {
    const CALLS: u64 = 300;
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        while let Some(frame) = runner.wire.next().await {
            match frame.kind {
                Kind::Call => {
                    runner.wire.say(Kind::Log, frame.call, "stream=stdout\n");
                    runner.container.print(&format!("{}\n", frame.call));
                    runner.wire.echo(&frame);
                }
                _ => break,
            }
        }
        ExitReason::Code(0)
    });
    rig.ready().await;
    let mut ids = Vec::new();
    for number in 1..=CALLS {
        let dispatch = calls(&[number]);
        ids.push(dispatch[0].id);
        rig.replica.send(&dispatch, false);
        assert_eq!(rig.answer().await.0, number);
        assert_eq!(dispatch[0].logged.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
    let mut reader = rig.logs.read(rig.app, clunk_agent::LogStart::Line(0), false).unwrap().unwrap();
    let mut lines = Vec::new();
    while let Some(chunk) = reader.next().await.unwrap() {
        for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let AppEvent::Log(log) = serde_json::from_slice(line).unwrap() {
                lines.extend((!log.text.is_empty()).then_some((log.text, log.call)));
            }
        }
    }
    let expected: Vec<_> =
        (1..=CALLS).map(|number| (format!("{number}\n"), Some(ids[number as usize - 1]))).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_container_that_never_stops_talking_is_ended_all_the_same() {
    let runtime = FakeRuntime::new(|mut container| async move {
        let mut link = container.link.take().unwrap();
        let [mut ready, mut frame] = [[0; HEADER_LEN]; 2];
        (ready[0], frame[0]) = (Kind::Ready as u8, Kind::Yield as u8);
        std::io::Write::write_all(&mut link, &ready).unwrap();
        // A thread of its own: it writes while the agent reads, and ends when the agent closes the link.
        std::thread::spawn(
            move || while std::io::Write::write_all(&mut link, &frame.repeat(1000)).is_ok() {},
        );
        std::future::pending().await
    });
    let mut rig = Rig::on(ONE, runtime);
    rig.ready().await;
    rig.send(&[1]);
    rig.replica.cancel(1);
    let (ended, lost) = rig.ended().await;
    assert!(matches!(ended, Ended::Crashed { blame: Blame::Machine, .. }), "{ended:?}");
    assert_eq!(lost, [1]);
}

/// Sends the next call from inside the answer to one, as an engine does.
struct Feeder {
    replica: std::sync::OnceLock<Arc<Replica>>,
    last: u64,
    next: std::sync::atomic::AtomicU64,
    answered: mpsc::Sender<(u64, String, u64)>,
}

impl Feeder {
    fn feed(&self) {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if number <= self.last {
            assert!(self.replica.wait().send(&calls(&[number]), false));
        }
    }
}

impl ReplicaOwner for Feeder {
    fn ready(&self, _replica: ReplicaId, _cold_start: Duration) {
        (0..8).for_each(|_| self.feed());
    }

    fn answered(&self, _replica: ReplicaId, number: u64, end: CallEnd, cpu_us: u64) {
        self.answered.try_send((number, returned(&end), cpu_us)).unwrap();
        self.feed();
    }

    fn yielded(&self, _replica: ReplicaId, _number: u64, _value: Value) {}
    fn lost(&self, _replica: ReplicaId, _numbers: Vec<u64>, _error: ErrorBody, _blame: Blame) {}
    fn connected(&self, _replica: ReplicaId, _socket: std::os::unix::net::UnixStream, _place: DialPlace) {}
    fn ended(&self, _replica: ReplicaId, _ended: Ended, _lost: Vec<u64>) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_are_each_answered_once() {
    const CALLS: u64 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::open(folder.path()).unwrap();
    let app = AppId::fresh();
    let (answered, mut answers) = mpsc::channel(CALLS as usize);
    let next = std::sync::atomic::AtomicU64::new(1);
    let owner = Arc::new(Feeder { replica: Default::default(), last: CALLS, next, answered });
    let runtime = FakeRuntime::new(|container| async move {
        let runner = Runner::begin(container).await;
        runner.wire.ready();
        runner.wire.serve().await
    });
    let spec = spec(shape(8), app, logs.start(app).unwrap());
    let replica = Replica::start(spec, Arc::new(runtime), owner.clone());
    assert!(owner.replica.set(replica).is_ok());
    let mut seen = std::collections::HashSet::new();
    while seen.len() < CALLS as usize {
        let (number, result, cpu_us) = answers.recv().await.unwrap();
        assert_eq!((result, cpu_us), (number.to_string(), 1500));
        assert!(seen.insert(number));
    }
}
