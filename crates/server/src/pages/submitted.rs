//! From what a browser sends to a model's input. Every field is read; what is wrong is said at its field.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::form::{Field, Item, Kind};

/// In front of the name of a field of the model: the form has others of its own.
pub const PREFIX: &str = "input.";
/// Behind the name of a file's field: the address of a file that is somewhere already.
pub const ADDRESS: &str = ".url";

/// What the browser sent for the fields of the model: texts in their order, files as the addresses that they got.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Submitted {
    pub texts: BTreeMap<String, Vec<String>>,
    pub files: BTreeMap<String, Vec<String>>,
}

/// What is wrong, by field.
pub type Problems = BTreeMap<String, String>;

impl Submitted {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name)?.first().map(String::as_str)
    }

    /// The input as far as it can be read, and what is wrong with the rest. What is left empty is left out, and so is
    /// what equals its default: the same call, in fewer words.
    pub fn read(&self, fields: &[Field]) -> (Map<String, Value>, Problems) {
        let mut input = Map::new();
        let mut problems = Problems::new();
        for field in fields {
            match self.value(field) {
                Ok(Some(value)) if field.default.as_ref() == Some(&value) => {}
                Ok(Some(value)) => drop(input.insert(field.name.clone(), value)),
                Ok(None) if field.required => {
                    problems.insert(field.name.clone(), "This is needed.".into());
                }
                Ok(None) => {}
                Err(problem) => drop(problems.insert(field.name.clone(), problem)),
            }
        }
        (input, problems)
    }

    /// The form that would send this input: what a person sees who opens it. A secret is not shown again.
    pub fn of(fields: &[Field], input: &Map<String, Value>) -> Self {
        let mut shown = Self::default();
        for field in fields {
            let Some(value) = input.get(&field.name).or(field.default.as_ref()) else { continue };
            let texts = texts_of(&field.kind, value);
            if !texts.is_empty() {
                let end = if matches!(field.kind, Kind::File { .. }) { ADDRESS } else { "" };
                shown.texts.insert(format!("{}{end}", field.name), texts);
            }
        }
        shown
    }

    fn value(&self, field: &Field) -> Result<Option<Value>, String> {
        let text = self.text(&field.name).map(unix_lines);
        let text = text.as_deref();
        let filled = text.map(str::trim).filter(|text| !text.is_empty());
        match &field.kind {
            Kind::Text(_) => match text {
                // A text that is emptied is empty, where it would not be so by itself.
                Some("") if !field.default.as_ref().is_some_and(Value::is_string) => Ok(None),
                text => Ok(text.map(Value::from)),
            },
            Kind::Secret => Ok(text.filter(|text| !text.is_empty()).map(Value::from)),
            Kind::Number(range) => filled.map(|text| number(text, range.integer)).transpose(),
            Kind::Flag { nullable: false } => Ok(Some(text.is_some().into())),
            Kind::Flag { nullable: true } => Ok(filled.map(|text| (text == "true").into())),
            Kind::Choice(values) => filled.map(|text| choice(text, values)).transpose(),
            Kind::Choices(values) => {
                let texts = self.texts.get(&field.name).into_iter().flatten();
                let chosen: Vec<_> = texts.map(|text| choice(text, values)).collect::<Result<_, _>>()?;
                Ok(some_list(chosen))
            }
            Kind::File { several: false, .. } => Ok(self.addresses(&field.name).pop().map(Value::from)),
            Kind::File { several: true, .. } => {
                Ok(some_list(self.addresses(&field.name).into_iter().map(Value::from).collect()))
            }
            Kind::List(item) => {
                let texts = self.texts.get(&field.name).into_iter().flatten();
                let filled = texts.map(|text| unix_lines(text)).filter(|text| !text.trim().is_empty());
                let items: Vec<_> = filled.map(|text| one(&text, *item)).collect::<Result<_, _>>()?;
                Ok(some_list(items))
            }
            Kind::Loose(items) => filled.map(|text| loose(text, items)).transpose(),
            Kind::Json { shape } => filled.map(|text| json(text, shape)).transpose(),
        }
    }

    /// Addresses that were typed, then the files that came along.
    fn addresses(&self, name: &str) -> Vec<String> {
        let typed = self.texts.get(&format!("{name}{ADDRESS}")).into_iter().flatten();
        let typed = typed.flat_map(|text| text.lines()).map(str::trim).filter(|text| !text.is_empty());
        let sent = self.files.get(name).into_iter().flatten().map(String::as_str);
        typed.chain(sent).map(str::to_owned).collect()
    }
}

