//! What a client asks for: the body of a prediction or training, read without copying its input.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use clunk_agent::Payload;
use clunk_dialects::cog::validate::{InputSchema, Violation};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::carried::{self, Carried};

/// Bytes of an input that is shown again in answers; a larger one is left out.
const ECHO_MAX: usize = 64 << 10;
/// Bytes of arguments that are copied through the link; a file of memory costs less from here on.
const COPIED_MAX: usize = 1 << 20;
/// Bytes of a webhook's URL, as many as the platform takes.
const HOOK_MAX: usize = 2000;
/// Bytes of an id.
const ID_MAX: usize = 1024;

/// When something is told to a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookEvent {
    Start,
    Output,
    Logs,
    Completed,
}

impl HookEvent {
    const ALL: [Self; 4] = [Self::Start, Self::Output, Self::Logs, Self::Completed];
}

/// Where to tell what happens, and what of it.
#[derive(Debug, Clone)]
pub struct Hook {
    pub url: String,
    pub events: Vec<HookEvent>,
}

#[derive(Debug, Default)]
pub struct Asked {
    pub id: Option<String>,
    /// A JSON object that the model's schema allows.
    pub input: Bytes,
    /// Files that were taken out of it.
    pub carried: Option<Carried>,
    /// The input as answers may show it; None when it is large.
    pub shown: Option<Bytes>,
    /// A JSON object of texts.
    pub context: Option<Bytes>,
    pub hook: Option<Hook>,
    /// One that has ended is the answer too, when it had the same id and input.
    pub idempotent: bool,
    /// Of the input of what the client names itself.
    pub fingerprint: Option<u64>,
    /// Of a call, made where there is time for it.
    arguments: Option<Payload>,
}

impl Asked {
    /// The arguments of the call, in a memory file when they are large or come with files. They are made once.
    pub fn arguments(&mut self) -> std::io::Result<Payload> {
        if let Some(made) = &self.arguments {
            return Ok(made.clone());
        }
        let context = self.context.as_deref().unwrap_or(b"{}");
        let input: &[u8] = if self.input.is_empty() { b"{}" } else { &self.input };
        if let Some(Carried { file, len, files, texts }) = &self.carried {
            let (files, texts) = (serde_json::to_vec(files)?, serde_json::to_vec(texts)?);
            let head = [b"{\"input\":", input, b",\"context\":", context].concat();
            let pieces = [&head, &b",\"files\":"[..], &files, b",\"texts\":", &texts, b"}"].concat();
            file.write_all_at(&pieces, *len)?;
            let made = Payload::File { file: file.clone(), len: len + pieces.len() as u64 };
            self.arguments = Some(made.clone());
            return Ok(made);
        }
        let pieces: [&[u8]; 5] = [b"{\"input\":", input, b",\"context\":", context, b"}"];
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        if length <= COPIED_MAX {
            return Ok(Payload::Memory(pieces.concat().into()));
        }
        let file = rustix::fs::memfd_create("arguments", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        for piece in pieces {
            std::io::Write::write_all(&mut file, piece)?;
        }
        let made = Payload::File { file: Arc::new(file), len: length as u64 };
        self.arguments = Some(made.clone());
        Ok(made)
    }
}

/// Why a body is refused.
#[derive(Debug)]
pub enum Refused {
    /// It is not JSON.
    Syntax(String),
    Violations(Vec<Violation>),
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default)]
    webhook: Option<&'a RawValue>,
    #[serde(borrow, default)]
    webhook_events_filter: Option<&'a RawValue>,
}

/// What is wrong with an id that a client chose, wherever it stands.
pub fn wrong_id(id: &str) -> Option<String> {
    let wrong = id.is_empty() || id.len() > ID_MAX || id.chars().any(char::is_control);
    wrong.then(|| format!("an id has 1 to {ID_MAX} bytes and no control characters"))
}

