//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The proxies whose word about their own callers is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

const FORWARDED_FOR: &str = "x-forwarded-for";

impl TrustedProxies {
    /// Reads CIDR blocks and single addresses.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let block = |text: &String| {
            let single = || text.parse::<IpAddr>().map(IpNet::from).ok();
            let block = text.parse::<IpNet>().ok().or_else(single);
            block.ok_or_else(|| format!("{text:?} is no address and no CIDR block (10.0.0.0/8)"))
        };
        texts.iter().map(block).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is one of theirs.
    pub fn contains(&self, address: &IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|block| block.contains(&address))
    }

    /// Whose request it is: the peer's, or behind trusted proxies that of the last hop that none of them is. What
    /// stands before that hop in `X-Forwarded-For` anybody may have written.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.contains(&client) {
            return client;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        for hop in hops {
            // Nobody can be told apart behind a hop that cannot be read: the one who passed it on answers for it.
            let Some(hop) = read_hop(hop.trim()) else {
                return client;
            };
            client = hop;
            if !self.contains(&client) {
                return client;
            }
        }
        client
    }
}

/// An address, with or without a port.
fn read_hop(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    address
        .or_else(|_| with_port())
        .ok()
        .map(|ip| ip.to_canonical())
}

/// What addresses are counted by: whoever has one of version 6 has its whole /64.
pub fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&'static str]) -> String {
        let trusted: Vec<String> = trusted.iter().map(ToString::to_string).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let trusted = TrustedProxies::parse(&trusted).unwrap();
        trusted.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let lie = ["9.9.9.9"];
        assert_eq!(client(&[], "1.2.3.4", &lie), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "1.2.3.4", &lie), "1.2.3.4");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.1.1", &lie), "9.9.9.9");
        assert_eq!(client(&["10.1.1.1"], "10.1.1.2", &lie), "10.1.1.2");
        assert_eq!(client(&["10.0.0.0/8"], "10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn what_a_client_writes_before_its_own_hop_is_not_believed() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let of = |forwarded: &[&'static str]| client(&trusted, "10.0.0.1", forwarded);
        assert_eq!(of(&["6.6.6.6, 9.9.9.9"]), "9.9.9.9");
        assert_eq!(of(&["6.6.6.6", "9.9.9.9, 10.0.0.2"]), "9.9.9.9");
        assert_eq!(of(&["9.9.9.9:4711"]), "9.9.9.9");
        assert_eq!(of(&["[2001:db8::1]:4711,fd00::1"]), "2001:db8::1");
        assert_eq!(of(&["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(of(&["::ffff:9.9.9.9"]), "9.9.9.9");
        // Garbage is the affair of whoever passed it on.
        assert_eq!(of(&["6.6.6.6, garbage"]), "10.0.0.1");
        assert_eq!(of(&["6.6.6.6, garbage, 10.0.0.9"]), "10.0.0.9");
    }

    #[test]
    fn a_network_of_version_6_is_one_caller() {
        let of = |text: &str| bucket(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_eq!(of("1.2.3.4"), "1.2.3.4");
        assert_eq!(of("::ffff:1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn a_proxy_that_is_no_address_is_named() {
        let problem = TrustedProxies::parse(&["10.0.0.0/33".to_owned()]).unwrap_err();
        assert!(problem.contains("10.0.0.0/33"), "{problem}");
    }
}
