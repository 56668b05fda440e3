//! One place where a port of a service is served.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Namespace};

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A Unix domain socket; the port is 0.
    Unix(Arc<str>),
    /// A host name the proxy resolves.
    Dns(Arc<str>),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Dns(host) => f.write_str(host),
        }
    }
}

/// Region, zone and sub-zone; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// For example `europe-west1`.
    pub region: Arc<str>,
    /// For example `europe-west1-b`.
    pub zone: Arc<str>,
    /// A rack, a building.
    pub sub_zone: Arc<str>,
}

impl Locality {
    /// From `region/zone/sub-zone` (or with `.`, which labels may hold, when there is no `/`).
    pub fn parse(text: &str) -> Self {
        let separator = if text.contains('/') { '/' } else { '.' };
        let mut parts = text.splitn(3, separator).map(Arc::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), sub_zone: next() }
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() || !self.sub_zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.sub_zone.is_empty() {
            write!(f, "/{}", self.sub_zone)?;
        }
        Ok(())
    }
}

/// Whether an endpoint should get traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Yes.
    #[default]
    Healthy,
    /// No, unless nothing else is left.
    Unhealthy,
    /// Only what it already has (persistent sessions).
    Draining,
    /// Going away; never sent.
    Terminating,
}

/// Whether an endpoint takes mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// Plaintext.
    #[default]
    Disabled,
    /// A sidecar terminates Istio's mutual TLS.
    Istio,
}

impl TlsMode {
    /// From the label `security.istio.io/tlsMode`.
    pub fn from_label(value: Option<&str>) -> Self {
        if value == Some("istio") { Self::Istio } else { Self::Disabled }
    }

    /// As endpoint metadata and labels spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Istio => "istio",
        }
    }
}

/// One place where one port of a service is served. Never changed in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// On which port; 0 for Unix sockets.
    pub port: u16,
    /// Name of the service port it serves.
    pub port_name: Arc<str>,
    /// Labels of the workload, for subsets.
    pub labels: Labels,
    /// SPIFFE id of the workload, empty when unknown.
    pub service_account: Arc<str>,
    /// Network it can be reached in, empty for the default one.
    pub network: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// Share of the traffic; 1 when not declared.
    pub weight: u32,
    /// Whether it should get traffic.
    pub health: Health,
    /// Whether it takes mutual TLS.
    pub tls_mode: TlsMode,
    /// Namespace of the workload.
    pub namespace: Namespace,
    /// Name of the workload (pod or `WorkloadEntry`), empty when unknown.
    pub workload: Arc<str>,
    /// Kubernetes node, empty when unknown.
    pub node: Arc<str>,
}

// === impl Endpoint ===

impl Endpoint {
    /// The cluster that it runs in, where its registry says so.
    pub fn cluster(&self) -> Option<&str> {
        self.labels.get("topology.istio.io/cluster").map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localities_are_read_from_either_spelling() {
        for (text, printed) in [
            ("r/z/s", "r/z/s"),
            ("r.z.s", "r/z/s"),
            ("r", "r"),
            ("r/z", "r/z"),
            ("", ""),
            ("r/z/s/t", "r/z/s/t"),
            ("a.b/z", "a.b/z"),
        ] {
            assert_eq!(Locality::parse(text).to_string(), printed, "{text}");
        }
    }
}
