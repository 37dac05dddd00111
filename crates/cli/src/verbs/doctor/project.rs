//! `clunk doctor DIR`: a Cog project before anything is built.

use std::path::Path;
use std::process::{ExitCode, Stdio};

use clunk_core::error::ErrorCode;
use clunk_core::recipe::{Base, Recipe, Step};
use clunk_dialects::cog::config::{CogConfig, Reference};
use clunk_runtime::machine_gpus;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::Doctor;
use crate::cog::{self, Described};
use crate::ui::{self, Output};
use crate::verbs::run::python;

/// A mistake, of the settings or of the Python code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Problem {
    severity: String,
    code: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    fn is_error(&self) -> bool {
        self.severity == "error"
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}:{}: ", self.column.unwrap_or(1))?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        write!(f, "{}: {}", self.severity, self.message)
    }
}

/// What the predictor's code says; read by the SDK, without importing it.
#[derive(Debug, Default, Deserialize)]
struct Schema {
    document: Option<Value>,
    #[serde(default)]
    is_async: bool,
    #[serde(default)]
    is_generator: bool,
    #[serde(default)]
    has_setup: bool,
    #[serde(default)]
    concurrency: Option<u32>,
    #[serde(default)]
    problems: Vec<Problem>,
}

/// Something that is as it should be.
#[derive(Debug, Serialize)]
struct Good {
    name: String,
    detail: String,
}

