//! What a form asks for: read from a model's OpenAPI document. Pure; a schema that is not understood becomes a field
//! for JSON, so every model has a form.

use clunk_dialects::cog::validate::is_secret;
use serde_json::{Map, Number, Value};

/// References that are followed in a row.
const MAX_REFERENCES: usize = 8;
/// Fields beyond this many start folded, when they may be left out.
const SHOWN_FIELDS: usize = 6;
/// A short text has one line.
const SHORT_TEXT: u64 = 80;

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub title: String,
    pub description: Option<String>,
    pub required: bool,
    pub deprecated: bool,
    pub default: Option<Value>,
    /// Starts folded, among "More settings".
    pub advanced: bool,
    pub kind: Kind,
}

/// How a value is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Text(Text),
    Number(Range),
    Flag {
        nullable: bool,
    },
    /// One of these.
    Choice(Vec<Value>),
    /// Any of these.
    Choices(Vec<Value>),
    File {
        accept: Option<String>,
        several: bool,
    },
    Secret,
    List(Item),
    /// Text, a number or a truth value: what can be read as the first is.
    Loose(Vec<Item>),
    Json {
        shape: &'static str,
    },
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    pub lines: bool,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub pattern: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub integer: bool,
    pub minimum: Option<Number>,
    pub maximum: Option<Number>,
}

impl Range {
    /// Both ends, when there is a way between them.
    pub fn ends(&self) -> Option<(f64, f64)> {
        let (low, high) = (self.minimum.as_ref()?.as_f64()?, self.maximum.as_ref()?.as_f64()?);
        (low < high && (high - low).is_finite()).then_some((low, high))
    }

    /// What one press of a key moves a slider by: whole for integers, else a round hundredth of the way.
    pub fn step(&self) -> f64 {
        let Some((low, high)) = self.ends() else { return 1.0 };
        let hundredth = (high - low) / 100.0;
        let round = 10f64.powf(hundredth.log10().floor());
        if self.integer { round.max(1.0) } else { round }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    Text,
    Integer,
    Number,
    Flag,
}

/// A model's OpenAPI document.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a>(pub &'a Value);

impl<'a> Document<'a> {
    pub fn schema(self, name: &str) -> Option<&'a Value> {
        self.0.get("components")?.get("schemas")?.get(name)
    }

    /// The schema itself where it only points at one. `allOf` with one member is how a choice points at its values.
    fn resolve(self, schema: &'a Value) -> &'a Value {
        let mut found = schema;
        for _ in 0..MAX_REFERENCES {
            let only = match found.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                Some([only]) => only,
                _ => found,
            };
            let Some(name) = only.get("$ref").and_then(Value::as_str) else { return only };
            match name.strip_prefix("#/components/schemas/").and_then(|name| self.schema(name)) {
                Some(schema) => found = schema,
                None => return only,
            }
        }
        found
    }

    /// The fields of `Input`, in the order of the signature.
    pub fn fields(self) -> Vec<Field> {
        self.fields_of("Input")
    }

    fn fields_of(self, name: &str) -> Vec<Field> {
        let empty = Map::new();
        let input = self.schema(name);
        let properties = input.and_then(|input| input.get("properties")?.as_object()).unwrap_or(&empty);
        let required: Vec<&str> = input
            .and_then(|input| input.get("required")?.as_array())
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut ordered: Vec<_> = properties.iter().collect();
        ordered.sort_by_key(|(_, schema)| order(schema));
        let mut fields: Vec<_> = ordered
            .into_iter()
            .map(|(name, schema)| self.field(name, schema, required.contains(&name.as_str())))
            .collect();
        fold(&mut fields);
        fields
    }

    fn field(self, name: &str, schema: &'a Value, required: bool) -> Field {
        let resolved = self.resolve(schema);
        let text = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
        let default = schema.get("default").filter(|value| !value.is_null()).cloned();
        Field {
            name: name.into(),
            // A choice has its title at its values, where it is the parameter's name.
            title: text("title").unwrap_or_else(|| title(name)),
            description: text("description").filter(|text| !text.trim().is_empty()),
            required,
            deprecated: schema.get("deprecated") == Some(&Value::Bool(true)),
            kind: self.kind(schema, resolved, default.as_ref()),
            default,
            advanced: false,
        }
    }

