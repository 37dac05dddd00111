//! What the tests share: a blob folder, and a stand-in for the container runtime that needs root and nothing else.
#![allow(dead_code)]

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clunk_core::Digest;
use clunk_core::id::ContainerId;
use clunk_core::tree::{Tree, TreeContent, TreeFile};
use clunk_image::{BlobSource, BuildEvent, HostSettings, Images, ImagesConfig};
use clunk_runtime::{
    Check, ContainerSpec, Control, ExecSpec, Exit, ExitReason, Limits, Runtime, RuntimeError, Started, Swept,
    Upper, Usage,
};
use tokio::sync::watch;

/// Overlay, bind mounts, chroot in new mount and process namespaces: no isolation, only the shape of it.
pub struct ChrootRuntime {
    scratch: tempfile::TempDir,
}

const SCRIPT: &str = r#"set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$C_LOWER,upperdir=$C_UPPER,workdir=$C_WORK" "$C_ROOT"
cd "$C_ROOT"
mkdir -p proc dev etc tmp
mount -t proc proc proc
mount --rbind /dev dev
[ -e etc/resolv.conf ] || : > etc/resolv.conf
mount --bind /etc/resolv.conf etc/resolv.conf
i=0
while [ "$i" -lt "$C_MOUNTS" ]; do
    eval "source=\$C_SOURCE_$i target=\$C_TARGET_$i"
    mkdir -p "$C_ROOT$target"
    mount --bind "$source" "$C_ROOT$target"
    i=$((i + 1))
done
exec chroot "$C_ROOT" "$@"
"#;

struct Chrooted {
    id: ContainerId,
    pid: u32,
    exit: watch::Receiver<Option<Exit>>,
}

impl ChrootRuntime {
    pub fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap() }
    }

    fn spawn(&self, spec: &ContainerSpec) -> std::io::Result<(Child, OwnedFd, OwnedFd)> {
        let home = self.scratch.path().join(spec.id.to_string());
        let (upper, work) = match &spec.root.upper {
            Upper::Scratch => (home.join("upper"), home.join("work")),
            Upper::Keep { upper, work } => (upper.clone(), work.clone()),
        };
        for folder in [&upper, &work, &home.join("root")] {
            std::fs::create_dir_all(folder)?;
        }
        let lower: Vec<_> = spec.root.lowers.iter().map(|path| path.display().to_string()).collect();
        let (stdout, stdout_end) = std::io::pipe()?;
        let (stderr, stderr_end) = std::io::pipe()?;
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", SCRIPT, "chroot"])
            // The program's environment is set inside; ours must not leak into the container.
            .args(["/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", &spec.workdir])
            .args(&spec.argv)
            .env_clear()
            .envs(spec.env.iter().cloned())
            .env("C_LOWER", lower.join(":"))
            .env("C_UPPER", upper)
            .env("C_WORK", work)
            .env("C_ROOT", home.join("root"))
            .env("C_MOUNTS", spec.mounts.len().to_string())
            .stdin(std::process::Stdio::null())
            .stdout(stdout_end)
            .stderr(stderr_end);
        for (at, mount) in spec.mounts.iter().enumerate() {
            command.env(format!("C_SOURCE_{at}"), &mount.source);
            command.env(format!("C_TARGET_{at}"), &mount.target);
        }
        Ok((command.spawn()?, stdout.into(), stderr.into()))
    }
}

#[async_trait]
impl Runtime for ChrootRuntime {
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        let failed = |error: std::io::Error| RuntimeError::Start {
            id: spec.id,
            step: "spawn".into(),
            reason: error.to_string(),
        };
        let (mut child, stdout, stderr) = self.spawn(&spec).map_err(failed)?;
        let pid = child.id();
        let (tell, exit) = watch::channel(None);
        std::thread::spawn(move || {
            use std::os::unix::process::ExitStatusExt;
            let reason = match child.wait() {
                Ok(status) => match (status.code(), status.signal()) {
                    (Some(code), _) => ExitReason::Code(code),
                    (None, signal) => ExitReason::Signal(signal.unwrap_or(0)),
                },
                Err(_) => ExitReason::Lost,
            };
            tell.send_replace(Some(Exit { reason, usage: Usage::default() }));
        });
        Ok(Started {
            control: Arc::new(Chrooted { id: spec.id, pid, exit }),
            stdout: Some(stdout),
            stderr: Some(stderr),
            terminal: None,
            link: None,
        })
    }

    async fn sweep(&self) -> Result<Swept, RuntimeError> {
        Ok(Swept::default())
    }

    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    fn host_id(&self, id: u32) -> u32 {
        id
    }

    async fn shutdown(&self) {}
}

#[async_trait]
impl Control for Chrooted {
    fn id(&self) -> ContainerId {
        self.id
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: i32) {
        if self.exit.borrow().is_none() {
            // SAFETY: a plain system call on a process of our own.
            unsafe { libc::kill(self.pid as i32, signal) };
        }
    }

    async fn wait(&self) -> Exit {
        self.exit.clone().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn resize(&self, _rows: u16, _columns: u16) {}

    async fn exec(&self, _exec: ExecSpec) -> Result<Started, RuntimeError> {
        Err(RuntimeError::Ended(self.id))
    }
}

/// Blobs in a folder, trees in memory.
pub struct Files {
    folder: tempfile::TempDir,
    trees: Mutex<HashMap<Digest, Tree>>,
}

impl Files {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { folder: tempfile::tempdir().unwrap(), trees: Mutex::default() })
    }

    /// Stores files and the tree of them; a text that begins with `->` is a link.
    pub fn tree(&self, files: &[(&str, &str)]) -> Digest {
        let file = |(path, text): &(&str, &str)| {
            let content = match text.strip_prefix("->") {
                Some(link) => TreeContent::Link { link: link.into() },
                None => {
                    let digest = Digest::of(text);
                    std::fs::write(self.folder.path().join(digest.to_string()), text).unwrap();
                    TreeContent::Blob { digest, size: text.len() as u64 }
                }
            };
            TreeFile { path: path.to_string(), executable: text.starts_with("#!"), content }
        };
        let tree = Tree::new(files.iter().map(file).collect()).unwrap();
        let digest = tree.digest();
        self.trees.lock().unwrap().insert(digest, tree);
        digest
    }
}