pub fn run(args: &Doctor, folder: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let described = cog::describe(folder, args.file.as_deref())?;
    let mut problems: Vec<Problem> = serde_json::from_value(json!(described.reading.problems))?;
    let mut good = Vec::new();
    if let (Some(config), Some(recipe)) = (&described.reading.config, &described.reading.recipe) {
        good.push(Good { name: shown_file(&described), detail: describe_recipe(config, recipe) });
    }
    let config = described.reading.config.as_ref();
    problems.extend(config.and_then(|config| gpu(config, &shown_file(&described))));
    let (predict, train) = (config.and_then(|c| c.predict.as_ref()), config.and_then(|c| c.train.as_ref()));
    if predict.is_some() || train.is_some() {
        let schema = read_schema(&described.root, predict, train)?;
        problems.extend(schema.problems.iter().cloned());
        problems.extend(
            predict.and(config).and_then(|config| concurrency(config, &schema, &shown_file(&described))),
        );
        if !schema.problems.iter().any(Problem::is_error) {
            good.extend(describe_schema(predict, train, &schema));
        }
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if output.json {
        ui::print_json(&json!({
            "ok": errors == 0,
            "file": described.file,
            "problems": problems,
            "checks": good.iter().map(|g| json!({"name": g.name, "verdict": "ok", "detail": g.detail})).collect::<Vec<_>>(),
        }));
    } else {
        show(&good, &problems);
        let (errors, warnings) = (errors as u64, (problems.len() - errors) as u64);
        match (errors, warnings) {
            (0, 0) => output.say(format_args!("nothing to mend; now try: clunk run {}", folder.display())),
            _ => output.say(format_args!(
                "{}, {}",
                ui::plural(errors, "error"),
                ui::plural(warnings, "warning")
            )),
        }
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown_file(described: &Described) -> String {
    described.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn show(good: &[Good], problems: &[Problem]) {
    for check in good {
        ui::print(format_args!("ok  {:<18} {}", check.name, check.detail));
    }
    for problem in problems {
        ui::print(ui::one_line(&problem.to_string()));
        if let Some(hint) = &problem.hint {
            ui::print(format_args!("  hint: {}", ui::one_line(hint)));
        }
    }
}

/// Asks the SDK; how the interpreter is found is the same as for every other verb.
fn read_schema(
    root: &Path,
    predict: Option<&Reference>,
    train: Option<&Reference>,
) -> anyhow::Result<Schema> {
    let mut command = python(None)?;
    command.args(["-m", "clunk._cog.schema", "--json"]).arg(root);
    for (option, reference) in [("--predict", predict), ("--train", train)] {
        if let Some(reference) = reference {
            command.args([option.into(), format!("{}:{}", reference.file, reference.name)]);
        }
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let answer = command.stdin(Stdio::null()).output().map_err(|error| {
        let hint = "install Python 3.9 or newer, or set CLUNK_PYTHON to one";
        ui::error(ErrorCode::NotFound, format!("could not start {program}: {error}"), hint)
    })?;
    serde_json::from_slice(&answer.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&answer.stderr);
        let last = said.trim().lines().next_back().unwrap_or("it said nothing").to_string();
        let hint = "it must be Python 3.9 or newer; set CLUNK_PYTHON to another one";
        ui::error(ErrorCode::Internal, format!("{program} could not read the predictor: {last}"), hint)
    })
}

/// A model that wants a GPU runs on no machine without one. What a server elsewhere has is not known here.
fn gpu(config: &CogConfig, file: &str) -> Option<Problem> {
    let elsewhere = std::env::var_os("CLUNK_SERVER_URL").is_some_and(|url| !url.is_empty());
    if !config.build.gpu || elsewhere || !machine_gpus(&crate::home::driver_root()).list.is_empty() {
        return None;
    }
    Some(Problem {
        severity: "warning".into(),
        code: ErrorCode::CannotPlace.as_str().into(),
        message: "build.gpu is true, and this machine has no GPU".into(),
        file: Some(file.into()),
        line: None,
        column: None,
        hint: Some("remove it, or set CLUNK_SERVER_URL to a server whose machine has one".into()),
    })
}

/// Several predictions at once need an async predictor.
fn concurrency(config: &CogConfig, schema: &Schema, file: &str) -> Option<Problem> {
    let max = config.concurrency.max.filter(|max| *max > 1)?;
    if schema.is_async || schema.document.is_none() {
        return None;
    }
    Some(Problem {
        severity: "error".into(),
        code: ErrorCode::BadCogConfig.as_str().into(),
        message: format!("concurrency.max is {max}, but the predictor is not async"),
        file: Some(file.into()),
        line: None,
        column: None,
        hint: Some("write `async def run`, or remove `concurrency`".into()),
    })
}

fn describe_recipe(config: &CogConfig, recipe: &Recipe) -> String {
    let mut words = vec![match &recipe.base {
        Base::DebianSlim { .. } => format!("Python {} of Debian", config.build.python_version),
        Base::Registry { reference, .. } => format!("Python of the image {reference}, from a registry"),
    }];
    let mut commands = 0;
    for step in &recipe.steps {
        match step {
            Step::AptInstall { packages } => {
                words.push(ui::plural(packages.len() as u64, "system package"));
            }
            Step::PipInstall(pip) => {
                // Options are no packages.
                let listed = pip.requirements.iter().flat_map(|text| text.lines());
                let count = pip.packages.len() + listed.filter(|line| !line.starts_with('-')).count();
                words.push(ui::plural(count as u64, "Python package"));
            }
            Step::RunCommands { .. } => commands += 1,
            _ => {}
        }
    }
    if commands > 0 {
        words.push(ui::plural(commands, "command"));
    }
    if config.build.gpu {
        words.push("a GPU".into());
    }
    words.join(", ")
}

fn describe_schema(predict: Option<&Reference>, train: Option<&Reference>, schema: &Schema) -> Vec<Good> {
    let Some(schemas) = schema.document.as_ref().map(|document| &document["components"]["schemas"]) else {
        return Vec::new();
    };
    let mut good = Vec::new();
    for (reference, input, output) in
        [(predict, "Input", "Output"), (train, "TrainingInput", "TrainingOutput")]
    {
        let Some(reference) = reference else { continue };
        let mut detail = format!("{} -> {}", inputs(&schemas[input]), output_word(&schemas[output]));
        if input == "Input" {
            let known =
                [("async", schema.is_async), ("streams", schema.is_generator), ("setup", schema.has_setup)];
            let facts = known.iter().filter(|(_, is)| *is).map(|(word, _)| (*word).to_string());
            let most = schema.concurrency.map(|max| format!("{max} at a time"));
            let facts: Vec<_> = facts.chain(most).collect();
            if !facts.is_empty() {
                detail = format!("{detail} ({})", facts.join(", "));
            }
        }
        good.push(Good { name: format!("{}:{}", reference.file, reference.name), detail });
    }
    good
}

/// The names of inputs; those that may be left out in brackets.
fn inputs(input: &Value) -> String {
    let required: Vec<&str> =
        input["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut named: Vec<(u64, String)> = input["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let shown = if required.contains(&name.as_str()) { name.clone() } else { format!("[{name}]") };
            (property["x-order"].as_u64().unwrap_or(0), shown)
        })
        .collect();
    named.sort();
    match named.is_empty() {
        true => "no inputs".into(),
        false => named.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", "),
    }
}

fn output_word(output: &Value) -> String {
    let kind = |schema: &Value| match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("uri")) => "file".into(),
        (Some(kind), _) => kind.to_string(),
        (None, _) => "any".to_string(),
    };
    match output["type"].as_str() {
        Some("array") => format!("list of {}", kind(&output["items"])),
        _ => kind(output),
    }
}
