use std::time::Instant;

use serde_json::json;

use super::*;

fn schema() -> InputSchema {
    let document = json!({"components": {"schemas": {
        "mode": {"description": "An enumeration.", "enum": ["ok", "print"], "title": "mode", "type": "string"},
        "Input": {
            "type": "object", "title": "Input", "required": ["s"],
            "properties": {
                "s": {"type": "string", "title": "S", "x-order": 0},
                "mode": {"allOf": [{"$ref": "#/components/schemas/mode"}], "default": "ok", "x-order": 1},
                "sleep": {"type": "number", "minimum": 0, "maximum": 60, "x-order": 2},
                "short": {"type": "string", "maxLength": 4, "pattern": "^a", "x-order": 3},
                "opt": {"type": "string", "nullable": true, "x-order": 4},
                "count": {"type": "integer", "x-order": 5},
                "xs": {"type": "array", "items": {"type": "integer"}, "x-order": 6},
                "key": {"type": "string", "format": "password", "writeOnly": true, "x-cog-secret": true},
                "either": {"anyOf": [{"type": "integer", "nullable": true}, {"type": "string"}]},
                "image": {"type": "string", "format": "uri"},
                "images": {"type": "array", "items": {"type": "string", "format": "uri"}},
                "file_or_text": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "string"}]},
                "day": {"type": "string", "format": "date"}
            }
        }
    }}});
    InputSchema::compile(&document, "Input").unwrap().unwrap()
}

fn refused(input: Value) -> Vec<(String, String, &'static str)> {
    let violations = schema().check(&mut input.clone()).unwrap_err();
    violations.into_iter().map(|found| (found.loc[2..].join("|"), found.msg, found.kind)).collect()
}

#[test]
fn each_mistake_has_the_words_that_cog_has() {
    let missing = "value_error.missing";
    for (input, field, message, kind) in [
        (json!({}), "s", "Field required", missing),
        (json!({"s": 1}), "s", "1 is not of type \"string\"", "value_error"),
        (
            json!({"s": "", "mode": "bogus"}),
            "mode",
            "\"bogus\" is not one of [\"ok\",\"print\"]",
            "value_error",
        ),
        (json!({"s": "", "sleep": -1}), "sleep", "-1 is less than the minimum of 0", "value_error"),
        (json!({"s": "", "sleep": 99}), "sleep", "99 is greater than the maximum of 60", "value_error"),
        (json!({"s": "", "short": "abcde"}), "short", "\"abcde\" is longer than 4 characters", "value_error"),
        (json!({"s": "", "short": "bcd"}), "short", "\"bcd\" does not match \"^a\"", "value_error"),
        (json!({"s": "", "count": true}), "count", "true is not of type \"integer\"", "value_error"),
        (json!({"s": "", "count": "5"}), "count", "\"5\" is not of type \"integer\"", "value_error"),
        (json!({"s": null}), "s", "null is not of type \"string\"", "value_error"),
        (json!({"s": "", "xs": [1, "a"]}), "xs/1", "\"a\" is not of type \"integer\"", "value_error"),
        (json!({"s": "", "day": "soon"}), "day", "\"soon\" is not a date such as 2026-01-31", "value_error"),
        (json!([]), "__root__", "[] is not of type \"object\"", "value_error"),
    ] {
        assert_eq!(refused(input.clone()), [(field.into(), message.into(), kind)], "{input}");
    }
}

