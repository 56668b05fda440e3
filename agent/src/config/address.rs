//! Addresses: `host:port` as `ProxyConfig` writes them, and which IP family a proxy speaks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Placeholder for the node's address, which the environment of the pod has.
const HOST_IP: &str = "$(HOST_IP)";

/// `host:port`; the host of IPv6 is written in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    /// A name, an address without brackets, or `$(HOST_IP)`.
    pub(crate) host: String,
    /// Never 0.
    pub(crate) port: u16,
}

/// Error: not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host:port")]
pub(crate) struct InvalidHostPort(String);

/// IP families of a proxy, the preferred one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IpFamily {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv6 alone.
    V6,
    /// Both, IPv4 first.
    V4First,
    /// Both, IPv6 first.
    V6First,
}

/// Use of both families in a dual-stack pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DualStack {
    /// Both families are used.
    On,
    /// Only IPv4 is used.
    Off,
}

// === impl HostPort ===

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let fail = || InvalidHostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(fail)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if host == HOST_IP || host.parse::<std::net::Ipv4Addr>().is_ok() || is_name(host) => host,
            _ => return Err(fail()),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl HostPort {
    /// The host as an address, where it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// With `$(HOST_IP)` replaced, if the environment has it.
    #[must_use]
    pub(crate) fn with_host_ip(self, host_ip: Option<&str>) -> Self {
        match host_ip {
            Some(host) if self.host == HOST_IP => Self { host: host.to_owned(), ..self },
            _ => self,
        }
    }
}

/// A DNS name: RFC 1123 labels, not all digits at the top, perhaps a final dot.
fn is_name(host: &str) -> bool {
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let label = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 255
        && labels.iter().all(label)
        && labels.last().is_some_and(|top| !top.chars().all(|c| c.is_ascii_digit()))
}

// === impl IpFamily ===

impl IpFamily {
    /// Of a proxy with these addresses, the first one first. No address at all is IPv4.
    pub(crate) fn of(addresses: &[String], dual_stack: DualStack) -> Self {
        let families: Vec<bool> =
            addresses.iter().filter_map(|text| text.parse().ok()).map(|ip: IpAddr| ip.is_ipv4()).collect();
        match (families.contains(&true), families.contains(&false), dual_stack) {
            (false, true, _) => Self::V6,
            (true, true, DualStack::On) if families.first() == Some(&false) => Self::V6First,
            (true, true, DualStack::On) => Self::V4First,
            _ => Self::V4,
        }
    }

    /// Loopback.
    pub(crate) const fn localhost(self) -> &'static str {
        match self {
            Self::V4 | Self::V4First => "127.0.0.1",
            Self::V6 | Self::V6First => "::1",
        }
    }

    /// Loopback of the other family.
    pub(crate) const fn additional_localhost(self) -> Option<&'static str> {
        match self {
            Self::V4 | Self::V6 => None,
            Self::V4First => Some("::1"),
            Self::V6First => Some("127.0.0.1"),
        }
    }

    /// Every address.
    pub(crate) const fn wildcard(self) -> &'static str {
        match self {
            Self::V4 | Self::V4First => "0.0.0.0",
            Self::V6 | Self::V6First => "::",
        }
    }

    /// Every address of the other family.
    pub(crate) const fn additional_wildcard(self) -> Option<&'static str> {
        match self {
            Self::V4 | Self::V6 => None,
            Self::V4First => Some("::"),
            Self::V6First => Some("0.0.0.0"),
        }
    }

    /// `dns_lookup_family` of a cluster.
    pub(crate) const fn dns_lookup_family(self) -> &'static str {
        match self {
            Self::V4 => "V4_ONLY",
            Self::V6 => "V6_ONLY",
            Self::V4First | Self::V6First => "ALL",
        }
    }

    /// `--local-address-ip-version`.
    pub(crate) const fn local_address_version(self) -> &'static str {
        match self {
            Self::V6 => "v6",
            Self::V4 | Self::V4First | Self::V6First => "v4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for (text, host, port) in [
            ("istiod.istio-system.svc:15012", "istiod.istio-system.svc", 15012),
            ("localhost:1", "localhost", 1),
            ("name.:1", "name.", 1),
            ("10.1.1.1:65535", "10.1.1.1", 65535),
            ("[::1]:15010", "::1", 15010),
            ("$(HOST_IP):9411", "$(HOST_IP)", 9411),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "host",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "::1:15010",
            "[::1",
            "[::1]",
            "[a]:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "a b:1",
            "300.1.1.1:1",
            "10.1.1:1",
            "http://a:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_nodes_address_comes_from_the_environment() {
        let address: HostPort = "$(HOST_IP):9411".parse().unwrap();
        assert_eq!(address.clone().with_host_ip(Some("10.0.0.1")).to_string(), "10.0.0.1:9411");
        assert_eq!(address.clone().with_host_ip(None), address);
        let other: HostPort = "zipkin:9411".parse().unwrap();
        assert_eq!(other.clone().with_host_ip(Some("10.0.0.1")), other);
    }

    #[test]
    fn the_family_follows_the_addresses() {
        for (addresses, dual_stack, family) in [
            (&[][..], DualStack::On, IpFamily::V4),
            (&["10.1.1.1", "10.1.1.2"], DualStack::On, IpFamily::V4),
            (&["fd00::1"], DualStack::Off, IpFamily::V6),
            (&["10.1.1.1", "fd00::1"], DualStack::Off, IpFamily::V4),
            (&["10.1.1.1", "fd00::1"], DualStack::On, IpFamily::V4First),
            (&["fd00::1", "10.1.1.1"], DualStack::On, IpFamily::V6First),
            (&["fd00::1", "10.1.1.1"], DualStack::Off, IpFamily::V4),
        ] {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(IpFamily::of(&addresses, dual_stack), family, "{addresses:?} {dual_stack:?}");
        }
    }
}