fn texts_of(kind: &Kind, value: &Value) -> Vec<String> {
    let place =
        |values: &[Value], value| values.iter().position(|one| one == value).map(|place| place.to_string());
    let items = |value: &Value| value.as_array().map(|items| items.iter().map(plain).collect::<Vec<_>>());
    match kind {
        _ if value.is_null() => Vec::new(),
        Kind::Secret => Vec::new(),
        Kind::Flag { nullable: false } => {
            if *value == true {
                vec!["on".into()]
            } else {
                Vec::new()
            }
        }
        Kind::Choice(values) => place(values, value).into_iter().collect(),
        Kind::Choices(values) => {
            value.as_array().into_iter().flatten().filter_map(|value| place(values, value)).collect()
        }
        Kind::File { several: true, .. } => items(value).map(|items| items.join("\n")).into_iter().collect(),
        Kind::List(_) => items(value).unwrap_or_default(),
        Kind::Json { .. } => vec![format!("{value:#}")],
        _ => vec![plain(value)],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Browsers send the ends of lines as the protocols of mail have them.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

fn some_list(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Array(items))
}

fn number(text: &str, integer: bool) -> Result<Value, String> {
    let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    if let Ok(whole) = whole {
        return Ok(whole.into());
    }
    if integer {
        return Err(format!("{text:?} is not a whole number."));
    }
    let found = text.parse::<f64>().ok().and_then(Number::from_f64);
    found.map(Value::from).ok_or_else(|| format!("{text:?} is not a number."))
}

fn choice(text: &str, values: &[Value]) -> Result<Value, String> {
    let place = text.parse::<usize>().ok();
    place
        .and_then(|place| values.get(place).cloned())
        .ok_or_else(|| "This is none of the choices.".to_owned())
}

fn one(text: &str, item: Item) -> Result<Value, String> {
    match item {
        Item::Text => Ok(text.into()),
        Item::Integer => number(text.trim(), true),
        Item::Number => number(text.trim(), false),
        Item::Flag => match text.trim() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            text => Err(format!("{text:?} is neither true nor false.")),
        },
    }
}

