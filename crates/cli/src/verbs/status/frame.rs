//! The live screen as lines: a function from what is known to text.

use std::collections::BTreeMap;

use clunk_core::api::CallRecord;
use clunk_core::placement::GpuGroup;

use super::snapshot::Snapshot;
use crate::table::{self, number, text};
use crate::verbs::call;
use crate::{plot, ui};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Plain,
    Head,
    Faint,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub look: Look,
    pub text: String,
}

fn line(look: Look, text: impl Into<String>) -> Line {
    Line { look, text: text.into() }
}

/// What the screen is made from.
pub struct View<'a> {
    pub url: &'a str,
    /// What was seen last, if anything was.
    pub snapshot: Option<&'a Snapshot>,
    /// Why there is nothing newer.
    pub trouble: Option<&'a str>,
}

/// Lines that calls get, if there are so many, before functions take all.
const MIN_CALLS: usize = 5;
/// The head of a table, and the empty line above it.
const HEAD: usize = 2;

/// At most `height` lines of at most `width` characters.
pub fn frame(view: &View<'_>, width: usize, height: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    match view.snapshot {
        Some(snapshot) => lines.extend(server_lines(snapshot)),
        None if view.trouble.is_none() => lines.push(line(Look::Faint, format!("{} …", view.url))),
        None => {}
    }
    lines.extend(view.trouble.map(|text| line(Look::Bad, ui::one_line(text))));
    let foot = line(Look::Faint, "q ends this");
    if let Some(snapshot) = view.snapshot {
        // The foot and the empty line above it.
        let room = height.saturating_sub(lines.len() + 2);
        lines.extend(tables(snapshot, room));
    }
    if lines.len() + 2 <= height {
        lines.extend([line(Look::Plain, ""), foot]);
    }
    lines.truncate(height);
    for line in &mut lines {
        line.text = ui::cut(&line.text, width);
    }
    lines
}

fn tables(snapshot: &Snapshot, room: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let calls_room = match snapshot.calls.len().min(MIN_CALLS) {
        0 => 0,
        wanted => wanted + HEAD,
    };
    let functions = function_lines(snapshot);
    // An empty line, the head and one function, at least.
    let functions_room = room.saturating_sub(calls_room);
    if !snapshot.functions.is_empty() && functions_room > HEAD {
        lines.push(line(Look::Plain, ""));
        lines.extend(shorten(functions, functions_room - 1));
    }
    let rest = room.saturating_sub(lines.len());
    if snapshot.calls.is_empty() && snapshot.functions.is_empty() && rest >= HEAD {
        lines.push(line(Look::Plain, ""));
        lines.push(line(Look::Faint, "nothing runs; try: clunk run FILE"));
    } else if !snapshot.calls.is_empty() && rest > HEAD {
        lines.push(line(Look::Plain, ""));
        lines.extend(call_lines(&snapshot.calls[..snapshot.calls.len().min(rest - HEAD)], snapshot.now_ms));
    }
    lines
}

/// So many lines; the last says how many more there are.
fn shorten(mut lines: Vec<Line>, most: usize) -> Vec<Line> {
    if lines.len() > most {
        let left = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(line(Look::Faint, format!("… and {left} more")));
    }
    lines
}

pub fn server_lines(snapshot: &Snapshot) -> Vec<Line> {
    let status = &snapshot.status;
    let first = format!(
        "{}  clunk {}  process {}  up {}",
        status.url,
        status.version,
        status.pid,
        ui::duration_s(status.uptime_s)
    );
    let second = format!("{} resident, state in {}", ui::bytes(status.memory_bytes), status.state_dir);
    let third = format!(
        "{}, {}, {}, calls: {} running, {} waiting, {} ended",
        ui::plural(status.apps_running as u64, "app"),
        ui::plural(status.replicas as u64, "container"),
        ui::plural(status.images as u64, "image"),
        ui::count(status.calls_running as u64),
        ui::count(status.calls_queued as u64),
        ui::count(status.calls_ended),
    );
    let mut lines = vec![line(Look::Head, first), line(Look::Plain, second), line(Look::Plain, third)];
    if let Some(driver) = &status.gpu_driver {
        let of_a_kind = |gpu: &GpuGroup| format!("{} of {} {} in use", gpu.used, gpu.total, gpu.kind);
        let parts: Vec<_> = status.gpus.iter().map(of_a_kind).collect();
        let listed = if parts.is_empty() { "none".into() } else { parts.join(", ") };
        lines.push(line(Look::Plain, format!("GPUs: {listed}, NVIDIA driver {driver}")));
    }
    if let Some(rate) = snapshot.rates.last() {
        let text = format!("{} calls/s  {}", rate_text(*rate), plot::spark(&snapshot.rates));
        lines.push(line(Look::Plain, text));
    }
    lines
}

fn rate_text(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { ui::count(rate.round() as u64) }
}

