use super::*;

fn call(number: u64) -> Dispatch {
    Dispatch {
        number,
        id: CallId::fresh(),
        control: String::new(),
        payload: Payload::from(&b""[..]),
        logged: Arc::default(),
    }
}

fn link() -> Arc<Link> {
    let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
    Link::new(one.into(), Arc::default()).unwrap().0
}

fn give(table: &mut Table, numbers: &[u64], batch: bool) {
    let calls: Vec<_> = numbers.iter().map(|number| call(*number)).collect();
    table.take_in(&calls, batch, &mut Touched::default());
}

#[tokio::test]
async fn calls_go_where_the_fewest_are_and_wait_when_all_places_are_taken() {
    let mut table = Table::new(2, 2);
    give(&mut table, &[1], false);
    assert_eq!(table.waiting.len(), 1, "no process is there yet");
    table.seat(0, link());
    table.seat(1, link());
    table.place_waiting(&mut Touched::default());
    give(&mut table, &[2, 3, 4, 5], false);
    assert_eq!(table.seats.iter().map(|seat| seat.taken).collect::<Vec<_>>(), [2, 2]);
    assert_eq!((table.calls.len(), table.waiting.len()), (4, 1));
    assert!(table.answer(0, 1).is_some() && table.answer(0, 1).is_none());
    give(&mut table, &[6], false);
    assert_eq!(table.waiting.len(), 2, "the one that waited comes first");
    table.place_waiting(&mut Touched::default());
    assert!(table.calls.contains_key(&5) && !table.calls.contains_key(&6));
    let lost = table.unseat(0);
    assert_eq!(lost, [3, 5]);
    table.told(&[3]);
    assert_eq!((table.close(), table.clear()), (vec![6], vec![2, 4, 5]));
}

#[tokio::test]
async fn a_batch_takes_one_place_until_its_last_answer() {
    let mut table = Table::new(1, 1);
    table.seat(0, link());
    give(&mut table, &[1, 2, 3], true);
    give(&mut table, &[4], false);
    for number in [1, 2] {
        assert!(table.answer(0, number).is_some());
        assert_eq!(table.free_seat(), None);
    }
    assert!(table.answer(0, 3).is_some());
    assert_eq!((table.free_seat(), table.batches.len()), (Some(0), 0));
}

#[tokio::test]
async fn only_calls_that_still_run_are_overdue() {
    let mut table = Table::new(8, 1);
    table.seat(0, link());
    give(&mut table, &[1, 2], false);
    let now = Instant::now();
    assert!(matches!(table.cancel(1, now), Canceling::Running { seat: 0, .. }));
    assert!(matches!(table.cancel(1, now), Canceling::Done));
    assert!(matches!(table.cancel(9, now), Canceling::Done));
    assert!(table.answer(0, 1).is_some());
    // It had company when it was canceled, and has gone.
    assert_eq!(table.overdue(now + LONG_CANCEL_GRACE), None);
    assert!(matches!(table.cancel(2, now), Canceling::Running { .. }));
    assert_eq!(table.overdue(now), None);
    assert_eq!(table.overdue(now + CANCEL_GRACE), Some(0));
    give(&mut table, &[3], false);
    assert!(matches!(table.cancel(3, now), Canceling::Running { .. }));
    assert_eq!(table.overdue(now + CANCEL_GRACE), None);
    assert_eq!(table.overdue(now + LONG_CANCEL_GRACE), Some(0));
}

#[tokio::test]
async fn a_call_that_deals_with_its_cancel_has_longer_once() {
    let mut table = Table::new(1, 1);
    table.seat(0, link());
    give(&mut table, &[1], false);
    let now = Instant::now();
    table.interrupted(0, 1, now);
    assert!(table.deadlines.is_empty(), "nobody canceled it");
    assert!(matches!(table.cancel(1, now), Canceling::Running { .. }));
    table.interrupted(0, 1, now);
    table.interrupted(0, 1, now + CANCEL_GRACE);
    assert_eq!(table.overdue(now + CANCEL_GRACE), None);
    assert_eq!(table.overdue(now + LONG_CANCEL_GRACE), Some(0));
}

#[tokio::test]
async fn what_is_sent_ahead_is_canceled_in_its_turn() {
    let mut table = Table::new(1, 1);
    table.seat(0, link());
    table.allow_ahead(0, 2);
    give(&mut table, &[1, 2, 3, 4], false);
    assert_eq!((table.calls.len(), table.waiting.len()), (3, 1));
    let now = Instant::now();
    assert!(matches!(table.cancel(3, now), Canceling::Ahead(_)));
    assert!(matches!(table.cancel(3, now), Canceling::Done));
    assert!(table.answer(0, 1).is_some() && !table.turn(0, now));
    assert_eq!(table.overdue(now + LONG_CANCEL_GRACE), None);
    assert!(table.answer(0, 2).is_some() && table.turn(0, now) && !table.turn(0, now));
    table.place_waiting(&mut Touched::default());
    // What waits behind it is no company.
    assert_eq!(table.overdue(now + CANCEL_GRACE), Some(0));
    // From the first output that belongs to whoever runs, no call is sent ahead.
    assert_eq!(table.logging_call(0).map(|(number, _)| number), Some(3));
    give(&mut table, &[5], false);
    assert_eq!((table.calls.len(), table.waiting.len()), (2, 1));
}

#[tokio::test]
async fn the_window_counts_what_was_credited() {
    let mut table = Table::new(1, 1);
    table.seat(0, link());
    give(&mut table, &[1], false);
    let mut within = |number| table.yielded(0, number).map(|parts| parts.is_ok());
    assert!((0..WINDOW).all(|_| within(1) == Some(true)));
    assert_eq!(within(7), None);
    assert!(table.credit(1, 2).is_some());
    let mut within = |number| table.yielded(0, number).map(|parts| parts.is_ok());
    assert_eq!([0; 3].map(|_| within(1)), [Some(true), Some(true), Some(false)]);
}
