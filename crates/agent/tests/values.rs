//! What calls give: results, values of generators, files, metrics.

#[allow(dead_code)]
mod support;

use clunk_agent::frame::{INLINE_MAX, Kind, WINDOW, field};
use clunk_agent::link::Outgoing;
use clunk_agent::{Blame, CallEnd, Ended, Payload};
use support::{Event, ONE, Rig, Runner, calls, returned, text};

#[tokio::test]
async fn a_generator_sends_what_was_credited() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await.call;
        for _ in 0..WINDOW {
            runner.wire.say(Kind::Yield, call, "");
        }
        let credit = runner.wire.expect(Kind::Credit).await;
        assert_eq!((credit.call, field(&credit.control, "count").as_deref()), (call, Some("2")));
        for _ in 0..2 {
            runner.wire.say(Kind::Yield, call, "");
        }
        runner.wire.say(Kind::Result, call, "");
        runner.wire.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    for at in 0..WINDOW + 2 {
        if at == WINDOW {
            rig.replica.credit(1, 2);
        }
        let event = rig.event().await;
        assert!(
            matches!(&event, Event::Yielded { number: 1, value } if text(&value.payload).is_empty()),
            "{at}: {event:?}"
        );
    }
    assert_eq!(rig.answer().await.0, 1);
}

#[tokio::test]
async fn a_value_comes_with_its_files_and_after_its_metrics() {
    let mut rig = Rig::new(ONE, |mut runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await.call;
        let payload = &Payload::from(&b"7"[..]);
        let say = |kind, control: &str| {
            runner.wire.link.send(Outgoing { kind, call, control, payload, socket: None });
        };
        say(Kind::Metric, "name=tokens\nmode=incr\n");
        say(Kind::File, "index=0\nname=/tmp/a.png\ntype=image/png\n");
        say(Kind::File, "index=1\nname=b\ntype=text/plain\n");
        say(Kind::Yield, "files=[[\"\",1]]\n");
        say(Kind::Result, "files=[[\"/image\",0]]\n");
        runner.wire.serve().await
    });
    rig.ready().await;
    rig.send(&[1]);
    let event = rig.event().await;
    let Event::Metric { number: 1, metric } = &event else { panic!("no metric: {event:?}") };
    assert_eq!((metric.name.as_str(), &metric.value[..]), ("tokens", &b"7"[..]));
    let event = rig.event().await;
    let Event::Yielded { number: 1, value } = &event else { panic!("no value: {event:?}") };
    assert_eq!((value.files[0].pointer.as_str(), value.files[0].name.as_str()), ("", "b"));
    let (_, end) = rig.answer().await;
    let CallEnd::Returned(value) = &end else { panic!("no result: {end:?}") };
    let file = &value.files[0];
    assert_eq!(
        (file.pointer.as_str(), file.name.as_str(), file.media_type.as_str()),
        ("/image", "a.png", "image/png")
    );
    assert_eq!(text(&file.content), "7");
}

#[tokio::test]
async fn a_file_that_no_value_can_have_ends_the_replica() {
    let mut rig = Rig::new(ONE, |mut runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await.call;
        runner.wire.say(Kind::Result, call, "files=[[\"\",5]]\n");
        runner.wire.hang().await
    });
    rig.ready().await;
    rig.send(&[1]);
    let (_, end) = rig.answer().await;
    assert!(matches!(end, CallEnd::Raised(raised) if raised.message.contains("`files`")));
    let (ended, lost) = rig.ended().await;
    assert!(matches!(ended, Ended::Crashed { .. }) && lost.is_empty());
}

#[tokio::test]
async fn a_generator_that_sends_more_is_ended() {
    let mut rig = Rig::new(ONE, |mut runner: Runner| async move {
        runner.wire.ready();
        let call = runner.wire.expect(Kind::Call).await.call;
        for _ in 0..WINDOW + 1 {
            runner.wire.say(Kind::Yield, call, "");
        }
        runner.wire.hang().await
    });
    rig.ready().await;
    rig.send(&[1]);
    for _ in 0..WINDOW {
        assert!(matches!(rig.event().await, Event::Yielded { .. }));
    }
    let (ended, lost) = rig.ended().await;
    assert_eq!(lost, [1]);
    assert!(matches!(ended, Ended::Crashed { blame: Blame::Call, .. }), "{ended:?}");
}

#[tokio::test]
async fn a_large_argument_and_result_pass_as_they_are() {
    let mut rig = Rig::new(ONE, |runner: Runner| async move {
        runner.wire.ready();
        runner.wire.serve().await
    });
    rig.ready().await;
    let content = "x".repeat(INLINE_MAX as usize);
    let mut dispatch = calls(&[1]);
    dispatch[0].payload = Payload::Memory(content.clone().into());
    rig.replica.send(&dispatch, false);
    assert!(returned(&rig.answer().await.1) == content);
}
