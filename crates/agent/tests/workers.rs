//! A replica whose program forks workers.

#[allow(dead_code)]
mod support;

use clunk_agent::frame::{Kind, field};
use clunk_agent::{Blame, Ended};
use clunk_runtime::ExitReason;
use support::{Event, ONE, Rig, Runner, Shape, calls, returned};

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

fn shape(concurrency: u32, workers: u32) -> Shape {
    Shape { concurrency, workers, ..ONE }
}

#[tokio::test]
async fn calls_go_to_the_worker_with_the_fewest() {
    let mut rig = Rig::new(shape(2, 2), |mut runner: Runner| async move {
        let mut workers = runner.workers(2).await;
        let mut running = Vec::new();
        for worker in &mut workers {
            for _ in 0..2 {
                running.push(worker.expect(Kind::Call).await);
            }
            assert!(worker.is_empty());
        }
        // One place is free on the second: the fifth call goes there.
        workers[1].echo(&running[3]);
        let fifth = workers[1].expect(Kind::Call).await;
        assert_eq!(fifth.call, 5);
        workers[1].echo(&fifth);
        workers[0].echo(&running[0]);
        workers[0].echo(&running[1]);
        workers[1].echo(&running[2]);
        runner.wire.serve().await
    });
    rig.send(&[1, 2, 3, 4, 5]);
    let mut answered = Vec::new();
    while answered.len() < 5 {
        match rig.event().await {
            Event::Answered { number, end, .. } => {
                assert_eq!(returned(&end), number.to_string());
                answered.push(number);
            }
            event => assert!(matches!(event, Event::Ready), "{event:?}"),
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
    rig.replica.stop();
    assert!(matches!(rig.ended().await.0, Ended::Stopped));
}

#[tokio::test]
async fn a_batch_goes_to_one_worker() {
    let mut rig = Rig::new(shape(1, 2), |mut runner: Runner| async move {
        let mut workers = runner.workers(2).await;
        for (worker, first) in workers.iter_mut().zip([1, 4]) {
            worker.expect(Kind::Batch).await;
            for number in first..first + 3 {
                let call = worker.expect(Kind::Call).await;
                assert_eq!(call.call, number);
                worker.echo(&call);
            }
        }
        runner.wire.serve().await
    });
    // Both workers are there before the first batch is given away.
    rig.ready().await;
    assert!(rig.replica.send(&calls(&[1, 2, 3]), true) && rig.replica.send(&calls(&[4, 5, 6]), true));
    let mut answered = Vec::new();
    for _ in 0..6 {
        answered.push(rig.answer().await.0);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn a_worker_that_dies_is_followed_by_another() {
    let mut rig = Rig::new(shape(1, 2), |mut runner: Runner| async move {
        let mut workers = runner.workers(2).await;
        let second = workers.pop().unwrap();
        let mut first = workers.pop().unwrap();
        let served = tokio::spawn(second.serve());
        first.expect(Kind::Call).await;
        drop(first);
        let (at, reborn) = runner.worker().await;
        assert_eq!(at, 0);
        runner.wire.say(Kind::WorkerEnded, 0, "worker=0\nsignal=11\n");
        reborn.ready();
        let reborn = tokio::spawn(reborn.serve());
        let end = runner.wire.serve().await;
        served.abort();
        reborn.abort();
        end
    });
    rig.ready().await;
    rig.send(&[1, 2]);
    let (mut lost, mut answered) = (None, 0);
    while lost.is_none() || answered == 0 {
        match rig.event().await {
            Event::Lost { numbers, error, blame } => lost = Some((numbers, error.message, blame)),
            Event::Answered { number, .. } => answered = number,
            event => panic!("{event:?}"),
        }
    }
    let (numbers, message, blame) = lost.unwrap();
    assert!(message.contains("SIGSEGV"), "{message}");
    assert_eq!((numbers, blame, answered), (vec![1], Blame::Call, 2));
    rig.send(&[3, 4]);
    let mut numbers = [rig.answer().await.0, rig.answer().await.0];
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4]);
}

/// What is lost when a worker with these calls dies and the program says this of it.
async fn loss(said: &'static str, numbers: &'static [u64]) -> (Vec<u64>, String, Blame) {
    let mut rig = Rig::new(shape(8, 1), move |mut runner: Runner| async move {
        let mut worker = runner.workers(1).await.remove(0);
        for _ in numbers {
            worker.expect(Kind::Call).await;
        }
        drop(worker);
        let (_, reborn) = runner.worker().await;
        if !said.is_empty() {
            runner.wire.say(Kind::WorkerEnded, 0, said);
        }
        reborn.ready();
        reborn.serve().await
    });
    rig.ready().await;
    rig.send(numbers);
    let (numbers, error, blame) = rig.lost().await;
    (numbers, error.message, blame)
}

#[tokio::test]
async fn blame_follows_how_the_worker_ended() {
    let cases = [
        ("", &[1][..], Blame::Call, "worker process ended"),
        ("", &[1, 2], Blame::Machine, "worker process ended"),
        ("worker=0\ncode=3\n", &[1], Blame::Call, "code 3"),
        ("worker=0\nsignal=9\n", &[1], Blame::Machine, "SIGKILL"),
        ("worker=9\nsignal=9\n", &[1], Blame::Call, "worker process ended"),
    ];
    for (said, numbers, expected, words) in cases {
        let (lost, message, blame) = loss(said, numbers).await;
        assert_eq!((lost.as_slice(), blame), (numbers, expected), "{said}");
        assert!(message.contains(words), "{said}: {message}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_with_everything_is_the_machines_doing() {
    let mut rig = Rig::new(shape(1, 1), |mut runner: Runner| async move {
        let mut worker = runner.workers(1).await.remove(0);
        worker.expect(Kind::Call).await;
        drop(worker);
        // The agent has seen the end of the worker when it asks for the next.
        runner.worker().await;
        ExitReason::Signal(SIGKILL)
    });
    rig.ready().await;
    rig.send(&[1]);
    let (ended, lost) = rig.ended().await;
    assert_eq!(lost, [1]);
    assert!(matches!(ended, Ended::Crashed { blame: Blame::Machine, .. }), "{ended:?}");
}

#[tokio::test]
async fn a_canceled_call_that_does_not_end_takes_its_worker_along() {
    let mut rig = Rig::new(shape(2, 2), |mut runner: Runner| async move {
        let mut workers = runner.workers(2).await;
        let mut other = workers.pop().unwrap();
        let mut hanging = workers.pop().unwrap();
        let mut kept = Vec::new();
        for _ in 0..2 {
            hanging.expect(Kind::Call).await;
            kept.push(other.expect(Kind::Call).await);
        }
        assert_eq!(hanging.expect(Kind::Cancel).await.call, 1);
        let interrupt = runner.wire.expect(Kind::Cancel).await;
        assert_eq!((interrupt.call, interrupt.control.as_str()), (0, "worker=0\n"));
        let kill = runner.wire.expect(Kind::Cancel).await;
        assert_eq!(field(&kill.control, "kill").as_deref(), Some("1"));
        drop(hanging);
        let (_, reborn) = runner.worker().await;
        reborn.ready();
        kept.iter().for_each(|call| other.echo(call));
        runner.wire.serve().await
    });
    rig.ready().await;
    // One after the other: the odd ones go to the first worker.
    rig.send(&[1, 2, 3, 4]);
    rig.replica.cancel(1);
    let (numbers, _, blame) = rig.lost().await;
    assert_eq!((numbers, blame), (vec![1, 3], Blame::Machine));
    assert_eq!([rig.answer().await.0, rig.answer().await.0], [2, 4]);
}

#[tokio::test]
async fn a_call_of_a_worker_that_answers_the_cancel_is_all_that_ends() {
    let mut rig = Rig::new(shape(1, 1), |mut runner: Runner| async move {
        let mut worker = runner.workers(1).await.remove(0);
        let call = worker.expect(Kind::Call).await.call;
        assert_eq!(worker.expect(Kind::Cancel).await.call, call);
        worker.say(Kind::Exception, call, "type=InputCancellation\n");
        worker.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    rig.replica.cancel(1);
    assert_eq!(rig.answer().await.0, 1);
    rig.send(&[2]);
    assert_eq!(rig.answer().await.0, 2);
}

#[tokio::test]
async fn workers_that_only_die_end_the_replica() {
    let mut rig = Rig::new(shape(1, 1), |mut runner: Runner| async move {
        drop(runner.workers(1).await);
        loop {
            let (_, worker) = runner.worker().await;
            worker.ready();
        }
    });
    rig.ready().await;
    let (ended, lost) = rig.ended().await;
    assert!(matches!(ended, Ended::Crashed { .. }), "{ended:?}");
    assert!(lost.is_empty());
}

#[tokio::test]
async fn a_worker_that_breaks_the_protocol_is_killed_and_followed() {
    let mut rig = Rig::new(shape(1, 1), |mut runner: Runner| async move {
        let mut worker = runner.workers(1).await.remove(0);
        worker.expect(Kind::Call).await;
        worker.say(Kind::Stop, 0, "");
        let kill = runner.wire.expect(Kind::Cancel).await;
        assert_eq!(kill.control, "worker=0\nkill=1\n");
        let (_, reborn) = runner.worker().await;
        reborn.ready();
        reborn.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    let (numbers, error, blame) = rig.lost().await;
    assert_eq!((numbers, blame), (vec![1], Blame::Call));
    assert!(error.message.contains("protocol"), "{error}");
    rig.send(&[2]);
    assert_eq!(rig.answer().await.0, 2);
}

#[tokio::test]
async fn a_worker_that_cannot_begin_says_why() {
    let mut rig = Rig::new(shape(1, 1), |mut runner: Runner| async move {
        drop(runner.workers(1).await);
        let (_, second) = runner.worker().await;
        second.say(Kind::StartFailed, 0, "type=OSError\nmessage=no\ntraceback=no more memory\n");
        drop(second);
        let (_, third) = runner.worker().await;
        third.ready();
        third.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    assert!(matches!(rig.event().await, Event::Lost { .. } | Event::Answered { .. }));
    let mut reader = rig.logs.read(rig.app, clunk_agent::LogStart::Line(0), true).unwrap().unwrap();
    let mut text = String::new();
    while !text.contains("no more memory") {
        text += &String::from_utf8(reader.next().await.unwrap().expect("the log goes on")).unwrap();
    }
}
