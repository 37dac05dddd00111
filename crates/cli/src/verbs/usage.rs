//! `clunk usage`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clunk_core::api::UsageRow;
use clunk_core::error::ErrorCode;
use serde::Serialize;
use serde_json::json;

use crate::api::Client;
use crate::args::{By, Usage};
use crate::table::{self, Column, number, text};
use crate::ui::{self, Output};
use crate::{clock, home, plot, terminal};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Spans of one bar, of which the shortest that fits the width is taken. The last is for ever.
const STEPS_MS: [u64; 18] = [
    MINUTE_MS,
    2 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    15 * MINUTE_MS,
    20 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    7 * DAY_MS,
    14 * DAY_MS,
    30 * DAY_MS,
    365 * DAY_MS,
];
/// Hours that are listed at most; a server gives 10,000 steps.
const MAX_HOURS: u64 = 9_000;
/// Furthest back: what nobody keeps.
const MAX_SINCE_MS: u64 = 10 * 365 * DAY_MS;
/// Lines of the plot without its axis.
const PLOT_LINES: usize = 6;
/// Widest plot: wider ones only look emptier.
const MAX_PLOT: usize = 160;
/// Columns of a plot that goes to no terminal.
const PLAIN_WIDTH: usize = 80;

pub fn run(args: Usage, output: Output) -> anyhow::Result<ExitCode> {
    let until_ms = ui::now_ms();
    let back_ms = parse_time(&args.since)?;
    if args.by == By::Hour && back_ms > MAX_HOURS * HOUR_MS {
        let text = format!("{} is too long for a line each hour", args.since);
        let hint = format!("list at most {} days by hour", MAX_HOURS / 24);
        return Err(ui::error(ErrorCode::BadRequest, text, hint));
    }
    let client = Client::new(home::need_server()?);
    let width = terminal::width().unwrap_or(PLAIN_WIDTH);
    let least = if args.by == By::Hour { HOUR_MS } else { 0 };
    let span = Span::of(until_ms, back_ms, least, width);
    // Hours are asked for as hours, of which a bar may be several.
    let step_ms = if args.by == By::Hour { HOUR_MS } else { span.step_ms };
    let path = format!("/api/usage?since_ms={}&until_ms={until_ms}&step_ms={step_ms}", span.since_ms);
    let rows: Vec<UsageRow> = client.get(&path)?;
    let groups = group(&rows, args.by);
    if output.json {
        let total = total(&groups);
        ui::print_json(
            &json!({"since_ms": span.since_ms, "until_ms": until_ms, "rows": groups, "total": total}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    if groups.is_empty() {
        output.say(format_args!(
            "nothing was used in the last {}; clunk run FILE uses something",
            ui::duration_s(back_ms / 1000)
        ));
        return Ok(ExitCode::SUCCESS);
    }
    table_lines(&groups, args.by).iter().for_each(ui::print);
    ui::print("");
    let lines = plot_lines(&rows, &span, width);
    for (at, line) in lines.iter().enumerate() {
        let bars = (1..=PLOT_LINES).contains(&at) && ui::colour_out();
        ui::print(if bars { format!("\x1b[36m{line}\x1b[0m") } else { line.clone() });
    }
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds of `90s`, `30min`, `24h`, `7d`, `2w`.
fn parse_time(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "s" => Some(1000),
        "m" | "min" => Some(MINUTE_MS),
        "h" => Some(HOUR_MS),
        "d" => Some(DAY_MS),
        "w" => Some(7 * DAY_MS),
        _ => None,
    };
    let back = count.parse::<u64>().ok().zip(unit_ms).and_then(|(count, unit)| count.checked_mul(unit));
    match back {
        Some(back @ 1..=MAX_SINCE_MS) => Ok(back),
        _ => Err(ui::error(
            ErrorCode::BadRequest,
            format!("{text:?} is no span of time"),
            "give a number and s, min, h, d or w, such as --since 90min; at most 520w",
        )),
    }
}

/// What a plot shows: bars of one length of time, the last of which is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    since_ms: u64,
    until_ms: u64,
    step_ms: u64,
}

impl Span {
    /// Begins at a whole step at or before the moment that was asked for.
    fn of(until_ms: u64, back_ms: u64, least_step_ms: u64, width: usize) -> Self {
        let since_ms = until_ms.saturating_sub(back_ms);
        let room = plot_room(width) as u64;
        let aligned = |step_ms: u64| Self { since_ms: since_ms - since_ms % step_ms, until_ms, step_ms };
        let steps = STEPS_MS.iter().filter(|step| **step >= least_step_ms).map(|step| aligned(*step));
        let last = aligned(STEPS_MS[STEPS_MS.len() - 1]);
        steps.into_iter().find(|span| span.bars() as u64 <= room).unwrap_or(last)
    }

    fn bars(&self) -> usize {
        (self.until_ms - self.since_ms).div_ceil(self.step_ms).max(1) as usize
    }

    /// The bar that a moment is in.
    fn bar(&self, moment_ms: u64) -> usize {
        let at = moment_ms.saturating_sub(self.since_ms) / self.step_ms;
        (at as usize).min(self.bars() - 1)
    }
}

/// What one line of the table adds up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hour_ms: Option<u64>,
    /// Times that the app was started.
    runs: usize,
    calls: u64,
    cpu_s: f64,
    memory_gib_s: f64,
    gpu_s: f64,
    container_s: f64,
}

impl Group {
    fn add(&mut self, row: &UsageRow) {
        self.calls += row.calls;
        self.cpu_s += row.cpu_s;
        self.memory_gib_s += row.memory_gib_s;
        self.gpu_s += row.gpu_s;
        self.container_s += row.container_s;
    }

    fn key(row: &UsageRow, by: By) -> Self {
        // An app without a name is known by its id.
        let app = if row.app_name.is_empty() { &row.app } else { &row.app_name };
        let (app, workspace) = (Some(app.clone()), Some(row.workspace.clone()));
        match by {
            By::Function => Self { workspace, app, function: Some(row.function.clone()), ..Self::default() },
            By::App => Self { workspace, app, ..Self::default() },
            By::Workspace => Self { workspace, ..Self::default() },
            By::Hour => Self { hour_ms: Some(row.from_ms - row.from_ms % HOUR_MS), ..Self::default() },
        }
    }
}

/// Sums, the largest use first; hours in their order.
fn group(rows: &[UsageRow], by: By) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for row in rows {
        let key = Group::key(row, by);
        let order = (key.hour_ms, key.workspace.clone(), key.app.clone(), key.function.clone());
        let (group, apps) = groups.entry(order).or_insert_with(|| (key, BTreeSet::new()));
        group.add(row);
        apps.insert(&row.app);
    }
    let mut groups: Vec<Group> =
        groups.into_values().map(|(group, apps)| Group { runs: apps.len(), ..group }).collect();
    if by != By::Hour {
        let weight = |group: &Group| group.cpu_s + group.gpu_s + group.container_s;
        groups.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    }
    groups
}

