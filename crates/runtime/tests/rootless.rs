//! Containers of a user who is not root. As root, the test runs itself again as such a user.

#[path = "support/driver.rs"]
mod driver;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clunk_core::id::ContainerId;
use clunk_runtime::*;
use support::*;

/// A user that no distribution hands out; it has no subordinate ids.
const USER: u32 = 54_321;
const DIRECTORY: &str = "CLUNK_TEST_ROOTLESS";

#[tokio::test(flavor = "multi_thread")]
async fn as_another_user() {
    let Ok(dir) = std::env::var(DIRECTORY).map(PathBuf::from) else { return };
    let helper = dir.join("clunk-helper").to_string_lossy().into_owned();
    let driver_root = dir.join("machine");
    let config = NativeConfig { driver_root, ..NativeConfig::new(dir.join("state"), vec![helper]) };
    let runtime = NativeRuntime::new(config);
    assert_eq!((runtime.host_id(0), runtime.host_id(1000)), (USER, USER));
    let script = "id -u; cat /etc/hostname; echo x > /root/file && cat /root/file; mount -t tmpfs x /home 2>&1; \
                  unshare -U true 2>&1; grep -c . /proc/self/uid_map; echo /proc/[0-9]*; \
                  cat $LD_LIBRARY_PATH/libcuda.so.1; echo x > /dev/nvidia0 && echo written";
    let spec = ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec![dir.join("layer")], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: vec![0],
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![("PATH".into(), "/bin".into())],
        workdir: "/".into(),
        hostname: "box".into(),
        limits: Limits { memory_bytes: Some(64 << 20), ..Limits::default() },
        network: Network::None,
        stdio: Stdio::Pipes,
        link: false,
        profile: Profile::Function,
    };
    let started = runtime.start(spec).await.unwrap();
    let host_user = fs::metadata(format!("/proc/{}", started.control.pid())).is_ok();
    let output = finish(started).await;
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[..3], ["0", "box", "x"], "{output:?}");
    assert!(lines[3].contains("not permitted") || lines[3].contains("denied"), "{output:?}");
    assert!(lines[4].contains("not permitted"), "{output:?}");
    assert!(host_user || output.exit.reason == ExitReason::Code(0));
    assert_eq!(lines[lines.len() - 2..], ["libcuda of the host", "written"], "{output:?}");
    let checks = runtime.checks().await;
    let privileges = checks.iter().find(|check| check.name == "privileges").unwrap();
    assert_eq!(privileges.verdict, Verdict::Warning);
    runtime.shutdown().await;
    assert_eq!(fs::read_dir(dir.join("state/containers")).unwrap().count(), 0);
}

#[test]
fn a_user_who_is_not_root_runs_containers() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let dir = tempfile::Builder::new().prefix("clunk-rootless").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    driver::install(&dir.path().join("machine"), &["NVIDIA H200"]);
    build_layer(&dir.path().join("layer"), USER);
    let itself = std::env::current_exe().unwrap();
    for (program, name) in
        [(itself.as_path(), "test"), (Path::new(env!("CARGO_BIN_EXE_clunk-helper")), "clunk-helper")]
    {
        fs::copy(program, dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("state")).unwrap();
    give(dir.path(), USER);
    make_nodes(&dir.path().join("machine"));
    let as_user = |program: &Path| {
        let mut command = Command::new(program);
        command.uid(USER).gid(USER).current_dir("/");
        command
    };
    let allowed =
        as_user(Path::new("unshare")).args(["-Ur", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: this machine allows user namespaces to root only");
        return;
    }
    let status = as_user(&dir.path().join("test"))
        .args(["--exact", "as_another_user", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}
