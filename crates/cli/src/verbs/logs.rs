//! `clunk logs`

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clunk_core::api::{AppEvent, AppRecord, CallRecord};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::ReplicaId;

use crate::api::Client;
use crate::args::Logs;
use crate::ui::{self, Output};
use crate::{find, home, launch};

/// A server's log is a plain file; this is how often it is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Seconds that the server may hold a question for the end of a call; it allows 55.
const WAIT_S: u32 = 50;
/// What a call printed last may reach the log a moment after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the rest of an ended call's log is waited for.
const REST_LIMIT: Duration = Duration::from_secs(5);

pub fn run(args: Logs, output: Output) -> anyhow::Result<ExitCode> {
    if args.server {
        return server_log(&args);
    }
    let client = Client::new(home::need_server()?);
    let mut filter = Filter { tail: args.tail, ..Filter::default() };
    let mut call = args.call.as_deref().map(|text| find::call(&client, text)).transpose()?;
    if let Some(text) = &args.container {
        filter.container(&client, text)?;
    }
    match &args.of {
        Some(text) if text.starts_with("call-") => call = Some(find::call(&client, text)?),
        Some(text) if find::apps(&client, text)?.is_empty() => {
            call = Some(find::call_beside_apps(&client, text)?)
        }
        Some(text) => filter.app = Some(find::app(&client, text, output)?.id.to_string()),
        None if call.is_some() || filter.replica.is_some() => {}
        None => filter.app = Some(newest(&client, output)?),
    }
    match call {
        Some(call) => of_call(&client, &call, filter, args.follow, output),
        None => read(&client, &filter, args.follow, false, output),
    }
}

/// Which lines are asked for.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    app: Option<String>,
    call: Option<String>,
    replica: Option<String>,
    tail: Option<usize>,
}

impl Filter {
    /// Only of a container. One that has ended is known by its whole id.
    pub fn container(&mut self, client: &Client, text: &str) -> anyhow::Result<()> {
        match text.parse::<ReplicaId>() {
            Ok(id) => self.replica = Some(id.to_string()),
            Err(_) => {
                let running = find::container(client, text)?;
                self.app = Some(running.app.to_string());
                self.replica = Some(running.replica.to_string());
            }
        }
        Ok(())
    }

    /// How many lines to leave out. Those of a call or a container are spread over the app's, so that the server does not
    /// know which are the last.
    fn tail_here(&self, client: &Client) -> anyhow::Result<(Self, usize)> {
        match self.tail {
            Some(lines) if self.call.is_some() || self.replica.is_some() => {
                let all = Self { tail: None, ..self.clone() };
                let before = events(client, &all)?.saturating_sub(lines);
                Ok((all, before))
            }
            _ => Ok((self.clone(), 0)),
        }
    }

    fn path(&self, follow: bool) -> String {
        let mut parts = Vec::new();
        for (name, value) in [("app", &self.app), ("call", &self.call), ("replica", &self.replica)] {
            parts.extend(value.as_ref().map(|value| format!("{name}={value}")));
        }
        parts.extend(self.tail.map(|lines| format!("tail={lines}")));
        parts.extend(follow.then(|| "follow=true".to_owned()));
        format!("/api/logs?{}", parts.join("&"))
    }
}

/// Prints what there is, and, if asked, what comes until the app ends. `ended`: nothing more will come.
pub fn read(
    client: &Client,
    filter: &Filter,
    follow: bool,
    ended: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (filter, before) = filter.tail_here(client)?;
    let mut printed = false;
    for line in client.lines(&filter.path(follow))?.skip(before) {
        printed |= show(&line?, output);
    }
    if !printed && !follow && !output.json {
        output.say(match ended {
            true => "it has ended and printed nothing",
            false => "nothing was printed yet; --follow waits for more",
        });
    }
    let _ = std::io::stdout().flush();
    Ok(ExitCode::SUCCESS)
}

