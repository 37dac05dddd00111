//! An image recipe: a base and a list of steps, each of which becomes one layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Steps per recipe; overlayfs stacks at most 500 layers and a container adds a few of its own.
pub const MAX_STEPS: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recipe {
    pub base: Base,
    #[serde(default)]
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Base {
    /// Debian with Python, put together from Debian's packages.
    DebianSlim {
        /// `"3.11"`; the release follows from it. None: the newest stable one.
        #[serde(default)]
        python: Option<String>,
    },
    /// An OCI image.
    Registry {
        /// `name[:tag|@digest]`, with a host when it is not the default registry.
        reference: String,
        #[serde(default)]
        credentials: Option<RegistryCredentials>,
    },
}

/// User name and password for a registry. Never printed, never part of a digest.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct RegistryCredentials {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Writes null: who may pull is no part of what is pulled, and a secret must not be stored with the recipe.
impl Serialize for RegistryCredentials {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

/// A file for the time of one step.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    pub id: String,
    /// Where the commands find it: an absolute path.
    pub target: String,
    /// Base 64. Never printed, stored or part of a digest; a step whose layer is there needs none.
    #[serde(default, skip_serializing)]
    pub content: Option<String>,
}

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {} [redacted]", self.id, self.target)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    AptInstall {
        packages: Vec<String>,
    },
    PipInstall(PipInstall),
    RunCommands {
        /// Each is given to `/bin/sh -c`, all in one layer.
        commands: Vec<String>,
        /// Files that the commands see, and the layer does not have.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretFile>,
    },
    Env {
        vars: BTreeMap<String, String>,
    },
    Workdir {
        path: String,
    },
    /// Lays local files, already uploaded, into the image.
    AddTree {
        tree: Digest,
    },
    /// Fetches files from the network into a folder.
    Download(Download),
    /// Runs a Python function of the user's source while building and keeps what it changed.
    RunFunction(RunFunction),
    Entrypoint {
        args: Vec<String>,
    },
    Cmd {
        args: Vec<String>,
    },
    /// Lines of a Dockerfile without FROM: RUN, ENV, WORKDIR, COPY, ADD of local files, CMD, ENTRYPOINT, LABEL, ARG,
    /// EXPOSE, SHELL, USER root.
    Dockerfile {
        lines: Vec<String>,
        /// Files that COPY may name, at the absolute paths `/context/...`.
        #[serde(default)]
        context: Option<Digest>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PipInstall {
    /// Requirement specifiers, as uv and pip take them.
    #[serde(default)]
    pub packages: Vec<String>,
    /// The text of requirements files, one each.
    #[serde(default)]
    pub requirements: Vec<String>,
    /// The text of constraints files: what they list is installed only if something asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    #[serde(default)]
    pub index_url: Option<String>,
    #[serde(default)]
    pub extra_index_url: Option<String>,
    #[serde(default)]
    pub find_links: Option<String>,
    #[serde(default)]
    pub pre: bool,
    /// More arguments for `uv pip install`, split as a shell would.
    #[serde(default)]
    pub extra_options: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFunction {
    pub module: String,
    pub qualname: String,
    /// Digest of the function's own source text and its arguments: what makes the layer stale.
    pub key: Digest,
    /// Tree the module is loaded from. Not part of the layer's key: an edit elsewhere must not rebuild.
    pub source: Digest,
    /// Pickled `(args, kwargs)` in base 64.
    #[serde(default)]
    pub arguments: String,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default = "run_function_timeout_s")]
    pub timeout_s: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// `https://host/file`, or `hf://owner/repository[@revision]` for the files of a model hub's repository.
    pub uri: String,
    /// Absolute path of the folder that the files are put into.
    pub target: String,
    /// Patterns of paths below the repository; `*` stands for any characters, a folder ends in `/`. Empty: all.
    #[serde(default)]
    pub include: Vec<String>,
    #[serde(default)]
    pub exclude: Vec<String>,
}

fn run_function_timeout_s() -> u64 {
    3600
}

