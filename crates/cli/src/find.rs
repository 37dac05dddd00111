//! What people name: a whole id, any beginning that only one has, with or without the word in front of its dash, or the name
//! of an app.

use clunk_core::api::{AppRecord, BatchRecord, CallRecord, ContainerRecord};
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::id::{AppId, BatchId, CallId, ReplicaId};
use serde::de::DeserializeOwned;

use crate::api::Client;
use crate::ui::{self, Output};

/// Characters behind the dash of a whole id.
const TAIL: usize = 26;
/// Ids that a message lists when a beginning fits several.
const MAX_NAMED: usize = 5;
/// Newest calls in which a batch is looked for by a beginning of its id.
const MAX_LOOKED_AT: usize = 1000;

/// What an id stands for.
pub enum Work {
    Call(CallRecord),
    Batch(BatchRecord),
}

/// The begin of an id's text as the server writes it, or nothing when no id of this kind begins so.
fn beginning(prefix: &str, text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let tail = text.strip_prefix(prefix).and_then(|tail| tail.strip_prefix('-')).unwrap_or(&text);
    // The first character has two bits; letters that look like digits are not used.
    let first = tail.bytes().next().is_some_and(|byte| byte.is_ascii_digit() && byte < b'8');
    let valid = |byte: u8| byte.is_ascii_alphanumeric() && !b"ilou".contains(&byte);
    (first && tail.len() <= TAIL && tail.bytes().all(valid)).then(|| format!("{prefix}-{tail}"))
}

/// An id that every other with this beginning is before, or is.
fn last_of(prefix: &str, beginning: &str) -> String {
    format!("{beginning:z<width$}", width = prefix.len() + 1 + TAIL)
}

fn unknown(kind: &str, text: &str, hint: &str) -> anyhow::Error {
    ui::error(ErrorCode::NotFound, format!("there is no {kind} {text:?}"), hint)
}

fn several(kind: &str, text: &str, ids: &[String]) -> anyhow::Error {
    let more = if ids.len() > MAX_NAMED { ", …" } else { "" };
    let named = ids[..ids.len().min(MAX_NAMED)].join(", ");
    let message = format!("{text:?} may be more than one {kind}: {named}{more}");
    ui::error(ErrorCode::BadRequest, message, "give more of the id")
}

/// The one of which the id begins so.
fn only<T>(
    kind: &str,
    text: &str,
    hint: &str,
    fitting: Vec<T>,
    id: impl Fn(&T) -> String,
) -> anyhow::Result<T> {
    if fitting.len() > 1 {
        let ids: Vec<String> = fitting.iter().map(id).collect();
        return Err(several(kind, text, &ids));
    }
    fitting.into_iter().next().ok_or_else(|| unknown(kind, text, hint))
}

/// Nothing, where the server knows nothing of it.
pub fn if_known<T: DeserializeOwned>(client: &Client, path: &str) -> anyhow::Result<Option<T>> {
    match client.get(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.downcast_ref::<ErrorBody>() {
            Some(body) if body.code == ErrorCode::NotFound => Ok(None),
            _ => Err(error),
        },
    }
}

/// A container that runs.
pub fn container(client: &Client, text: &str) -> anyhow::Result<ContainerRecord> {
    let running: Vec<ContainerRecord> = client.get("/api/containers")?;
    let begin = beginning(ReplicaId::PREFIX, text);
    let fits = |record: &ContainerRecord| {
        begin.as_ref().is_some_and(|begin| record.replica.to_string().starts_with(begin))
    };
    let fitting = running.into_iter().filter(fits).collect();
    let hint = "`clunk container list` shows those that run";
    only("running container", text, hint, fitting, |record| record.replica.to_string())
}

/// Apps that fit, newest first: by name, or else by id.
pub fn apps(client: &Client, text: &str) -> anyhow::Result<Vec<AppRecord>> {
    if let Ok(id) = text.parse::<AppId>() {
        let found = if_known(client, &format!("/api/apps/{id}"))?;
        return Ok(found.into_iter().collect());
    }
    let all: Vec<AppRecord> = client.get("/api/apps")?;
    Ok(fitting_apps(all, text))
}

fn fitting_apps(all: Vec<AppRecord>, text: &str) -> Vec<AppRecord> {
    let (named, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|app| app.name == text);
    if !named.is_empty() {
        return named;
    }
    let Some(begin) = beginning(AppId::PREFIX, text) else { return Vec::new() };
    others.into_iter().filter(|app| app.id.to_string().starts_with(&begin)).collect()
}

const APPS_HINT: &str = "`clunk app list` shows them";

/// One app. Of several with one name the newest that runs, or else the newest, which is said.
pub fn app(client: &Client, text: &str, output: Output) -> anyhow::Result<AppRecord> {
    let mut fitting = apps(client, text)?;
    if fitting.len() > 1 && fitting.iter().all(|app| app.name == text) {
        let at = fitting.iter().position(|app| app.state == "running").unwrap_or(0);
        let newest = fitting.swap_remove(at);
        output.say(format_args!("{} ({}, {})", newest.id, newest.state, ui::ago(newest.created_ms)));
        return Ok(newest);
    }
    only("app", text, APPS_HINT, fitting, |app| app.id.to_string())
}

/// One app to stop: what has stopped is out of the question while another with its name runs.
pub fn app_to_stop(client: &Client, text: &str) -> anyhow::Result<AppRecord> {
    let mut fitting = apps(client, text)?;
    if fitting.iter().any(|app| app.state == "running") {
        fitting.retain(|app| app.state == "running");
    } else if fitting.iter().all(|app| app.name == text) {
        fitting.truncate(1);
    }
    only("app", text, APPS_HINT, fitting, |app| app.id.to_string())
}

