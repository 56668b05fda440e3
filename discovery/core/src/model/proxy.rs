//! Proxy, as described by the node of its first request.

use std::net::IpAddr;

use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::node::{InterceptionMode, MetadataError, NodeId, NodeIdError, NodeMetadata, NodeType};

use super::{Locality, Namespace};

/// Connected proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `<type>~<ip>~<id>~<dns domain>`.
    pub id: NodeId,
    /// Addresses, the primary one first; never empty.
    pub ips: Vec<IpAddr>,
    /// Namespace of its configuration.
    pub namespace: Namespace,
    /// Node metadata.
    pub metadata: NodeMetadata,
    /// Locality of the proxy.
    pub locality: Locality,
    /// Service name in traces (`node.cluster`); may be empty.
    pub service_cluster: String,
}

/// Error: the node cannot be served. gRPC status `InvalidArgument`.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Invalid id.
    #[error(transparent)]
    Id(#[from] NodeIdError),
    /// Invalid metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Neither `INSTANCE_IPS` nor the id has an address.
    #[error("node {0} has no valid IP address in its id or INSTANCE_IPS")]
    NoAddress(String),
}

impl Proxy {
    /// Parses the node of a first request.
    pub fn from_node(node: &Node) -> Result<Self, ProxyError> {
        let id: NodeId = node.id.parse()?;
        let metadata = node.metadata.as_ref().map(NodeMetadata::from_struct).transpose()?.unwrap_or_default();
        let listed: Result<Vec<IpAddr>, _> = metadata.instance_ips.0.iter().map(|ip| ip.parse()).collect();
        let ips = match listed {
            Ok(ips) if !ips.is_empty() => ips,
            _ => vec![id.ip.parse().map_err(|_| ProxyError::NoAddress(node.id.clone()))?],
        };
        let namespace = metadata.namespace.as_deref().or(id.namespace()).unwrap_or_default().into();
        let locality = node.locality.as_ref().map_or_else(Locality::default, |locality| Locality {
            region: locality.region.as_str().into(),
            zone: locality.zone.as_str().into(),
            sub_zone: locality.sub_zone.as_str().into(),
        });
        Ok(Self { id, ips, namespace, metadata, locality, service_cluster: node.cluster.clone() })
    }

    /// Returns the type of the proxy.
    pub const fn node_type(&self) -> NodeType {
        self.id.node_type
    }

    /// Returns the interception mode.
    pub fn interception(&self) -> InterceptionMode {
        self.metadata.interception_mode.unwrap_or_default()
    }

    /// Returns `true` if it has an IPv4 address.
    pub fn has_ipv4(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv4)
    }

    /// Returns `true` if it has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv6)
    }

    /// Returns the wildcard address of the proxy's primary family.
    pub fn wildcard(&self) -> &'static str {
        if self.has_ipv4() { "0.0.0.0" } else { "::" }
    }

    /// Returns `true` for a gRPC library with xDS (`GENERATOR: grpc`).
    pub fn is_proxyless(&self) -> bool {
        self.metadata.generator.as_deref() == Some("grpc")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node { id: id.into(), ..Node::default() }
    }

    #[test]
    fn a_sidecar_is_read_from_its_id() {
        let proxy = Proxy::from_node(&node("sidecar~10.1.1.1~pod.ns~ns.svc.cluster.local")).unwrap();
        assert_eq!((proxy.namespace.as_str(), proxy.ips[0].to_string().as_str()), ("ns", "10.1.1.1"));
    }

    #[test]
    fn a_node_without_an_address_is_refused() {
        for id in ["sidecar~~pod.ns~ns.svc.cluster.local", "sidecar~x~pod.ns~ns.svc.cluster.local", "", "pod"]
        {
            assert!(Proxy::from_node(&node(id)).is_err(), "{id}");
        }
    }
}
