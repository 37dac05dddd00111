//! Bodies of requests. Everything that is wrong with one is said at once, each with its place.

use clunk_core::Digest;
use clunk_core::model::{Configuration, ModelName, ModelTexts, Visibility, Webhook, WebhookEvent};
use serde_json::{Map, Value};

use crate::cog::nearest::nearest;

use super::problem::{InvalidField, Problem};
use super::reference::{Reference, version};

/// Containers that a deployment may ask for; as many as a function may have.
pub const MAX_INSTANCES: u64 = 10_000;

#[derive(Debug, Clone, PartialEq)]
pub struct CreatePrediction {
    /// Absent where the path names the model.
    pub version: Option<Reference>,
    pub input: Map<String, Value>,
    pub webhook: Option<Webhook>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTraining {
    /// As it was sent: what is no name does not exist either.
    pub destination: String,
    pub input: Map<String, Value>,
    pub webhook: Option<Webhook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateModel {
    pub name: ModelName,
    pub visibility: Visibility,
    pub hardware: String,
    pub texts: ModelTexts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDeployment {
    /// Its owner is the account's.
    pub name: String,
    pub model: ModelName,
    pub version: Digest,
    pub configuration: Configuration,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateDeployment {
    pub version: Option<Digest>,
    pub hardware: Option<String>,
    pub min_instances: Option<u32>,
    pub max_instances: Option<u32>,
}

/// Reads `POST /predictions`, and with `named` those where the path already says which model.
pub fn create_prediction(body: &[u8], named: bool) -> Result<CreatePrediction, Problem> {
    let mut fields = Fields::read(body)?;
    let input = fields.required("input", object);
    let version = if named { None } else { fields.required("version", reference) };
    let webhook = fields.webhook();
    // Streaming is always offered where the model can: the wish is read and changes nothing.
    fields.optional("stream", boolean);
    let wrong = fields.finish();
    match (input, wrong) {
        (Some(input), None) => Ok(CreatePrediction { version, input, webhook }),
        (_, wrong) => Err(wrong.unwrap_or_else(nothing_wrong)),
    }
}

pub fn create_training(body: &[u8]) -> Result<CreateTraining, Problem> {
    let mut fields = Fields::read(body)?;
    let destination = fields.required("destination", string);
    let input = fields.required("input", object);
    let webhook = fields.webhook();
    match (destination, input, fields.finish()) {
        (Some(destination), Some(input), None) => Ok(CreateTraining { destination, input, webhook }),
        (_, _, wrong) => Err(wrong.unwrap_or_else(nothing_wrong)),
    }
}

pub fn create_model(body: &[u8]) -> Result<CreateModel, Problem> {
    let mut fields = Fields::read(body)?;
    let (owner, name) = (fields.required("owner", name_part), fields.required("name", name_part));
    let visibility = fields.required("visibility", visibility);
    let hardware = fields.required("hardware", string);
    let texts = fields.texts(&["description", "github_url", "paper_url", "license_url", "cover_image_url"]);
    let name = owner.zip(name).and_then(|(owner, name)| ModelName::new(&owner, &name).ok());
    match (name, visibility, hardware, fields.finish()) {
        (Some(name), Some(visibility), Some(hardware), None) => {
            Ok(CreateModel { name, visibility, hardware, texts })
        }
        (.., wrong) => Err(wrong.unwrap_or_else(nothing_wrong)),
    }
}

/// Changes of a model. `visibility` is this server's own: a public model could not be made private otherwise.
pub fn update_model(body: &[u8]) -> Result<(ModelTexts, Option<Visibility>), Problem> {
    let mut fields = Fields::read(body)?;
    let names = ["description", "readme", "github_url", "paper_url", "weights_url", "license_url"];
    let (texts, visibility) = (fields.texts(&names), fields.optional("visibility", visibility));
    fields.finish().map_or(Ok((texts, visibility)), Err)
}

pub fn create_deployment(body: &[u8]) -> Result<CreateDeployment, Problem> {
    let mut fields = Fields::read(body)?;
    let (name, model) = (fields.required("name", name_part), fields.required("model", model));
    let (version, hardware) = (fields.required("version", version_id), fields.required("hardware", string));
    let (min, max) =
        (fields.required("min_instances", instances), fields.required("max_instances", instances));
    fields.order(min, max);
    let wrong = fields.finish();
    match (name.zip(model), version.zip(hardware), min.zip(max), wrong) {
        (Some((name, model)), Some((version, hardware)), Some((min_instances, max_instances)), None) => {
            let configuration = Configuration { hardware, min_instances, max_instances };
            Ok(CreateDeployment { name, model, version, configuration })
        }
        (.., wrong) => Err(wrong.unwrap_or_else(nothing_wrong)),
    }
}

pub fn update_deployment(body: &[u8]) -> Result<UpdateDeployment, Problem> {
    let mut fields = Fields::read(body)?;
    let (version, hardware) = (fields.optional("version", version_id), fields.optional("hardware", string));
    let (min, max) =
        (fields.optional("min_instances", instances), fields.optional("max_instances", instances));
    fields.order(min, max);
    let changes = UpdateDeployment { version, hardware, min_instances: min, max_instances: max };
    fields.finish().map_or(Ok(changes), Err)
}

/// What is absent without a reason said is a mistake of this module, and still only a refusal.
fn nothing_wrong() -> Problem {
    Problem::invalid(vec![InvalidField::new("invalid", "", "the body does not fit")])
}

/// The text of a search: as it is, or as one JSON string, which the JavaScript client makes of it.
pub fn search(body: &[u8]) -> Result<String, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::new(400, format!("the query is not valid UTF-8: {error}")))?;
    Ok(serde_json::from_str::<String>(text).unwrap_or_else(|_| text.into()).trim().into())
}

/// A value, or the kind of mistake and what is wrong.
type Found<T> = Result<T, (&'static str, String)>;
type Read<T> = fn(&Value) -> Found<T>;

/// Mistakes said in one answer, and letters of a value that one repeats: a body may hold a million.
const MAX_WRONG: usize = 50;
const MAX_SHOWN: usize = 100;

/// The members of a body, taken one by one. What is left at the end has no business there.
struct Fields {
    members: Map<String, Value>,
    known: Vec<&'static str>,
    wrong: Vec<InvalidField>,
}

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let detail = if body.iter().all(u8::is_ascii_whitespace) {
                "the body is empty".into()
            } else {
                format!("the body is not JSON: {error}")
            };
            Problem::new(400, detail).hint("send a JSON object with `Content-Type: application/json`")
        })?;
        let members = match value {
            Value::Object(members) => members,
            other => {
                let text = format!("Invalid type. Expected: object, given: {}", kind(&other));
                return Err(Problem::invalid(vec![InvalidField::new("invalid_type", "", text)]));
            }
        };
        Ok(Self { members, known: vec![], wrong: vec![] })
    }

    fn optional<T>(&mut self, field: &'static str, read: Read<T>) -> Option<T> {
        self.known.push(field);
        let value = self.members.remove(field).filter(|value| !value.is_null())?;
        match read(&value) {
            Ok(found) => Some(found),
            Err((kind, text)) => {
                self.wrong.push(InvalidField::new(kind, field, text));
                None
            }
        }
    }

    fn required<T>(&mut self, field: &'static str, read: Read<T>) -> Option<T> {
        if self.members.get(field).is_none_or(Value::is_null) {
            self.wrong.push(InvalidField::new("required", "", format!("{field} is required")));
        }
        self.optional(field, read)
    }

    fn webhook(&mut self) -> Option<Webhook> {
        let events = self.optional("webhook_events_filter", events).unwrap_or_default();
        // The second is the oldest form of a webhook: the end only.
        match (self.optional("webhook", url), self.optional("webhook_completed", url)) {
            (Some(url), _) => Some(Webhook { url, events }),
            (None, Some(url)) => Some(Webhook { url, events: vec![WebhookEvent::Completed] }),
            (None, None) => None,
        }
    }

    /// Texts of a model; `null` is what clears one: the empty text.
    fn texts(&mut self, names: &[&'static str]) -> ModelTexts {
        let mut texts = ModelTexts::default();
        for &field in names {
            if self.members.get(field).is_some_and(Value::is_null) {
                self.members.insert(field.into(), "".into());
            }
            let read: Read<String> = if field.ends_with("_url") { url_or_nothing } else { string };
            let found = self.optional(field, read);
            let place = match field {
                "description" => &mut texts.description,
                "readme" => &mut texts.readme,
                "github_url" => &mut texts.github_url,
                "paper_url" => &mut texts.paper_url,
                "weights_url" => &mut texts.weights_url,
                "license_url" => &mut texts.license_url,
                _ => &mut texts.cover_image_url,
            };
            *place = found;
        }
        texts
    }

    fn order(&mut self, min: Option<u32>, max: Option<u32>) {
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            let text = format!("min_instances ({min}) must not be more than max_instances ({max})");
            self.wrong.push(InvalidField::new("number_lte", "min_instances", text));
        }
    }

    /// What is wrong, if anything is.
    fn finish(mut self) -> Option<Problem> {
        for member in self.members.keys() {
            let near = nearest(member, &self.known);
            let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let text = format!("Additional property {} is not allowed{meant}", shown(member));
            self.wrong.push(InvalidField::new("additional_property_not_allowed", "", text));
        }
        self.wrong.truncate(MAX_WRONG);
        (!self.wrong.is_empty()).then(|| Problem::invalid(self.wrong))
    }
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn expected<T>(wanted: &str, value: &Value) -> Found<T> {
    Err(("invalid_type", format!("Invalid type. Expected: {wanted}, given: {}", kind(value))))
}