fn total(groups: &[Group]) -> Group {
    groups.iter().fold(Group::default(), |mut sum, group| {
        sum.runs += group.runs;
        sum.calls += group.calls;
        sum.cpu_s += group.cpu_s;
        sum.memory_gib_s += group.memory_gib_s;
        sum.gpu_s += group.gpu_s;
        sum.container_s += group.container_s;
        sum
    })
}

/// `1,234.5`
fn amount(value: f64) -> String {
    let tenths = (value.max(0.0) * 10.0).round() as u64;
    format!("{}.{}", ui::count(tenths / 10), tenths % 10)
}

fn table_lines(groups: &[Group], by: By) -> Vec<String> {
    let names: Vec<Column> = match by {
        By::Function => vec![text("FUNCTION"), text("APP")],
        By::App => vec![text("APP"), number("RUNS")],
        By::Workspace => vec![text("WORKSPACE")],
        By::Hour => vec![text("HOUR")],
    };
    let named = |group: &Group| {
        let say = |name: &Option<String>| ui::one_line(name.as_deref().unwrap_or_default());
        match by {
            By::Function => vec![say(&group.function), say(&group.app)],
            By::App => vec![say(&group.app), group.runs.to_string()],
            By::Workspace => vec![say(&group.workspace)],
            By::Hour => vec![clock::day_time(group.hour_ms.unwrap_or_default())],
        }
    };
    let amounts = |group: &Group| {
        let rest = [group.cpu_s, group.memory_gib_s, group.gpu_s, group.container_s].map(amount);
        [vec![ui::count(group.calls)], rest.to_vec()].concat()
    };
    let mut rows: Vec<Vec<String>> =
        groups.iter().map(|group| [named(group), amounts(group)].concat()).collect();
    if groups.len() > 1 {
        let mut sum = vec![String::new(); names.len()];
        sum[0] = "all".into();
        rows.push([sum, amounts(&total(groups))].concat());
    }
    let numbers =
        ["CALLS", "CPU SECONDS", "GIB SECONDS", "GPU SECONDS", "CONTAINER SECONDS"].map(number).to_vec();
    table::lines(&[names, numbers].concat(), &rows)
}

