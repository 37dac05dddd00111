//! Where webhooks may go: anywhere, but not to addresses that only mean something on the machine that asks, behind which
//! clouds keep the credentials of a machine.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use clunk_core::error::{ErrorBody, ErrorCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Bytes of a webhook's URL: as much as browsers and proxies agree on. It is kept with each prediction.
const MAX_URL: usize = 2000;
/// The metadata service of one cloud, which is not link-local.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local(),
            None => v6.is_unicast_link_local() || v6 == METADATA,
        },
    }
}

/// Refuses what could never be reached, or must not be.
pub fn check(url: &str) -> Result<(), ErrorBody> {
    let bad = |text: String, hint: &str| Err(ErrorBody::new(ErrorCode::BadRequest, text).hint(hint));
    if url.len() > MAX_URL {
        let text = format!("the URL of the webhook has {} bytes, more than {MAX_URL}", url.len());
        return bad(text, "keep what belongs to a prediction on your side, under its id");
    }
    let parsed = match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => parsed,
        Ok(_) | Err(_) => {
            return bad(format!("{url:?} is no URL that a webhook can be sent to"), "give an http(s) URL");
        }
    };
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.parse().is_ok_and(is_refused) {
        let text = format!("webhooks are not sent to {host}: a link-local address");
        return bad(text, "give an address that others reach too");
    }
    Ok(())
}

/// Looks names up, and leaves out addresses that are refused.
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|to| !is_refused(to.ip()))
                .collect();
            if found.is_empty() {
                let text = format!("{} has no address that webhooks may be sent to", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_targets_are_refused_however_they_are_written() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "https://[fe80::1]:8080/x",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
        ] {
            assert!(check(url).unwrap_err().message.contains("link-local"), "{url}");
        }
        for url in ["http://127.0.0.1:1/x", "https://example.com/hook", "http://[::1]/"] {
            assert!(check(url).is_ok(), "{url}");
        }
        assert!(check("ftp://example.com/").is_err() && check("hello").is_err());
        assert!(check(&format!("http://example.com/{}", "x".repeat(MAX_URL))).is_err());
    }
}
