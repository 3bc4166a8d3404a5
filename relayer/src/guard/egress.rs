//! Where the relayer may send a request that somebody else configured the answer of.
//!
//! The URL is the operator's and nobody else's. Even so its name may come to stand for an address inside the
//! operator's own network, so the addresses are looked at when the connection is made, and not the name before.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Networks that are not the public internet: RFC 6890 and its successors, and what carries addresses of version 4
/// inside those of version 6.
static PRIVATE: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ]
    .iter()
    .filter_map(|block| block.parse().ok())
    .collect()
});

/// Whether an address is on the public internet.
pub fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    !PRIVATE.iter().any(|block| block.contains(&address))
}

/// Whether requests may go to a URL, as far as its text tells.
pub fn check_url(text: &str, allow_private: bool) -> Result<(), String> {
    let Ok(url) = Url::parse(text) else {
        return Err("is no URL".to_owned());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must be an http:// or https:// URL".to_owned());
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
        None => return Err("names no host".to_owned()),
    };
    match address {
        Some(address) if !allow_private && !is_public(address) => Err(format!(
            "{address} is not on the public internet: set allow_private if it is meant"
        )),
        _ => Ok(()),
    }
}

/// A client that follows no redirect, obeys no proxy of the environment, and connects to private networks only where
/// that is allowed.
pub fn client(timeout: Duration, allow_private: bool) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("sluice-relayer/", env!("CARGO_PKG_VERSION")));
    if !allow_private {
        builder = builder.dns_resolver(std::sync::Arc::new(Public));
    }
    builder.build().map_err(|error| error.to_string())
}

/// Resolves names to public addresses alone.
struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|found| is_public(found.ip())).collect();
            if public.is_empty() {
                let problem = format!(
                    "{} has no address on the public internet: set allow_private if it is meant",
                    name.as_str()
                );
                return Err(Box::<dyn Error + Send + Sync>::from(problem));
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_network_is_readable() {
        assert_eq!(PRIVATE.len(), 28);
    }

    #[test]
    fn private_networks_are_known_in_every_disguise() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "11.0.0.1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn urls_are_judged_by_what_they_say() {
        for url in [
            "ftp://example.com",
            "file:///etc/passwd",
            "gopher://x",
            "nonsense",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]:80/",
            "http://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check_url(url, false).is_err(), "{url}");
        }
        assert_eq!(check_url("http://127.0.0.1:80/hook", true), Ok(()));
        assert_eq!(check_url("https://hook.example.com/x", false), Ok(()));
        assert!(check_url("ftp://127.0.0.1/", true).is_err());
    }

    #[tokio::test]
    async fn a29_a_name_that_stands_for_a_private_address_is_not_connected_to() {
        let name = "localhost".parse().unwrap();
        let Err(error) = Public.resolve(name).await else {
            panic!("resolved");
        };
        assert!(error.to_string().contains("public internet"), "{error}");
    }
}
