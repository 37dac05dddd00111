//! `cog.yaml` as types: every key that Cog knows, checked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::problem::Problems;
use super::project::{Found, Project, clean};
use super::read::{Reader, Table, found_words};
use super::yaml::{At, Kind, Node};
use super::{environment, weights, yaml};

/// The file's usual name.
pub const FILE_NAME: &str = "cog.yaml";

/// A model's settings are one or two kilobytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a model without `python_version` gets.
const DEFAULT_PYTHON: Python = Python { minor: 13, patch: None };

/// The Pythons that the runner works with: `3.MINOR`.
const OLDEST_MINOR: u32 = 9;
const NEWEST_MINOR: u32 = 14;

/// Async predictors with several predictions at once need this one.
const CONCURRENT_MINOR: u32 = 11;

/// Cog refuses an SDK before this one.
const OLDEST_SDK: (u64, u64) = (0, 16);

/// As many inputs as a function of ours takes at the same time.
const MAX_CONCURRENCY: u32 = 1000;

/// A `cog.yaml`, in one form whatever form it was written in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CogConfig {
    pub build: Build,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `predict.py:Predictor`, whether it was under `run` or `predict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predict: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<Reference>,
    #[serde(skip_serializing_if = "Concurrency::is_default")]
    pub concurrency: Concurrency,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<weights::Weight>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Build {
    pub gpu: bool,
    pub python_version: Python,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub python_requirements: Option<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub python_packages: Vec<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub python_extra_index_urls: Vec<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub python_find_links: Vec<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_packages: Vec<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_install: Vec<Placed>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<Placed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cudnn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdk_version: Option<String>,
}

/// A text, and where it stood.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    pub text: String,
    pub at: At,
}

impl Serialize for Placed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// `3.MINOR[.PATCH]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Python {
    pub minor: u32,
    pub patch: Option<u32>,
}

impl Default for Python {
    fn default() -> Self {
        DEFAULT_PYTHON
    }
}

impl std::fmt::Display for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "3.{}", self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl Serialize for Python {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `file.py:Name`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Relative to the project's folder.
    pub file: String,
    /// Of a class or a function.
    pub name: String,
}

impl Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}:{}", self.file, self.name))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Concurrency {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl Concurrency {
    fn is_default(&self) -> bool {
        self.max.is_none()
    }
}

/// Reads the settings of a project. None: they are no YAML, or nothing is in them.
pub fn parse(text: &str, project: &dyn Project, problems: &mut Problems) -> Option<CogConfig> {
    if text.len() as u64 > MAX_FILE_BYTES {
        problems.error(
            At::START,
            format!("{} bytes, more than {MAX_FILE_BYTES}", text.len()),
            "move long lists of packages to a requirements file",
        );
        return None;
    }
    let (root, faults) = yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(text));
    let unread = root.is_none() && !faults.is_empty();
    for fault in faults {
        problems.error(fault.at, fault.message, fault.hint);
    }
    if unread {
        return None;
    }
    let Some(root) = root.filter(|root| !root.is_null()) else {
        problems.error(
            At::START,
            "the file is empty",
            "name a predictor, `run: \"run.py:Runner\"`; `clunk init cog` writes a project to start from",
        );
        return None;
    };
    Some(Reader::new(problems, project).config(&root))
}

const KEYS: &[&str] =
    &["build", "image", "model", "run", "predict", "train", "concurrency", "environment", "weights"];

const BUILD_KEYS: &[&str] = &[
    "gpu",
    "python_version",
    "python_requirements",
    "python_packages",
    "python_extra_index_urls",
    "python_find_links",
    "system_packages",
    "run",
    "pre_install",
    "cuda",
    "cudnn",
    "sdk_version",
    "cog_runtime",
    "fast",
];

