//! Prints what a tenant sees and what it can do, one fact per line, the same on every machine.

mod attempts;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

fn main() -> io::Result<()> {
    let mut facts = Vec::new();
    status(&mut facts)?;
    identity(&mut facts)?;
    devices(&mut facts)?;
    mounts(&mut facts)?;
    masked(&mut facts);
    processes(&mut facts)?;
    attempts::all(&mut facts);
    let mut out = io::stdout().lock();
    for fact in facts {
        writeln!(out, "{fact}")?;
    }
    Ok(())
}

fn status(facts: &mut Vec<String>) -> io::Result<()> {
    const KEYS: [&str; 11] = [
        "Uid",
        "Gid",
        "Groups",
        "NoNewPrivs",
        "Seccomp",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "SigIgn",
    ];
    for line in fs::read_to_string("/proc/self/status")?.lines() {
        let (key, value) = line.split_once(':').unwrap_or_default();
        if KEYS.contains(&key) {
            facts.push(format!("status {key} {}", words(value)));
        }
    }
    Ok(())
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn identity(facts: &mut Vec<String>) -> io::Result<()> {
    for map in ["uid_map", "gid_map"] {
        facts.push(format!("{map} {}", words(&fs::read_to_string(format!("/proc/self/{map}"))?)));
    }
    for (key, value) in std::env::vars() {
        facts.push(format!("env {key}={value}"));
    }
    facts.push(format!("workdir {}", std::env::current_dir()?.display()));
    facts.push(format!("hostname {}", fs::read_to_string("/proc/sys/kernel/hostname")?.trim()));
    let mut descriptors: Vec<u32> = fs::read_dir("/proc/self/fd")?
        .flatten()
        // The directory's own descriptor cannot be read as a link any more once listing is over.
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| !to.starts_with("/proc")))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    descriptors.sort_unstable();
    facts.push(format!("descriptors {descriptors:?}"));
    for limit in fs::read_to_string("/proc/self/limits")?.lines() {
        if limit.starts_with("Max core file size") {
            facts.push(words(limit));
        }
    }
    Ok(())
}

fn devices(facts: &mut Vec<String>) -> io::Result<()> {
    let mut found: Vec<_> = fs::read_dir("/dev")?.flatten().map(|entry| entry.path()).collect();
    found.sort();
    for path in found {
        let kind = fs::symlink_metadata(&path)?.file_type();
        let kind = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path)?.display())
        } else {
            use std::os::unix::fs::FileTypeExt;
            if kind.is_dir() {
                "directory"
            } else if kind.is_char_device() {
                "character"
            } else {
                "other"
            }
            .to_owned()
        };
        facts.push(format!("device {} {kind}", path.display()));
    }
    Ok(())
}

/// Mount points with type and the options that protect; sources, sizes and numbers differ by machine.
fn mounts(facts: &mut Vec<String>) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut lines: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<_> = left.split(' ').collect();
            let (point, options) = (left.get(4)?, left.get(5)?);
            // Which of these exist depends on the kernel; the list of masked paths below covers them.
            let deep = ["/proc/", "/sys/"].iter().any(|above| point.starts_with(above));
            let always = ["/proc/sys", "/proc/sysrq-trigger"].contains(point);
            if deep && !always {
                return None;
            }
            let options: Vec<_> = options.split(',').filter(|option| *option != "relatime").collect();
            let kind = right.split(' ').next()?;
            let host_path = ["/root/", "/tmp/", "/home/", "/var/"].iter().any(|path| right.contains(path));
            let shows = if host_path { " SHOWS A PATH OF THE HOST" } else { "" };
            Some(format!("mount {point} {kind} {}{shows}", options.join(",")))
        })
        .collect();
    lines.sort();
    facts.extend(lines);
    Ok(())
}

fn masked(facts: &mut Vec<String>) {
    const PATHS: [&str; 15] = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/driver",
        "/proc/interrupts",
        "/proc/kallsyms",
        "/proc/kcore",
        "/proc/key-users",
        "/proc/keys",
        "/proc/kmsg",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    for path in PATHS {
        let shown = match fs::metadata(path) {
            Err(_) => false,
            Ok(found) if found.is_dir() => {
                fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
            }
            Ok(_) => fs::read(path).is_ok_and(|bytes| !bytes.is_empty()),
        };
        facts.push(format!("{} {path}", if shown { "SHOWN" } else { "masked" }));
    }
}

fn processes(facts: &mut Vec<String>) -> io::Result<()> {
    let numbers = fs::read_dir("/proc")?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let mut names: Vec<_> =
        numbers.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok()).collect();
    names.sort();
    facts.push(format!("processes {}", words(&names.join(" "))));
    for link in ["exe", "cwd", "root", "ns/mnt", "fd/0"] {
        let open = fs::read_link(format!("/proc/1/{link}")).is_ok();
        facts.push(format!("first process {link} {}", if open { "OPEN" } else { "closed" }));
    }
    let words = fs::read("/proc/1/cmdline").unwrap_or_default();
    let shows = words.iter().any(|&byte| byte != 0);
    facts.push(format!("first process cmdline {}", if shows { "SHOWN" } else { "blank" }));
    let sockets =
        fs::read_to_string("/proc/net/unix").unwrap_or_default().lines().filter(|l| l.contains('/')).count();
    facts.push(format!("named sockets {sockets}"));
    let mut interfaces: Vec<_> = fs::read_dir(Path::new("/sys/class/net"))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with("sit") && !name.starts_with("tunl") && !name.starts_with("ip"))
        .collect();
    interfaces.sort();
    facts.push(format!("interfaces {}", interfaces.join(" ")));
    Ok(())
}