/// The first type that fits; text fits anything, and so is asked last.
fn loose(text: &str, items: &[Item]) -> Result<Value, String> {
    let (texts, others): (Vec<Item>, Vec<Item>) = items.iter().partition(|item| **item == Item::Text);
    let mut last = Err(format!("{text:?} is none of the types that fit here."));
    for item in others.into_iter().chain(texts) {
        last = one(text, item);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn json(text: &str, shape: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("This is not JSON: {error}."))?;
    match shape {
        "object" if !value.is_object() => Err("This must be a JSON object: {\"name\": …}.".into()),
        "list" if !value.is_array() => Err("This must be a JSON list: […].".into()),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::form::Document;
    use super::*;

    fn read(schema: Value, required: bool, texts: &[&str]) -> Result<Value, String> {
        let required = if required { json!(["a"]) } else { json!([]) };
        let mode = json!({"enum": ["", 5, "slow"], "type": "string"});
        let input = json!({"properties": {"a": schema}, "required": required});
        let document = json!({"components": {"schemas": {"Input": input, "m": mode}}});
        let mut sent = Submitted::default();
        if !texts.is_empty() {
            sent.texts.insert("a".into(), texts.iter().map(|text| (*text).to_owned()).collect());
        }
        let (mut input, mut problems) = sent.read(&Document(&document).fields());
        problems.remove("a").map_or_else(|| Ok(input.remove("a").unwrap_or(Value::Null)), Err)
    }

    #[test]
    fn texts_become_values() {
        let choice = json!({"allOf": [{"$ref": "#/components/schemas/m"}]});
        let list = |item: &str| json!({"type": "array", "items": {"type": item}});
        let union = json!({"anyOf": [{"type": "string"}, {"type": "integer"}]});
        for (schema, texts, wanted) in [
            (json!({"type": "string"}), vec!["a\r\nb "], json!("a\nb ")),
            (json!({"type": "string"}), vec![""], json!(null)),
            (json!({"type": "string", "default": "x"}), vec![""], json!("")),
            (json!({"type": "string", "default": "x"}), vec!["x"], json!(null)),
            (json!({"type": "integer"}), vec![" 7 "], json!(7)),
            (json!({"type": "integer"}), vec!["18446744073709551615"], json!(u64::MAX)),
            (json!({"type": "number"}), vec!["-0.5"], json!(-0.5)),
            (json!({"type": "boolean"}), vec!["on"], json!(true)),
            (json!({"type": "boolean", "default": true}), vec![], json!(false)),
            (json!({"type": "boolean", "nullable": true}), vec![""], json!(null)),
            (choice.clone(), vec!["0"], json!("")),
            (choice.clone(), vec!["1"], json!(5)),
            (choice, vec![""], json!(null)),
            (list("integer"), vec!["1", "", "2"], json!([1, 2])),
            (list("boolean"), vec!["true"], json!([true])),
            (union.clone(), vec!["5"], json!(5)),
            (union, vec!["five"], json!("five")),
            (json!({"type": "object"}), vec![r#"{"a": [1]}"#], json!({"a": [1]})),
        ] {
            assert_eq!(read(schema.clone(), false, &texts), Ok(wanted), "{schema} {texts:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let choice = json!({"allOf": [{"$ref": "#/components/schemas/m"}]});
        for (schema, text, wanted) in [
            (json!({"type": "string"}), "", "needed"),
            (json!({"type": "integer"}), "", "needed"),
            (json!({"type": "integer"}), "1.5", "\"1.5\" is not a whole number."),
            (json!({"type": "number"}), "1e999", "is not a number"),
            (json!({"type": "number"}), "NaN", "is not a number"),
            (choice, "9", "none of the choices"),
            (json!({"type": "array", "items": {"type": "integer"}}), "x", "not a whole number"),
            (json!({"type": "object"}), "[]", "object"),
            (json!({"type": "object"}), "{", "not JSON"),
            (json!({"type": "object"}), "", "needed"),
        ] {
            let problem = read(schema.clone(), true, &[text]).unwrap_err();
            assert!(problem.contains(wanted), "{schema} {text:?}: {problem}");
        }
    }

    #[test]
    fn files_are_addresses() {
        let several = |several: bool| {
            let file = json!({"type": "string", "format": "uri"});
            let schema = if several { json!({"type": "array", "items": file}) } else { file };
            let document = json!({"components": {"schemas": {"Input": {"properties": {"a": schema}}}}});
            let mut sent = Submitted::default();
            sent.texts.insert("a.url".into(), vec![" https://x.example/1\r\n\r\nhttps://x.example/2".into()]);
            sent.files.insert("a".into(), vec!["/files/3".into()]);
            sent.read(&Document(&document).fields()).0.remove("a").unwrap()
        };
        assert_eq!(several(true), json!(["https://x.example/1", "https://x.example/2", "/files/3"]));
        assert_eq!(several(false), json!("/files/3"));
    }

    #[test]
    fn an_input_comes_back_from_the_form_that_shows_it() {
        let mode = json!({"enum": [1, "b"]});
        let list = |items: Value| json!({"type": "array", "items": items});
        let properties = json!({
            "text": {"type": "string"}, "number": {"type": "number"}, "flag": {"type": "boolean"},
            "perhaps": {"type": "boolean", "nullable": true}, "choice": {"allOf": [{"$ref": "#/components/schemas/m"}]},
            "choices": list(json!({"$ref": "#/components/schemas/m"})),
            "file": {"type": "string", "format": "uri"}, "files": list(json!({"type": "string", "format": "uri"})),
            "list": list(json!({"type": "string"})), "json": {"type": "object"}, "left": {"type": "string"},
        });
        let document = json!({"components": {"schemas": {"Input": {"properties": properties}, "m": mode}}});
        let fields = Document(&document).fields();
        let input = json!({
            "text": "a\n b", "number": 0.25, "flag": true, "perhaps": false, "choice": "b", "choices": [1, "b"],
            "file": "https://x.example/a", "files": ["/a", "/b"], "list": ["x", "y"], "json": {"a": [null]},
        });
        let input = input.as_object().unwrap();
        let (read, problems) = Submitted::of(&fields, input).read(&fields);
        assert_eq!((&read, problems), (input, Problems::new()));
    }

    #[test]
    fn a_secret_is_not_shown_again() {
        let secret = json!({"type": "string", "format": "password"});
        let document = json!({"components": {"schemas": {"Input": {"properties": {"key": secret}}}}});
        let fields = Document(&document).fields();
        let input = json!({"key": "hush"});
        assert_eq!(Submitted::of(&fields, input.as_object().unwrap()), Submitted::default());
    }
}
