//! How long a new container takes to its first line of output, beside a bare floor and `runc`.
//!
//! `cargo run --release -p clunk-runtime --example start_bench -- ROOTFS [RUNS [SEQUENCE]]` as root. ROOTFS is a Debian tree with
//! `/usr/bin/python3`, owned by root; one owned by the containers' users is made beside it.
//!
//! The three are measured in turn, so that what disturbs one disturbs all. The floor is the least that is still a
//! container: fork, unshare, a fresh overlay, chroot, exec; no limits, users, network, filters or clean-up.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Pipe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clunk_core::id::ContainerId;
use clunk_runtime::*;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PROGRAM: [&str; 5] = ["/usr/bin/python3", "-S", "-E", "-c", "print('ready')"];
const BURST: usize = 50;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("helper") {
        return spawner_main();
    }
    let outcome =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|tokio| tokio.block_on(bench()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    runtime: NativeRuntime,
    rootfs: PathBuf,
    owned: PathBuf,
    scratch: PathBuf,
}

async fn bench() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let rootfs = PathBuf::from(arguments.next().ok_or("name a root file system with python3 in it")?);
    let runs: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let sequence: usize = arguments.next().map_or(Ok(runs), |text| text.parse())?;
    let scratch = std::env::temp_dir().join(format!("clunk-bench-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let runtime =
        NativeRuntime::new(NativeConfig::new(scratch.join("state"), vec![program, "helper".into()]));
    let owned = scratch.join("rootfs");
    let bench = Bench { runtime, rootfs, owned, scratch: scratch.clone() };
    copy_for_containers(&bench)?;
    let outcome = measure(&bench, runs, sequence).await;
    bench.runtime.shutdown().await;
    fs::remove_dir_all(&scratch)?;
    outcome
}

/// A copy whose files belong to the users of containers.
fn copy_for_containers(bench: &Bench) -> Outcome<()> {
    run(Command::new("cp").arg("-a").arg(&bench.rootfs).arg(&bench.owned))?;
    let owner = bench.runtime.host_id(0);
    run(Command::new("chown").arg("-hR").arg(format!("{owner}:{owner}")).arg(&bench.owned))
}

fn run(command: &mut Command) -> Outcome<()> {
    if command.status()?.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}

async fn measure(bench: &Bench, runs: usize, in_sequence: usize) -> Outcome<()> {
    bench.runtime.warm_up().await?;
    let with_runc = Command::new("runc").arg("--version").stdout(Pipe::null()).status().is_ok();
    let (mut ours, mut floor, mut runc) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        ours.push(start(bench).await?);
        floor.push(bare(bench, run)?);
        if with_runc && run % 5 == 0 {
            runc.push(runc_run(bench, run)?);
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let base = median(&mut floor);
    report("clunk", &mut ours, base);
    report("floor", &mut floor, base);
    if with_runc {
        report("runc", &mut runc, base);
    }
    later(bench, runs).await?;
    burst(bench).await?;
    sequence(bench, in_sequence).await
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn report(name: &str, times: &mut [Duration], base: Duration) {
    let middle = median(times);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    eprintln!(
        "{name:8} median {:6.2} ms  p95 {:6.2} ms  best {:6.2} ms  {:.2}x floor  ({} runs)",
        ms(middle),
        ms(times[times.len() * 95 / 100]),
        ms(times[0]),
        middle.as_secs_f64() / base.as_secs_f64(),
        times.len()
    );
}

fn spec(bench: &Bench) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::fresh(),
        root: RootFs { lowers: vec![bench.owned.clone()], upper: Upper::Scratch },
        mounts: Vec::new(),
        gpus: Vec::new(),
        argv: PROGRAM.map(str::to_owned).into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        workdir: "/".into(),
        hostname: "bench".into(),
        limits: Limits {
            cpu_millis: Some(2000),
            memory_bytes: Some(256 << 20),
            pids: Some(128),
            tmp_bytes: Some(64 << 20),
        },
        network: Network::Nat,
        stdio: Stdio::Pipes,
        link: true,
        profile: Profile::Function,
    }
}

async fn start(bench: &Bench) -> Outcome<Duration> {
    let since = Instant::now();
    let started = bench.runtime.start(spec(bench)).await?;
    let took = first_line(started.stdout, since).await?;
    let exit = started.control.wait().await;
    if exit.reason == ExitReason::Code(0) { Ok(took) } else { Err(format!("{:?}", exit.reason).into()) }
}

async fn first_line(output: Option<std::os::fd::OwnedFd>, since: Instant) -> Outcome<Duration> {
    let mut output = BufReader::new(File::from(output.ok_or("no output")?));
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        output.read_line(&mut line)?;
        let took = since.elapsed();
        if line == "ready\n" { Ok(took) } else { Err(format!("unexpected output {line:?}").into()) }
    })
    .await?
}

