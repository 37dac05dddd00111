//! The form and the programs of one model with every kind of field, against files. After a wanted change:
//! `UPDATE_GOLDEN=1 cargo test -p clunk-server pages`, and read the difference.

use serde_json::{Value, json};

use super::form::Document;
use super::snippets::{Call, snippets};
use super::submitted::{Problems, Submitted};
use super::{clip, clip_start, fields};

/// A schema in the form that Cog writes: choices are components, the order is `x-order`.
fn document() -> Value {
    let properties = json!({
        "prompt": {"description": "What to <paint>", "title": "Prompt", "type": "string", "x-order": 0},
        "steps": {"default": 50, "maximum": 500, "minimum": 1, "title": "Steps", "type": "integer", "x-order": 1},
        "scale": {"default": 7.5, "maximum": 20.0, "minimum": 0.0, "title": "Scale", "type": "number", "x-order": 2},
        "mode": {"allOf": [{"$ref": "#/components/schemas/mode"}], "default": "fast", "x-order": 3},
        "image": {"format": "uri", "title": "Image", "type": "string", "x-cog-accept": "image/*", "x-order": 4},
        "masks": {"items": {"format": "uri", "type": "string"}, "title": "Masks", "type": "array", "x-order": 5},
        "key": {"format": "password", "title": "Key", "type": "string", "writeOnly": true, "x-cog-secret": true,
            "x-order": 6},
        "words": {"items": {"type": "string"}, "title": "Words", "type": "array", "x-order": 7},
        "upscale": {"default": false, "title": "Upscale", "type": "boolean", "x-order": 8},
        "seed": {"nullable": true, "title": "Seed", "type": "integer", "x-order": 9},
        "extra": {"title": "Extra", "type": "object", "x-order": 10},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 5, "title": "Either", "x-order": 11},
        "code": {"default": "a1", "maxLength": 8, "minLength": 1, "pattern": "^[a-z0-9]+$", "title": "Code",
            "type": "string", "deprecated": true, "x-order": 12},
    });
    let mode = json!({"description": "An enumeration.", "enum": ["fast", "slow"], "title": "mode", "type": "string"});
    let input = json!({"properties": properties, "required": ["prompt", "image", "key"], "type": "object"});
    json!({"openapi": "3.0.2", "components": {"schemas": {"Input": input, "mode": mode}}})
}

fn golden(name: &str, today: &str) {
    let path = format!("{}/tests/golden/pages/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, today).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == today, "{path} differs from what is made today:\n{today}");
}

/// One element on a line: a difference is read by people.
fn lines(markup: &str) -> String {
    markup.replace("><", ">\n<") + "\n"
}

#[test]
fn the_form_is_as_it_was_looked_at() {
    let document = document();
    let found = Document(&document).fields();
    let empty = Submitted::of(&found, &serde_json::Map::new());
    golden("form.html", &lines(&fields::fields(&found, &empty, &Problems::new()).into_string()));
}

#[test]
fn a_problem_stands_at_its_field_and_unfolds_it() {
    let document = document();
    let found = Document(&document).fields();
    let mut sent = Submitted::default();
    sent.texts.insert("seed".into(), vec!["1.5".into()]);
    let (_, problems) = sent.read(&found);
    let markup = fields::fields(&found, &sent, &problems).into_string();
    for id in ["prompt", "image", "key", "seed"] {
        assert!(problems.contains_key(id), "{problems:?}");
    }
    assert_eq!(problems.len(), 4);
    let (_, after) = markup.split_once("id=\"problem.seed\"").unwrap();
    assert!(after.starts_with(" role=\"alert\">&quot;1.5&quot; is not a whole number."), "{after}");
    assert!(markup.contains("<details class=\"more\" open>"), "{markup}");
    assert!(markup.contains("aria-describedby=\"hint.seed problem.seed\" aria-invalid=\"true\""), "{markup}");
}

#[test]
fn the_programs_say_what_the_form_sends() {
    let document = document();
    let found = Document(&document).fields();
    let mut sent = Submitted::of(&found, &serde_json::Map::new());
    for (name, text) in [
        ("prompt", "it's a \"cat\"\nand a \\ dog, é"),
        ("steps", "20"),
        ("mode", "1"),
        ("image.url", "file:my cat.png"),
        ("masks.url", "https://x.example/1.png\nfile:2.png"),
        ("key", "hush"),
        ("upscale", "on"),
        ("extra", "{\"a\": [null, true]}"),
    ] {
        sent.texts.insert(name.into(), vec![text.into()]);
    }
    let (input, problems) = sent.read(&found);
    assert!(problems.is_empty(), "{problems:?}");
    let version = "0123456789abcdef".repeat(4);
    let call = |input, streams_text| {
        let base_url = "http://127.0.0.1:5800";
        let call = Call { base_url, model: "me/cat", version: &version, streams_text, fields: &found, input };
        let snippets = snippets(&call);
        snippets.iter().map(|one| format!("== {}\n{}", one.title, one.text)).collect::<String>()
    };
    let shown = call(&input, false);
    assert!(!shown.contains("hush"), "a secret is in a program: {shown}");
    golden("snippets.txt", &(shown + &call(&serde_json::Map::new(), true)));
}

#[test]
fn texts_are_cut_between_letters() {
    assert_eq!((clip("aéb", 2), clip("aéb", 3), clip("aéb", 9)), ("a", "aé", "aéb"));
    assert_eq!((clip_start("aéb", 2), clip_start("aéb", 3), clip_start("", 3)), ("b", "éb", ""));
}
