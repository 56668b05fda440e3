//! Endpoint of a service port.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Labels, Namespace};

/// Address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A Unix domain socket; the port is 0.
    Unix(Arc<str>),
    /// A host name that the proxy resolves.
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
    /// For example a rack or a building.
    pub sub_zone: Arc<str>,
}

impl Locality {
    /// Parses `region/zone/sub-zone` (or with `.`, as in labels, if there is no `/`).
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

/// Health of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Gets traffic.
    #[default]
    Healthy,
    /// Gets traffic only in panic mode.
    Unhealthy,
    /// Keeps existing traffic only (persistent sessions).
    Draining,
    /// Terminating; never sent.
    Terminating,
}

/// TLS mode of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsMode {
    /// Plaintext.
    #[default]
    Disabled,
    /// Istio's mutual TLS, terminated by a sidecar.
    Istio,
}

impl TlsMode {
    /// Parses the label `security.istio.io/tlsMode`.
    pub fn from_label(value: Option<&str>) -> Self {
        if value == Some("istio") { Self::Istio } else { Self::Disabled }
    }

    /// Returns the value in endpoint metadata and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Istio => "istio",
        }
    }
}

/// Endpoint of a service port. Never changed in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub address: EndpointAddress,
    /// Port; 0 for Unix sockets.
    pub port: u16,
    /// Name of the service port.
    pub port_name: Arc<str>,
    /// Labels of the workload, which subsets select.
    pub labels: Labels,
    /// SPIFFE id of the workload; empty if unknown.
    pub service_account: Arc<str>,
    /// Network of the workload; empty for the default network.
    pub network: Arc<str>,
    /// Locality of the workload.
    pub locality: Locality,
    /// Weight; 1 if not declared.
    pub weight: u32,
    /// Health.
    pub health: Health,
    /// TLS mode.
    pub tls_mode: TlsMode,
    /// Namespace of the workload.
    pub namespace: Namespace,
    /// Name of the workload (pod or `WorkloadEntry`); empty if unknown.
    pub workload: Arc<str>,
    /// Kubernetes node; empty if unknown.
    pub node: Arc<str>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Returns the cluster of the workload, if its registry names one.
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
