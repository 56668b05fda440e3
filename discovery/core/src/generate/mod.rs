//! From what a proxy may see to what it is told: pure functions of their inputs.
//!
//! Every generator takes one struct that can be compared and hashed, and that struct is also its cache key. What a
//! generator does not receive it cannot depend on, so a cached answer is right by construction. Equal inputs make
//! equal bytes.
//!
//! ```text
//! Scope, Proxy, endpoints ─▶ {Plan, Cluster, Listener, Route, Assignment}Inputs ─▶ message
//! ```
//!
//! What cannot be used is data, see [`Rejected`].

pub mod cluster;
pub mod downstream_tls;
pub mod endpoint;
pub mod gateway;
pub mod grpc;
pub mod http_connection_manager;
pub mod inbound;
pub mod listener;
pub mod network_filters;
pub mod outbound;
mod proto;
mod report;
pub mod route;
mod sds_config;
mod stat_name;
mod tcp_route;
pub mod telemetry;
pub mod traffic_policy;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use report::{RejectReason, Rejected, Report};

use crate::model::Proxy;
use listener::BindAddress;

/// Address families a proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

// === impl Families ===

impl IpFamilies {
    /// Those of a proxy.
    pub fn of(proxy: &Proxy) -> Self {
        match (proxy.has_ipv4(), proxy.has_ipv6()) {
            (true, true) => Self::Both,
            (false, true) => Self::V6,
            (_, false) => Self::V4,
        }
    }

    /// Whether an address is of one of them.
    pub const fn contains(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Both => true,
        }
    }

    /// The address that stands for all of them in the first family.
    pub const fn wildcard(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// Where else a listener at an address listens: everywhere is everywhere in both families, and loopback is both.
    pub fn beside(self, bind: &BindAddress) -> Vec<IpAddr> {
        let second = match bind {
            BindAddress::Ip(ip) if *ip == self.wildcard() => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            BindAddress::Ip(ip) if *ip == self.loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            BindAddress::Ip(_) | BindAddress::Unix(_) => return Vec::new(),
        };
        if self == Self::Both { vec![second] } else { Vec::new() }
    }

    /// The loopback address of the first family.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 | Self::Both => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}
