//! Bodies of requests. Everything that is wrong with one is said at once, each with its place.

use serde_json::{Map, Value};

use super::problem::{InvalidField, Problem};
use super::reference::{Name, Reference, is_name, version};

/// Containers that a deployment may ask for; as many as a function may have.
pub const MAX_INSTANCES: u64 = 10_000;
const EVENTS: [&str; 4] = ["start", "output", "logs", "completed"];

/// Where news of a prediction or a training go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hook {
    pub url: Option<String>,
    /// As it was sent; absent is the vendor's default.
    pub events: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreatePrediction {
    /// Absent where the path names the model.
    pub version: Option<Reference>,
    pub input: Map<String, Value>,
    pub hook: Hook,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CreateTraining {
    pub destination: String,
    pub input: Map<String, Value>,
    pub hook: Hook,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateModel {
    pub model: Name,
    pub is_public: bool,
    pub hardware: String,
    pub texts: ModelTexts,
}

/// What is said about a model: absent stays as it is, `null` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelTexts {
    pub description: Option<Option<String>>,
    pub readme: Option<Option<String>>,
    pub github_url: Option<Option<String>>,
    pub paper_url: Option<Option<String>>,
    pub weights_url: Option<Option<String>>,
    pub license_url: Option<Option<String>>,
    pub cover_image_url: Option<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDeployment {
    pub name: String,
    pub model: Name,
    pub version: String,
    pub hardware: String,
    pub min_instances: u32,
    pub max_instances: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateDeployment {
    pub version: Option<String>,
    pub hardware: Option<String>,
    pub min_instances: Option<u32>,
    pub max_instances: Option<u32>,
}

/// Reads `POST /predictions`, and with `named` those where the path already says which model.
pub fn create_prediction(body: &[u8], named: bool) -> Result<CreatePrediction, Problem> {
    let mut fields = Fields::read(body)?;
    let input = fields.required("input", object);
    let version = if named { None } else { fields.required("version", reference) };
    let hook = fields.hook();
    // Streaming is always offered where the model can: the wish is read and changes nothing.
    fields.optional("stream", boolean);
    fields.finish()?;
    Ok(CreatePrediction { version, input: input.unwrap_or_default(), hook })
}

pub fn create_training(body: &[u8]) -> Result<CreateTraining, Problem> {
    let mut fields = Fields::read(body)?;
    let destination = fields.required("destination", string);
    let input = fields.required("input", object);
    let hook = fields.hook();
    fields.finish()?;
    Ok(CreateTraining {
        destination: destination.unwrap_or_default(),
        input: input.unwrap_or_default(),
        hook,
    })
}

pub fn create_model(body: &[u8]) -> Result<CreateModel, Problem> {
    let mut fields = Fields::read(body)?;
    let (owner, name) = (fields.required("owner", name), fields.required("name", name));
    let is_public = fields.required("visibility", visibility);
    let hardware = fields.required("hardware", string);
    let texts = fields.texts(&["description", "github_url", "paper_url", "license_url", "cover_image_url"]);
    fields.finish()?;
    let model = Name { owner: owner.unwrap_or_default(), name: name.unwrap_or_default() };
    let (is_public, hardware) = (is_public.unwrap_or_default(), hardware.unwrap_or_default());
    Ok(CreateModel { model, is_public, hardware, texts })
}

pub fn update_model(body: &[u8]) -> Result<ModelTexts, Problem> {
    let mut fields = Fields::read(body)?;
    let names = ["description", "readme", "github_url", "paper_url", "weights_url", "license_url"];
    let texts = fields.texts(&names);
    fields.finish()?;
    Ok(texts)
}

pub fn create_deployment(body: &[u8]) -> Result<CreateDeployment, Problem> {
    let mut fields = Fields::read(body)?;
    let (deployment, model) = (fields.required("name", name), fields.required("model", model));
    let (version, hardware) = (fields.required("version", version_id), fields.required("hardware", string));
    let (min, max) =
        (fields.required("min_instances", instances), fields.required("max_instances", instances));
    fields.order(min, max);
    fields.finish()?;
    let model = model.unwrap_or_else(|| Name { owner: String::new(), name: String::new() });
    Ok(CreateDeployment {
        name: deployment.unwrap_or_default(),
        model,
        version: version.unwrap_or_default(),
        hardware: hardware.unwrap_or_default(),
        min_instances: min.unwrap_or_default(),
        max_instances: max.unwrap_or_default(),
    })
}

pub fn update_deployment(body: &[u8]) -> Result<UpdateDeployment, Problem> {
    let mut fields = Fields::read(body)?;
    let (version, hardware) = (fields.optional("version", version_id), fields.optional("hardware", string));
    let (min, max) =
        (fields.optional("min_instances", instances), fields.optional("max_instances", instances));
    fields.order(min, max);
    fields.finish()?;
    Ok(UpdateDeployment { version, hardware, min_instances: min, max_instances: max })
}

/// The text of a search: as it is, or as one JSON string, which the JavaScript client makes of it.
pub fn search(body: &[u8]) -> Result<String, Problem> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Problem::new(400, format!("the query is not valid UTF-8: {error}")))?;
    Ok(serde_json::from_str::<String>(text).unwrap_or_else(|_| text.into()).trim().into())
}

type Read<T> = fn(&Value) -> Result<T, (&'static str, String)>;

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

    fn hook(&mut self) -> Hook {
        let events = self.optional("webhook_events_filter", events);
        // The second is the oldest form of a webhook: the end only.
        match (self.optional("webhook", url), self.optional("webhook_completed", url)) {
            (None, Some(end)) => Hook { url: Some(end), events: Some(vec!["completed".into()]) },
            (url, _) => Hook { url, events },
        }
    }

    fn texts(&mut self, names: &[&'static str]) -> ModelTexts {
        let mut texts = ModelTexts::default();
        for &field in names {
            let is_present = self.members.contains_key(field);
            let read: Read<String> = if field.ends_with("_url") { url } else { string };
            let found = self.optional(field, read).filter(|text| !text.is_empty());
            let place = match field {
                "description" => &mut texts.description,
                "readme" => &mut texts.readme,
                "github_url" => &mut texts.github_url,
                "paper_url" => &mut texts.paper_url,
                "weights_url" => &mut texts.weights_url,
                "license_url" => &mut texts.license_url,
                _ => &mut texts.cover_image_url,
            };
            *place = is_present.then_some(found);
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

    fn finish(mut self) -> Result<(), Problem> {
        for member in self.members.keys() {
            let near = self.known.iter().min_by_key(|known| distance(known, member));
            let near = near.filter(|known| distance(known, member) <= 2);
            let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            let text = format!("Additional property {member} is not allowed{meant}");
            self.wrong.push(InvalidField::new("additional_property_not_allowed", "", text));
        }
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::invalid(self.wrong)) }
    }
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

fn expected<T>(wanted: &str, value: &Value) -> Result<T, (&'static str, String)> {
    Err(("invalid_type", format!("Invalid type. Expected: {wanted}, given: {}", kind(value))))
}

fn object(value: &Value) -> Result<Map<String, Value>, (&'static str, String)> {
    value.as_object().cloned().map_or_else(|| expected("object", value), Ok)
}

fn string(value: &Value) -> Result<String, (&'static str, String)> {
    value.as_str().map_or_else(|| expected("string", value), |text| Ok(text.into()))
}

fn boolean(value: &Value) -> Result<bool, (&'static str, String)> {
    value.as_bool().map_or_else(|| expected("boolean", value), Ok)
}

fn name(value: &Value) -> Result<String, (&'static str, String)> {
    let text = string(value)?;
    let rule = "must be letters, digits, `-`, `_` and `.`, and begin with a letter or a digit";
    if is_name(&text) { Ok(text) } else { Err(("pattern", format!("{rule}: {text:?}"))) }
}

fn model(value: &Value) -> Result<Name, (&'static str, String)> {
    let text = string(value)?;
    Name::parse(&text).ok_or_else(|| ("format", format!("must be owner/name, not {text:?}")))
}

fn visibility(value: &Value) -> Result<bool, (&'static str, String)> {
    match value.as_str() {
        Some("public") => Ok(true),
        Some("private") => Ok(false),
        _ => Err(("enum", "must be one of the following: \"public\", \"private\"".into())),
    }
}

fn reference(value: &Value) -> Result<Reference, (&'static str, String)> {
    let text = string(value)?;
    let rule = "must be a version's id (64 hex digits), owner/name:id, or owner/name";
    Reference::parse(&text).ok_or_else(|| ("format", format!("{rule}, not {text:?}")))
}

fn version_id(value: &Value) -> Result<String, (&'static str, String)> {
    let text = string(value)?;
    version(&text).ok_or_else(|| ("format", format!("must be a version's id, 64 hex digits, not {text:?}")))
}

fn instances(value: &Value) -> Result<u32, (&'static str, String)> {
    if !value.is_number() {
        return expected("integer", value);
    }
    let count = value.as_u64().filter(|count| *count <= MAX_INSTANCES);
    let rule = format!("must be a whole number from 0 to {MAX_INSTANCES}, not {value}");
    count.and_then(|count| count.try_into().ok()).ok_or(("number_lte", rule))
}

fn url(value: &Value) -> Result<String, (&'static str, String)> {
    let text = string(value)?;
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let clean = !text.chars().any(|character| character.is_whitespace() || character.is_control());
    if text.is_empty() || (is_web && !host.is_empty() && clean) {
        return Ok(text);
    }
    Err(("format", format!("must be an address that begins with https:// or http://, not {text:?}")))
}

fn events(value: &Value) -> Result<Vec<String>, (&'static str, String)> {
    let Some(list) = value.as_array() else { return expected("array", value) };
    let mut found: Vec<String> = vec![];
    for entry in list {
        let Some(event) = entry.as_str().filter(|event| EVENTS.contains(event)) else {
            let rule = "must be of \"start\", \"output\", \"logs\", \"completed\"";
            return Err(("enum", format!("each {rule}, not {entry}")));
        };
        if !found.iter().any(|known| known == event) {
            found.push(event.into());
        }
    }
    Ok(found)
}

/// Letters to change, add or leave out to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests;
