//! From a function to the container that serves it.

use std::path::PathBuf;
use std::sync::Arc;

use clunk_core::Digest;
use clunk_core::error::{ErrorBody, ErrorCode};
use clunk_core::function::FunctionSpec;
use clunk_core::id::{AppId, ContainerId, ImageId, ReplicaId};
use clunk_image::BuiltImage;
use clunk_runtime::{BindMount, ContainerSpec, Limits, Network, Profile, RootFs, Stdio, Upper};

use super::{Engine, Pool};

/// Where the runner and the SDK lie in every container.
pub const RUNNER_MOUNT: &str = "/.clunk";
/// Processes and threads of one container; a fork bomb ends here.
const MAX_PIDS: u64 = 4096;
/// Bytes of `/tmp` and `/dev/shm`, as a share of the memory limit.
const TMP_SHARE: u64 = 2;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything of a function's containers that is the same for each.
pub struct Template(ContainerSpec);

/// Prepares what every replica of a function shares.
pub async fn template(engine: &Engine, spec: &FunctionSpec) -> Result<Template, ErrorBody> {
    let image = find_image(engine, spec.image)?;
    let Some(python) = &image.python else {
        let text =
            format!("image {} has no Python 3.9 or newer, which function `{}` needs", image.id, spec.name);
        return Err(ErrorBody::new(ErrorCode::BadRequest, text)
            .hint("add one to the image, e.g. apt_install(\"python3\")"));
    };
    let mut container = base(engine, &image, &spec.trees).await?;
    container.argv = vec![python.path.clone(), format!("{RUNNER_MOUNT}/clunk_runner.py")];
    container.env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    container.env.push(("CLUNK_LINK_FD".into(), "3".into()));
    container.workdir = image.config.workdir.clone().unwrap_or_else(|| spec.entry.source_root.clone());
    container.link = true;
    container.network = if spec.block_network { Network::None } else { Network::Nat };
    let limit_mib = spec.resources.memory_limit_mib.unwrap_or_else(|| engine.capacity.memory_mib());
    container.limits = Limits {
        cpu_millis: spec.resources.cpu_limit_millis,
        memory_bytes: Some(limit_mib << 20),
        pids: Some(MAX_PIDS),
        tmp_bytes: Some((limit_mib << 20) / TMP_SHARE),
    };
    Ok(Template(container))
}

pub fn find_image(engine: &Engine, id: ImageId) -> Result<Arc<BuiltImage>, ErrorBody> {
    engine.images.get(id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("there is no image {id}"))
            .hint("build it first, or look at `clunk image list`")
    })
}

/// A container of an image with trees laid over it, not yet told what to run.
pub async fn base(engine: &Engine, image: &BuiltImage, trees: &[Digest]) -> Result<ContainerSpec, ErrorBody> {
    let mut lowers = vec![engine.images.host_layer().map_err(|error| error.body())?];
    for digest in trees.iter().rev() {
        let tree = engine.trees.tree(*digest).ok_or_else(|| {
            let text = format!("tree {} was not uploaded", digest.short());
            ErrorBody::new(ErrorCode::BlobMissing, text)
                .hint("this is a bug of the client: it must upload trees first")
        })?;
        lowers.push(engine.images.lay_out_tree(&tree).await.map_err(|error| error.body())?);
    }
    lowers.extend(image.layers.iter().cloned());
    let runner = BindMount { source: runner_dir(image), target: RUNNER_MOUNT.into(), read_only: true };
    Ok(ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers, upper: Upper::Scratch },
        mounts: vec![runner],
        argv: Vec::new(),
        env: environment(engine, image),
        workdir: image.config.workdir.clone().unwrap_or_else(|| "/root".into()),
        hostname: "clunk".into(),
        limits: Limits {
            pids: Some(MAX_PIDS),
            memory_bytes: Some(engine.capacity.memory_mib() << 20),
            ..Limits::default()
        },
        network: Network::Nat,
        stdio: Stdio::Pipes,
        link: false,
        profile: Profile::Function,
    })
}

fn runner_dir(image: &BuiltImage) -> PathBuf {
    image.runner_dir.clone()
}

fn environment(engine: &Engine, image: &BuiltImage) -> Vec<(String, String)> {
    let defaults = [("PATH", DEFAULT_PATH), ("HOME", "/root"), ("LANG", "C.UTF-8"), ("CLUNK_IS_REMOTE", "1")];
    let mut env: Vec<(String, String)> = defaults.map(|(name, value)| (name.into(), value.into())).into();
    env.extend(engine.images.ca_env());
    for (name, value) in &image.config.env {
        env.retain(|(other, _)| other != name);
        env.push((name.clone(), value.clone()));
    }
    env.push(("CLUNK_IMAGE_ID".into(), image.id.to_string()));
    env
}

impl Template {
    pub fn container(&self, id: ContainerId, replica: ReplicaId) -> ContainerSpec {
        let mut spec = self.0.clone();
        spec.id = id;
        spec.env.push(("CLUNK_REPLICA_ID".into(), replica.to_string()));
        spec
    }

    /// Control text of the START frame.
    pub fn start(&self, pool: &Pool, app: AppId, replica: ReplicaId) -> String {
        let entry = &pool.spec.entry;
        clunk_agent::frame::control([
            ("mode", "function"),
            ("module", entry.module.as_str()),
            ("qualname", entry.qualname.as_str()),
            ("source_root", entry.source_root.as_str()),
            ("function_id", pool.id.to_string().as_str()),
            ("app_id", app.to_string().as_str()),
            ("replica_id", replica.to_string().as_str()),
            ("image_id", pool.spec.image.to_string().as_str()),
        ])
    }
}