fn bare(bench: &Bench, run: usize) -> Outcome<Duration> {
    let dir = bench.scratch.join(format!("bare-{run}"));
    let [upper, work, merged] = ["upper", "work", "merged"].map(|name| dir.join(name));
    let since = Instant::now();
    for path in [&upper, &work, &merged] {
        fs::create_dir_all(path)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        bench.rootfs.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    let mut command = Command::new(PROGRAM[0]);
    command.args(&PROGRAM[1..]).env_clear().stdin(Pipe::null()).stdout(Pipe::piped());
    let root = merged.clone();
    let enter = move || {
        use rustix::mount::{MountFlags, MountPropagationFlags};
        let flags = rustix::thread::UnshareFlags::NEWNS
            | rustix::thread::UnshareFlags::NEWPID
            | rustix::thread::UnshareFlags::NEWNET
            | rustix::thread::UnshareFlags::NEWIPC
            | rustix::thread::UnshareFlags::NEWUTS;
        // SAFETY: the child has one thread and no descriptor table to share.
        unsafe { rustix::thread::unshare_unsafe(flags) }?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        rustix::mount::mount("overlay", &root, "overlay", MountFlags::empty(), options.as_c_str())?;
        rustix::process::chroot(&root)?;
        Ok(rustix::process::chdir("/")?)
    };
    // SAFETY: only system calls and stack memory between fork and exec; paths were made before.
    unsafe { command.pre_exec(enter) };
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let took = since.elapsed();
    child.wait()?;
    fs::remove_dir_all(&dir)?;
    if line == "ready\n" { Ok(took) } else { Err(format!("unexpected output {line:?}").into()) }
}

/// A bundle on an overlay that is mounted beforehand: what a container engine does before it calls runc is not counted.
fn runc_run(bench: &Bench, run: usize) -> Outcome<Duration> {
    let bundle = bench.scratch.join(format!("runc-{run}"));
    let [upper, work, root] = ["upper", "work", "rootfs"].map(|name| bundle.join(name));
    for path in [&upper, &work, &root] {
        fs::create_dir_all(path)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        bench.rootfs.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(
        "overlay",
        &root,
        "overlay",
        rustix::mount::MountFlags::empty(),
        options.as_c_str(),
    )?;
    write_bundle(&bundle)?;
    let since = Instant::now();
    let mut child = Command::new("runc")
        .args(["run", "--bundle"])
        .arg(&bundle)
        .arg(format!("clunk-bench-{}-{run}", std::process::id()))
        .stdin(Pipe::null())
        .stdout(Pipe::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let took = since.elapsed();
    output.read_to_string(&mut String::new())?;
    child.wait()?;
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH)?;
    fs::remove_dir_all(&bundle)?;
    if line == "ready\n" { Ok(took) } else { Err(format!("runc: unexpected output {line:?}").into()) }
}

/// runc's own example configuration with our program and no terminal.
fn write_bundle(bundle: &Path) -> Outcome<()> {
    run(Command::new("runc").args(["spec", "--bundle"]).arg(bundle))?;
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = PROGRAM.to_vec().into();
    config["root"]["readonly"] = false.into();
    fs::write(&path, serde_json::to_vec(&config)?)?;
    Ok(())
}

/// Later programs in one container that runs.
async fn later(bench: &Bench, runs: usize) -> Outcome<()> {
    let sleep = vec!["/usr/bin/sleep".into(), "1000".into()];
    let started = bench.runtime.start(ContainerSpec { argv: sleep, ..spec(bench) }).await?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let ContainerSpec { argv, env, workdir, stdio, .. } = spec(bench);
        let since = Instant::now();
        let second = started.control.exec(ExecSpec { argv, env, workdir, stdio }).await?;
        times.push(first_line(second.stdout, since).await?);
        second.control.wait().await;
    }
    started.control.signal(9);
    started.control.wait().await;
    let middle = median(&mut times);
    eprintln!(
        "later    median {:6.2} ms  ({runs} programs in a running container)",
        middle.as_secs_f64() * 1e3
    );
    Ok(())
}

async fn burst(bench: &Bench) -> Outcome<()> {
    let since = Instant::now();
    let mut times = Vec::new();
    let starts: Vec<_> = (0..BURST).map(|_| spec(bench)).collect();
    let runtime = Arc::new(&bench.runtime);
    let all = starts.into_iter().map(|spec| {
        let runtime = runtime.clone();
        async move {
            let begun = Instant::now();
            let started = runtime.start(spec).await?;
            let took = first_line(started.stdout, begun).await?;
            started.control.wait().await;
            Outcome::Ok(took)
        }
    });
    for outcome in futures_util::future::join_all(all).await {
        times.push(outcome?);
    }
    let worst = times.iter().max().copied().unwrap_or_default();
    eprintln!(
        "burst    {BURST} at once: all ended after {:?}, slowest first line {worst:?}",
        since.elapsed()
    );
    Ok(())
}

async fn sequence(bench: &Bench, runs: usize) -> Outcome<()> {
    let since = Instant::now();
    for _ in 0..runs {
        start(bench).await?;
    }
    eprintln!(
        "sequence {runs} one after another, each to its very end: {:?} each",
        since.elapsed() / runs as u32
    );
    Ok(())
}
