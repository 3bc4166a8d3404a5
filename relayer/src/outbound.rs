//! Calls to addresses that a configuration names: none into a private network, none after a redirect.
//!
//! A name is looked up once for each connection and every address that it has is judged there, where the connection is
//! made: a name that resolves to a public address when it is checked and to a private one when it is called gains
//! nothing.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Where a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The public internet, with TLS.
    Public,
    /// Anywhere: the operator said so.
    Anywhere,
}

/// Whether a URL may be called at all. The problem does not repeat the URL.
pub fn check(url: &str, reach: Reach) -> Result<(), String> {
    let url = Url::parse(url).map_err(|_| "must be an https:// URL".to_owned())?;
    let tls = url.scheme() == "https";
    if !(tls || reach == Reach::Anywhere && url.scheme() == "http") {
        return Err("must be an https:// URL".to_owned());
    }
    let address = match url.host() {
        None => return Err("names no host".to_owned()),
        Some(Host::Domain(_)) => return Ok(()),
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
    };
    if reach == Reach::Public && !is_public(&address) {
        return Err("is an address that is not of the public internet".to_owned());
    }
    Ok(())
}

/// A client that goes no further than `reach`, follows no redirect and uses no proxy.
pub fn client(reach: Reach, timeout: Duration) -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // A proxy would look the name up by itself.
        .no_proxy()
        .timeout(timeout);
    let builder = match reach {
        Reach::Anywhere => builder,
        Reach::Public => builder.dns_resolver(Arc::new(PublicOnly)),
    };
    builder.build().map_err(without_url)
}

/// An error's text without the URL, which may carry a key.
pub fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|at| is_public(&at.ip())).collect();
            if public.is_empty() {
                return Err("the name has no address of the public internet".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is of the public internet.
pub fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(*address),
        IpAddr::V6(address) => is_public_v6(*address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let relay = a == 192 && b == 88 && c == 99;
    let benchmark = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 224
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || shared
        || protocol
        || relay
        || benchmark)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    // Version 4 in other clothes is what is in them.
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inner(high, low)
        }
        [0x2002, high, low, ..] => inner(high, low),
        // Teredo, documentation, benchmarks and the like.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_public_internet_is_refused() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(&text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(&text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_url_is_judged_before_it_is_called() {
        for url in [
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://169.254.169.254/latest/meta-data",
            "http://hooks.example.com/x",
            "file:///etc/passwd",
            "hush",
        ] {
            let problem = check(url, Reach::Public).unwrap_err();
            assert!(!problem.contains("hush"), "{problem}");
        }
        assert!(check("https://hooks.example.com/x", Reach::Public).is_ok());
        assert!(check("http://127.0.0.1:8080/x", Reach::Anywhere).is_ok());
        assert!(check("ftp://127.0.0.1/x", Reach::Anywhere).is_err());
    }

    #[tokio::test]
    async fn a_name_that_is_private_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = client(Reach::Public, Duration::from_secs(5)).unwrap();
        let url = format!("http://localhost:{port}/hush");
        let error = client.get(url).send().await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        let text = without_url(error);
        assert!(text.contains("public internet"), "{text}");
        assert!(!text.contains("hush"), "{text}");
    }
}
