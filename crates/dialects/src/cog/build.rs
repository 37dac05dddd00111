//! `build`: what a model's image is made of.

use super::config::{Build, Command, DEFAULT_PYTHON, Mount, Placed, Python, number};
use super::read::{Reader, Table};
use super::yaml::{Kind, Node};

/// The Pythons that the runner works with: `3.MINOR`.
const OLDEST_MINOR: u32 = 9;
const NEWEST_MINOR: u32 = 14;

/// Cog refuses an SDK before this one.
const OLDEST_SDK: (u64, u64) = (0, 16);

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
    pub fn build(&mut self, node: &Node) -> Build {
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

    fn commands(&mut self, table: &Table, key: &str) -> Vec<Command> {
        let field = format!("build.{key}");
        let Some(items) = table.get(key).and_then(|node| self.list(&field, node)) else { return Vec::new() };
        let mut commands = Vec::new();
        for item in items {
            let Kind::Map(_) = item.kind else {
                commands.extend(self.text(&field, item).map(|text| Command { text, mounts: Vec::new() }));
                continue;
            };
            let Some(table) = self.table(&field, item, &["command", "mounts"]) else { continue };
            let mounts = self.mounts(&table, &format!("{field}.mounts"));
            let field = format!("{field}.command");
            match table.get("command") {
                Some(node) => {
                    commands.extend(self.text(&field, node).map(|text| Command { text, mounts }));
                }
                None => {
                    self.problems.error(item.at, format!("missing \"{field}\""), "add the command to run")
                }
            }
        }
        commands
    }

    /// The secrets of a command: `{type: secret, id, target}`.
    fn mounts(&mut self, table: &Table, field: &str) -> Vec<Mount> {
        let Some(items) = table.get("mounts").and_then(|node| self.list(field, node)) else {
            return Vec::new();
        };
        let mut mounts = Vec::new();
        for item in items {
            let Some(mount) = self.table(field, item, &["type", "id", "target"]) else { continue };
            let mut text = |key: &str| match mount.get(key) {
                Some(node) => self.text(&format!("{field}.{key}"), node),
                None => {
                    let hint = "write it as {type: secret, id: NAME, target: /PATH}";
                    self.problems.error(item.at, format!("missing \"{field}.{key}\""), hint);
                    None
                }
            };
            let (Some(kind), Some(id), Some(target)) = (text("type"), text("id"), text("target")) else {
                continue;
            };
            if kind != "secret" {
                let hint = "only secrets can be mounted: type: secret";
                self.problems.unsupported(item.at, format!("invalid {field}.type {kind:?}"), hint);
            } else if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
                let hint = "write an absolute path, such as /run/secrets/token";
                self.invalid(item.at, &format!("{field}.target"), &target, "not an absolute path", hint);
            } else {
                mounts.push(Mount { id, target });
            }
        }
        mounts
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
}
