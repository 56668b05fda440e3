//! IP families of a proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Proxy;

/// IP families of the addresses of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Dual stack.
    Both,
}

// === impl IpFamilies ===

impl IpFamilies {
    /// Returns the families of a proxy; IPv4 if it has no address.
    pub fn of(proxy: &Proxy) -> Self {
        match (proxy.has_ipv4(), proxy.has_ipv6()) {
            (true, true) => Self::Both,
            (false, true) => Self::V6,
            (_, false) => Self::V4,
        }
    }

    /// Returns true if the address belongs to one of the families.
    pub const fn contains(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Both => true,
        }
    }

    /// Returns the wildcard address of the first family.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Returns the loopback address of the first family.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}