/// Characters left of the bars: the scale.
const SCALE: usize = 10;

fn plot_room(width: usize) -> usize {
    width.saturating_sub(SCALE + 2).clamp(1, MAX_PLOT)
}

/// Bars over time: of GPUs if any was used, else of processors.
fn plot_lines(rows: &[UsageRow], span: &Span, width: usize) -> Vec<String> {
    let gpus = rows.iter().any(|row| row.gpu_s > 0.0);
    let mut values = vec![0.0; span.bars()];
    for row in rows {
        values[span.bar(row.from_ms)] += if gpus { row.gpu_s } else { row.cpu_s };
    }
    let most = values.iter().copied().fold(0.0, f64::max);
    let thick = (plot_room(width) / values.len()).max(1);
    let wide: Vec<f64> = values.iter().flat_map(|value| std::iter::repeat_n(*value, thick)).collect();
    let what = if gpus { "GPU seconds" } else { "CPU seconds" };
    let mut lines = vec![format!("{what}, a bar for {}", ui::duration_s(span.step_ms / 1000))];
    for (row, bar) in plot::bars(&wide, PLOT_LINES).iter().enumerate() {
        let scale = if row == 0 { amount(most) } else { String::new() };
        lines.push(format!("{scale:>SCALE$} │{bar}").trim_end().to_owned());
    }
    lines.push(format!("{:>SCALE$} └{}", "0", "─".repeat(wide.len())));
    let (from, now) = (clock::day_time(span.since_ms), "now");
    let gap = wide.len().saturating_sub(from.chars().count() + now.len()).max(2);
    lines.push(format!("{:SCALE$}  {from}{:gap$}{now}", "", ""));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000 + 17 * MINUTE_MS;

    fn row(function: &str, app: &str, from_ms: u64, cpu_s: f64) -> UsageRow {
        UsageRow {
            workspace: "main".into(),
            app: app.into(),
            app_name: "hello".into(),
            function: function.into(),
            from_ms,
            calls: 1000,
            cpu_s,
            memory_gib_s: 0.25,
            gpu_s: 0.0,
            container_s: cpu_s * 2.0,
        }
    }

    fn rows() -> Vec<UsageRow> {
        let hour = NOW - NOW % HOUR_MS;
        vec![
            row("greet", "app-1", hour - 2 * HOUR_MS, 1.25),
            row("greet", "app-2", hour, 2.5),
            row("train", "app-2", hour, 1234.56),
        ]
    }

    #[test]
    fn spans_of_time_are_read() {
        let back = |text| parse_time(text).ok();
        assert_eq!(back("90s"), Some(90_000));
        assert_eq!([back("30min"), back("30m"), back("30 min")], [Some(1_800_000); 3]);
        assert_eq!([back("24h"), back("1d")], [Some(DAY_MS); 2]);
        assert_eq!(back("2w"), Some(14 * DAY_MS));
        for text in
            ["", "h", "5", "0h", "-1h", "1.5h", "1y", "99999999999999999999h", "18446744073709551615d"]
        {
            assert_eq!(back(text), None, "{text}");
        }
    }

    #[test]
    fn bars_are_as_short_as_the_width_allows() {
        let step = |back_ms, width| Span::of(NOW, back_ms, 0, width).step_ms;
        assert_eq!(step(MINUTE_MS, 80), MINUTE_MS);
        assert_eq!(step(DAY_MS, 80), 30 * MINUTE_MS);
        assert_eq!(step(DAY_MS, 20), 6 * HOUR_MS);
        assert_eq!(step(MAX_SINCE_MS, 1), 365 * DAY_MS);
        assert_eq!(Span::of(NOW, MINUTE_MS, HOUR_MS, 80).step_ms, HOUR_MS);
        let span = Span::of(NOW, DAY_MS, 0, 80);
        assert_eq!((span.since_ms % span.step_ms, span.bars()), (0, 49));
        assert_eq!([span.bar(0), span.bar(span.since_ms), span.bar(NOW), span.bar(u64::MAX)], [0, 0, 48, 48]);
    }

    #[test]
    fn a_line_for_each_function_and_the_sum() {
        let expected = "\
FUNCTION  APP    CALLS  CPU SECONDS  GIB SECONDS  GPU SECONDS  CONTAINER SECONDS
train     hello  1,000      1,234.6          0.3          0.0            2,469.1
greet     hello  2,000          3.8          0.5          0.0                7.5
all              3,000      1,238.3          0.8          0.0            2,476.6";
        assert_eq!(table_lines(&group(&rows(), By::Function), By::Function).join("\n"), expected);
    }

    #[test]
    fn a_line_for_each_app_counts_its_runs() {
        let expected = "\
APP    RUNS  CALLS  CPU SECONDS  GIB SECONDS  GPU SECONDS  CONTAINER SECONDS
hello     2  3,000      1,238.3          0.8          0.0            2,476.6";
        assert_eq!(table_lines(&group(&rows(), By::App), By::App).join("\n"), expected);
    }

    #[test]
    fn hours_stand_in_their_order() {
        let hours = group(&rows(), By::Hour);
        let hour = NOW - NOW % HOUR_MS;
        assert_eq!(
            hours.iter().map(|group| group.hour_ms).collect::<Vec<_>>(),
            [Some(hour - 2 * HOUR_MS), Some(hour)]
        );
        assert_eq!(hours[1].calls, 2000);
    }

    #[test]
    fn the_plot_is_as_wide_as_the_terminal() {
        let span = Span::of(NOW, 6 * HOUR_MS, 0, 60);
        let mut lines = plot_lines(&rows(), &span, 60);
        assert_eq!(lines.pop().map(|axis| axis.ends_with("now")), Some(true));
        let expected = "\
CPU seconds, a bar for 10 min
   1,237.1 │                                   █
           │                                   █
           │                                   █
           │                                   █
           │                                   █
           │                       ▁           █
         0 └─────────────────────────────────────";
        assert_eq!(lines.join("\n"), expected);
        assert!(plot_lines(&rows(), &span, 60).iter().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn gpus_are_plotted_where_there_are_any() {
        let mut rows = rows();
        rows[0].gpu_s = 3.0;
        let lines = plot_lines(&rows, &Span::of(NOW, 6 * HOUR_MS, 0, 60), 60);
        assert!(
            lines[0].starts_with("GPU seconds") && lines[1].trim_start().starts_with("3.0 │"),
            "{lines:?}"
        );
    }
}
