use proptest::prelude::*;

use super::*;

const CODE: ErrorCode = ErrorCode::ContainerCrashed;

fn retries(max_retries: u32) -> Retries {
    Retries { max_retries, ..Retries::default() }
}

fn events(attempt: u32) -> [Event; 9] {
    [
        Event::Dispatch,
        Event::Return { attempt },
        Event::Raise { attempt },
        Event::TimeOut { attempt },
        Event::Lose { attempt, code: CODE, blame: Blame::Call },
        Event::Lose { attempt, code: CODE, blame: Blame::Machine },
        Event::Refuse { code: CODE },
        Event::Cancel,
        Event::Expire,
    ]
}

fn show_state(state: CallState) -> String {
    match state {
        CallState::Queued { attempts, failures, losses } => {
            format!("queued {attempts} failures {failures} losses {losses}")
        }
        CallState::Running { attempt, failures, losses } => {
            format!("running {attempt} failures {failures} losses {losses}")
        }
        CallState::Ended { outcome, attempts } => format!("{} after {attempts}", outcome.name()),
    }
}

fn show_event(event: Event) -> String {
    match event {
        Event::Dispatch => "dispatch".into(),
        Event::Return { attempt } => format!("return {attempt}"),
        Event::Raise { attempt } => format!("raise {attempt}"),
        Event::TimeOut { attempt } => format!("time out {attempt}"),
        Event::Lose { attempt, blame, .. } => format!("lose {attempt} by {blame:?}").to_lowercase(),
        Event::Refuse { .. } => "refuse".into(),
        Event::Cancel => "cancel".into(),
        Event::Expire => "expire".into(),
    }
}

fn show_action(action: Action) -> String {
    match action {
        Action::Send { attempt } => format!("send {attempt}"),
        Action::Enqueue { delay_ms } => format!("enqueue in {delay_ms}"),
        Action::Stop { attempt } => format!("stop {attempt}"),
        Action::Answer(outcome) => format!("answer {}", outcome.name()),
    }
}

/// Every state that differs in what it allows, against every event, with one retry.
fn table() -> String {
    let states = [
        CallState::NEW,
        CallState::Queued { attempts: 1, failures: 1, losses: 0 },
        CallState::Running { attempt: 1, failures: 0, losses: 0 },
        CallState::Running { attempt: 2, failures: 1, losses: 0 },
        CallState::Running { attempt: MAX_LOSSES + 1, failures: 0, losses: MAX_LOSSES },
        CallState::Ended { outcome: Outcome::Succeeded, attempts: 1 },
    ];
    let mut lines = String::new();
    for state in states {
        lines += &format!("{}\n", show_state(state));
        for event in events(state.attempts()) {
            let result = match state.apply(&retries(1), event) {
                Ok((next, actions)) => {
                    let actions: Vec<_> = actions.iter().map(show_action).collect();
                    format!("{} [{}]", show_state(next), actions.join(", "))
                }
                Err(rejected) => format!("refused: {rejected}"),
            };
            lines += &format!("  {:<19} -> {result}\n", show_event(event));
        }
    }
    lines
}

#[test]
fn the_table_of_transitions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/call/table.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, table()).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(table(), golden, "with UPDATE=1 this test writes the table anew");
}

#[test]
fn a_dead_attempt_is_not_heard() {
    let policy = retries(0);
    let lost = Event::Lose { attempt: 1, code: CODE, blame: Blame::Machine };
    let running = CallState::Running { attempt: 1, failures: 0, losses: 0 };
    let (queued, _) = running.apply(&policy, lost).unwrap();
    let (running, actions) = queued.apply(&policy, Event::Dispatch).unwrap();
    assert_eq!(actions.into_iter().collect::<Vec<_>>(), [Action::Send { attempt: 2 }]);
    let late = running.apply(&policy, Event::Return { attempt: 1 });
    assert_eq!(late, Err(Rejected::Stale { got: 1, current: 2 }));
}

#[test]
fn losses_are_bounded_and_do_not_use_up_retries() {
    let policy = retries(1);
    let mut state = CallState::NEW;
    for attempt in 1..=MAX_LOSSES + 1 {
        state = state.apply(&policy, Event::Dispatch).unwrap().0;
        state = state.apply(&policy, Event::Lose { attempt, code: CODE, blame: Blame::Machine }).unwrap().0;
        assert_eq!(matches!(state, CallState::Ended { .. }), attempt > MAX_LOSSES);
    }
    assert_eq!(state, CallState::Ended { outcome: Outcome::Failed { code: CODE }, attempts: MAX_LOSSES + 1 });
}

fn any_event() -> impl Strategy<Value = Event> {
    (0usize..9, 0u32..6).prop_map(|(index, attempt)| events(attempt)[index])
}

proptest! {
    #[test]
    fn it_answers_once_and_an_end_is_an_end(
        max_retries in 0u32..4,
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let policy = retries(max_retries);
        let (mut state, mut answers) = (CallState::NEW, 0);
        for event in events {
            let attempts = state.attempts();
            let Ok((next, actions)) = state.apply(&policy, event) else { continue };
            prop_assert!(!matches!(state, CallState::Ended { .. }), "after the end");
            prop_assert!(next.attempts() == attempts + u32::from(event == Event::Dispatch));
            if let Event::Return { attempt } | Event::Raise { attempt } | Event::TimeOut { attempt }
                | Event::Lose { attempt, .. } = event
            {
                prop_assert_eq!(attempt, attempts, "what a stale attempt says was heard");
                prop_assert!(matches!(state, CallState::Running { .. }), "nothing ran");
            }
            answers += actions.iter().filter(|action| matches!(action, Action::Answer(_))).count();
            prop_assert_eq!(answers == 1, matches!(next, CallState::Ended { .. }));
            state = next;
        }
        prop_assert!(answers <= 1);
        // The bound on dispatches is what keeps one bad call from going round for ever.
        prop_assert!(state.attempts() <= max_retries + MAX_LOSSES + 1);
    }
}