pub fn function_lines(snapshot: &Snapshot) -> Vec<Line> {
    let mut states: BTreeMap<_, BTreeMap<&str, u64>> = BTreeMap::new();
    for container in &snapshot.containers {
        let of = states.entry((container.app, container.function.as_str())).or_default();
        *of.entry(container.state.as_str()).or_default() += 1;
    }
    let row = |function: &super::snapshot::Function| {
        let found = states.get(&(function.app, function.name.as_str()));
        let said = found.into_iter().flatten().map(|(state, count)| format!("{count} {state}"));
        vec![
            function.name.clone(),
            function.app_name.clone(),
            ui::count(function.queued),
            ui::count(function.running),
            said.collect::<Vec<_>>().join(", "),
        ]
    };
    let rows: Vec<_> = snapshot.functions.iter().map(row).collect();
    let columns = [text("FUNCTION"), text("APP"), number("WAITING"), number("RUNNING"), text("CONTAINERS")];
    let looks = snapshot.functions.iter().map(|function| match function.queued + function.running {
        0 => Look::Faint,
        _ => Look::Plain,
    });
    let mut lines = with_head(table::lines(&columns, &rows), looks);
    if snapshot.more_apps > 0 {
        let text = format!("… and those of {} more", ui::plural(snapshot.more_apps as u64, "app"));
        lines.push(line(Look::Faint, text));
    }
    lines
}