fn object(value: &Value) -> Found<Map<String, Value>> {
    value.as_object().cloned().map_or_else(|| expected("object", value), Ok)
}

fn string(value: &Value) -> Found<String> {
    value.as_str().map_or_else(|| expected("string", value), |text| Ok(text.into()))
}

fn boolean(value: &Value) -> Found<bool> {
    value.as_bool().map_or_else(|| expected("boolean", value), Ok)
}

/// An owner, or a name without one.
fn name_part(value: &Value) -> Found<String> {
    let text = string(value)?;
    let rule =
        "must be 1 to 64 lower-case letters, digits, `-`, `_` or `.`, with a letter or digit at both ends";
    if ModelName::new(&text, &text).is_ok() {
        Ok(text)
    } else {
        Err(("pattern", format!("{rule}, not {:?}", shown(&text))))
    }
}

fn model(value: &Value) -> Found<ModelName> {
    let text = string(value)?;
    text.parse().map_err(|_| ("format", format!("must be owner/name, not {:?}", shown(&text))))
}

fn visibility(value: &Value) -> Found<Visibility> {
    match value.as_str() {
        Some("public") => Ok(Visibility::Public),
        Some("private") => Ok(Visibility::Private),
        _ => Err(("enum", "must be one of the following: \"public\", \"private\"".into())),
    }
}