    fn kind(self, schema: &'a Value, resolved: &'a Value, default: Option<&Value>) -> Kind {
        if let Some(values) = values(resolved) {
            return Kind::Choice(values);
        }
        if let Some(kinds) = resolved.get("anyOf").and_then(Value::as_array) {
            let items: Option<Vec<Item>> = kinds.iter().map(|kind| item(self.resolve(kind))).collect();
            return items.map_or(Kind::Json { shape: "value" }, Kind::Loose);
        }
        let accept = schema.get("x-cog-accept").and_then(Value::as_str).map(str::to_owned);
        match resolved.get("type").and_then(Value::as_str) {
            Some("string") if is_file(resolved) => Kind::File { accept, several: false },
            Some("string") if is_secret(resolved) => Kind::Secret,
            Some("string") => Kind::Text(text(resolved, default)),
            Some(number @ ("integer" | "number")) => {
                let end = |key: &str| resolved.get(key).and_then(Value::as_number).cloned();
                let (minimum, maximum) = (end("minimum"), end("maximum"));
                Kind::Number(Range { integer: number == "integer", minimum, maximum })
            }
            Some("boolean") => Kind::Flag { nullable: schema.get("nullable") == Some(&Value::Bool(true)) },
            Some("array") => {
                let Some(items) = resolved.get("items").map(|items| self.resolve(items)) else {
                    return Kind::Json { shape: "list" };
                };
                if is_file(items) {
                    Kind::File { accept, several: true }
                } else if let Some(values) = values(items) {
                    Kind::Choices(values)
                } else {
                    item(items).map_or(Kind::Json { shape: "list" }, Kind::List)
                }
            }
            Some("object") => Kind::Json { shape: "object" },
            _ => Kind::Json { shape: "value" },
        }
    }
}