const CALLS_HINT: &str = "`clunk call list` shows them";

pub fn call(client: &Client, text: &str) -> anyhow::Result<CallRecord> {
    find_call(client, text)?.ok_or_else(|| unknown("call", text, CALLS_HINT))
}

/// A call, named where an app could have been.
pub fn call_beside_apps(client: &Client, text: &str) -> anyhow::Result<CallRecord> {
    let hint = "`clunk app list` and `clunk call list` show them";
    find_call(client, text)?.ok_or_else(|| unknown("app or call", text, hint))
}

fn find_call(client: &Client, text: &str) -> anyhow::Result<Option<CallRecord>> {
    let Some(begin) = beginning(CallId::PREFIX, text) else { return Ok(None) };
    if begin.parse::<CallId>().is_ok() {
        return if_known(client, &format!("/api/calls/{begin}"));
    }
    // Ids sort by time, and so do calls: those that begin so are the newest before the last that could.
    let before = last_of(CallId::PREFIX, &begin);
    let limit = MAX_NAMED + 1;
    let newest: Vec<CallRecord> = client.get(&format!("/api/calls?before={before}&limit={limit}"))?;
    let fitting: Vec<_> = newest.into_iter().filter(|call| call.id.to_string().starts_with(&begin)).collect();
    if fitting.is_empty() {
        return Ok(None);
    }
    only("call", text, CALLS_HINT, fitting, |call| call.id.to_string()).map(Some)
}

fn find_batch(client: &Client, text: &str) -> anyhow::Result<Option<BatchRecord>> {
    let Some(begin) = beginning(BatchId::PREFIX, text) else { return Ok(None) };
    if begin.parse::<BatchId>().is_ok() {
        return if_known(client, &format!("/api/batches/{begin}"));
    }
    let calls: Vec<CallRecord> = client.get(&format!("/api/calls?limit={MAX_LOOKED_AT}"))?;
    let ids = calls.into_iter().filter_map(|call| call.batch).map(|id| id.to_string());
    let mut fitting: Vec<String> = ids.filter(|id| id.starts_with(&begin)).collect();
    fitting.sort();
    fitting.dedup();
    if fitting.is_empty() {
        return Ok(None);
    }
    let id = only("batch", text, CALLS_HINT, fitting, String::clone)?;
    if_known(client, &format!("/api/batches/{id}"))
}

pub fn batch(client: &Client, text: &str) -> anyhow::Result<BatchRecord> {
    find_batch(client, text)?.ok_or_else(|| unknown("batch", text, CALLS_HINT))
}

/// A call, or else a batch.
pub fn work(client: &Client, text: &str) -> anyhow::Result<Work> {
    if let Some(call) = find_call(client, text)? {
        return Ok(Work::Call(call));
    }
    match find_batch(client, text)? {
        Some(batch) => Ok(Work::Batch(batch)),
        None => Err(unknown("call or batch", text, CALLS_HINT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_cut_short() {
        let begin = |text| beginning("rep", text);
        assert_eq!(begin("rep-01k9").as_deref(), Some("rep-01k9"));
        assert_eq!(begin("01K9").as_deref(), Some("rep-01k9"));
        assert!(begin("rep-01k9abcdefghjkmnpqrstvwxyz").is_some());
        for text in [
            "",
            "rep-",
            "rep",
            "call-01k9",
            "91k9",
            "01l9",
            "../0",
            "0 1",
            "app-01",
            "rep-01k9abcdefghjkmnpqrstvwxyz0",
        ] {
            assert_eq!(begin(text), None, "{text}");
        }
    }

    #[test]
    fn the_last_id_is_behind_all_others() {
        let random = CallId::from_parts(1_700_000_000_000, [0xff; 10]);
        for length in 1..TAIL {
            let begin = &random.to_string()[..CallId::PREFIX.len() + 1 + length];
            let last: CallId = last_of(CallId::PREFIX, begin).parse().expect("an id");
            assert!(last >= random && last.to_string().starts_with(begin), "{begin}");
        }
    }

    fn app(name: &str, moment_ms: u64, state: &str) -> AppRecord {
        AppRecord {
            id: AppId::from_parts(moment_ms, [0; 10]),
            name: name.into(),
            state: state.into(),
            created_ms: moment_ms,
            stopped_ms: None,
            functions: Vec::new(),
        }
    }

    #[test]
    fn a_name_goes_before_an_id() {
        let apps = vec![app("0", 2, "stopped"), app("other", 1, "running")];
        assert_eq!(fitting_apps(apps.clone(), "0").len(), 1);
        assert_eq!(fitting_apps(apps.clone(), "00").len(), 2);
        assert_eq!(fitting_apps(apps.clone(), "app-0").len(), 2);
        assert_eq!(fitting_apps(apps.clone(), &apps[1].id.to_string())[0].name, "other");
        assert!(fitting_apps(apps, "nothing").is_empty());
    }

    #[test]
    fn more_than_one_is_a_question() {
        let id = |text: &&str| (*text).to_owned();
        assert_eq!(only("call", "0", "", vec!["a"], id).expect("one"), "a");
        let two = only("call", "0", "", vec!["a", "b"], id).expect_err("two");
        assert_eq!(two.to_string(), "\"0\" may be more than one call: a, b");
        assert_eq!(
            only("call", "0", "", vec![], id).expect_err("none").to_string(),
            "there is no call \"0\""
        );
    }
}