#[async_trait]
impl BlobSource for Files {
    fn path(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.folder.path().join(digest.to_string())).filter(|path| path.is_file())
    }

    async fn tree(&self, digest: Digest) -> Option<Tree> {
        self.trees.lock().unwrap().get(&digest).cloned()
    }
}

/// Why these tests cannot run here, if they cannot.
pub fn unable() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("the stand-in runtime needs root");
    }
    None
}

/// A state folder that outlives the test, so that a base is made once for all of them.
pub fn shared_state() -> PathBuf {
    let folder = std::env::var_os("CLUNK_TEST_STATE").map_or_else(
        || Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("/tmp")).join("image-state"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Lets another state folder have the packages that the shared one has fetched.
pub fn share_packages(state: &Path) {
    for name in ["debs", "lists"] {
        let folder = state.join("cache").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for entry in
            std::fs::read_dir(shared_state().join("cache").join(name)).into_iter().flatten().flatten()
        {
            let _ = std::fs::hard_link(entry.path(), folder.join(entry.file_name()));
        }
    }
}

pub async fn open(state: &Path, files: Arc<Files>) -> Images {
    open_with(state, files, runtime()).await
}

/// The native runtime with the example program as its helper, which `cargo test` builds beside the tests; the
/// stand-in when asked for by `CLUNK_TEST_RUNTIME=chroot`.
pub fn runtime() -> Arc<dyn Runtime> {
    let here = std::env::current_exe().unwrap();
    let target = here.ancestors().nth(2).unwrap();
    let helper = target.join("examples/build");
    if std::env::var("CLUNK_TEST_RUNTIME").is_ok_and(|name| name == "chroot") || !helper.is_file() {
        return Arc::new(ChrootRuntime::new());
    }
    let folder = tempfile::Builder::new().prefix("clunk-rt").tempdir().unwrap().keep();
    let helper = vec![helper.display().to_string(), "helper".into()];
    Arc::new(clunk_runtime::NativeRuntime::new(clunk_runtime::NativeConfig::new(folder, helper)))
}

/// Of every build container in the tests.
pub const BUILD_MEMORY: u64 = 1 << 30;

pub async fn open_with(state: &Path, files: Arc<Files>, runtime: Arc<dyn Runtime>) -> Images {
    let config = ImagesConfig {
        state_dir: state.into(),
        blobs: files,
        runtime,
        host: HostSettings::from_host(),
        runner_dir: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runner")),
        source_root: "/root".into(),
        limits: Limits { memory_bytes: Some(BUILD_MEMORY), ..Limits::default() },
    };
    Images::open(config).await.unwrap()
}

/// Collects what a build says.
pub struct Heard {
    pub events: Vec<BuildEvent>,
}

impl Heard {
    pub fn logs(&self) -> String {
        let text = |event: &BuildEvent| match event {
            BuildEvent::Log { text } => Some(text.clone()),
            _ => None,
        };
        self.events.iter().filter_map(text).collect::<Vec<_>>().join("\n")
    }

    /// Whether each step was found done.
    pub fn cached(&self) -> Vec<bool> {
        let cached = |event: &BuildEvent| match event {
            BuildEvent::Step { cached, .. } => Some(*cached),
            _ => None,
        };
        self.events.iter().filter_map(cached).collect()
    }
}

pub async fn build(
    images: &Images,
    recipe: clunk_core::recipe::Recipe,
) -> (Result<Arc<clunk_image::BuiltImage>, clunk_image::BuildError>, Heard) {
    build_forced(images, recipe, false).await
}

pub async fn build_forced(
    images: &Images,
    recipe: clunk_core::recipe::Recipe,
    force: bool,
) -> (Result<Arc<clunk_image::BuiltImage>, clunk_image::BuildError>, Heard) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let listen = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let work = tokio::time::timeout(Duration::from_secs(600), images.build(recipe, force, sender));
    let (result, events) = tokio::join!(work, listen);
    (result.expect("a build ends in ten minutes"), Heard { events })
}

/// One process-wide set of threads and images, so that tests share a base and none outlives what another started.
pub struct World {
    pub threads: tokio::runtime::Runtime,
    pub images: Images,
    pub files: Arc<Files>,
    _lock: std::fs::File,
}

static WORLD: std::sync::LazyLock<World> = std::sync::LazyLock::new(|| {
    let state = shared_state();
    let lock = std::fs::File::create(state.join("test.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let files = Files::new();
    let images = threads.block_on(open(&state, files.clone()));
    World { threads, images, files, _lock: lock }
});

/// Runs a test in the shared world, or says why it cannot.
pub fn in_world<F: Future<Output = ()>>(test: impl FnOnce(&'static World) -> F) {
    if let Some(reason) = unable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let world: &'static World = &WORLD;
    world.threads.block_on(test(world));
}

/// A text that no earlier run used, so that a step with it is new.
pub fn unique() -> String {
    ContainerId::fresh().to_string()
}

/// Waits until something holds, at most ten seconds.
pub async fn eventually(what: &str, check: impl Fn() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come true in ten seconds");
}