fn reference(value: &Value) -> Found<Reference> {
    let text = string(value)?;
    let rule = "must be a version's id (64 hex digits), owner/name:id, or owner/name";
    Reference::parse(&text).ok_or_else(|| ("format", format!("{rule}, not {:?}", shown(&text))))
}

fn version_id(value: &Value) -> Found<Digest> {
    let text = string(value)?;
    version(&text)
        .ok_or_else(|| ("format", format!("must be a version's id, 64 hex digits, not {:?}", shown(&text))))
}

fn instances(value: &Value) -> Found<u32> {
    if !value.is_number() {
        return expected("integer", value);
    }
    let count = value.as_u64().filter(|count| *count <= MAX_INSTANCES);
    let rule = format!("must be a whole number from 0 to {MAX_INSTANCES}, not {value}");
    count.and_then(|count| count.try_into().ok()).ok_or(("number_lte", rule))
}

fn url(value: &Value) -> Found<String> {
    let text = string(value)?;
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let clean = !text.chars().any(|character| character.is_whitespace() || character.is_control());
    if is_web && !host.is_empty() && clean {
        return Ok(text);
    }
    let rule = "must be an address that begins with https:// or http://";
    Err(("format", format!("{rule}, not {:?}", shown(&text))))
}

fn url_or_nothing(value: &Value) -> Found<String> {
    if value.as_str() == Some("") { Ok(String::new()) } else { url(value) }
}

fn events(value: &Value) -> Found<Vec<WebhookEvent>> {
    let Some(list) = value.as_array() else { return expected("array", value) };
    let mut found = vec![];
    for entry in list {
        let event = match entry.as_str() {
            Some("start") => WebhookEvent::Start,
            Some("output") => WebhookEvent::Output,
            Some("logs") => WebhookEvent::Logs,
            Some("completed") => WebhookEvent::Completed,
            _ => {
                let rule = "must be one of the following: \"start\", \"output\", \"logs\", \"completed\"";
                return Err(("enum", rule.into()));
            }
        };
        if !found.contains(&event) {
            found.push(event);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
