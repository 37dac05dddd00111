//! `clunk call`

use std::process::ExitCode;

use clunk_core::api::{BatchRecord, CallRecord, CancelCall};
use clunk_core::id::CallId;

use crate::api::Client;
use crate::args::{Call, CallList};
use crate::find::{self, Work};
use crate::table::{self, number, text};
use crate::ui::{self, Output};
use crate::verbs::logs::{self, Filter};
use crate::{clock, home, terminal};

/// Calls in one answer of the server.
const PAGE: u32 = 1000;
/// Answers that are read in search of calls of one function.
const MAX_PAGES: usize = 100;
/// Characters of an error in a list; `clunk call show` has all of it.
const MIN_ERROR: usize = 24;

pub fn run(verb: Call, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(home::need_server()?);
    match verb {
        Call::List(args) => list(&client, &args, output)?,
        Call::Show { id } => show(&client, &id, output)?,
        Call::Logs { id, follow } => {
            let call = find::call(&client, &id)?;
            return logs::of_call(&client, &call, Filter::default(), follow, output);
        }
        Call::Cancel { id, terminate_containers } => {
            cancel(&client, &id, &CancelCall { terminate_containers }, output)?
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(client: &Client, args: &CallList, output: Output) -> anyhow::Result<()> {
    let calls = fetch(client, args, output)?;
    if output.json {
        ui::print_json(&calls);
        return Ok(());
    }
    if calls.is_empty() {
        let filtered =
            args.app.is_some() || args.function.is_some() || args.state.is_some() || args.batch.is_some();
        output.say(match filtered {
            true => "no such calls; without a filter, `clunk call list` shows them all",
            false => "no calls yet; clunk run FILE makes some",
        });
        return Ok(());
    }
    // Only a terminal has an edge.
    let width = terminal::width().unwrap_or(usize::MAX);
    lines(&calls, ui::now_ms(), width).iter().for_each(ui::print);
    Ok(())
}

/// Pages of calls, until there are as many as wanted.
fn fetch(client: &Client, args: &CallList, output: Output) -> anyhow::Result<Vec<CallRecord>> {
    let mut filter = String::new();
    if let Some(app) = &args.app {
        filter += &format!("&app={}", find::app(client, app, output)?.id);
    }
    if let Some(batch) = &args.batch {
        filter += &format!("&batch={}", find::batch(client, batch)?.id);
    }
    if let Some(state) = &args.state {
        filter += &format!("&state={state}");
    }
    // The server knows functions by their ids, of which a name has one for each app.
    let name = match &args.function {
        Some(text) => match text.parse::<clunk_core::id::FunctionId>() {
            Ok(id) => {
                filter += &format!("&function={id}");
                None
            }
            Err(_) => Some(text.as_str()),
        },
        None => None,
    };
    let wanted = args.limit as usize;
    let mut found: Vec<CallRecord> = Vec::new();
    let mut before: Option<CallId> = None;
    for _ in 0..MAX_PAGES {
        let missing = (wanted - found.len()) as u32;
        let size = if name.is_some() { PAGE } else { missing.min(PAGE) };
        let from = before.map(|id| format!("&before={id}")).unwrap_or_default();
        let page: Vec<CallRecord> = client.get(&format!("/api/calls?limit={size}{filter}{from}"))?;
        let last = page.last().map(|call| call.id);
        let whole = page.len() >= size as usize;
        found.extend(page.into_iter().filter(|call| name.is_none_or(|name| is_of(call, name))));
        found.truncate(wanted);
        if found.len() >= wanted || !whole || last == before {
            return Ok(found);
        }
        before = last;
    }
    output.say(format_args!(
        "only the newest {} calls were looked at",
        ui::count(u64::from(PAGE) * MAX_PAGES as u64)
    ));
    Ok(found)
}

/// `Class.method`, or the function's name.
pub fn title(call: &CallRecord) -> String {
    if call.method.is_empty() { call.function.clone() } else { format!("{}.{}", call.function, call.method) }
}

fn is_of(call: &CallRecord, name: &str) -> bool {
    call.function == name || title(call) == name
}

/// Milliseconds until its last attempt, and at that, so far.
pub fn spans(call: &CallRecord, now_ms: u64) -> (u64, Option<u64>) {
    let end = call.ended_ms.unwrap_or(now_ms);
    // One that will be tried again waits, whatever was before.
    let started = call.started_ms.filter(|_| call.state != "queued");
    (started.unwrap_or(end).saturating_sub(call.created_ms), started.map(|start| end.saturating_sub(start)))
}

fn lines(calls: &[CallRecord], now_ms: u64, width: usize) -> Vec<String> {
    let row = |call: &CallRecord| {
        let (waited, ran) = spans(call, now_ms);
        vec![
            call.id.to_string(),
            title(call),
            call.state.clone(),
            call.attempts.to_string(),
            ui::duration_ms(waited),
            ran.map_or_else(|| "-".into(), ui::duration_ms),
            ui::ago_at(now_ms, call.created_ms),
        ]
    };
    let mut columns = vec![
        text("CALL"),
        text("FUNCTION"),
        text("STATE"),
        number("ATTEMPTS"),
        number("WAITED"),
        number("RAN"),
        text("SUBMITTED"),
    ];
    let mut rows: Vec<_> = calls.iter().map(row).collect();
    if calls.iter().any(|call| call.error.is_some()) {
        let taken = table::lines(&columns, &rows).iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let room = width.saturating_sub(taken + 2).max(MIN_ERROR);
        columns.push(text("ERROR"));
        for (row, call) in rows.iter_mut().zip(calls) {
            row.push(ui::cut(&ui::one_line(call.error.as_deref().unwrap_or_default()), room));
        }
    }
    table::lines(&columns, &rows)
}

fn show(client: &Client, id: &str, output: Output) -> anyhow::Result<()> {
    match find::work(client, id)? {
        Work::Call(call) if output.json => ui::print_json(&call),
        Work::Batch(batch) if output.json => ui::print_json(&batch),
        Work::Call(call) => {
            call_lines(&call, ui::now_ms()).iter().for_each(ui::print);
            output.say(format_args!("what it printed: clunk call logs {}", call.id));
        }
        Work::Batch(batch) => {
            batch_lines(&batch, ui::now_ms()).iter().for_each(ui::print);
            output.say(format_args!("its calls: clunk call list --batch {}", batch.id));
        }
    }
    Ok(())
}

fn moment(now_ms: u64, then_ms: u64) -> String {
    format!("{} ({})", ui::ago_at(now_ms, then_ms), clock::date_time(then_ms))
}

/// Names and values, the names equally wide.
fn facts(list: Vec<(&str, Option<String>)>) -> impl Iterator<Item = String> {
    list.into_iter().filter_map(|(name, value)| value.map(|value| format!("{name:<10} {value}")))
}

fn call_lines(call: &CallRecord, now_ms: u64) -> Vec<String> {
    let (waited, ran) = spans(call, now_ms);
    let kept = if call.durable { "on disk" } else { "in memory" };
    let place = |batch| match call.index {
        Some(index) => format!("{batch}, input {index}"),
        None => format!("{batch}"),
    };
    let mut lines = vec![format!("{}  {}", call.id, call.state)];
    lines.extend(facts(vec![
        ("function", Some(format!("{} ({})", title(call), call.function_id))),
        ("app", Some(call.app.to_string())),
        ("batch", call.batch.map(place)),
        ("attempts", Some(call.attempts.to_string())),
        ("priority", (call.priority != 0).then(|| call.priority.to_string())),
        ("kept", Some(kept.into())),
        ("submitted", Some(moment(now_ms, call.created_ms))),
        ("waited", Some(ui::duration_ms(waited))),
        ("started", call.started_ms.map(|start| moment(now_ms, start))),
        ("ran", ran.map(ui::duration_ms)),
        ("ended", call.ended_ms.map(|end| moment(now_ms, end))),
        ("processor", (call.cpu_us > 0).then(|| ui::duration_us(call.cpu_us))),
        ("error", call.error.as_deref().map(str::trim_end).map(str::to_owned)),
    ]));
    lines
}

fn batch_lines(batch: &BatchRecord, now_ms: u64) -> Vec<String> {
    let open = batch.inputs.saturating_sub(batch.ended);
    let others = batch.ended.saturating_sub(batch.succeeded);
    let mut lines = vec![format!("{}  {}", batch.id, if open == 0 { "ended" } else { "running" })];
    lines.extend(facts(vec![
        ("function", Some(format!("{} ({})", batch.function, batch.function_id))),
        ("app", Some(batch.app.to_string())),
        ("submitted", Some(moment(now_ms, batch.created_ms))),
        ("calls", Some(ui::count(batch.inputs))),
        ("succeeded", Some(ui::count(batch.succeeded))),
        ("failed", (others > 0).then(|| format!("{} (or canceled, timed out, expired)", ui::count(others)))),
        ("not ended", (open > 0).then(|| ui::count(open))),
    ]));
    lines
}

fn cancel(client: &Client, id: &str, how: &CancelCall, output: Output) -> anyhow::Result<()> {
    match find::work(client, id)? {
        Work::Call(before) => {
            let after: CallRecord = client.post_for(&format!("/api/calls/{}/cancel", before.id), how)?;
            if output.json {
                ui::print_json(&after);
            } else if before.ended_ms.is_some() {
                output.say(format_args!("{} had ended already: {}", after.id, after.state));
            } else if after.ended_ms.is_none() {
                output.say(format_args!("{} is being canceled; see: clunk call show {0}", after.id));
            } else {
                output.say(format_args!("{} has ended: {}", after.id, after.state));
            }
        }
        Work::Batch(before) => {
            let after: BatchRecord = client.post_for(&format!("/api/batches/{}/cancel", before.id), how)?;
            if output.json {
                ui::print_json(&after);
                return Ok(());
            }
            let open = before.inputs.saturating_sub(before.ended);
            let text = match open {
                0 => format!("all {} calls of {} had ended already", ui::count(before.inputs), before.id),
                _ => format!(
                    "canceling {} of {}; see: clunk call show {1}",
                    ui::plural(open, "call"),
                    before.id
                ),
            };
            output.say(text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clunk_core::id::{AppId, BatchId, FunctionId};

    const NOW: u64 = 1_800_000_000_000;

    fn record(number: u64, state: &str) -> CallRecord {
        CallRecord {
            id: CallId::from_parts(NOW, [0; 10]).offset(number),
            app: AppId::from_parts(NOW, [1; 10]),
            function_id: FunctionId::from_parts(NOW, [2; 10]),
            function: "greet".into(),
            state: state.into(),
            attempts: 1,
            created_ms: NOW - 5_000,
            started_ms: None,
            ended_ms: None,
            error: None,
            method: String::new(),
            batch: None,
            index: None,
            priority: 0,
            durable: true,
            cpu_us: 0,
        }
    }

    fn failed() -> CallRecord {
        CallRecord {
            started_ms: Some(NOW - 4_988),
            ended_ms: Some(NOW - 3_700),
            error: Some("container-crashed: the process\nended with signal 11".into()),
            method: "hello".into(),
            batch: Some(BatchId::from_parts(NOW, [3; 10])),
            index: Some(7),
            cpu_us: 350,
            attempts: 3,
            ..record(1, "failed")
        }
    }

    #[test]
    fn a_list_has_whole_ids_and_as_much_of_errors_as_fits() {
        let running = CallRecord { started_ms: Some(NOW - 1_000), ..record(2, "running") };
        let calls = [record(0, "queued"), failed(), running];
        let expected = "\
CALL                             FUNCTION     STATE    ATTEMPTS  WAITED    RAN  SUBMITTED  ERROR
call-01mcc5rm000000000000000000  greet        queued          1   5.0 s      -  5 s ago
call-01mcc5rm000000000000000001  greet.hello  failed          3   12 ms  1.3 s  5 s ago    container-crashed: the …
call-01mcc5rm000000000000000002  greet        running         1   4.0 s  1.0 s  5 s ago";
        let list = lines(&calls, NOW, 110).join("\n");
        assert_eq!(list, expected);
        assert!(lines(&calls, NOW, usize::MAX)[2].ends_with("the process ended with signal 11"));
        let head = "CALL                             FUNCTION  STATE   ATTEMPTS  WAITED  RAN  SUBMITTED";
        assert_eq!(lines(&calls[..1], NOW, 80)[0], head);
    }

    #[test]
    fn a_call_is_shown_whole() {
        let at = |before_ms: u64| clock::date_time(NOW - before_ms);
        let expected = format!(
            "\
call-01mcc5rm000000000000000001  failed
function   greet.hello (fn-01mcc5rm00081040g2081040g2)
app        app-01mcc5rm00040g2081040g2081
batch      batch-01mcc5rm000c1g60r30c1g60r3, input 7
attempts   3
kept       on disk
submitted  5 s ago ({})
waited     12 ms
started    4 s ago ({})
ran        1.3 s
ended      3 s ago ({})
processor  350 µs
error      container-crashed: the process\nended with signal 11",
            at(5_000),
            at(4_988),
            at(3_700)
        );
        assert_eq!(call_lines(&failed(), NOW).join("\n"), expected);
    }

    #[test]
    fn a_call_that_is_tried_again_waits() {
        let again = CallRecord { started_ms: Some(NOW - 1_000), ..record(0, "queued") };
        assert_eq!(spans(&again, NOW), (5_000, None));
    }

    #[test]
    fn a_batch_is_counted() {
        let batch = BatchRecord {
            id: BatchId::from_parts(NOW, [3; 10]),
            app: AppId::from_parts(NOW, [1; 10]),
            function_id: FunctionId::from_parts(NOW, [2; 10]),
            function: "greet".into(),
            created_ms: NOW - 60_000,
            inputs: 12_345,
            ended: 12_000,
            succeeded: 11_999,
        };
        let expected = format!(
            "\
batch-01mcc5rm000c1g60r30c1g60r3  running
function   greet (fn-01mcc5rm00081040g2081040g2)
app        app-01mcc5rm00040g2081040g2081
submitted  1 min ago ({})
calls      12,345
succeeded  11,999
failed     1 (or canceled, timed out, expired)
not ended  345",
            clock::date_time(NOW - 60_000)
        );
        assert_eq!(batch_lines(&batch, NOW).join("\n"), expected);
    }
}
