//! The resource types of xDS, in the order in which they are pushed.
//!
//! Order matters to Envoy: a route may name a cluster only after the cluster arrived, so additions go
//! clusters first (make before break) and removals the other way round.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations>

use std::fmt;

/// A resource type of xDS. The order of the variants is the push order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS: clusters.
    Cluster,
    /// EDS: the endpoints of clusters.
    Endpoint,
    /// LDS: listeners.
    Listener,
    /// RDS: route configurations.
    Route,
    /// SDS: keys and certificates.
    Secret,
    /// ECDS: configuration of single filters.
    Extension,
}

impl ResourceType {
    /// Every type, in push order.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::Secret, Self::Extension];

    /// `type.googleapis.com/envoy.config.cluster.v3.Cluster` and so on.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }

    /// The type with this URL, if it is one of ours.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Istio's short name as its metrics and logs spell it: `cds`, `eds`, ...
    pub const fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::Secret => "sds",
            Self::Extension => "ecds",
        }
    }

    /// Returns `true` if a request without names subscribes to all resources of the type. Only clusters and
    /// listeners support this legacy wildcard.
    pub const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

#[cfg(test)]
mod tests {
    use prost::Name;

    use super::*;
    use crate::envoy;

    #[test]
    fn urls_are_those_of_the_generated_messages() {
        use envoy::config::{
            cluster::v3::Cluster, core::v3::TypedExtensionConfig, endpoint::v3::ClusterLoadAssignment,
            listener::v3::Listener, route::v3::RouteConfiguration,
        };
        use envoy::extensions::transport_sockets::tls::v3::Secret;
        let generated = [
            Cluster::type_url(),
            ClusterLoadAssignment::type_url(),
            Listener::type_url(),
            RouteConfiguration::type_url(),
            Secret::type_url(),
            TypedExtensionConfig::type_url(),
        ];
        assert_eq!(ResourceType::ALL.map(|kind| kind.type_url().to_owned()), generated);
    }

    #[test]
    fn every_url_leads_back_to_its_type() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/envoy.api.v2.Cluster"), None);
    }
}