/// Reads a body and holds its input against the schema, if there is one. `named`: it has an id that is not in the body.
pub fn read(body: &Bytes, schema: Option<&InputSchema>, named: bool) -> Result<Asked, Refused> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Refused::Syntax(format!("the body is not UTF-8: byte {} begins no character", error.valid_up_to()))
    })?;
    let syntax = |error: serde_json::Error| {
        Refused::Syntax(format!("Failed to parse the request body as JSON: {error}"))
    };
    if !text.trim_start().starts_with('{') {
        // The library would read a list as the members in their order.
        serde_json::from_str::<IgnoredAny>(text).map_err(syntax)?;
        return Err(one(Vec::new(), "the body must be an object, with the model's inputs under \"input\""));
    }
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => one(Vec::new(), placeless(&error)),
        Category::Syntax | Category::Eof | Category::Io => syntax(error),
    })?;
    let mut violations = Vec::new();
    let id: Option<String> = member(wire.id, "id", "a string", &mut violations);
    let id = id.filter(|id| !id.is_empty());
    if let Some(wrong) = id.as_deref().and_then(wrong_id) {
        violations.push(Violation::of_request("id", wrong));
    }
    let webhook: Option<String> = member(wire.webhook, "webhook", "a URL", &mut violations);
    let webhook = webhook.filter(|url| !url.is_empty());
    if let Some(wrong) = webhook.as_deref().and_then(wrong_hook) {
        violations.push(Violation::of_request("webhook", wrong));
    }
    let wanted = "a list of \"start\", \"output\", \"logs\" and \"completed\"";
    let events: Option<Vec<HookEvent>> =
        member(wire.webhook_events_filter, "webhook_events_filter", wanted, &mut violations);
    let context: Option<BTreeMap<String, String>> =
        member(wire.context, "context", "an object whose values are strings", &mut violations);
    let (input, carried, shown) = match inputs(body, wire.input, schema) {
        Ok(inputs) => inputs,
        Err(Refused::Violations(mut more)) => {
            violations.append(&mut more);
            Default::default()
        }
        Err(refused) => return Err(refused),
    };
    if !violations.is_empty() {
        return Err(Refused::Violations(violations));
    }
    let events = events.unwrap_or_else(|| HookEvent::ALL.to_vec());
    let hook = webhook.map(|url| Hook { url, events });
    let context = context.and(wire.context).map(|raw| body.slice_ref(raw.get().as_bytes()));
    let fingerprint = (named || id.is_some()).then(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(wire.input.map_or("{}", RawValue::get).as_bytes());
        hasher.finish()
    });
    Ok(Asked { id, input, carried, shown, context, hook, idempotent: false, fingerprint, arguments: None })
}

/// What is wrong with the URL of a webhook.
fn wrong_hook(url: &str) -> Option<String> {
    if url.len() > HOOK_MAX {
        return Some(format!("the URL of a webhook has {HOOK_MAX} bytes at most"));
    }
    let begins = url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    let parsed = reqwest::Url::parse(url).ok().filter(|_| begins);
    let host = parsed.as_ref().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(host) = host.and_then(reqwest::Url::host_str) else {
        return Some("a webhook is a URL that begins with http:// or https:// and names a host".into());
    };
    let link_local =
        match host.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(v4)) => v4.is_link_local(),
            Ok(IpAddr::V6(v6)) => v6.is_unicast_link_local(),
            Err(_) => false,
        };
    link_local.then(|| format!("webhooks are not sent to {host}: a link-local address"))
}

fn one(more: Vec<String>, message: impl Into<String>) -> Refused {
    let mut loc = vec!["body".to_owned()];
    loc.extend(more);
    Refused::Violations(vec![Violation { loc, msg: message.into(), kind: "value_error" }])
}

/// An error without its line and column, which count from the start of a member.
fn placeless(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Reads one member of the body; a mistake is noted under its name.
fn member<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &str,
    want: &str,
    violations: &mut Vec<Violation>,
) -> Option<T> {
    match serde_json::from_str(raw?.get()) {
        Ok(value) => Some(value),
        Err(error) => {
            let error = placeless(&error);
            violations.push(Violation::of_request(name, format!("must be {want}: {error}")));
            None
        }
    }
}