/// Prints what a call printed, and, if asked, what it prints until its end.
pub fn of_call(
    client: &Client,
    call: &CallRecord,
    mut filter: Filter,
    follow: bool,
    output: Output,
) -> anyhow::Result<ExitCode> {
    filter.call = Some(call.id.to_string());
    if !follow || call.ended_ms.is_some() {
        let kept = if output.json { None } else { of_prediction(client, call)? };
        let Some(text) = kept else {
            return read(client, &filter, false, call.ended_ms.is_some(), output);
        };
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let before = filter.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        std::io::stdout().write_all(lines[before..].concat().as_bytes())?;
        std::io::stdout().flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    // The log of a call goes on with its app's: the call's end is watched for besides.
    let (filter, before) = filter.tail_here(client)?;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let lines = client.lines(&filter.path(true))?;
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if counter.load(Ordering::Relaxed) >= before {
                show(&line, output);
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let ended = wait_for_end(client, call)?;
    std::thread::sleep(LAST_WORDS);
    let (all, since) = (events(client, &filter)?, Instant::now());
    while seen.load(Ordering::Relaxed) < all && !reader.is_finished() && since.elapsed() < REST_LIMIT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = std::io::stdout().flush();
    output.say(format_args!("{} has ended: {}", ended.id, ended.state));
    Ok(ExitCode::SUCCESS)
}

/// What a prediction printed, which is kept with it, while its app's log lets old lines go. None: the call is no
/// prediction, or nothing is kept of it.
fn of_prediction(client: &Client, call: &CallRecord) -> anyhow::Result<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Kept {
        logs: String,
    }
    let path = format!("/api/predictions/{}", clunk_core::model::PredictionId(call.id));
    match client.get::<Kept>(&path) {
        Ok(kept) => Ok(Some(kept.logs).filter(|logs| !logs.is_empty())),
        Err(error) => match error.downcast_ref::<ErrorBody>() {
            Some(body) if body.code == ErrorCode::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

fn events(client: &Client, filter: &Filter) -> anyhow::Result<usize> {
    Ok(client.lines(&filter.path(false))?.map_while(Result::ok).count())
}

fn wait_for_end(client: &Client, call: &CallRecord) -> anyhow::Result<CallRecord> {
    let mut state = call.state.clone();
    loop {
        let path = format!("/api/calls/{}?wait_s={WAIT_S}&unless={state}", call.id);
        let asked = Instant::now();
        let record: CallRecord = client.get(&path)?;
        if record.ended_ms.is_some() {
            return Ok(record);
        }
        // A server that answers sooner than asked is not asked more often than this.
        if record.state == state {
            std::thread::sleep(POLL.saturating_sub(asked.elapsed()));
        }
        state = record.state;
    }
}

/// Prints one event. Whether it was output.
fn show(line: &str, output: Output) -> bool {
    if output.json {
        ui::print(line);
        return true;
    }
    let Ok(AppEvent::Log(log)) = serde_json::from_str(line) else { return false };
    let text = log.text.as_bytes();
    let written = match log.stream.as_str() {
        "stderr" => std::io::stderr().write_all(text),
        _ => std::io::stdout().write_all(text),
    };
    if written.is_err() {
        // Whoever read it went away.
        std::process::exit(0);
    }
    true
}

fn newest(client: &Client, output: Output) -> anyhow::Result<String> {
    let apps: Vec<AppRecord> = client.get("/api/apps")?;
    let Some(app) = apps.first() else {
        return Err(ui::error(ErrorCode::NotFound, "no app has run here yet", "clunk run FILE runs one"));
    };
    output.say(format_args!("{} ({}, {})", app.id, app.name, ui::ago(app.created_ms)));
    Ok(app.id.to_string())
}

fn server_log(args: &Logs) -> anyhow::Result<ExitCode> {
    let path = launch::log_path();
    let mut file = std::fs::File::open(&path).map_err(|error| {
        let text = format!("could not read {}: {error}", path.display());
        ui::error(ErrorCode::NotFound, text, "a server in the foreground logs to its terminal")
    })?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(args.tail.unwrap_or(usize::MAX))..] {
        ui::print(line);
    }
    if args.follow {
        follow(&mut file)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is appended, until the reader goes away.
fn follow(file: &mut std::fs::File) -> anyhow::Result<()> {
    loop {
        let mut more = String::new();
        file.read_to_string(&mut more)?;
        if more.is_empty() {
            std::thread::sleep(POLL);
        } else {
            ui::print(more.trim_end());
        }
    }
}