fn call_lines(calls: &[CallRecord], now_ms: u64) -> Vec<Line> {
    let row = |record: &CallRecord| {
        let (waited, ran) = call::spans(record, now_ms);
        vec![
            record.id.to_string(),
            call::title(record),
            record.state.clone(),
            ui::duration_ms(waited),
            ran.map_or_else(|| "-".into(), ui::duration_ms),
            ui::ago_at(now_ms, record.ended_ms.or(record.started_ms).unwrap_or(record.created_ms)),
            ui::one_line(record.error.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = calls.iter().map(row).collect();
    let columns = [
        text("LAST CALLS"),
        text("FUNCTION"),
        text("STATE"),
        number("WAITED"),
        number("RAN"),
        text("SINCE"),
        text("ERROR"),
    ];
    let looks = calls.iter().map(|call| match call.state.as_str() {
        "failed" | "timed_out" => Look::Bad,
        _ => Look::Plain,
    });
    with_head(table::lines(&columns, &rows), looks)
}

fn with_head(lines: Vec<String>, looks: impl Iterator<Item = Look>) -> Vec<Line> {
    let looks = [Look::Head].into_iter().chain(looks);
    lines.into_iter().zip(looks).map(|(text, look)| Line { look, text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::status::snapshot::Function;
    use clunk_core::api::{ContainerRecord, Status};
    use clunk_core::id::{AppId, CallId, FunctionId, ReplicaId};

    const NOW: u64 = 1_800_000_000_000;

    fn app() -> AppId {
        AppId::from_parts(NOW, [1; 10])
    }

    fn function(name: &str, queued: u64, running: u64) -> Function {
        Function { app: app(), app_name: "hello".into(), name: name.into(), queued, running }
    }

    fn container(number: u8, state: &str) -> ContainerRecord {
        ContainerRecord {
            replica: ReplicaId::from_parts(NOW, [number; 10]),
            app: app(),
            app_name: "hello".into(),
            function: "greet".into(),
            state: state.into(),
            running: 1,
            pid: 1,
            memory_bytes: 1,
            cpu_ms: 1,
            started_ms: NOW,
        }
    }

    fn call(number: u64, state: &str, error: Option<&str>) -> CallRecord {
        CallRecord {
            id: CallId::from_parts(NOW, [0; 10]).offset(number),
            app: app(),
            function_id: FunctionId::from_parts(NOW, [2; 10]),
            function: "greet".into(),
            state: state.into(),
            attempts: 1,
            created_ms: NOW - 5_000,
            started_ms: Some(NOW - 4_988),
            ended_ms: Some(NOW - 3_700),
            error: error.map(Into::into),
            method: String::new(),
            batch: None,
            index: None,
            priority: 0,
            durable: false,
            cpu_us: 0,
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            now_ms: NOW,
            status: Status {
                version: "0.1.0".into(),
                pid: 24503,
                url: "http://127.0.0.1:25865".into(),
                state_dir: "/var/lib/clunk".into(),
                uptime_s: 200,
                memory_bytes: 35_200_000,
                apps_running: 1,
                replicas: 3,
                calls_running: 2,
                calls_queued: 120,
                calls_ended: 12_345,
                images: 2,
                gpus: Vec::new(),
                gpu_driver: None,
            },
            functions: vec![function("greet", 120, 2), function("train", 0, 0)],
            more_apps: 0,
            containers: vec![container(1, "busy"), container(2, "busy"), container(3, "starting")],
            calls: vec![call(1, "succeeded", None), call(0, "failed", Some("container-crashed: signal\n11"))],
            rates: vec![0.0, 50.0, 100.0],
        }
    }

    fn texts(view: &View<'_>, width: usize, height: usize) -> String {
        let lines = frame(view, width, height);
        lines.into_iter().map(|line| line.text).collect::<Vec<_>>().join("\n")
    }

    fn view(snapshot: &Snapshot) -> View<'_> {
        View { url: "http://127.0.0.1:25865", snapshot: Some(snapshot), trouble: None }
    }

    #[test]
    fn gpus_have_a_line_where_there_is_a_driver() {
        let mut snapshot = snapshot();
        snapshot.status.gpu_driver = Some("580.95.05".into());
        let gpu = |kind: &str, total, used| GpuGroup { kind: kind.into(), total, used };
        snapshot.status.gpus = vec![gpu("H200", 2, 1), gpu("T4", 1, 0)];
        let text = &server_lines(&snapshot)[3].text;
        assert_eq!(text, "GPUs: 1 of 2 H200 in use, 0 of 1 T4 in use, NVIDIA driver 580.95.05");
    }

    #[test]
    fn a_screen_that_has_room_for_all() {
        let expected = "\
http://127.0.0.1:25865  clunk 0.1.0  process 24503  up 3 min 20 s
35.2 MB resident, state in /var/lib/clunk
1 app, 3 containers, 2 images, calls: 2 running, 120 waiting, 12,345 ended
100 calls/s  ▁▄█

FUNCTION  APP    WAITING  RUNNING  CONTAINERS
greet     hello      120        2  2 busy, 1 starting
train     hello        0        0

LAST CALLS                       FUNCTION  STATE      WAITED    RAN  SINCE    ERROR
call-01mcc5rm000000000000000001  greet     succeeded   12 ms  1.3 s  3 s ago
call-01mcc5rm000000000000000000  greet     failed      12 ms  1.3 s  3 s ago  container-crashed: signal 11

q ends this";
        assert_eq!(texts(&view(&snapshot()), 110, 24), expected);
    }

    #[test]
    fn a_small_screen_says_what_is_left_out() {
        let mut full = snapshot();
        full.functions = (0..40).map(|number| function(&format!("f{number}"), 1, 0)).collect();
        full.calls = (0..40).map(|number| call(number, "succeeded", None)).collect();
        let expected = "\
http://127.0.0.1:25865  clunk 0.1.0  pr…
35.2 MB resident, state in /var/lib/clu…
1 app, 3 containers, 2 images, calls: 2…
100 calls/s  ▁▄█

FUNCTION  APP    WAITING  RUNNING  CONT…
f0        hello        1        0
f1        hello        1        0
… and 38 more

LAST CALLS                       FUNCTI…
call-01mcc5rm000000000000000000  greet …
call-01mcc5rm000000000000000001  greet …
call-01mcc5rm000000000000000002  greet …
call-01mcc5rm000000000000000003  greet …
call-01mcc5rm000000000000000004  greet …

q ends this";
        assert_eq!(texts(&view(&full), 40, 18), expected);
    }

    #[test]
    fn no_frame_is_larger_than_its_screen() {
        let mut full = snapshot();
        full.functions = (0..40).map(|number| function(&format!("f{number}"), 1, 0)).collect();
        full.calls = (0..40).map(|number| call(number, "succeeded", None)).collect();
        full.more_apps = 3;
        for height in 0..60 {
            for width in [0, 1, 2, 20, 200] {
                let view = View { trouble: Some("it does not answer"), ..view(&full) };
                let lines = frame(&view, width, height);
                assert!(lines.len() <= height, "{height}: {}", lines.len());
                assert!(lines.iter().all(|line| line.text.chars().count() <= width), "{width}");
            }
        }
        assert_eq!(frame(&view(&full), 80, 60).len(), 60);
    }

    #[test]
    fn the_first_frame_and_a_silent_server() {
        let first = View { url: "http://here", snapshot: None, trouble: None };
        assert_eq!(texts(&first, 80, 24), "http://here …\n\nq ends this");
        let silent = View { trouble: Some("the server is gone:\n\x1b[2J"), ..first };
        assert_eq!(texts(&silent, 80, 24), "the server is gone:  [2J\n\nq ends this");
    }

    #[test]
    fn a_server_at_rest_says_what_to_try() {
        let mut idle = snapshot();
        (idle.functions, idle.containers, idle.calls, idle.rates) = Default::default();
        let text = texts(&view(&idle), 80, 24);
        assert!(text.ends_with("ended\n\nnothing runs; try: clunk run FILE\n\nq ends this"), "{text}");
    }

    #[test]
    fn what_went_wrong_and_what_rests_look_different() {
        let snapshot = snapshot();
        let looks: Vec<_> = function_lines(&snapshot).iter().map(|line| line.look).collect();
        assert_eq!(looks, [Look::Head, Look::Plain, Look::Faint]);
        let looks: Vec<_> = call_lines(&snapshot.calls, NOW).iter().map(|line| line.look).collect();
        assert_eq!(looks, [Look::Head, Look::Plain, Look::Bad]);
    }

    #[test]
    fn small_rates_keep_their_fraction() {
        assert_eq!([0.0, 0.25, 9.94, 12_345.6].map(rate_text), ["0", "0.2", "9.9", "12,346"]);
    }
}
