//! Addresses of the machine's network interfaces: what a proxy is reachable at, besides `INSTANCE_IP`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use nix::net::if_::InterfaceFlags;

/// Addresses by interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interfaces(BTreeMap<String, Vec<IpAddr>>);

// === impl Interfaces ===

impl Interfaces {
    /// Of this machine: of every interface that is up and not loopback, the addresses others can reach.
    /// A machine that will not tell has none.
    pub(crate) fn of_machine() -> Self {
        let mut interfaces = BTreeMap::<String, Vec<IpAddr>>::new();
        for entry in nix::ifaddrs::getifaddrs().into_iter().flatten() {
            let up = entry.flags.contains(InterfaceFlags::IFF_UP);
            if !up || entry.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
                continue;
            }
            let Some(address) = entry.address else { continue };
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()).to_canonical());
            if let Some(ip) = v4.or_else(v6).filter(|ip| is_reachable(*ip)) {
                interfaces.entry(entry.interface_name).or_default().push(ip);
            }
        }
        Self(interfaces)
    }

    /// The proxy's addresses, its own first, none twice: the control plane takes the first one for the
    /// pod's. Interfaces that the pod excludes do not count. Never empty.
    pub(crate) fn proxy_addresses(&self, own: Option<IpAddr>, excluded: &[&str]) -> Vec<String> {
        let left_out: Vec<IpAddr> =
            excluded.iter().filter_map(|name| self.0.get(*name)).flatten().copied().collect();
        let found = self.0.values().flatten().copied().filter(|ip| !left_out.contains(ip));
        let mut addresses = Vec::new();
        for ip in own.into_iter().chain(found) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        if addresses.is_empty() {
            addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        addresses.iter().map(ToString::to_string).collect()
    }
}

fn is_reachable(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

impl<const N: usize> From<[(&str, &[IpAddr]); N]> for Interfaces {
    fn from(interfaces: [(&str, &[IpAddr]); N]) -> Self {
        Self(interfaces.into_iter().map(|(name, ips)| (name.to_owned(), ips.to_vec())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_pods_address_is_first_and_none_is_twice() {
        let machine = Interfaces::from([
            ("eth0", &[ip("10.1.1.1"), ip("fd00::1")][..]),
            ("net1", &[ip("192.168.0.1"), ip("10.1.1.1")]),
        ]);
        for (own, excluded, addresses) in [
            (Some(ip("10.1.1.1")), &[][..], &["10.1.1.1", "fd00::1", "192.168.0.1"][..]),
            (Some(ip("192.168.0.1")), &[], &["192.168.0.1", "10.1.1.1", "fd00::1"]),
            (None, &["net1"], &["fd00::1"]),
            (Some(ip("10.1.1.1")), &["net1", "none"], &["10.1.1.1", "fd00::1"]),
            (None, &["net1", "eth0"], &["127.0.0.1"]),
        ] {
            assert_eq!(machine.proxy_addresses(own, excluded), addresses, "{own:?} {excluded:?}");
        }
    }

    #[test]
    fn only_addresses_others_can_reach_count() {
        for text in ["127.0.0.1", "::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1"] {
            assert!(!is_reachable(ip(text)), "{text}");
        }
        for text in ["10.1.1.1", "8.8.8.8", "fd00::1", "2001:db8::1"] {
            assert!(is_reachable(ip(text)), "{text}");
        }
    }
}
