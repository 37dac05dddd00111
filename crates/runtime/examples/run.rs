//! Runs one command in a container: `run [--build] [--no-network] ROOTFS PROGRAM ARGUMENTS...` as root. What it writes
//! is thrown away. ROOTFS has to belong to the users of containers: `run --give ROOTFS` sees to that.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clunk_core::id::ContainerId;
use clunk_runtime::*;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("helper") {
        return spawner_main();
    }
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|tokio| tokio.block_on(run()));
    outcome.unwrap_or_else(|error: Box<dyn Error>| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let (flags, words): (Vec<_>, Vec<_>) = {
        let mut words: Vec<String> = std::env::args().skip(1).collect();
        let first = words.iter().position(|word| !word.starts_with("--")).unwrap_or(words.len());
        let rest = words.split_off(first);
        (words, rest)
    };
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let (rootfs, argv) = words.split_first().ok_or("name a root file system and a program")?;
    let state = std::env::temp_dir().join(format!("clunk-run-{}", std::process::id()));
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let runtime = NativeRuntime::new(NativeConfig::new(&state, vec![program, "helper".into()]));
    if has("--give") {
        give(Path::new(rootfs), &runtime)?;
        return Ok(ExitCode::SUCCESS);
    }
    let spec = ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec![fs::canonicalize(PathBuf::from(rootfs))?], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: Vec::new(),
        argv: argv.to_vec(),
        env: vec![
            ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
            ("HOME".into(), "/root".into()),
        ],
        workdir: "/".into(),
        hostname: "run".into(),
        limits: Limits { memory_bytes: Some(4 << 30), pids: Some(1024), ..Limits::default() },
        network: if has("--no-network") { Network::None } else { Network::Nat },
        stdio: Stdio::Pipes,
        link: false,
        profile: if has("--build") { Profile::Build } else { Profile::Function },
    };
    let started = runtime.start(spec).await?;
    let copy = |from: Option<std::os::fd::OwnedFd>, mut to: Box<dyn Write + Send>| {
        tokio::task::spawn_blocking(move || from.map(|from| std::io::copy(&mut File::from(from), &mut to)))
    };
    let out = copy(started.stdout, Box::new(std::io::stdout()));
    let errors = copy(started.stderr, Box::new(std::io::stderr()));
    let exit = started.control.wait().await;
    out.await?;
    errors.await?;
    runtime.shutdown().await;
    fs::remove_dir_all(state)?;
    eprintln!("{:?}", exit.reason);
    Ok(match exit.reason {
        ExitReason::Code(code) => ExitCode::from(code as u8),
        _ => ExitCode::FAILURE,
    })
}

/// Shifts owners by as much as containers' users are shifted; what is shifted already stays.
fn give(path: &Path, runtime: &NativeRuntime) -> std::io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.uid() < 65_536 {
        let (uid, gid) = (runtime.host_id(found.uid()), runtime.host_id(found.gid()));
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
        if !found.is_symlink() {
            fs::set_permissions(path, found.permissions())?;
        }
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), runtime)?;
        }
    }
    Ok(())
}
