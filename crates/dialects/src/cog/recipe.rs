//! From a model's settings to the recipe of its image.

use std::collections::BTreeMap;

use clunk_core::recipe::{Base, PipInstall, Recipe, SecretFile, Step};

use super::config::{Build, CogConfig, Command, Mount, Python};
use super::problem::Problems;
use super::project::Project;
use super::requirements::{Flattener, Requirements};
use super::weights;

/// Where a model's project lies in its container.
pub const SOURCE_ROOT: &str = "/src";

/// The Pythons that Debian has: an image of these is put together here, without a registry.
const DEBIAN_MINORS: &[u32] = &[9, 11, 13, 14];

/// Names that newer releases of Debian have dropped, and where the same files are in all of them.
const MOVED_PACKAGES: &[(&str, &str)] =
    &[("libgl1-mesa-glx", "libgl1"), ("libegl1-mesa", "libegl1"), ("libgles2-mesa", "libgles2")];

pub struct Plan {
    pub recipe: Recipe,
    /// Paths in the image, and the files of the project that must lie there before the first step.
    pub files: BTreeMap<String, String>,
}

/// Weights, then steps in the order that Cog has: system packages, `pre_install`, Python packages, `run`. The project itself is no
/// part of it.
pub fn plan(config: &CogConfig, project: &dyn Project, problems: &mut Problems) -> Plan {
    let build = &config.build;
    let requirements = requirements(build, project, problems);
    // First, so that nothing else that changes fetches them again.
    let mut steps: Vec<Step> = weights::steps(&config.weights).collect();
    if !config.environment.is_empty() {
        steps.push(Step::Env { vars: config.environment.clone() });
    }
    let packages = system_packages(build, &requirements);
    if !packages.is_empty() {
        steps.push(Step::AptInstall { packages });
    }
    steps.extend(commands(&build.pre_install));
    steps.extend(pip(build, &requirements));
    steps.extend(commands(&build.run));
    steps.push(Step::Workdir { path: SOURCE_ROOT.into() });
    let mut files: BTreeMap<_, _> =
        requirements.files.iter().map(|path| (format!("{SOURCE_ROOT}/{path}"), path.clone())).collect();
    files.extend(weights::files(&config.weights, project));
    Plan { recipe: Recipe { base: base(build.python_version), steps }, files }
}

fn base(python: Python) -> Base {
    // A patch release is asked for by its number; Debian has the one it has.
    if python.patch.is_none() && DEBIAN_MINORS.contains(&python.minor) {
        return Base::DebianSlim { python: Some(python.to_string()) };
    }
    Base::Registry { reference: format!("python:{python}-slim"), credentials: None }
}

fn system_packages(build: &Build, requirements: &Requirements) -> Vec<String> {
    let mut packages: Vec<String> = Vec::new();
    let git = requirements.git.then_some("git");
    for name in build.system_packages.iter().map(|package| package.text.as_str()).chain(git) {
        let moved = MOVED_PACKAGES.iter().find(|(old, _)| *old == name);
        let name = moved.map_or(name, |(_, new)| new);
        if !packages.iter().any(|package| package == name) {
            packages.push(name.into());
        }
    }
    packages
}

/// One layer for each command: an edit of the last one does not run the first one again.
fn commands(commands: &[Command]) -> impl Iterator<Item = Step> {
    commands.iter().map(|command| Step::RunCommands {
        commands: vec![command.text.clone()],
        secrets: command.mounts.iter().map(secret).collect(),
    })
}

/// What it holds is given by who builds.
fn secret(mount: &Mount) -> SecretFile {
    SecretFile { id: mount.id.clone(), target: mount.target.clone(), content: None }
}

fn requirements(build: &Build, project: &dyn Project, problems: &mut Problems) -> Requirements {
    let mut flattener = Flattener::new(project, problems);
    for (option, urls) in
        [("--extra-index-url", &build.python_extra_index_urls), ("--find-links", &build.python_find_links)]
    {
        urls.iter().for_each(|url| flattener.entry(&format!("{option} {}", url.text), url.at));
    }
    if let Some(path) = &build.python_requirements {
        flattener.file(&path.text, path.at);
    }
    build.python_packages.iter().for_each(|package| flattener.entry(&package.text, package.at));
    flattener.finish()
}

fn pip(build: &Build, requirements: &Requirements) -> Option<Step> {
    let lines: Vec<&str> = requirements.text.lines().collect();
    if lines.iter().all(|line| line.starts_with("--extra-index-url") || line.starts_with("--find-links")) {
        return None;
    }
    // Names in the step's title say more than a file.
    let named = build.python_requirements.is_none() && lines.iter().all(|line| !line.starts_with('-'));
    let (packages, texts) = match named {
        true => (lines.iter().map(ToString::to_string).collect(), Vec::new()),
        false => (Vec::new(), vec![requirements.text.clone()]),
    };
    let constraints = Some(requirements.constraints.clone()).filter(|text| !text.is_empty());
    Some(Step::PipInstall(PipInstall {
        packages,
        requirements: texts,
        constraints: constraints.into_iter().collect(),
        pre: requirements.pre,
        // As pip does it: the best version of all indexes, not the first index that has any.
        extra_options: if requirements.indexes { "--index-strategy unsafe-best-match" } else { "" }.into(),
        ..PipInstall::default()
    }))
}
