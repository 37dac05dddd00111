//! Inputs held against a model's schema, in the words that Cog's own server uses.
//!
//! The schema is OpenAPI 3.0, where `nullable` stands beside a type. A null for a nullable input is taken out before the
//! rest is validated, so that the message for any other value names the one type that was asked for.

mod formats;

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde::Serialize;
use serde_json::{Map, Value};

/// Violations that one answer lists; more of them tell nobody more.
const VIOLATIONS_MAX: usize = 256;
/// Bytes of one message.
const MESSAGE_MAX: usize = 1 << 10;
/// References that are followed within one another; what a schema that refers to itself holds below that is the model's to
/// judge.
const REFERENCES_MAX: usize = 8;
/// Values of a schema whose references have been followed: a hundred times those of a large model.
const NODES_MAX: usize = 50_000;
/// One rule that an input breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// `body`, `input`, and the name of the input; of a value inside it the path, with `/` between the parts.
    pub loc: Vec<String>,
    pub msg: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl Violation {
    fn of(field: &str, msg: impl Into<String>, kind: &'static str) -> Self {
        Self { loc: vec!["body".into(), "input".into(), field.into()], msg: msg.into(), kind }
    }

    /// Of a member of the request beside the input.
    pub fn of_request(member: &str, msg: impl Into<String>) -> Self {
        Self { loc: vec!["body".into(), member.into()], msg: msg.into(), kind: "value_error" }
    }
}

/// The schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the schema {component} of the model's inputs is not valid: {reason}")]
pub struct SchemaError {
    component: String,
    reason: String,
}

/// The schema of a model's inputs, compiled once.
pub struct InputSchema {
    validator: Validator,
    properties: HashMap<String, Property>,
    required: Vec<String>,
    secrets: bool,
}

struct Property {
    nullable: bool,
    secret: bool,
    /// A file, or a list of files.
    file: bool,
}

impl InputSchema {
    /// Compiles `components.schemas.<component>` (`Input`, `TrainingInput`) of an OpenAPI document; None when there is none.
    pub fn compile(document: &Value, component: &str) -> Result<Option<Self>, SchemaError> {
        let schemas = &document["components"]["schemas"];
        let Some(input) = schemas.get(component) else { return Ok(None) };
        let mut resolved = input.clone();
        let wrong = |reason: String| SchemaError { component: component.into(), reason };
        Inliner { schemas, left: NODES_MAX }.inline(&mut resolved, 0).map_err(|TooLarge| {
            wrong(format!("with its references followed it has more than {NODES_MAX} parts"))
        })?;
        if !resolved.is_object() {
            return Err(wrong("it is not an object".into()));
        }
        let flag = |schema: &Value, name: &str| schema[name].as_bool().unwrap_or(false);
        let declared = resolved["properties"].as_object();
        let properties: HashMap<_, _> = declared
            .into_iter()
            .flatten()
            .map(|(name, schema)| {
                let file = schema["format"] == "uri" || schema["items"]["format"] == "uri";
                let property =
                    Property { nullable: flag(schema, "nullable"), secret: is_secret(schema), file };
                (name.clone(), property)
            })
            .collect();
        let names = resolved["required"].as_array();
        let required = names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if let Some(declared) = resolved["properties"].as_object_mut() {
            declared.values_mut().for_each(allow_inner_nulls);
            declared.values_mut().for_each(formats::only_known);
            declared.values_mut().for_each(bound_integers);
        }
        let built = formats::options().build(&resolved);
        let validator = built.map_err(|error| wrong(format!("{error} (at {})", error.instance_path)))?;
        let secrets = properties.values().any(|property| property.secret);
        Ok(Some(Self { validator, properties, required, secrets }))
    }

    /// Takes out what the model does not know, and checks the rest. True: something was taken out.
    pub fn check(&self, input: &mut Value) -> Result<bool, Vec<Violation>> {
        let Value::Object(members) = input else { return Err(self.violations(input, &[])) };
        let before = members.len();
        if members.keys().any(|name| !self.properties.contains_key(name)) {
            members.retain(|name, _| self.properties.contains_key(name));
        }
        let stripped = members.len() != before;
        let nulls = self.take_nulls(members);
        if nulls.is_empty() && self.validator.is_valid(input) {
            return Ok(stripped);
        }
        let violations = self.violations(input, &nulls);
        if let Value::Object(members) = input {
            for (place, name) in nulls {
                members.shift_insert(place, name, Value::Null);
            }
        }
        if violations.is_empty() { Ok(stripped) } else { Err(violations) }
    }