/// The input that the model gets, the files that go beside it, and the input that is shown.
fn inputs(
    body: &Bytes,
    raw: Option<&RawValue>,
    schema: Option<&InputSchema>,
) -> Result<(Bytes, Option<Carried>, Option<Bytes>), Refused> {
    let text = raw.map_or("{}", RawValue::get);
    let untouched = || match raw {
        Some(raw) => body.slice_ref(raw.get().as_bytes()),
        None => Bytes::from_static(b"{}"),
    };
    let mut value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let error = placeless(&error);
            return Err(Refused::Syntax(format!("Failed to parse the input as JSON: {error}")));
        }
    };
    let changed = match schema {
        Some(schema) => schema.check(&mut value).map_err(Refused::Violations)?,
        None if value.is_object() => false,
        None => return Err(one(vec!["input".into()], format!("{value} is not of type \"object\""))),
    };
    let large = schema.filter(|_| text.len() >= carried::LARGE);
    let carried = large.and_then(|schema| carried::carry(&mut value, schema));
    let input = if changed || carried.is_some() { Bytes::from(value.to_string()) } else { untouched() };
    let shown = match schema {
        _ if input.len() > ECHO_MAX || carried.is_some() => None,
        Some(schema) if schema.has_secrets() => {
            schema.mask(&mut value);
            Some(Bytes::from(value.to_string()))
        }
        // A slice would keep the whole body.
        _ => Some(Bytes::copy_from_slice(&input)),
    };
    Ok((input, carried, shown))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> InputSchema {
        let input = json!({"type": "object", "required": ["s"], "properties": {
            "s": {"type": "string"}, "key": {"type": "string", "x-cog-secret": true}}});
        InputSchema::compile(&json!({"components": {"schemas": {"Input": input}}}), "Input").unwrap().unwrap()
    }

    fn asked(text: &str) -> Result<Asked, Refused> {
        read(&Bytes::copy_from_slice(text.as_bytes()), Some(&schema()), false)
    }

    fn places(text: &str) -> Vec<String> {
        match asked(text) {
            Err(Refused::Violations(found)) => found.iter().map(|found| found.loc.join(".")).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_input_reaches_the_model_as_it_was_written() {
        let found =
            asked(r#"{"input": {"s" : "a\u00e9", "n": 1}, "context": {"a":"b"}, "more": 1}"#).unwrap();
        assert_eq!(found.input, r#"{"s":"aé"}"#, "the unknown input is gone");
        assert_eq!(found.context.unwrap(), r#"{"a":"b"}"#);
        let found = asked(r#"{"input": { "s" : "a\u00e9" }, "id": "x", "webhook": null}"#).unwrap();
        assert_eq!((&found.input[..], found.id.as_deref()), (&br#"{ "s" : "a\u00e9" }"#[..], Some("x")));
        assert!(found.hook.is_none());
        let found = asked(r#"{"input":{"s":"a","key":"k"}}"#).unwrap();
        assert!(
            found.input.ends_with(b"\"k\"}") && found.shown.unwrap().ends_with(b",\"key\":\"**********\"}")
        );
    }

    #[test]
    fn every_mistake_says_where_it_is() {
        assert_eq!(places("{}"), ["body.input.s"]);
        assert_eq!(places(r#"{"input": 3}"#), ["body.input.__root__"]);
        assert_eq!(places("[]"), ["body"]);
        assert_eq!(places(r#"{"id": "a\u0000", "input": {"s": ""}}"#), ["body.id"]);
        assert_eq!(places("5"), ["body"]);
        assert_eq!(
            places(
                r#"{"id": 5, "webhook": "ftp:x", "webhook_events_filter": ["begin"], "context": {"a": 1}}"#
            ),
            ["body.id", "body.webhook", "body.webhook_events_filter", "body.context", "body.input.s"]
        );
    }

    #[test]
    fn a_webhook_is_a_url_with_a_host() {
        for good in ["http://h/x", "HTTPS://h:1", "http://[::1]/", "http://h/a b"] {
            assert_eq!(wrong_hook(good), None, "{good}");
        }
        for bad in ["http://", "https://h:port/", "http://[::1", "httpx://h", "http://a b/", "ftp://h", "h"] {
            assert!(wrong_hook(bad).unwrap().contains("http://"), "{bad}");
        }
        for link_local in [
            "http://169.254.169.254/x",
            "http://2852039166/",
            "http://[fe80::1]:80/",
            "http://[::ffff:169.254.1.1]/",
        ] {
            assert!(wrong_hook(link_local).unwrap().contains("link-local"), "{link_local}");
        }
        assert!(wrong_hook(&format!("http://h/{}", "x".repeat(HOOK_MAX))).unwrap().contains("2000 bytes"));
    }

    #[test]
    fn what_is_not_json_says_so_with_its_place() {
        for (body, part) in [
            (&b"{nope"[..], "line 1 column 2"),
            (b"", "EOF"),
            (b"{\"input\": \"\xff\"}", "byte 11"),
            (b"{\"input\": {\"s\": \"a\"} } x", "trailing"),
        ] {
            match read(&Bytes::copy_from_slice(body), None, false) {
                Err(Refused::Syntax(text)) => assert!(text.contains(part), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        let deep = format!("{{\"input\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(asked(&deep), Err(Refused::Syntax(_))));
    }
}
