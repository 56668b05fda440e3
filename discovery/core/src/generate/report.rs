//! What could not be generated, and why. One thing that cannot be used never silences the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::Hostname;

/// What a generation has to tell besides what it made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that was left out.
    pub rejected: Vec<Rejected>,
}

/// One thing that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rejected {
    /// Name of the listener, cluster, route or endpoint that is missing or incomplete.
    pub subject: String,
    /// The service it was for.
    pub service: Hostname,
    /// Why.
    pub reason: RejectReason,
}

/// Why something was left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Another, older service already answers there and nothing in a connection tells the two apart.
    SameMatch {
        /// Who has it.
        existing: Hostname,
    },
    /// A protocol whose server speaks first shares the port with another protocol: one of them would hang.
    ServerFirst {
        /// Who has it.
        existing: Hostname,
    },
    /// Two services on one port of the workload say different protocols; the older one is believed.
    InboundProtocol {
        /// Who is believed.
        existing: Hostname,
    },
    /// The proxy itself listens there.
    ReservedPort,
    /// The proxy may not bind ports below 1024.
    PrivilegedPort,
    /// Without interception the workload itself listens there.
    WorkloadPort,
    /// A DNS cluster without an address to resolve.
    NoEndpoints,
    /// An endpoint's address is a host name, which only DNS clusters can resolve.
    HostnameEndpoint,
    /// A rule says the name of a subset twice; the first one counts.
    DuplicateSubset,
    /// A rule for all clients names a secret: sidecars may not have it, and connect without TLS.
    SecretForAll,
    /// Another, older service already has this domain on this port.
    DuplicateDomain,
    /// An older `Gateway` serves something else at this port.
    PortTaken {
        /// Who has it.
        existing: Hostname,
    },
    /// A server of TLS that says nothing of it.
    NoCertificate,
    /// A part of a configuration object that means nothing, or that Envoy would refuse everything for.
    Unusable(&'static str),
    /// A patch of an `EnvoyFilter` does not fit.
    Patch(Arc<str>),
    /// The generator failed; a defect of ours.
    Panicked,
}

// === impl Report ===

impl Report {
    /// Takes over what another report tells.
    pub fn absorb(&mut self, rejected: &[Rejected]) {
        self.rejected.extend_from_slice(rejected);
    }

    /// How often each of Istio's metrics counts.
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
    /// The metric of Istio's that counts this.
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
            Self::SameMatch { existing } => write!(f, "{existing} is older and answers the same connections"),
            Self::ServerFirst { existing } => {
                write!(f, "shares the port with {existing}, and a server-first protocol cannot be sniffed")
            }
            Self::InboundProtocol { existing } => write!(f, "{existing} is older and says another protocol"),
            Self::ReservedPort => f.write_str("the proxy itself listens there"),
            Self::PrivilegedPort => f.write_str("the proxy may not bind ports below 1024"),
            Self::WorkloadPort => f.write_str("the workload itself listens there"),
            Self::NoEndpoints => f.write_str("there is no address to resolve"),
            Self::HostnameEndpoint => f.write_str("a host name is no address outside a DNS service"),
            Self::DuplicateSubset => f.write_str("another subset of the rule has this name"),
            Self::SecretForAll => f.write_str(
                "credentialName is for gateways and for rules with a workloadSelector; there is no TLS",
            ),
            Self::DuplicateDomain => f.write_str("an older service has this domain"),
            Self::PortTaken { existing } => write!(f, "{existing} is older and serves something else there"),
            Self::NoCertificate => f.write_str("the server says nothing of its TLS"),
            Self::Unusable(why) => f.write_str(why),
            Self::Patch(why) => f.write_str(why),
            Self::Panicked => f.write_str("the generator failed"),
        }
    }
}