impl Reader<'_> {
    fn config(&mut self, root: &Node) -> CogConfig {
        let mut config = CogConfig::default();
        let Some(table) = self.table("cog.yaml", root, KEYS) else { return config };
        if let Some(build) = table.get("build") {
            config.build = self.build(build);
        }
        config.image = self.image(&table);
        config.model = self.model(&table);
        config.predict = self.predict(&table);
        config.train = table.get("train").and_then(|node| self.reference("train", node));
        if ["run", "predict", "train"].iter().all(|key| table.get(key).is_none()) {
            let hint = "add the file and the class, for example: run: \"run.py:Runner\"";
            self.problems.error(At::START, "names no predictor: neither `run` nor `predict` is there", hint);
        }
        config.concurrency.max = self.concurrency(&table, config.build.python_version);
        if let Some(node) = table.get("environment") {
            config.environment = environment::read(self, node);
        }
        if let Some(node) = table.get("weights") {
            config.weights = weights::read(self, node);
            if config.model.is_none() {
                let hint = "add `model: REGISTRY/OWNER/NAME`, the repository that they belong to";
                self.problems.error(node.at, "`weights` needs `model`", hint);
            }
        }
        config
    }

    fn build(&mut self, node: &Node) -> Build {
        let mut build = Build::default();
        let Some(table) = self.table("build", node, BUILD_KEYS) else { return build };
        build.gpu = table.get("gpu").and_then(|node| self.truth("build.gpu", node)).unwrap_or(false);
        build.python_version =
            table.get("python_version").and_then(|node| self.python(node)).unwrap_or(DEFAULT_PYTHON);
        build.python_requirements =
            table.get("python_requirements").and_then(|node| self.requirements_file(node));
        self.packages(&table, &mut build);
        build.system_packages = self.system_packages(&table);
        build.pre_install = self.commands(&table, "pre_install");
        if let Some(entry) = table.entry("pre_install") {
            self.deprecated(entry.at, "pre_install", "run");
        }
        build.run = self.commands(&table, "run");
        build.cuda = table.get("cuda").and_then(|node| self.cuda(node));
        build.cudnn = table.get("cudnn").and_then(|node| self.numbers("build.cudnn", node, "8 or 8.9"));
        build.sdk_version = table.get("sdk_version").and_then(|node| self.sdk_version(node));
        for name in ["cog_runtime", "fast"] {
            if let Some(entry) = table.entry(name) {
                let message = format!("deprecated field \"{name}\": it changes nothing");
                self.problems.deprecated(entry.at, message, "remove it");
            }
        }
        build
    }

    fn packages(&mut self, table: &Table, build: &mut Build) {
        let list = |reader: &mut Self, key: &str| {
            let node = table.get(key)?;
            Some(reader.texts(&format!("build.{key}"), node))
        };
        if let Some(packages) = list(self, "python_packages") {
            build.python_packages = packages;
        }
        build.python_extra_index_urls = list(self, "python_extra_index_urls").unwrap_or_default();
        build.python_find_links = list(self, "python_find_links").unwrap_or_default();
        for key in ["python_packages", "python_extra_index_urls", "python_find_links"] {
            if let Some(entry) = table.entry(key) {
                self.deprecated(entry.at, key, "python_requirements");
            }
        }
        let (Some(entry), Some(_)) = (table.entry("python_packages"), table.get("python_requirements"))
        else {
            return;
        };
        if !build.python_packages.is_empty() {
            self.problems.error(
                entry.at,
                "`python_packages` and `python_requirements` exclude each other",
                "move the packages into the requirements file",
            );
        }
    }

    fn python(&mut self, node: &Node) -> Option<Python> {
        let field = "build.python_version";
        let text = self.text(field, node)?;
        let parts: Vec<Option<u32>> = text.split('.').map(number).collect();
        let (major, minor, patch) = match parts[..] {
            [Some(major), Some(minor)] => (major, minor, None),
            [Some(major), Some(minor), Some(patch)] => (major, minor, Some(patch)),
            _ => {
                let message = "it must be a version of Python, such as \"3.13\"";
                self.invalid(node.at, field, &text, message, "write major.minor, in quotes");
                return None;
            }
        };
        let hint = match (major, minor) {
            (3, 1) => {
                "did you mean \"3.10\"? A number without quotes loses its last zero in many tools".into()
            }
            _ => format!("take one from \"3.{OLDEST_MINOR}\" to \"3.{NEWEST_MINOR}\""),
        };
        if (major, minor) < (3, OLDEST_MINOR) {
            let message = format!("minimum supported Python version is 3.{OLDEST_MINOR}");
            self.invalid(node.at, field, &text, &message, hint);
            return None;
        }
        if (major, minor) > (3, NEWEST_MINOR) {
            let message = format!("newest supported Python version is 3.{NEWEST_MINOR}");
            self.invalid(node.at, field, &text, &message, hint);
            return None;
        }
        Some(Python { minor, patch })
    }

    fn requirements_file(&mut self, node: &Node) -> Option<Placed> {
        let field = "build.python_requirements";
        let text = self.text(field, node)?;
        let path = self.existing(field, node.at, &text)?;
        Some(Placed { text: path, at: node.at })
    }

    /// The path of a file of the project, cleaned.
    fn existing(&mut self, field: &str, at: At, path: &str) -> Option<String> {
        let (cleaned, found) = match clean(path) {
            Some(cleaned) => (cleaned.clone(), self.project.look(&cleaned)),
            None => (path.to_string(), Found::Outside),
        };
        if found == Found::File {
            return Some(cleaned);
        }
        let hint = match found {
            Found::Outside => "only files beneath the folder of cog.yaml can be named",
            _ => "correct the path; it starts at the folder of cog.yaml",
        };
        self.invalid(at, field, path, found_words(found), hint);
        None
    }

    fn system_packages(&mut self, table: &Table) -> Vec<Placed> {
        let field = "build.system_packages";
        let Some(node) = table.get("system_packages") else { return Vec::new() };
        let mut packages = self.texts(field, node);
        packages.retain(|package| {
            let good = package.text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && package.text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:=/~_*".contains(c));
            if !good {
                let hint = "write each package as an item of its own, without options";
                self.invalid(package.at, field, &package.text, "not the name of a package", hint);
            }
            good
        });
        packages
    }

    fn commands(&mut self, table: &Table, key: &str) -> Vec<Placed> {
        let field = format!("build.{key}");
        let Some(items) = table.get(key).and_then(|node| self.list(&field, node)) else { return Vec::new() };
        let mut commands = Vec::new();
        for item in items {
            let Kind::Map(_) = item.kind else {
                commands.extend(self.text(&field, item).map(|text| Placed { text, at: item.at }));
                continue;
            };
            let Some(table) = self.table(&field, item, &["command", "mounts"]) else { continue };
            let field = format!("{field}.command");
            match table.get("command") {
                Some(node) => {
                    commands.extend(self.text(&field, node).map(|text| Placed { text, at: node.at }));
                }
                None => {
                    self.problems.error(item.at, format!("missing \"{field}\""), "add the command to run")
                }
            }
            if let Some(mounts) =
                table.get("mounts").filter(|node| !matches!(&node.kind, Kind::List(list) if list.is_empty()))
            {
                self.problems.unsupported(
                    mounts.at,
                    format!("invalid {key} mounts: commands of a build cannot be given secrets"),
                    "take the secret out of the build: pass it to the model as an input of type Secret",
                );
            }
        }
        commands
    }

    fn cuda(&mut self, node: &Node) -> Option<String> {
        let text = self.numbers("build.cuda", node, "\"12.4\"")?;
        let major = text.split('.').next().and_then(number).unwrap_or(0);
        if !text.contains('.') {
            let hint = format!("write it with a minor version, such as \"{text}.0\"");
            self.invalid(node.at, "build.cuda", &text, "the minor version is missing", hint);
            return None;
        }
        if major < 11 {
            let message = "minimum supported CUDA version is 11";
            self.invalid(node.at, "build.cuda", &text, message, "leave it out, or take a newer one");
            return None;
        }
        Some(text)
    }

    fn numbers(&mut self, field: &str, node: &Node, example: &str) -> Option<String> {
        let text = self.text(field, node)?;
        let parts = text.split('.').map(number).collect::<Vec<_>>();
        if parts.len() > 4 || parts.contains(&None) {
            self.invalid(node.at, field, &text, "not a version", format!("write for example {example}"));
            return None;
        }
        Some(text)
    }

    fn sdk_version(&mut self, node: &Node) -> Option<String> {
        let field = "build.sdk_version";
        let text = self.text(field, node)?;
        if text == "prerelease" {
            return Some(text);
        }
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        let mut parts = text.trim_start_matches('v').split('.').map(|part| digits(part).parse::<u64>().ok());
        let known = match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), minor) => Some((major, minor.unwrap_or(0))),
            _ => None,
        };
        match known {
            None => {
                let message = "not a version of the SDK";
                self.invalid(node.at, field, &text, message, "write for example \"0.17.0\", or leave it out");
                None
            }
            Some(version) if version < OLDEST_SDK => {
                let message = "minimum supported SDK version is 0.16.0";
                self.invalid(
                    node.at,
                    field,
                    &text,
                    message,
                    "leave it out: Clunk brings its own `cog` module",
                );
                None
            }
            Some(_) => Some(text),
        }
    }

    fn image(&mut self, table: &Table) -> Option<String> {
        let node = table.get("image")?;
        let text = self.text("image", node)?;
        if table.get("model").is_some() {
            self.problems.error(node.at, "`image` and `model` exclude each other", "remove one of them");
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c)) {
            self.invalid(
                node.at,
                "image",
                &text,
                "not the name of an image",
                "write REGISTRY/NAME, such as \"registry.example/you/model\"",
            );
            return None;
        }
        Some(text)
    }

    fn model(&mut self, table: &Table) -> Option<String> {
        let node = table.get("model")?;
        let text = self.text("model", node)?;
        let last = text.rsplit('/').next().unwrap_or_default();
        let good = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/:".contains(c));
        if !good || last.is_empty() || last.contains(':') || text.contains('@') {
            let message = "it must be a repository, without a tag and without a digest";
            self.invalid(node.at, "model", &text, message, "write REGISTRY/OWNER/NAME in small letters");
            return None;
        }
        Some(text)
    }

    fn predict(&mut self, table: &Table) -> Option<Reference> {
        if let (Some(_), Some(entry)) = (table.get("run"), table.entry("predict")) {
            self.problems.error(
                entry.at,
                "`run` and `predict` are two names of the same setting",
                "remove `predict`",
            );
        } else if let Some(entry) = table.entry("predict") {
            self.deprecated(entry.at, "predict", "run");
        }
        if let Some(node) = table.get("run") {
            return self.reference("run", node);
        }
        table.get("predict").and_then(|node| self.reference("predict", node))
    }

    fn reference(&mut self, field: &str, node: &Node) -> Option<Reference> {
        let text = self.text(field, node)?;
        let Some((file, name)) = text.rsplit_once(':').filter(|(file, _)| file.ends_with(".py")) else {
            let message = "it must be a file and a name, such as \"run.py:Runner\"";
            self.invalid(
                node.at,
                field,
                &text,
                message,
                "write FILE.py:NAME, the name of a class or function",
            );
            return None;
        };
        let start = |c: char| c.is_alphabetic() || c == '_';
        if !name.starts_with(start) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            let message = format!("`{name}` cannot be the name of a class or function");
            self.invalid(node.at, field, &text, &message, "write FILE.py:NAME");
            return None;
        }
        let file = self.existing(field, node.at, file)?;
        Some(Reference { file, name: name.into() })
    }

    fn concurrency(&mut self, table: &Table, python: Python) -> Option<u32> {
        let table = self.table("concurrency", table.get("concurrency")?, &["max", "default_target"])?;
        let entry = table.entry("max")?;
        let field = "concurrency.max";
        let text = self.text(field, &entry.value)?;
        let Some(max) = number(&text).filter(|max| (1..=MAX_CONCURRENCY).contains(max)) else {
            let message = format!("it must be a whole number from 1 to {MAX_CONCURRENCY}");
            self.invalid(
                entry.value.at,
                field,
                &text,
                &message,
                "1 is what a model has without this setting",
            );
            return None;
        };
        if max > 1 && python.minor < CONCURRENT_MINOR {
            let message = format!("more than 1 needs Python 3.{CONCURRENT_MINOR} or newer, not {python}");
            self.invalid(entry.value.at, field, &text, &message, "raise build.python_version");
            return None;
        }
        self.deprecated(entry.at, "concurrency.max", "@cog.concurrent(max=N) on the method");
        Some(max)
    }
}

/// Digits only: no sign, no blanks.
fn number(text: &str) -> Option<u32> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}
