//! Projects before anything is built: `init cog`, `doctor DIR`, the settings as JSON.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the binary in a folder, with nothing of this machine's but its Python.
fn clunk(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clunk"));
    command.args(words).current_dir(folder).env("CLUNK_HOME", "/nonexistent");
    command.env("XDG_CACHE_HOME", folder.join(".cache")).env_remove("PYTHONPATH").env("NO_COLOR", "1");
    command.output().expect("the binary starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_starter_has_nothing_to_mend() {
    let home = tempfile::tempdir().unwrap();
    let made = clunk(home.path(), &["init", "cog", "model"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    assert!(err(&made).contains("clunk doctor model"), "{}", err(&made));
    let checked = clunk(home.path(), &["doctor", "model"]);
    assert_eq!(
        out(&checked),
        "ok  cog.yaml           Python 3.13 of Debian\nok  run.py:Runner      name, [times] -> string (setup)\n"
    );
    assert_eq!(checked.status.code(), Some(0));
    assert!(err(&checked).contains("nothing to mend"));
}

#[test]
fn a_starter_overwrites_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("run.py"), "mine").unwrap();
    let made = clunk(home.path(), &["init", "cog"]);
    assert_eq!(made.status.code(), Some(2));
    assert!(err(&made).contains("run.py exists; nothing was changed"), "{}", err(&made));
    assert_eq!(fs::read_to_string(home.path().join("run.py")).unwrap(), "mine");
    assert!(!home.path().join("cog.yaml").exists());
}

const WRONG_SETTINGS: &str =
    "build:\n  pyhton_version: \"3.11\"\nrun: run.py:Runner\nconcurrency:\n  max: 4\n";
const WRONG_CODE: &str = "from cog import BaseRunner, Input\n\n\nclass Runner(BaseRunner):\n    def run(self, steps: int = Input(default=9, ge=1, le=5)) -> str:\n        return \"\"\n";

#[test]
fn mistakes_of_settings_and_code_are_listed_together() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("cog.yaml"), WRONG_SETTINGS).unwrap();
    fs::write(home.path().join("run.py"), WRONG_CODE).unwrap();
    let checked = clunk(home.path(), &["doctor", "."]);
    assert_eq!(checked.status.code(), Some(1));
    let text = out(&checked);
    assert!(
        text.contains("cog.yaml:2:3: warning: unknown key `pyhton_version` in `build`: it changes nothing\n  hint: did you mean `python_version`?\n"),
        "{text}"
    );
    assert!(text.contains("run.py:5:"), "{text}");
    assert!(text.contains("error: concurrency.max is 4, but the predictor is not async"), "{text}");

    let checked = clunk(home.path(), &["doctor", ".", "--json"]);
    let json: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["code"], "cog-config-ignored");
    assert!(json["problems"].as_array().unwrap().len() >= 3, "{json}");
}

#[test]
fn a_trainer_alone_may_have_concurrency_beside_it() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("cog.yaml"), "train: train.py:train\nconcurrency:\n  max: 4\n").unwrap();
    fs::write(home.path().join("train.py"), "def train(n: int = 1) -> str:\n    return ''\n").unwrap();
    let checked = clunk(home.path(), &["doctor", "."]);
    assert_eq!(checked.status.code(), Some(0), "{}", out(&checked));
}

#[test]
fn a_folder_without_a_project_is_not_found() {
    let home = tempfile::tempdir().unwrap();
    for words in [&["doctor", "."], &["__cog-config", "."]] {
        let ran = clunk(home.path(), words);
        assert_eq!((ran.status.code(), out(&ran).as_str()), (Some(3), ""), "{words:?}: {}", err(&ran));
        assert!(err(&ran).contains("no cog.yaml in"), "{}", err(&ran));
    }
}

#[test]
fn settings_are_printed_as_json_even_with_mistakes() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("inner")).unwrap();
    fs::write(home.path().join("model.yaml"), "run: none.py:Runner\n").unwrap();
    let ran = clunk(home.path(), &["__cog-config", "inner", "-f", "model.yaml"]);
    assert_eq!(ran.status.code(), Some(0), "{}", err(&ran));
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let root = home.path().canonicalize().unwrap();
    assert_eq!(json["root"], root.to_str().unwrap());
    assert_eq!(json["file"], root.join("model.yaml").to_str().unwrap());
    assert_eq!(json["recipe"], Value::Null);
    assert_eq!((&json["problems"][0]["line"], &json["problems"][0]["column"]), (&1.into(), &6.into()));
}
