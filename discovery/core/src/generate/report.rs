//! Report of a generation: resources that were omitted or are incomplete, with the reason.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::Hostname;

/// Report of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rejected configuration.
    pub rejected: Vec<Rejected>,
}

/// Configuration that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejected {
    /// Name of the listener, cluster, route or endpoint that is missing or incomplete.
    pub subject: String,
    /// Hostname of the service.
    pub service: Hostname,
    /// Reason of the rejection.
    pub reason: RejectReason,
}

/// Reason why configuration could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// An older service has a filter chain with the same match.
    SameMatch {
        /// Service or `Gateway` that takes precedence.
        existing: Hostname,
    },
    /// A server-first protocol shares the port with another protocol; detection would block one of them.
    ServerFirst {
        /// Service or `Gateway` that takes precedence.
        existing: Hostname,
    },
    /// Two services declare different protocols for one port of the workload; the older one takes precedence.
    InboundProtocol {
        /// Service that takes precedence.
        existing: Hostname,
    },
    /// The proxy itself uses the port.
    ReservedPort,
    /// The proxy may not bind ports below 1024.
    PrivilegedPort,
    /// Without interception the workload itself uses the port.
    WorkloadPort,
    /// A DNS cluster has no hostname to resolve.
    NoEndpoints,
    /// The address of an endpoint is a hostname, which only DNS clusters can resolve.
    HostnameEndpoint,
    /// A `DestinationRule` has two subsets with the same name; the first one is used.
    DuplicateSubset,
    /// A `DestinationRule` without `workloadSelector` has a `credentialName`. Sidecars connect without TLS.
    SecretForAll,
    /// An older service has the same domain on the same port.
    DuplicateDomain,
    /// An older `Gateway` uses the port with an incompatible protocol.
    PortTaken {
        /// Service or `Gateway` that takes precedence.
        existing: Hostname,
    },
    /// A TLS server of a `Gateway` has no `tls` settings.
    NoCertificate,
    /// A part of a configuration object is invalid, or Envoy would reject the resource because of it.
    Unusable(&'static str),
    /// A patch of an `EnvoyFilter` cannot be applied.
    Patch(Arc<str>),
    /// The generator panicked, which is a bug.
    Panicked,
}

// === impl Report ===

impl Report {
    /// Adds rejected configuration.
    pub fn absorb(&mut self, rejected: &[Rejected]) {
        self.rejected.extend_from_slice(rejected);
    }

    /// Returns the value of each of Istio's metrics.
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut counters = BTreeMap::new();
        for metric in self.rejected.iter().filter_map(|rejected| rejected.reason.metric()) {
            *counters.entry(metric).or_default() += 1;
        }
        counters
    }
}

// === impl RejectReason ===

impl RejectReason {
    /// Returns Istio's metric for the reason.
    pub const fn metric(&self) -> Option<&'static str> {
        match self {
            Self::SameMatch { .. } => Some("pilot_conflict_outbound_listener_tcp_over_current_tcp"),
            Self::InboundProtocol { .. } => Some("pilot_conflict_inbound_listener"),
            Self::NoEndpoints => Some("pilot_dns_cluster_without_endpoints"),
            Self::DuplicateDomain => Some("pilot_vservice_dup_domain"),
            Self::PortTaken { .. } | Self::NoCertificate => Some("pilot_total_rejected_configs"),
            Self::DuplicateSubset => Some("pilot_destrule_subsets"),
            Self::SecretForAll
            | Self::ServerFirst { .. }
            | Self::ReservedPort
            | Self::PrivilegedPort
            | Self::WorkloadPort
            | Self::HostnameEndpoint
            | Self::Unusable(_)
            | Self::Patch(_)
            | Self::Panicked => None,
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.subject, self.service, self.reason)
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameMatch { existing } => {
                write!(f, "{existing} is older and has the same filter chain match")
            }
            Self::ServerFirst { existing } => {
                write!(f, "shares the port with {existing}; a server-first protocol cannot be detected")
            }
            Self::InboundProtocol { existing } => {
                write!(f, "{existing} is older and declares another protocol")
            }
            Self::ReservedPort => f.write_str("the proxy uses this port"),
            Self::PrivilegedPort => f.write_str("the proxy may not bind ports below 1024"),
            Self::WorkloadPort => f.write_str("the workload uses this port"),
            Self::NoEndpoints => f.write_str("the DNS cluster has no hostname to resolve"),
            Self::HostnameEndpoint => {
                f.write_str("the address is a hostname, which only DNS clusters resolve")
            }
            Self::DuplicateSubset => f.write_str("duplicate subset name"),
            Self::SecretForAll => f.write_str(
                "credentialName requires a gateway or a rule with workloadSelector; TLS is disabled",
            ),
            Self::DuplicateDomain => f.write_str("an older service has the same domain"),
            Self::PortTaken { existing } => {
                write!(f, "{existing} is older and uses the port with an incompatible protocol")
            }
            Self::NoCertificate => f.write_str("the TLS server has no tls settings"),
            Self::Unusable(message) => f.write_str(message),
            Self::Patch(message) => f.write_str(message),
            Self::Panicked => f.write_str("the generator panicked"),
        }
    }
}
