//! `cog.yaml` in, JSON out: each file of `golden/cog-config` is a project and what is read from it. `UPDATE=1` writes
//! the expected part anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clunk_dialects::cog::project::InMemory;
use clunk_dialects::cog::reading::{Reading, read};
use proptest::prelude::*;

const EXPECTED: &str = "expected";

/// Parts behind lines `-- NAME --`.
fn parts(text: &str) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        match line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            Some(next) => {
                parts.insert(next.to_string(), String::new());
                name = Some(next.to_string());
            }
            None => {
                let part = name.as_ref().and_then(|name| parts.get_mut(name)).expect("a part has a name");
                part.push_str(line);
                part.push('\n');
            }
        }
    }
    parts
}

fn shown(reading: &Reading) -> String {
    let mut value = serde_json::to_value(reading).expect("it has a JSON form");
    let problems: Vec<String> = reading
        .problems
        .iter()
        .flat_map(|problem| {
            let hint = problem.hint.as_ref().map(|hint| format!("  hint: {hint}"));
            [Some(format!("{problem} [{}]", problem.code)), hint].into_iter().flatten()
        })
        .collect();
    value["problems"] = problems.into();
    serde_json::to_string_pretty(&value).expect("it has a JSON form") + "\n"
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cog-config")
}

#[test]
fn projects_are_read_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "the folder has lost its files");
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut parts = parts(&text);
        let expected = parts.remove(EXPECTED).unwrap_or_default();
        let found = shown(&read(&parts["cog.yaml"], "cog.yaml", &InMemory(parts.clone())));
        if update {
            let project = text.split_once("-- expected --").map_or(text.as_str(), |(project, _)| project);
            std::fs::write(&path, format!("{project}-- expected --\n{found}")).unwrap();
        } else if expected != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE=1 rewrites):\n{}", wrong.join("\n"));
}

/// Words that make deeper paths likely.
fn yaml_like() -> impl Strategy<Value = String> {
    let words = [
        "build:",
        "run:",
        "predict:",
        "environment:",
        "weights:",
        "python_version:",
        "- ",
        "  ",
        "    ",
        "\n",
        "\t",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "|",
        ">",
        "3.10",
        "run.py:Runner",
        "-r requirements.txt",
        "A=b",
        "#",
        ":",
        "!!str ",
        "---\n",
        "ü",
        "\u{0}",
        "python_packages:",
        "gpu: true",
        "python_requirements: requirements.txt",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
}

fn project(requirements: &str) -> InMemory {
    let files = [("run.py", ""), ("requirements.txt", requirements), ("a.whl", "")];
    InMemory(files.map(|(path, text)| (path.to_string(), text.to_string())).into())
}

/// Any text has an answer, with places that exist.
fn check(text: &str, requirements: &str) {
    let files = project(requirements);
    let reading = read(text, "cog.yaml", &files);
    let errors = reading.problems.iter().any(|problem| problem.code.as_str().starts_with("bad"));
    assert!(reading.recipe.is_some() || !reading.problems.is_empty());
    assert!(!(reading.recipe.is_some() && errors));
    for problem in &reading.problems {
        // YAML takes a carriage return for the end of a line as well.
        let count = |text: &str| text.split(['\n', '\r']).count();
        let lines = match problem.file.as_str() {
            "cog.yaml" => count(text),
            path => count(&files.0[path]),
        };
        // The end of a file is behind its last line.
        assert!((1..=lines.max(1) + 1).contains(&problem.line), "{problem} in {text:?}");
        assert!(problem.column >= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer(text in "\\PC*", requirements in "\\PC*") {
        check(&text, &requirements);
    }

    #[test]
    fn anything_like_yaml_has_an_answer(text in yaml_like(), requirements in "[-a-z./@ #\\\\=\n]{0,80}") {
        check(&text, &requirements);
        let named = "build:\n  python_requirements: requirements.txt\nrun: run.py:Runner\n";
        check(named, &requirements);
    }

    #[test]
    fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&String::from_utf8_lossy(&bytes), &String::from_utf8_lossy(&bytes));
    }
}