#[test]
fn integers_have_up_to_64_bits() {
    for (number, right) in
        [("18446744073709551615", true), ("18446744073709551616", false), ("-9223372036854775809", false)]
    {
        let input: Value = serde_json::from_str(&format!(r#"{{"s": "", "count": {number}}}"#)).unwrap();
        assert_eq!(schema().check(&mut input.clone()).is_ok(), right, "{number}");
    }
}

#[test]
fn every_broken_rule_is_told_at_once() {
    let found = refused(json!({"sleep": -1, "short": "bcdefgh", "mode": 3}));
    let fields: Vec<_> = found.iter().map(|(field, ..)| field.as_str()).collect();
    assert_eq!(fields.iter().filter(|field| **field == "short").count(), 2, "{found:?}");
    assert_eq!(fields.iter().filter(|field| **field == "mode").count(), 2, "{found:?}");
    assert!(fields.contains(&"s") && fields.contains(&"sleep"), "{found:?}");
}

#[test]
fn a_large_value_is_not_told_back() {
    let found = refused(json!({"s": ["x".repeat(1 << 20)]}));
    assert!(found[0].1.len() < 2000 && found[0].1.ends_with('…'));
}

#[test]
fn what_is_allowed_passes_and_stays_as_it_was() {
    for input in [
        json!({"s": "a"}),
        json!({"s": "a", "opt": null}),
        json!({"s": "a", "opt": "b", "mode": "print", "sleep": 1, "count": 1.0}),
        json!({"s": "a", "either": null, "xs": []}),
        json!({"s": "a", "image": "https://host/not%20an%20image"}),
    ] {
        let mut checked = input.clone();
        assert_eq!(schema().check(&mut checked), Ok(false), "{input}");
        assert_eq!(checked, input);
    }
}

#[test]
fn unknown_inputs_are_taken_out() {
    let mut input = json!({"s": "a", "strange": [1, 2], "opt": null});
    assert_eq!(schema().check(&mut input), Ok(true));
    assert_eq!(input, json!({"s": "a", "opt": null}));
    let mut input: Value =
        serde_json::from_str(r#"{"xs":[],"opt":null,"strange":1,"s":"a","mode":"ok"}"#).unwrap();
    assert_eq!(schema().check(&mut input), Ok(true));
    assert_eq!(input.to_string(), r#"{"xs":[],"opt":null,"s":"a","mode":"ok"}"#);
}

#[test]
fn secrets_are_not_shown() {
    let schema = schema();
    let mut input = json!({"s": "a", "key": "abc"});
    schema.mask(&mut input);
    assert!(schema.has_secrets());
    assert_eq!(input, json!({"s": "a", "key": "**********"}));
}

#[test]
fn whatever_marks_a_secret_wherever_it_stands_counts() {
    let password = json!({"type": "string", "format": "password"});
    let inside = json!({"type": "object", "properties": {"a": {"type": "string"}, "key": password}});
    for secret in [
        password.clone(),
        json!({"type": "string", "writeOnly": true}),
        json!({"type": "string", "x-cog-secret": true}),
        json!({"type": "array", "items": password}),
        json!({"anyOf": [{"type": "integer"}, password]}),
        json!({"allOf": [{"$ref": "#/components/schemas/Login"}]}),
    ] {
        let schemas = json!({"Input": {"type": "object", "properties": {"x": secret}}, "Login": inside});
        let document = json!({"components": {"schemas": schemas}});
        let schema = InputSchema::compile(&document, "Input").unwrap().unwrap();
        let mut input = json!({"x": ["hush"]});
        schema.mask(&mut input);
        assert_eq!(input, json!({"x": "**********"}), "{secret}");
    }
}

#[test]
fn a_schema_that_grows_when_references_are_followed_has_a_bound() {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let tree = |count: usize| {
        let children: Map<_, _> = (0..count).map(|n| (format!("c{n}"), reference("Tree"))).collect();
        let tree = json!({"type": "object", "properties": children});
        let input = json!({"type": "object", "properties": {"tree": reference("Tree")}});
        InputSchema::compile(&json!({"components": {"schemas": {"Input": input, "Tree": tree}}}), "Input")
    };
    let schema = tree(2).unwrap().unwrap();
    assert_eq!(schema.check(&mut json!({"tree": {"c0": {"c1": {}}}})), Ok(false));
    let wrong = schema.check(&mut json!({"tree": {"c0": {"c1": 5}}})).unwrap_err();
    assert_eq!(wrong[0].loc[2], "tree/c0/c1");
    let error = tree(100).err().unwrap().to_string();
    assert!(error.contains("more than 50000 parts"), "{error}");
}

#[test]
fn a_schema_that_is_none_or_refers_to_itself_is_no_end() {
    assert!(InputSchema::compile(&json!({"components": {"schemas": {}}}), "Input").unwrap().is_none());
    let own = json!({"components": {"schemas": {"Input": {"$ref": "#/components/schemas/Input"}}}});
    assert!(InputSchema::compile(&own, "Input").is_err());
    let wrong = json!({"components": {"schemas": {"Input": {"type": "nothing"}}}});
    let error = InputSchema::compile(&wrong, "Input").err().unwrap().to_string();
    assert!(error.starts_with("the schema Input of the model's inputs is not valid: "), "{error}");
}

/// `cargo test --release -p clunk-dialects --lib -- --ignored --nocapture cost` prints what one check takes.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_small_input() {
    const ROUNDS: u32 = 200_000;
    let schema = schema();
    let text = br#"{"s":"hello","mode":"print","sleep":0.5,"count":3}"#;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let mut input: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(schema.check(&mut input), Ok(false));
    }
    eprintln!("parsed and checked in {:?}", start.elapsed() / ROUNDS);
}

#[test]
fn a_file_is_a_url_and_never_a_path_where_the_model_runs() {
    for wrong in ["/etc/passwd", "file:///etc/passwd", "picture.png", "ftp://host/file", ""] {
        let message = format!("{wrong:?} is not an http, https or data URL");
        let found = refused(json!({"s": "", "image": wrong, "images": ["https://host/a", wrong]}));
        let kind = "value_error";
        assert_eq!(found, [("image".into(), message.clone(), kind), ("images/1".into(), message, kind)]);
    }
    for right in ["http://host/a", "https://host/a", "data:text/plain,a"] {
        assert_eq!(schema().check(&mut json!({"s": "", "image": right, "images": [right]})), Ok(false));
    }
    assert_eq!(
        schema().check(&mut json!({"s": "", "file_or_text": "plain", "day": "2026-01-31"})),
        Ok(false)
    );
}
