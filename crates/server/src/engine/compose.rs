//! From a function to the container that serves it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::{CogTask, FunctionSpec};
use clunk_core::id::{AppId, ContainerId, ImageId, ReplicaId};
use clunk_image::{BuiltImage, ImageConfig, PartialImage, RUNNER_PATH};
use clunk_runtime::{BindMount, ContainerSpec, Limits, Network, Profile, RootFs, Stdio, Upper};

use super::{Engine, Pool};

/// Processes and threads of one container; a fork bomb ends here.
const MAX_PIDS: u64 = 4096;
/// Bytes of `/tmp` and `/dev/shm`, as a share of the memory limit; what lies there counts as memory.
const TMP_SHARE: u64 = 2;
/// The same of a container that may use all of the machine's memory, of which others want some.
const UNLIMITED_TMP_SHARE: u64 = 4;
const UNLIMITED_TMP_MAX: u64 = 16 << 30;

/// Everything of a function's containers that is the same for each.
pub struct Template(ContainerSpec);

/// Prepares what every replica of a function shares.
pub async fn template(engine: &Engine, spec: &FunctionSpec) -> Result<Template, ErrorBody> {
    let image = find_image(engine, spec.image).await?;
    let Some(python) = &image.python else {
        let text =
            format!("image {} has no Python 3.9 or newer, which function `{}` needs", image.id, spec.name);
        return Err(ErrorBody::new(ErrorCode::BadRequest, text)
            .hint("add one to the image, e.g. apt_install(\"python3\")"));
    };
    let mut container = base(engine, Root::of(&image), &spec.trees).await?;
    container.argv = vec![python.path.clone(), format!("{RUNNER_PATH}/clunk_runner.py")];
    container.env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    container.env.push(("CLUNK_IMAGE_ID".into(), image.id.to_string()));
    container.env.push(("CLUNK_LINK_FD".into(), "3".into()));
    container.workdir = image.config.workdir.clone().unwrap_or_else(|| spec.entry.source_root.clone());
    container.link = true;
    container.network = if spec.block_network { Network::None } else { Network::NatOrNone };
    let limit_mib = spec.resources.memory_limit_mib.unwrap_or_else(|| engine.room.memory_mib());
    container.limits = Limits {
        cpu_millis: spec.resources.cpu_limit_millis,
        memory_bytes: Some(limit_mib << 20),
        pids: Some(MAX_PIDS),
        tmp_bytes: Some(match spec.resources.memory_limit_mib {
            Some(_) => (limit_mib << 20) / TMP_SHARE,
            None => ((limit_mib << 20) / UNLIMITED_TMP_SHARE).min(UNLIMITED_TMP_MAX),
        }),
    };
    Ok(Template(container))
}

pub async fn find_image(engine: &Engine, id: ImageId) -> Result<Arc<BuiltImage>, ErrorBody> {
    let found = engine.images.ready(id).await.map_err(|error| error.body())?;
    found.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("there is no image {id}"))
            .hint("build it first, or look at `clunk image list`")
    })
}

/// What a container stands on: an image, or the state before a build step that failed.
pub struct Root<'a> {
    layers: &'a [PathBuf],
    config: &'a ImageConfig,
    runner: Option<&'a PathBuf>,
}

impl<'a> Root<'a> {
    pub fn of(image: &'a BuiltImage) -> Self {
        Self { layers: &image.layers, config: &image.config, runner: image.runner_dir.as_ref() }
    }

    pub fn before_failure(partial: &'a PartialImage) -> Self {
        Self { layers: &partial.layers, config: &partial.config, runner: None }
    }
}

/// A container with trees laid over its root, not yet told what to run.
pub async fn base(engine: &Engine, root: Root<'_>, trees: &[Digest]) -> Result<ContainerSpec, ErrorBody> {
    let mut lowers: Vec<PathBuf> =
        engine.images.host_layer().map_err(|error| error.body())?.into_iter().collect();
    for digest in trees.iter().rev() {
        let tree = engine.trees.tree(*digest).await.ok_or_else(|| {
            let text = format!("tree {} was not uploaded", digest.short());
            ErrorBody::new(ErrorCode::BlobMissing, text)
                .hint("this is a bug of the client: it must upload trees first")
        })?;
        lowers.push(engine.images.lay_out_tree(&tree).await.map_err(|error| error.body())?);
    }
    lowers.extend(root.layers.iter().cloned());
    let runner = root.runner.map(|source| BindMount {
        source: source.clone(),
        target: RUNNER_PATH.into(),
        read_only: true,
    });
    let limits = Limits {
        pids: Some(MAX_PIDS),
        memory_bytes: Some(engine.room.memory_mib() << 20),
        ..Limits::default()
    };
    Ok(ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers, upper: Upper::Scratch },
        mounts: runner.into_iter().collect(),
        gpus: Vec::new(),
        argv: Vec::new(),
        env: environment(engine, root.config),
        workdir: root.config.workdir.clone().unwrap_or_else(|| "/root".into()),
        hostname: "clunk".into(),
        limits,
        network: Network::NatOrNone,
        stdio: Stdio::Pipes,
        link: false,
        profile: Profile::Function,
    })
}

fn environment(engine: &Engine, config: &ImageConfig) -> Vec<(String, String)> {
    let defaults = [("HOME", "/root"), ("LANG", "C.UTF-8"), ("CLUNK_IS_REMOTE", "1")];
    let mut env: BTreeMap<String, String> = defaults.map(|(name, value)| (name.into(), value.into())).into();
    env.extend(engine.images.ca_env());
    env.extend(config.full_env());
    env.into_iter().collect()
}

impl Template {
    /// Of `/tmp` in its containers.
    pub fn tmp_bytes(&self) -> u64 {
        self.0.limits.tmp_bytes.unwrap_or(0)
    }

    pub fn container(&self, id: ContainerId, replica: ReplicaId) -> ContainerSpec {
        let mut spec = self.0.clone();
        spec.id = id;
        spec.env.push(("CLUNK_REPLICA_ID".into(), replica.to_string()));
        spec
    }

    /// Control text of the START frame.
    pub fn start(&self, pool: &Pool, app: AppId, replica: ReplicaId) -> String {
        let ids = [pool.id.to_string(), app.to_string(), replica.to_string(), pool.spec.image.to_string()];
        let (entry, policy) = (&pool.spec.entry, &pool.spec.policy);
        let mode = match (entry.cog, entry.methods.is_empty()) {
            (Some(_), _) => "cog",
            (None, true) => "function",
            (None, false) => "class",
        };
        let task = entry.cog.map_or("", CogTask::name);
        let api_url = pool.engine.url.get().map_or("", String::as_str);
        let concurrency = policy.concurrency.max_inputs.to_string();
        let workers = policy.workers.to_string();
        let fields = [
            ("concurrency", concurrency.as_str()),
            ("workers", workers.as_str()),
            ("batching", if policy.batching.is_some() { "1" } else { "0" }),
            ("parameters", entry.parameters.as_deref().unwrap_or_default()),
            ("task", task),
            ("api_url", if task.is_empty() { "" } else { api_url }),
        ];
        let more = fields.into_iter().filter(|(_, value)| !matches!(*value, "" | "0"));
        let always = [
            ("mode", mode),
            ("module", entry.module.as_str()),
            ("qualname", entry.qualname.as_str()),
            ("source_root", entry.source_root.as_str()),
            ("function_id", ids[0].as_str()),
            ("app_id", ids[1].as_str()),
            ("replica_id", ids[2].as_str()),
            ("image_id", ids[3].as_str()),
        ];
        clunk_agent::frame::control(always.into_iter().chain(more))
    }
}
