//! Which name servers containers use: the host's, as far as a container can reach them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

/// Used when the host resolves names only through a server on its own loopback, which containers cannot reach.
const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8)];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolver {
    /// The text of `/etc/resolv.conf` in containers.
    pub text: String,
    pub servers: Vec<Ipv4Addr>,
    /// None of the host's servers could be used.
    pub substituted: bool,
}

pub(super) fn find() -> Resolver {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    // systemd-resolved listens on loopback, and writes the servers it asks to a file of its own.
    if servers(&own).next().is_none() {
        let upstream = read("/run/systemd/resolve/resolv.conf");
        if servers(&upstream).next().is_some() {
            return from_text(&upstream);
        }
    }
    from_text(&own)
}

fn servers(text: &str) -> impl Iterator<Item = Ipv4Addr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?.parse().ok()?) {
            ("nameserver", IpAddr::V4(address)) if !address.is_loopback() => Some(address),
            _ => None,
        }
    })
}

fn from_text(text: &str) -> Resolver {
    let found: Vec<_> = servers(text).collect();
    let substituted = found.is_empty();
    let servers = if substituted { PUBLIC.to_vec() } else { found };
    let mut kept: String = servers.iter().map(|address| format!("nameserver {address}\n")).collect();
    for line in text.lines() {
        if line.starts_with("search ") || line.starts_with("options ") || line.starts_with("domain ") {
            kept += line;
            kept.push('\n');
        }
    }
    Resolver { text: kept, servers, substituted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_servers_are_left_out() {
        let found =
            from_text("# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nsearch example.com\n");
        assert_eq!(found.text, "nameserver 10.0.0.2\nsearch example.com\n");
        assert!(!found.substituted);
    }

    #[test]
    fn with_only_loopback_servers_public_ones_stand_in() {
        let found = from_text("nameserver 127.0.0.1\nnameserver ::1\n");
        assert_eq!(found.servers, PUBLIC);
        assert!(found.substituted);
    }
}