impl Recipe {
    /// The identity of the image that the recipe builds to: of the base and of every step's key.
    pub fn digest(&self) -> Digest {
        let keys: Vec<Digest> = self.steps.iter().map(Step::key).collect();
        Digest::of_json(&(&self.base, keys))
    }

    /// Trees that its steps read.
    pub fn trees(&self) -> impl Iterator<Item = Digest> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::AddTree { tree } => Some(*tree),
            Step::RunFunction(run) => Some(run.source),
            Step::Dockerfile { context, .. } => *context,
            Step::AptInstall { .. }
            | Step::PipInstall(_)
            | Step::RunCommands { .. }
            | Step::Env { .. }
            | Step::Workdir { .. }
            | Step::Download(_)
            | Step::Entrypoint { .. }
            | Step::Cmd { .. } => None,
        })
    }
}

impl Step {
    /// What the step's layer depends on, besides the layers below it.
    pub fn key(&self) -> Digest {
        match self {
            Self::RunFunction(run) => {
                Digest::of_json(&("run_function", &run.module, &run.qualname, run.key, &run.env))
            }
            step => Digest::of_json(step),
        }
    }

    /// One line for people: what the step does.
    pub fn title(&self) -> String {
        match self {
            Self::AptInstall { packages } => format!("apt_install {}", packages.join(" ")),
            Self::PipInstall(pip) => {
                let files = pip.requirements.len();
                let mut words = pip.packages.clone();
                if files > 0 {
                    words.push(format!("({files} requirements file{})", if files == 1 { "" } else { "s" }));
                }
                format!("pip_install {}", words.join(" "))
            }
            Self::RunCommands { commands, .. } => format!("run_commands {}", commands.join(" && ")),
            Self::Env { vars } => format!("env {}", vars.keys().cloned().collect::<Vec<_>>().join(" ")),
            Self::Workdir { path } => format!("workdir {path}"),
            Self::AddTree { tree } => format!("add_local files {}", tree.short()),
            Self::Download(download) => format!("download {} to {}", download.uri, download.target),
            Self::RunFunction(run) => format!("run_function {}.{}", run.module, run.qualname),
            Self::Entrypoint { args } => format!("entrypoint {args:?}"),
            Self::Cmd { args } => format!("cmd {args:?}"),
            Self::Dockerfile { lines, .. } => {
                format!("dockerfile {}", lines.first().map_or("", |line| line.trim()))
            }
        }
    }
}

impl Base {
    /// One line for people: where the image starts.
    pub fn title(&self) -> String {
        match self {
            Self::DebianSlim { python: Some(version) } => format!("debian_slim {version}"),
            Self::DebianSlim { python: None } => "debian_slim".into(),
            Self::Registry { reference, .. } => format!("from_registry {reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: &str) -> Recipe {
        let step = RunFunction {
            module: "app".into(),
            qualname: "download".into(),
            key: Digest::of("def download(): ..."),
            source: Digest::of(source),
            arguments: String::new(),
            env: BTreeMap::new(),
            timeout_s: 60,
        };
        Recipe { base: Base::DebianSlim { python: None }, steps: vec![Step::RunFunction(step)] }
    }

    #[test]
    fn an_edit_elsewhere_in_the_source_keeps_the_image() {
        assert_eq!(run("one").digest(), run("two").digest());
    }

    #[test]
    fn credentials_change_no_digest_and_are_never_written() {
        let with = |credentials| Recipe {
            base: Base::Registry { reference: "busybox".into(), credentials },
            steps: vec![],
        };
        let secret = RegistryCredentials { username: "ann".into(), password: "hunter2".into() };
        assert_eq!(with(None).digest(), with(Some(secret.clone())).digest());
        assert!(!serde_json::to_string(&with(Some(secret.clone()))).unwrap().contains("hunter2"));
        assert!(!format!("{:?}", with(Some(secret))).contains("hunter2"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = r#"{"base":{"kind":"debian_slim","pyhton":"3.11"}}"#;
        assert!(serde_json::from_str::<Recipe>(text).unwrap_err().to_string().contains("pyhton"));
    }
}
