//! `cog.yaml` as types: every key that Cog knows, checked.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::problem::Problems;
use super::project::{Found, Project, clean};
use super::read::{Reader, Table, found_words};
use super::yaml::{At, Node};
use super::{environment, weights, yaml};

/// The file's usual name.
pub const FILE_NAME: &str = "cog.yaml";

/// A model's settings are one or two kilobytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a model without `python_version` gets.
pub const DEFAULT_PYTHON: Python = Python { minor: 13, patch: None };

/// Async predictors with several predictions at once need this one.
const CONCURRENT_MINOR: u32 = 11;

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
    pub pre_install: Vec<Command>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<Command>,
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

/// A command of the build. Written as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub text: String,
    pub mounts: Vec<Mount>,
}

/// A secret that a command finds at a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "secret")]
pub struct Mount {
    pub id: String,
    pub target: String,
}

impl Serialize for Command {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.mounts.is_empty() {
            return serializer.serialize_str(&self.text);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("command", &self.text)?;
        map.serialize_entry("mounts", &self.mounts)?;
        map.end()
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

    /// The path of a file of the project, cleaned.
    pub fn existing(&mut self, field: &str, at: At, path: &str) -> Option<String> {
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
pub fn number(text: &str) -> Option<u32> {
    text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}