    /// The inputs that are null and may be, with their places.
    fn take_nulls(&self, members: &mut Map<String, Value>) -> Vec<(usize, String)> {
        let may = |name: &String| self.properties.get(name).is_some_and(|property| property.nullable);
        let nulls = members.iter().enumerate().filter(|(_, (name, value))| value.is_null() && may(name));
        let nulls: Vec<_> = nulls.map(|(place, (name, _))| (place, name.clone())).collect();
        for (_, name) in &nulls {
            members.shift_remove(name);
        }
        nulls
    }

    fn violations(&self, input: &Value, nulls: &[(usize, String)]) -> Vec<Violation> {
        let mut found = Vec::new();
        for error in self.validator.iter_errors(input).take(VIOLATIONS_MAX) {
            if let ValidationErrorKind::Required { property } = &error.kind
                && error.instance_path.as_str().is_empty()
            {
                let name = property.as_str().unwrap_or_default();
                if !nulls.iter().any(|(_, null)| null == name) {
                    found.push(Violation::of(name, "Field required", "value_error.missing"));
                }
                continue;
            }
            let path = error.instance_path.as_str().trim_start_matches('/');
            let field = if path.is_empty() { "__root__" } else { path };
            found.push(Violation::of(field, message(&error), "value_error"));
        }
        found
    }

    /// Whether the model gets an input as a file, or as a list of files.
    pub fn is_file(&self, name: &str) -> bool {
        self.properties.get(name).is_some_and(|property| property.file)
    }

    /// Whether some inputs are secret.
    pub fn has_secrets(&self) -> bool {
        self.secrets
    }

    /// Puts stars in the place of secret inputs, for everything that shows an input again.
    pub fn mask(&self, input: &mut Value) {
        const STARS: &str = "**********";
        let Value::Object(members) = input else { return };
        for (name, value) in members {
            if self.properties.get(name).is_some_and(|property| property.secret) && !value.is_null() {
                *value = Value::String(STARS.into());
            }
        }
    }

    pub fn required(&self) -> &[String] {
        &self.required
    }
}

/// Integers beyond 64 bits would reach the model as other numbers.
fn bound_integers(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(bound_integers);
            if members.get("type").is_some_and(|kind| kind == "integer") {
                members.entry("maximum").or_insert(u64::MAX.into());
                members.entry("minimum").or_insert((i64::MIN + 1).into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(bound_integers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong, in the words of Cog's server. A value of megabytes is not told back whole.
fn message(error: &ValidationError<'_>) -> String {
    let mut text = match &error.kind {
        ValidationErrorKind::Enum { options } => format!("{} is not one of {options}", error.instance),
        ValidationErrorKind::Format { format } => {
            format!("{} is not {}", error.instance, formats::words(format))
        }
        _ => error.to_string(),
    };
    if text.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether a value of this schema, or one inside it, is not shown again.
pub fn is_secret(schema: &Value) -> bool {
    let Some(members) = schema.as_object() else { return false };
    members.iter().any(|(name, value)| match (name.as_str(), value) {
        ("format", value) => value == "password",
        ("x-cog-secret" | "writeOnly", value) => *value == true,
        ("items" | "additionalProperties", inner) => is_secret(inner),
        ("anyOf" | "allOf" | "oneOf", Value::Array(inner)) => inner.iter().any(is_secret),
        ("properties", Value::Object(inner)) => inner.values().any(is_secret),
        _ => false,
    })
}

struct TooLarge;

/// Puts the schemas of the document in the place of references to them.
struct Inliner<'a> {
    schemas: &'a Value,
    /// Values that may still be made.
    left: usize,
}

impl Inliner<'_> {
    /// `references` were followed to get here.
    fn inline(&mut self, value: &mut Value, references: usize) -> Result<(), TooLarge> {
        self.left = self.left.checked_sub(1).ok_or(TooLarge)?;
        let name = value["$ref"].as_str().and_then(|text| text.strip_prefix("#/components/schemas/"));
        if let Some(found) = name.and_then(|name| self.schemas.get(name)) {
            if references == REFERENCES_MAX {
                *value = Value::Bool(true);
                return Ok(());
            }
            *value = found.clone();
            return self.inline(value, references + 1);
        }
        match value {
            Value::Object(members) => {
                members.values_mut().try_for_each(|member| self.inline(member, references))
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.inline(item, references)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
}

/// Lets values inside an input be null where their schema says `nullable`.
fn allow_inner_nulls(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for (name, member) in members {
        match (name.as_str(), member) {
            ("items" | "additionalProperties", inner) => allow_null(inner),
            ("anyOf" | "allOf" | "oneOf", Value::Array(inner)) => inner.iter_mut().for_each(allow_null),
            ("properties", Value::Object(inner)) => inner.values_mut().for_each(allow_null),
            _ => {}
        }
    }
}

fn allow_null(schema: &mut Value) {
    if schema["nullable"] == true
        && let Some(kind) = schema["type"].as_str()
    {
        schema["type"] = serde_json::json!([kind, "null"]);
    }
    allow_inner_nulls(schema);
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