/// The place in the signature.
pub fn order(schema: &Value) -> u64 {
    schema.get("x-order").and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// `num_steps` as people write it: "Num Steps".
fn title(name: &str) -> String {
    let words = name.split('_').filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

fn values(schema: &Value) -> Option<Vec<Value>> {
    schema.get("enum")?.as_array().filter(|values| !values.is_empty()).cloned()
}

fn item(schema: &Value) -> Option<Item> {
    if schema.get("enum").is_some() || is_file(schema) {
        return None;
    }
    match schema.get("type")?.as_str()? {
        "string" => Some(Item::Text),
        "integer" => Some(Item::Integer),
        "number" => Some(Item::Number),
        "boolean" => Some(Item::Flag),
        _ => None,
    }
}

fn is_file(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("uri")
}

fn text(schema: &Value, default: Option<&Value>) -> Text {
    let length = |key: &str| schema.get(key).and_then(Value::as_u64);
    let pattern = schema.get("pattern").and_then(Value::as_str).map(str::to_owned);
    let max_length = length("maxLength");
    let long_default = default
        .and_then(Value::as_str)
        .is_some_and(|text| text.contains('\n') || text.len() as u64 > SHORT_TEXT);
    let short = pattern.is_some()
        || max_length.is_some_and(|length| length <= SHORT_TEXT)
        || schema.get("format").is_some();
    Text { lines: long_default || !short, min_length: length("minLength"), max_length, pattern }
}

/// What may be left out, and is not among the first, is folded away.
fn fold(fields: &mut [Field]) {
    let many = fields.len() > SHOWN_FIELDS;
    for (place, field) in fields.iter_mut().enumerate() {
        let file = matches!(field.kind, Kind::File { .. });
        field.advanced = !field.required && (field.deprecated || many && place + 1 >= SHOWN_FIELDS && !file);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(properties: Value, required: Value) -> Vec<Field> {
        let mode = json!({"enum": ["fast", "slow"], "title": "m", "type": "string"});
        let input = json!({"type": "object", "properties": properties, "required": required});
        Document(&json!({"components": {"schemas": {"Input": input, "m": mode}}})).fields()
    }

    fn kind(schema: Value) -> Kind {
        fields(json!({"a": schema}), json!([])).remove(0).kind
    }

    #[test]
    fn each_type_has_its_kind() {
        let number = |integer, minimum: Option<u64>, maximum: Option<u64>| {
            let end = |end: Option<u64>| end.map(Number::from);
            Kind::Number(Range { integer, minimum: end(minimum), maximum: end(maximum) })
        };
        let choices = vec![json!("fast"), json!("slow")];
        let file = |several| Kind::File { accept: None, several };
        for (schema, wanted) in [
            (json!({"type": "string"}), Kind::Text(Text { lines: true, ..Text::default() })),
            (json!({"type": "integer", "minimum": 1, "maximum": 9}), number(true, Some(1), Some(9))),
            (json!({"type": "number"}), number(false, None, None)),
            (json!({"type": "boolean"}), Kind::Flag { nullable: false }),
            (json!({"allOf": [{"$ref": "#/components/schemas/m"}]}), Kind::Choice(choices.clone())),
            (json!({"type": "string", "format": "uri"}), file(false)),
            (json!({"type": "array", "items": {"type": "string", "format": "uri"}}), file(true)),
            (json!({"type": "string", "format": "password", "x-cog-secret": true}), Kind::Secret),
            (json!({"type": "array", "items": {"type": "integer"}}), Kind::List(Item::Integer)),
            (json!({"type": "array", "items": {"$ref": "#/components/schemas/m"}}), Kind::Choices(choices)),
            (json!({"type": "array", "items": {"type": "array"}}), Kind::Json { shape: "list" }),
            (json!({"type": "object"}), Kind::Json { shape: "object" }),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
                Kind::Loose(vec![Item::Integer, Item::Text]),
            ),
            (
                json!({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}),
                Kind::Json { shape: "value" },
            ),
            (json!({}), Kind::Json { shape: "value" }),
            (json!({"$ref": "#/components/schemas/nowhere"}), Kind::Json { shape: "value" }),
        ] {
            assert_eq!(kind(schema.clone()), wanted, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_points_at_itself_ends() {
        let document = json!({"components": {"schemas": {
            "Input": {"properties": {"a": {"$ref": "#/components/schemas/a"}}},
            "a": {"allOf": [{"$ref": "#/components/schemas/a"}]},
        }}});
        assert_eq!(Document(&document).fields()[0].kind, Kind::Json { shape: "value" });
        for odd in [json!(null), json!([]), json!({"components": {"schemas": {"Input": 5}}})] {
            assert_eq!(Document(&odd).fields(), []);
        }
    }

    #[test]
    fn fields_come_in_the_order_of_the_signature() {
        let found = fields(
            json!({"b": {"type": "string", "x-order": 1}, "num_steps": {"type": "integer", "x-order": 0}}),
            json!(["b"]),
        );
        let names: Vec<_> =
            found.iter().map(|field| (field.name.as_str(), field.title.as_str(), field.required)).collect();
        assert_eq!(names, [("num_steps", "Num Steps", false), ("b", "B", true)]);
    }

    #[test]
    fn what_may_be_left_out_is_folded_when_there_is_much() {
        let properties: Map<_, _> = (0..9)
            .map(|n| (format!("f{n}"), json!({"type": "string", "x-order": n, "deprecated": n == 1})))
            .collect();
        let found = fields(Value::Object(properties), json!(["f8"]));
        let folded: Vec<_> =
            found.iter().filter(|field| field.advanced).map(|field| field.name.as_str()).collect();
        assert_eq!(folded, ["f1", "f5", "f6", "f7"]);
    }

    #[test]
    fn a_slider_moves_by_round_steps() {
        let step = |integer, low: f64, high: f64| {
            let end = |end| Number::from_f64(end);
            Range { integer, minimum: end(low), maximum: end(high) }.step()
        };
        assert_eq!(step(true, 1.0, 500.0), 1.0);
        assert_eq!(step(true, 0.0, 100_000.0), 1000.0);
        assert_eq!(step(false, 0.0, 1.0), 0.01);
        assert_eq!(step(false, 0.0, 20.0), 0.1);
    }
}
