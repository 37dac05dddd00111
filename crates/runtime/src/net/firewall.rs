//! What may pass between containers, host and world: one nftables table per instance, loaded once.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::{Subnet, interface_prefix};

fn table(instance: &str) -> String {
    format!("clunk_{instance}")
}

/// For a network namespace of our own behind pasta. Versions of it acknowledge data by segments without any flag,
/// which no connection claims; answered by a reset, as any such segment to this machine is, the real one would end.
const STRAY: &str = "ct state invalid drop";

/// The table's text. Replaces one of the same name. `alone`: nobody but us uses this network namespace.
fn rules(instance: &str, subnet: Subnet, resolvers: &[Ipv4Addr], alone: bool) -> String {
    let stray = if alone { STRAY } else { "" };
    let table = table(instance);
    let ours = format!("\"{}*\"", interface_prefix(instance));
    let subnet = subnet.text();
    let resolvers = resolvers.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(", ");
    let dns = if resolvers.is_empty() {
        String::new()
    } else {
        format!(
            "ip daddr {{ {resolvers} }} udp dport 53 accept\n        ip daddr {{ {resolvers} }} tcp dport 53 accept"
        )
    };
    format!(
        "table inet {table}
delete table inet {table}
table inet {table} {{
    chain to_host {{
        type filter hook input priority filter - 10; policy accept;
        {stray}
        iifname {ours} jump from_container_to_host
    }}
    chain from_container_to_host {{
        ct state established,related accept
        {dns}
        drop
    }}
    chain through {{
        type filter hook forward priority filter - 10; policy accept;
        oifname {ours} ct state established,related accept
        oifname {ours} drop
        iifname {ours} jump from_container
    }}
    chain from_container {{
        meta nfproto != ipv4 drop
        ip saddr != {subnet} drop
        oifname \"ck*\" drop
        {dns}
        ip daddr 169.254.0.0/16 drop
    }}
    chain leaving {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != \"ck*\" masquerade
    }}
}}
"
    )
}

/// Loads the table and lets the host route packets.
pub(crate) fn load(instance: &str, subnet: Subnet, resolvers: &[Ipv4Addr], alone: bool) -> io::Result<()> {
    nft(&rules(instance, subnet, resolvers, alone))?;
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
    if std::fs::read_to_string(FORWARD).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    std::fs::write(FORWARD, "1").map_err(|error| {
        io::Error::new(error.kind(), format!("could not switch on net.ipv4.ip_forward: {error}"))
    })
}

/// Removes the table; fine when there is none.
pub(crate) fn remove(instance: &str) {
    let table = table(instance);
    let _ = nft(&format!("table inet {table}\ndelete table inet {table}\n"));
}

fn nft(script: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env_clear()
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                io::Error::new(error.kind(), "the program `nft` is missing: install the package `nftables`")
            }
            _ => error,
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "nft refused the rules: {}",
        words.lines().next().unwrap_or("no reason given")
    )))
}
