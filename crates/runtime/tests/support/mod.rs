//! What the tests with real containers share: a small root file system, a runtime, and ways to ask and to wait.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clunk_core::id::ContainerId;
use clunk_runtime::*;

/// Longest wait for anything in a test.
pub const BOUND: Duration = Duration::from_secs(20);

pub struct World {
    pub runtime: NativeRuntime,
    pub state_dir: PathBuf,
    pub layer: PathBuf,
    _dir: tempfile::TempDir,
}

/// Real containers need root; says so and returns `None` without it.
pub fn world() -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: containers with limits and networks are tested as root only");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("clunk-test").tempdir_in(scratch_dir()).unwrap();
    let state_dir = dir.path().join("state");
    let layer = dir.path().join("layer");
    let runtime = runtime(&state_dir);
    build_layer(&layer, runtime.host_id(0));
    Some(World { runtime, state_dir, layer, _dir: dir })
}

/// Overlayfs cannot write to another overlay or to some tmpfs; the build directory is on a real disk.
fn scratch_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

pub fn config(state_dir: &Path) -> NativeConfig {
    NativeConfig::new(state_dir, vec![env!("CARGO_BIN_EXE_clunk-helper").to_owned()])
}

pub fn runtime(state_dir: &Path) -> NativeRuntime {
    NativeRuntime::new(config(state_dir))
}

/// A root with busybox in it. The Debian package is `busybox-static`.
pub fn build_layer(layer: &Path, owner: u32) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|path| path.exists());
    let busybox = busybox.expect("the tests need a static busybox: apt-get install busybox-static");
    for dir in ["bin", "etc", "root", "home", "usr"] {
        fs::create_dir_all(layer.join(dir)).unwrap();
    }
    fs::copy(busybox, layer.join("bin/busybox")).unwrap();
    fs::set_permissions(layer.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    let applets = "sh cat echo ls id ps sleep true false env pwd stat mount umount unshare wget nc ip kill stty mkdir \
                   ln touch dd head tail wc grep mknod hostname test readlink rm yes tty seq sync chmod chown ping \
                   date sort cut printf nslookup timeout";
    for applet in applets.split_whitespace() {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
        .unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    give(layer, owner);
}

pub fn give(path: &Path, owner: u32) {
    lchown(path, Some(owner), Some(owner)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), owner);
        }
    }
}

impl World {
    pub fn spec(&self, argv: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::fresh(),
            root: RootFs { lowers: vec![self.layer.clone()], upper: Upper::Scratch },
            mounts: Vec::new(),
            gpus: Vec::new(),
            argv: argv.iter().map(|word| word.to_string()).collect(),
            env: vec![("PATH".into(), "/bin:/usr/bin".into())],
            workdir: "/".into(),
            hostname: "box".into(),
            limits: Limits {
                cpu_millis: Some(1000),
                memory_bytes: Some(128 << 20),
                pids: Some(64),
                tmp_bytes: Some(16 << 20),
            },
            network: Network::None,
            stdio: Stdio::Pipes,
            link: false,
            profile: Profile::Function,
        }
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    /// Runs it to its end.
    pub async fn run(&self, spec: ContainerSpec) -> Output {
        let started = self.runtime.start(spec).await.expect("it starts");
        finish(started).await
    }
}

#[derive(Debug)]
pub struct Output {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

/// Reads everything and waits for the end.
pub async fn finish(started: Started) -> Output {
    let Started { control, stdout, stderr, terminal, .. } = started;
    let read = |fd: Option<OwnedFd>| tokio::task::spawn_blocking(move || read_all(fd));
    let (stdout, stderr) = (read(stdout.or(terminal)), read(stderr));
    let exit = bounded(control.wait()).await;
    Output { exit, stdout: bounded(stdout).await.unwrap(), stderr: bounded(stderr).await.unwrap() }
}

fn read_all(fd: Option<OwnedFd>) -> String {
    let mut bytes = Vec::new();
    if let Some(fd) = fd {
        // A terminal ends with an error.
        let _ = fs::File::from(fd).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("it takes too long")
}

/// Of the GPUs of a driver that is files; each is the null device.
const GPU_NODES: [&str; 6] = ["nvidia0", "nvidia1", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"];

/// Needs root.
pub fn make_nodes(root: &Path) {
    fs::create_dir_all(root.join("dev")).unwrap();
    for name in GPU_NODES {
        let path = root.join("dev").join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let number = rustix::fs::makedev(1, 3);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, number).unwrap();
        rustix::fs::chmod(&path, mode).unwrap();
    }
}
