//! The few requests of rtnetlink(7) that containers need, written by hand.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};

const ACK: u16 = libc::NLM_F_REQUEST as u16 | libc::NLM_F_ACK as u16;
const NEW: u16 = ACK | libc::NLM_F_CREATE as u16 | libc::NLM_F_EXCL as u16;
const DUMP: u16 = libc::NLM_F_REQUEST as u16 | libc::NLM_F_DUMP as u16;
const HEADER: usize = 16;
/// if_link.h, veth.h: numbers the libc crate lacks.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// The kernel fills at most this much of one reply.
const REPLY_MAX: usize = 32 * 1024;
/// Marks our routes as made by a program that is not a routing daemon.
const PROTOCOL_STATIC: u8 = libc::RTPROT_STATIC;

/// A socket to the routing tables of the network namespace it was opened in.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A request under construction: header, fixed part, attributes.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute that holds `prefix` and then attributes.
    fn nested(mut self, kind: u16, prefix: &[u8], inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(prefix);
        let mut request = inner(self);
        let length = (request.0.len() - start) as u16;
        request.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        request
    }
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&change.to_ne_bytes());
    bytes
}

/// `struct rtmsg` of an IPv4 route in the main table.
fn route(length: u8, kind: u8) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = libc::AF_INET as u8;
    bytes[1] = length;
    bytes[4] = libc::RT_TABLE_MAIN;
    bytes[5] = PROTOCOL_STATIC;
    bytes[6] = libc::RT_SCOPE_UNIVERSE;
    bytes[7] = kind;
    bytes
}

fn text(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is protocol 0.
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends the request and hands every reply's kind and body to `seen` until the last one.
    fn ask(&mut self, request: Request, mut seen: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence += 1;
        let Request(mut bytes) = request;
        let length = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut reply = vec![0; REPLY_MAX];
        loop {
            let got = match rustix::net::recv(&self.socket, reply.as_mut_slice(), RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?.0,
            };
            let mut rest = &reply[..got];
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                if sequence != self.sequence {
                    continue;
                }
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(-libc::EIO, |code| i32::from_ne_bytes(*code));
                        return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ => seen(kind, body),
                }
            }
        }
    }

    fn request(&mut self, request: Request) -> io::Result<()> {
        self.ask(request, |_, _| {})
    }

    /// Up, with no IPv6 address of the kernel's own making.
    pub(crate) fn set_up_without_ipv6(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let request = Request::new(libc::RTM_NEWLINK, ACK, &link(index, up, up));
        let quiet = request.nested(libc::IFLA_AF_SPEC, &[], |request| {
            request.nested(libc::AF_INET6 as u16, &[], |request| {
                request.attribute(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
            })
        });
        match self.request(quiet) {
            // No IPv6 here at all.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => self.set_up(index),
            other => other,
        }
    }

    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(Request::new(libc::RTM_NEWLINK, ACK, &link(index, up, up)))
    }

    /// A pair of interfaces, both down: `name` here, `peer_name` in the other network namespace.
    pub(crate) fn add_pair(
        &mut self,
        name: &str,
        peer_name: &str,
        other: BorrowedFd<'_>,
        mtu: u32,
    ) -> io::Result<()> {
        let request = Request::new(libc::RTM_NEWLINK, NEW, &link(0, 0, 0))
            .attribute(libc::IFLA_IFNAME, &text(name))
            .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
            .nested(libc::IFLA_LINKINFO, &[], |request| {
                request.attribute(libc::IFLA_INFO_KIND, b"veth").nested(
                    libc::IFLA_INFO_DATA,
                    &[],
                    |request| {
                        request.nested(VETH_INFO_PEER, &link(0, 0, 0), |request| {
                            request
                                .attribute(libc::IFLA_IFNAME, &text(peer_name))
                                .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
                                .attribute(libc::IFLA_NET_NS_FD, &(other.as_raw_fd() as u32).to_ne_bytes())
                        })
                    },
                )
            });
        self.request(request)
    }

    pub(crate) fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let mut index = None;
        let request =
            Request::new(libc::RTM_GETLINK, ACK, &link(0, 0, 0)).attribute(libc::IFLA_IFNAME, &text(name));
        self.ask(request, |_, body| {
            index =
                body.get(4..8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
        })?;
        index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// Largest packet of an interface, in bytes.
    pub(crate) fn mtu_of(&mut self, name: &str) -> io::Result<u32> {
        let mut mtu = None;
        let request =
            Request::new(libc::RTM_GETLINK, ACK, &link(0, 0, 0)).attribute(libc::IFLA_IFNAME, &text(name));
        self.ask(request, |_, body| {
            let mut attributes = body.get(16..).unwrap_or_default();
            while let Some((kind, value, rest)) = split_attribute(attributes) {
                attributes = rest;
                if let (libc::IFLA_MTU, Some(bytes)) = (kind, value.first_chunk::<4>()) {
                    mtu = Some(u32::from_ne_bytes(*bytes));
                }
            }
        })?;
        mtu.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODATA))
    }

    pub(crate) fn delete(&mut self, name: &str) -> io::Result<()> {
        let request =
            Request::new(libc::RTM_DELLINK, ACK, &link(0, 0, 0)).attribute(libc::IFLA_IFNAME, &text(name));
        self.request(request)
    }

    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Addr, length: u8) -> io::Result<()> {
        let mut fixed = vec![libc::AF_INET as u8, length, 0, libc::RT_SCOPE_UNIVERSE];
        fixed.extend_from_slice(&index.to_ne_bytes());
        let request = Request::new(libc::RTM_NEWADDR, NEW, &fixed)
            .attribute(libc::IFA_LOCAL, &address.octets())
            .attribute(libc::IFA_ADDRESS, &address.octets());
        self.request(request)
    }

    pub(crate) fn add_default_route(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let request = Request::new(libc::RTM_NEWROUTE, NEW, &route(0, libc::RTN_UNICAST))
            .attribute(libc::RTA_GATEWAY, &gateway.octets())
            .attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.request(request)
    }

    pub(crate) fn add_unreachable(&mut self, network: Ipv4Addr, length: u8) -> io::Result<()> {
        let fixed = route(length, libc::RTN_UNREACHABLE);
        self.request(
            Request::new(libc::RTM_NEWROUTE, NEW, &fixed).attribute(libc::RTA_DST, &network.octets()),
        )
    }

    pub(crate) fn delete_unreachable(&mut self, network: Ipv4Addr, length: u8) -> io::Result<()> {
        let fixed = route(length, libc::RTN_UNREACHABLE);
        self.request(
            Request::new(libc::RTM_DELROUTE, ACK, &fixed).attribute(libc::RTA_DST, &network.octets()),
        )
    }

    /// Destination and prefix length of every IPv4 route.
    pub(crate) fn routes(&mut self) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut routes = Vec::new();
        self.ask(Request::new(libc::RTM_GETROUTE, DUMP, &route(0, 0)), |_, body| {
            let Some(&length) = body.get(1) else { return };
            let mut attributes = body.get(12..).unwrap_or_default();
            while let Some((kind, value, rest)) = split_attribute(attributes) {
                attributes = rest;
                if let (libc::RTA_DST, Some(octets)) = (kind, value.first_chunk::<4>()) {
                    routes.push((Ipv4Addr::from(*octets), length));
                }
            }
        })?;
        Ok(routes)
    }
}

/// One message off the front: kind, sequence number, body, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let sequence = u32::from_ne_bytes(*bytes.get(8..12)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, sequence, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u16::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let value = bytes.get(4..length)?;
    Some((kind, value, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}
