//! From a recipe's steps to what is done one after the other.

use std::collections::BTreeMap;

use clunk_core::Digest;
use clunk_core::recipe::{Download, PipInstall, RunFunction, SecretFile, Step};

use crate::ImageError;
use crate::dockerfile::{self, Instruction};
use crate::image::{Chain, ImageConfig};

/// Part of every layer's key: count up when the same step would give another layer.
const LAYER_VERSION: u32 = 1;

/// One thing to do, which gives at most one layer.
pub(crate) struct Planned {
    pub title: String,
    /// What the result depends on besides what is below.
    pub key: Digest,
    pub work: Work,
}

pub(crate) enum Work {
    Apt(Vec<String>),
    Pip(PipInstall),
    Run(Vec<String>, Vec<SecretFile>),
    Function(RunFunction),
    Tree(Digest),
    Download(Download),
    Config(Change),
    /// A line of a Dockerfile; `first` begins a new file, with no variables known.
    Docker {
        instruction: Instruction,
        context: Option<Digest>,
        first: bool,
    },
}

/// A step without files.
pub(crate) enum Change {
    Env(BTreeMap<String, String>),
    Workdir(String),
    Entrypoint(Vec<String>),
    Cmd(Vec<String>),
}

/// Lists what is to be done, with the number of the recipe's step each belongs to.
pub(crate) fn plan(steps: &[Step]) -> Result<Vec<Planned>, ImageError> {
    let mut planned = Vec::new();
    for step in steps {
        let work = match step {
            Step::AptInstall { packages } => Work::Apt(packages.clone()),
            Step::PipInstall(pip) => Work::Pip(pip.clone()),
            Step::RunCommands { commands, secrets } => Work::Run(commands.clone(), secrets.clone()),
            Step::Env { vars } => Work::Config(Change::Env(vars.clone())),
            Step::Workdir { path } => Work::Config(Change::Workdir(path.clone())),
            Step::AddTree { tree } => Work::Tree(*tree),
            Step::Download(download) => Work::Download(download.clone()),
            Step::RunFunction(run) => Work::Function(run.clone()),
            Step::Entrypoint { args } => Work::Config(Change::Entrypoint(args.clone())),
            Step::Cmd { args } => Work::Config(Change::Cmd(args.clone())),
            Step::Dockerfile { lines, context } => {
                for (at, instruction) in dockerfile::parse(lines)?.into_iter().enumerate() {
                    let title = shorten(&instruction.text);
                    let key = Digest::of_json(&("dockerfile", &instruction.text));
                    let work = Work::Docker { instruction, context: *context, first: at == 0 };
                    planned.push(Planned { title, key, work });
                }
                continue;
            }
        };
        planned.push(Planned { title: shorten(&step.title()), key: step.key(), work });
    }
    Ok(planned)
}

/// One line that fits into a terminal and a log.
fn shorten(title: &str) -> String {
    const SHOWN: usize = 160;
    let line = title.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Chain {
    /// The key of what a step makes of this. `inputs`: files that count besides the step itself.
    pub fn next_key(&self, step: Digest, inputs: Option<Digest>) -> Digest {
        match inputs {
            None => Digest::of_json(&(LAYER_VERSION, self.key, step)),
            Some(inputs) => Digest::of_json(&(LAYER_VERSION, self.key, step, inputs)),
        }
    }
}

impl ImageConfig {
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Env(vars) => self.env.extend(vars),
            Change::Workdir(path) => self.workdir = Some(self.absolute(&path)),
            Change::Entrypoint(args) => {
                self.entrypoint = args;
                // The old arguments were meant for the old program.
                self.cmd = Vec::new();
            }
            Change::Cmd(args) => self.cmd = args,
        }
    }

    /// A path as the working folder makes it.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let base = if path.starts_with('/') { "" } else { self.workdir.as_deref().unwrap_or("/") };
        let mut parts: Vec<&str> = Vec::new();
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }
}
