//! A network of its own for each container: a routed pair of virtual interfaces, no bridge.
//!
//! Slot `n` of the instance's /16 is the pair of addresses `2n` (host's end) and `2n + 1` (container's end, a /31).
//! What may pass between them is in [`firewall`].

pub(crate) mod firewall;
pub(crate) mod netlink;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use netlink::Netlink;

/// Slot 0 would use the network's own address.
pub(crate) const FIRST_SLOT: u16 = 1;
pub(crate) const LAST_SLOT: u16 = 32_000;
/// Private /16 networks to pick from: 10.107 to 10.126, away from what home routers, clouds and Docker use.
const CANDIDATES: std::ops::Range<u8> = 107..127;

/// The instance's part of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet(pub u8);

impl Subnet {
    pub(crate) fn text(self) -> String {
        format!("10.{}.0.0/16", self.0)
    }

    fn address(self, slot: u16, end: u8) -> Ipv4Addr {
        let low = u32::from(slot) * 2 + u32::from(end);
        Ipv4Addr::new(10, self.0, (low >> 8) as u8, low as u8)
    }

    fn network(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.0, 0, 0)
    }

    /// The first candidate that no route of the host touches, reserved by an unreachable route, which also keeps
    /// packets to addresses nobody has from leaving the machine.
    pub(crate) fn reserve(netlink: &mut Netlink) -> io::Result<Subnet> {
        let routes = netlink.routes()?;
        for subnet in CANDIDATES.map(Subnet) {
            let taken = routes.iter().any(|&(address, length)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(length.min(16))).unwrap_or(0);
                length > 0 && (address.to_bits() ^ subnet.network().to_bits()) & mask == 0
            });
            if !taken && netlink.add_unreachable(subnet.network(), 16).is_ok() {
                return Ok(subnet);
            }
        }
        Err(io::Error::other("every network from 10.107.0.0/16 to 10.126.0.0/16 is routed by the host"))
    }

    pub(crate) fn release(self, netlink: &mut Netlink) {
        let _ = netlink.delete_unreachable(self.network(), 16);
    }
}

/// What the host's interfaces of an instance are called, in front of the slot's number.
pub(crate) fn interface_prefix(instance: &str) -> String {
    format!("ck{instance}-")
}

/// Puts the calling process into a new network namespace with only loopback in it.
pub(crate) fn enter_new() -> io::Result<Netlink> {
    crate::sys::unshare(libc::CLONE_NEWNET)?;
    let mut inside = Netlink::open()?;
    inside.set_up(1)?;
    for (key, value) in [
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
        // The namespace belongs to the host's root, so the container's root has no capability for low ports.
        ("ipv4/ip_unprivileged_port_start", "0"),
        ("ipv4/ping_group_range", "0 4294967294"),
    ] {
        // Absent on kernels built without the protocol; then there is nothing to switch.
        let _ = fs::write(format!("/proc/sys/net/{key}"), value);
    }
    Ok(inside)
}

/// Enters a new network namespace that is connected to the one `host` was opened in.
pub(crate) fn enter_connected(
    mut host: Netlink,
    instance: &str,
    subnet: Subnet,
    slot: u16,
) -> io::Result<()> {
    let mtu = way_out_mtu();
    let mut inside = enter_new()?;
    let namespace = fs::File::open("/proc/self/ns/net")?;
    let name = format!("{}{slot}", interface_prefix(instance));
    let (ours, theirs) = (subnet.address(slot, 0), subnet.address(slot, 1));
    host.add_pair(&name, "eth0", namespace.as_fd(), mtu)?;
    let outer = host.index_of(&name)?;
    host.add_address(outer, ours, 31)?;
    host.set_up_without_ipv6(outer)?;
    let inner = inside.index_of("eth0")?;
    inside.add_address(inner, theirs, 31)?;
    inside.set_up(inner)?;
    inside.add_default_route(inner, ours)
}

/// The interface of the default route.
pub(crate) fn way_out() -> Option<String> {
    fs::read_to_string("/proc/net/route").ok()?.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    })
}

/// Largest packet the default route takes: a container that sends larger ones would depend on messages that many
/// networks drop.
fn way_out_mtu() -> u32 {
    const ETHERNET: u32 = 1500;
    let request = way_out().and_then(|name| Netlink::open().ok()?.mtu_of(&name).ok());
    request.unwrap_or(ETHERNET)
}

/// Removes the host's end of a slot, and with it the container's.
pub(crate) fn remove_slot(instance: &str, slot: u16) -> io::Result<()> {
    let mut host = Netlink::open()?;
    match host.delete(&format!("{}{slot}", interface_prefix(instance))) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Removes every interface of the instance and says how many there were.
pub(crate) fn sweep(instance: &str) -> usize {
    let prefix = interface_prefix(instance);
    let names = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let ours: Vec<_> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    let Ok(mut host) = Netlink::open() else { return 0 };
    ours.iter().filter(|name| host.delete(name).is_ok()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_pairs_within_the_subnet() {
        let subnet = Subnet(107);
        assert_eq!(subnet.address(FIRST_SLOT, 0), Ipv4Addr::new(10, 107, 0, 2));
        assert_eq!(subnet.address(FIRST_SLOT, 1), Ipv4Addr::new(10, 107, 0, 3));
        assert_eq!(subnet.address(LAST_SLOT, 1), Ipv4Addr::new(10, 107, 250, 1));
    }
}
