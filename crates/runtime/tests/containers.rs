//! Real containers: programs, their files, signals, terminals and ends.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use clunk_core::id::ContainerId;
use clunk_runtime::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn output_errors_and_exit_code_arrive() {
    let Some(world) = world() else { return };
    let output = world.run(world.shell("echo hello; echo oops >&2; exit 7")).await;
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", "oops\n"));
    assert_eq!(output.exit.reason, ExitReason::Code(7));
    assert!(output.exit.usage.memory_peak_bytes > 0);
    assert!(output.exit.usage.cpu.as_micros() > 0);
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_directory_and_name_are_what_was_asked_for() {
    let Some(world) = world() else { return };
    let mut spec =
        world.shell("env | sort; pwd; hostname; cat /etc/hostname; id -u; ls /proc/self/fd | sort");
    spec.env.push(("GREETING".into(), "two words = one".into()));
    spec.workdir = "/home".into();
    let output = world.run(spec).await;
    let lines: Vec<_> =
        output.stdout.lines().filter(|line| !line.starts_with("SHLVL") && !line.starts_with("PWD")).collect();
    assert_eq!(lines[..2], ["GREETING=two words = one", "PATH=/bin:/usr/bin"], "{lines:?}");
    assert_eq!(lines[2..6], ["/home", "box", "box", "0"], "{lines:?}");
    assert_eq!(lines[6..], ["0", "1", "2", "3"], "the fourth is ls's own: {lines:?}");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_container_are_not_in_the_next() {
    let Some(world) = world() else { return };
    let script = "test -e /root/mine && echo there; echo x > /root/mine && cat /root/mine";
    for _ in 0..2 {
        assert_eq!(world.run(world.shell(script)).await.stdout, "x\n");
    }
    assert!(!world.layer.join("root/mine").exists());
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_layer_holds_what_the_program_wrote_and_nothing_else() {
    let Some(world) = world() else { return };
    let dir = world.state_dir.parent().unwrap().join("build");
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    let source = dir.join("given");
    fs::create_dir_all(&source).unwrap();
    let mut spec = world
        .shell("mkdir /made && echo x > /made/file && chown 1000:1000 /made/file && touch /given/here/y");
    spec.root.upper = Upper::Keep { upper: upper.clone(), work };
    spec.profile = Profile::Build;
    spec.mounts.push(BindMount { source: source.clone(), target: "/given/here".into(), read_only: false });
    give(&source, world.runtime.host_id(0));
    let output = world.run(spec).await;
    assert_eq!(output.exit.reason, ExitReason::Code(0), "{output:?}");
    let mut names: Vec<_> = fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["made"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(upper.join("made/file")).unwrap());
    assert_eq!(owner, world.runtime.host_id(1000));
    assert!(source.join("y").exists());
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_layers_cover_earlier_ones_and_there_can_be_hundreds() {
    let Some(world) = world() else { return };
    let dir = world.state_dir.parent().unwrap().join("layers");
    let mut spec = world.shell("cat /who; ls / | grep -c layer");
    spec.root.lowers.clear();
    for number in (0..300).rev() {
        let layer = dir.join(number.to_string());
        fs::create_dir_all(layer.join(format!("layer{number}"))).unwrap();
        fs::write(layer.join("who"), format!("{number}\n")).unwrap();
        give(&layer, world.runtime.host_id(0));
        spec.root.lowers.push(layer);
    }
    spec.root.lowers.push(world.layer.clone());
    assert_eq!(world.run(spec).await.stdout, "299\n300\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_where_and_how_they_were_asked_for() {
    let Some(world) = world() else { return };
    let dir = world.state_dir.parent().unwrap().join("shared");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "from the host\n").unwrap();
    let mut spec = world.shell("cat /a/b/file /one; touch /a/b/no 2>&1; touch /rw/yes && echo written");
    let mount = |source: &std::path::Path, target: &str, read_only| BindMount {
        source: source.into(),
        target: target.into(),
        read_only,
    };
    spec.mounts.push(mount(&dir, "/a/b", true));
    spec.mounts.push(mount(&dir.join("file"), "/one", true));
    let writable = dir.join("writable");
    fs::create_dir(&writable).unwrap();
    give(&writable, world.runtime.host_id(0));
    spec.mounts.push(mount(&writable, "/rw", false));
    let output = world.run(spec).await;
    assert!(output.stdout.starts_with("from the host\nfrom the host\n"), "{output:?}");
    assert!(
        output.stdout.contains("Read-only file system") && output.stdout.ends_with("written\n"),
        "{output:?}"
    );
    assert!(writable.join("yes").exists());
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_is_descriptor_three() {
    let Some(world) = world() else { return };
    let mut spec = world.shell("read line <&3; echo \"got $line\" >&3");
    spec.link = true;
    let started = world.runtime.start(spec).await.unwrap();
    let mut link = UnixStream::from(started.link.unwrap());
    link.write_all(b"this\n").unwrap();
    let mut answer = String::new();
    BufReader::new(link).read_line(&mut answer).unwrap();
    assert_eq!(answer, "got this\n");
    assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Code(0));
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_program_and_kill_ends_everything() {
    let Some(world) = world() else { return };
    let mut spec =
        world.shell("trap 'echo caught; exit 3' TERM; echo on >&3; while true; do sleep 0.05; done");
    spec.link = true;
    let started = world.runtime.start(spec.clone()).await.unwrap();
    let mut link = UnixStream::from(started.link.as_ref().unwrap().try_clone().unwrap());
    link.read_exact(&mut [0; 3]).unwrap();
    started.control.signal(15);
    let output = finish(started).await;
    assert_eq!((output.exit.reason, output.stdout.as_str()), (ExitReason::Code(3), "caught\n"));

    let spec = world.shell("sleep 1000 & sleep 1000 & sleep 1000");
    let started = world.runtime.start(spec).await.unwrap();
    started.control.signal(9);
    assert_eq!(finish(started).await.exit.reason, ExitReason::Signal(9));

    let output = world.run(world.shell("kill -6 $$")).await;
    assert_eq!(output.exit.reason, ExitReason::Signal(6));
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_program_ends_what_it_left_running() {
    let Some(world) = world() else { return };
    let output = world.run(world.shell("(sleep 1000 &) ; (sleep 1000 &); echo done")).await;
    assert_eq!(output.stdout, "done\n");
    assert_eq!(output.exit.reason, ExitReason::Code(0));
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reaped() {
    let Some(world) = world() else { return };
    let script = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'true &' ); done; sleep 0.2; \
                  grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(world.run(world.shell(script)).await.stdout.trim(), "0");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let Some(world) = world() else { return };
    let reason = async |spec: ContainerSpec| match bounded(world.runtime.start(spec)).await {
        Err(RuntimeError::Start { step, reason, .. }) => format!("{step}: {reason}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    };
    assert_eq!(reason(world.spec(&["nope"])).await, "program: program `nope` not found in the image");
    assert_eq!(
        reason(world.spec(&["/bin/nope"])).await,
        "program: program `/bin/nope` not found in the image"
    );
    let refused = reason(world.spec(&["/etc/passwd"])).await;
    assert!(refused.starts_with("program: program `/etc/passwd` may not be executed"), "{refused}");
    let script = world.layer.join("bin/script");
    fs::write(&script, "#!/usr/bin/absent\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let interpreter = reason(world.spec(&["script"])).await;
    assert!(interpreter.contains("the interpreter or loader it names is not"), "{interpreter}");
    let mut spec = world.shell("true");
    spec.workdir = "/absent".into();
    let workdir = reason(spec).await;
    assert!(workdir.starts_with("workdir: the working directory `/absent` cannot be entered"), "{workdir}");
    let mut spec = world.shell("true");
    spec.mounts.push(BindMount { source: "/absent/source".into(), target: "/x".into(), read_only: true });
    let mount = reason(spec).await;
    assert!(mount.starts_with("mount /x: /absent/source: "), "{mount}");
    let mut spec = world.shell("true");
    spec.root.lowers.insert(0, "/absent/layer".into());
    let layer = reason(spec).await;
    assert!(layer.starts_with("root file system: /absent/layer: "), "{layer}");
    assert!(reason(world.spec(&[])).await.starts_with("plan: "));
    // None of it left the runtime unable to go on.
    assert_eq!(world.run(world.shell("echo on")).await.stdout, "on\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_a_terminal() {
    let Some(world) = world() else { return };
    let mut spec = world
        .shell("test -t 0 && test -t 1 && test -t 2 && stty size; read x; stty size; tty; echo > /dev/tty");
    spec.stdio = Stdio::Terminal { rows: 30, columns: 100 };
    let started = world.runtime.start(spec).await.unwrap();
    let mut terminal = File::from(started.terminal.as_ref().unwrap().try_clone().unwrap());
    let mut lines = BufReader::new(terminal.try_clone().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "30 100");
    started.control.resize(40, 120);
    terminal.write_all(b"go\n").unwrap();
    line.clear();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "go", "the terminal's echo");
    line.clear();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "40 120");
    line.clear();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "/dev/pts/0");
    assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Code(0));
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_programs_share_the_container() {
    let Some(world) = world() else { return };
    let started = world.runtime.start(world.shell("echo first > /tmp/who; exec sleep 1000")).await.unwrap();
    let exec = |argv: &[&str], stdio| ExecSpec {
        argv: argv.iter().map(|word| word.to_string()).collect(),
        env: vec![("PATH".into(), "/bin".into())],
        workdir: "/tmp".into(),
        stdio,
    };
    let script = "while ! test -s who; do true; done; cat who; pwd; hostname; id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; exit 4";
    let later = started.control.exec(exec(&["sh", "-c", script], Stdio::Pipes)).await.unwrap();
    let output = finish(later).await;
    assert_eq!(
        output.stdout, "first\n/tmp\nbox\n0\nCapEff:\t00000000000404fb\nNoNewPrivs:\t1\nSeccomp:\t2\n",
        "{output:?}"
    );
    assert_eq!(output.exit.reason, ExitReason::Code(4));

    let size = Stdio::Terminal { rows: 11, columns: 22 };
    let later = started.control.exec(exec(&["stty", "size"], size)).await.unwrap();
    assert_eq!(finish(later).await.stdout.trim(), "11 22");

    let Err(error) = started.control.exec(exec(&["nope"], Stdio::Pipes)).await else { panic!("it started") };
    assert!(error.to_string().contains("program `nope` not found in the image"), "{error}");

    let later = started.control.exec(exec(&["sleep", "1000"], Stdio::Pipes)).await.unwrap();
    later.control.signal(15);
    assert_eq!(finish(later).await.exit.reason, ExitReason::Signal(15));

    let later = started.control.exec(exec(&["sleep", "1000"], Stdio::Pipes)).await.unwrap();
    started.control.signal(9);
    assert_eq!(finish(later).await.exit.reason, ExitReason::Signal(9));
    assert_eq!(bounded(started.control.wait()).await.reason, ExitReason::Signal(9));
    let Err(error) = started.control.exec(exec(&["true"], Stdio::Pipes)).await else { panic!("it started") };
    assert!(matches!(error, RuntimeError::Ended(_)), "{error}");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_used_once_at_a_time() {
    let Some(world) = world() else { return };
    let spec = ContainerSpec { id: ContainerId::fresh(), ..world.shell("sleep 1000") };
    let started = world.runtime.start(spec.clone()).await.unwrap();
    assert!(world.runtime.start(spec.clone()).await.is_err());
    started.control.signal(9);
    bounded(started.control.wait()).await;
    let again = world.runtime.start(ContainerSpec { argv: vec!["true".into()], ..spec }).await.unwrap();
    assert_eq!(bounded(again.control.wait()).await.reason, ExitReason::Code(0));
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_seen_while_it_runs() {
    let Some(world) = world() else { return };
    let started = world.runtime.start(world.shell("while true; do true; done")).await.unwrap();
    let cpu = async {
        while started.control.usage().cpu.as_millis() < 50 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    bounded(cpu).await;
    assert!(started.control.usage().memory_bytes > 0);
    assert_eq!(started.control.usage().pids, 2, "the program and the container's first process");
    started.control.signal(9);
    bounded(started.control.wait()).await;
    world.runtime.shutdown().await;
}
