//! What a hostile program tries, and what the host notices of it.

mod support;

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;

use clunk_runtime::*;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_stops_at_its_limit() {
    let Some(world) = world() else { return };
    let mut spec = world.shell("f() { f | f & wait; }; f");
    spec.limits.pids = Some(30);
    let started = world.runtime.start(spec).await.unwrap();
    let full = async {
        while started.control.usage().pids < 20 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    bounded(full).await;
    for _ in 0..50 {
        assert!(started.control.usage().pids <= 31);
    }
    // The host, and other containers, go on.
    assert_eq!(world.run(world.shell("echo fine")).await.stdout, "fine\n");
    started.control.signal(9);
    bounded(started.control.wait()).await;
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_out_of_memory_and_told_so() {
    let Some(world) = world() else { return };
    let mut spec = world.shell("tail /dev/zero");
    spec.limits.memory_bytes = Some(32 << 20);
    let output = world.run(spec).await;
    assert_eq!(output.exit.reason, ExitReason::OutOfMemory { limit_bytes: 32 << 20 });
    let mut spec = world.shell("dd if=/dev/zero of=/tmp/x bs=1M count=100");
    spec.limits = Limits { memory_bytes: Some(32 << 20), tmp_bytes: Some(200 << 20), ..spec.limits };
    let output = world.run(spec).await;
    assert_eq!(output.exit.reason, ExitReason::OutOfMemory { limit_bytes: 32 << 20 }, "tmpfs counts too");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tmp_is_no_larger_than_asked_for() {
    let Some(world) = world() else { return };
    let output = world.run(world.shell("dd if=/dev/zero of=/tmp/x bs=1M count=100 2>&1 | head -1")).await;
    assert!(output.stdout.contains("No space left on device"), "{output:?}");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_processes_are_seen() {
    let Some(world) = world() else { return };
    let output =
        world.run(world.shell("echo /proc/[0-9]*; cat /proc/1/comm; cat /proc/1/cmdline | wc -c")).await;
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[0], "/proc/1 /proc/2");
    assert_eq!(lines[1], "clunk-init");
    world.runtime.shutdown().await;
}

/// Whether any line of a script's output says that something forbidden worked.
async fn none_works(world: &World, profile: Profile, attempts: &[&str]) {
    let script: String =
        attempts.iter().map(|attempt| format!("({attempt}) >/dev/null 2>&1 && echo '{attempt}'\n")).collect();
    let mut spec = world.shell(&format!("{script}true"));
    spec.profile = profile;
    let output = world.run(spec).await;
    assert_eq!(output.stdout, "", "worked as {profile:?}");
    assert_eq!(output.exit.reason, ExitReason::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_reach_the_host_is_refused() {
    let Some(world) = world() else { return };
    let attempts = [
        "mount -t tmpfs none /home",
        "mount -t proc none /home",
        "mount -o remount,rw /sys",
        "umount /proc/kcore",
        "umount /etc/hosts",
        "umount /tmp",
        "unshare -U true",
        "unshare -m true",
        "unshare -n true",
        "unshare -p true",
        "mknod /root/disk b 254 0",
        "mknod /root/null c 1 3",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo c > /proc/sysrq-trigger",
        "test -s /proc/kcore && head -c 1 /proc/kcore | grep .",
        "test -s /proc/keys",
        "ls /proc/1/root/",
        "ls /proc/1/cwd/",
        "ls /proc/1/fd/",
        "cat /proc/1/environ",
        "cat /proc/1/mem",
        "readlink /proc/1/exe",
        "head -c 1 /proc/1/exe",
        "echo x > /proc/1/exe",
        "ls /sys/firmware/* ",
        "touch /sys/x",
        "hostname other",
        "ip link set eth0 down",
        "ip link set lo down",
        "kill -9 1 && sleep 0.1 && false",
        "echo -1000 > /proc/self/oom_score_adj && false || test \"$(cat /proc/self/oom_score_adj)\" -lt 0",
    ];
    none_works(&world, Profile::Function, &attempts).await;
    none_works(&world, Profile::Build, &attempts).await;
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_targets_do_not_follow_links_out_of_the_root() {
    let Some(world) = world() else { return };
    let outside = world.state_dir.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    let layer = world.state_dir.parent().unwrap().join("trap");
    fs::create_dir(&layer).unwrap();
    // To a directory of the host by its absolute path, and upwards out of the root.
    symlink(&outside, layer.join("absolute")).unwrap();
    symlink(format!("../../../../../../../../..{}", outside.display()), layer.join("relative")).unwrap();
    symlink("/proc/self/root", layer.join("magic")).unwrap();
    symlink("loop", layer.join("loop")).unwrap();
    fs::create_dir(layer.join("etc")).unwrap();
    symlink(outside.join("resolv.conf"), layer.join("etc/resolv.conf")).unwrap();
    give(&layer, world.runtime.host_id(0));
    let source = world.state_dir.parent().unwrap().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "mounted\n").unwrap();
    for target in ["/absolute/new", "/relative/new", "/magic/new", "/loop/new", "/absolute"] {
        for kept in [false, true] {
            let mut spec = world.shell("cat /absolute/new/file /relative/new/file /absolute/file; true");
            spec.root.lowers.insert(0, layer.clone());
            spec.mounts.push(BindMount { source: source.clone(), target: target.into(), read_only: true });
            if kept {
                let dir = world.state_dir.parent().unwrap().join(format!("kept{}", target.replace('/', "_")));
                spec.root.upper = Upper::Keep { upper: dir.join("upper"), work: dir.join("work") };
            }
            match world.runtime.start(spec).await {
                Ok(started) => assert_eq!(finish(started).await.exit.reason, ExitReason::Code(0), "{target}"),
                Err(error) => {
                    assert!(target.starts_with("/loop") || target.starts_with("/magic"), "{target}: {error}")
                }
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{target} reached the host");
        }
    }
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_links_and_files_in_the_way_harms_nobody() {
    let Some(world) = world() else { return };
    for name in ["proc", "sys", "dev", "tmp", "etc"] {
        let layer = world.state_dir.parent().unwrap().join(format!("bad-{name}"));
        fs::create_dir(&layer).unwrap();
        for (at, make) in [("link", true), ("file", false)] {
            let _ = fs::remove_file(layer.join(name));
            if make {
                symlink("/root", layer.join(name)).unwrap();
            } else {
                fs::write(layer.join(name), "in the way").unwrap();
            }
            let mut spec = world.shell("echo alive");
            spec.root.lowers.insert(0, layer.clone());
            if let Ok(started) = world.runtime.start(spec).await {
                let output = finish(started).await;
                assert_eq!(output.stdout, "alive\n", "{name} as a {at}");
            }
        }
    }
    assert_eq!(world.run(world.shell("echo fine")).await.stdout, "fine\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_reaches_neither_host_nor_neighbours() {
    let Some(world) = world() else { return };
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    // Greets whoever gets through; ends with the test run.
    std::thread::spawn(move || {
        for mut guest in everywhere.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut guest, b"hi\n");
        }
    });
    let mut neighbour = world.shell(
        "ip addr show eth0 | grep -o 'inet [0-9.]*' | cut -d' ' -f2; while true; do echo hi | nc -l -p 7777; done",
    );
    neighbour.network = Network::Nat;
    let neighbour = world.runtime.start(neighbour).await.unwrap();
    let mut bytes = [0; 15];
    let got = fs::File::from(neighbour.stdout.unwrap()).read(&mut bytes).unwrap();
    let address = std::str::from_utf8(&bytes[..got]).unwrap().trim().to_owned();
    assert!(address.starts_with("10."), "{address}");
    // The host itself may connect, which shows that the neighbour listens and its network works.
    let since = std::time::Instant::now();
    while std::net::TcpStream::connect(format!("{address}:7777")).is_err() {
        assert!(since.elapsed() < BOUND, "the neighbour does not listen");
    }
    let host = host_address();
    let script = format!(
        "gateway=$(ip route | grep default | cut -d' ' -f3)
        for to in \"127.0.0.1 {port}\" \"$gateway {port}\" \"{host} {port}\" \"{address} 7777\" \"169.254.169.254 80\"; do
            timeout 1 nc $to </dev/null | grep -q . && echo \"reached $to\"
        done; (echo hi | nc -l -p 5555 &); sleep 0.2; timeout 1 nc 127.0.0.1 5555 </dev/null | grep -q hi && echo tried"
    );
    let mut spec = world.shell(&script);
    spec.network = Network::Nat;
    let output = world.run(spec).await;
    assert_eq!(output.stdout, "tried\n", "{output:?}");
    neighbour.control.signal(9);
    bounded(neighbour.control.wait()).await;
    let output = world.run(world.shell("ip addr | grep -c inet; ip route | wc -l")).await;
    assert_eq!(output.stdout.split_whitespace().last(), Some("0"), "no network has no route: {output:?}");
    world.runtime.shutdown().await;
}

/// The address other machines know the host by.
fn host_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.77:9").and_then(|()| socket.local_addr()) {
        Ok(address) => address.ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_out_works() {
    let Some(world) = world() else { return };
    // A server in a network namespace of its own would be the world; the resolver is what every host has.
    let mut spec =
        world.shell("cat /etc/resolv.conf | grep -q nameserver && ip route | grep -q default && echo ready");
    spec.network = Network::Nat;
    let output = world.run(spec).await;
    assert_eq!(output.stdout, "ready\n");
    world.runtime.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_nested_without_end_are_removed() {
    let Some(world) = world() else { return };
    let script =
        "cd /root; i=0; while test $i -lt 2000; do mkdir d && cd d || break; i=$((i+1)); done; echo $i";
    let output = world.run(world.shell(script)).await;
    assert!(output.stdout.trim().parse::<u32>().unwrap() > 100, "{output:?}");
    assert_eq!(fs::read_dir(world.state_dir.join("containers")).unwrap().count(), 0);
    world.runtime.shutdown().await;
}
