//! What the hosts that rules send to mean: which service, which of its ports, and what its requests are hashed by.
//!
//! Nothing else of a service or of a `DestinationRule` is kept here, so nothing else of them changes a route.

use pilot_proto::envoy::config::route::v3::route_action::HashPolicy;
use pilot_proto::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};

use super::http_routes::{HttpRules, RouteContext};
use crate::api::destination_rule::{ConsistentHash, TrafficPolicy};
use crate::api::virtual_service::{Destination, HttpRoute};
use crate::generate::proto::duration;
use crate::model::{ClusterName, Direction, Hostname};
use crate::push::Rule;
use crate::scope::{Scope, Visible};

/// What a host means to a class of clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ResolvedDestination {
    /// The service: another name for it is only a name.
    host: Hostname,
    /// Its port, if it has only one.
    only_port: Option<u16>,
    hashing: HashPolicies,
}

/// What requests are hashed by, of all that a `DestinationRule` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HashPolicies {
    all: Option<ConsistentHash>,
    ports: Vec<(u32, ConsistentHash)>,
    /// By name of the subset.
    subsets: Vec<(String, Self)>,
}

// === impl Meaning ===

impl ResolvedDestination {
    /// `None`: nobody declared the host.
    pub(super) fn of(host: &str, scope: &Scope) -> Option<Self> {
        let is_called = |visible: &&Visible| visible.aliases.iter().any(|alias| alias.as_str() == host);
        let visible = scope.by_host(host).or_else(|| scope.services().iter().find(is_called))?;
        Some(Self {
            host: visible.service.hostname.clone(),
            only_port: match visible.service.ports.as_slice() {
                [port] => Some(port.port),
                _ => None,
            },
            hashing: visible.rule.as_ref().map(|rule| HashPolicies::of(rule)).unwrap_or_default(),
        })
    }
}

// === impl Hashing ===

impl HashPolicies {
    /// What a rule says about it.
    pub fn of(rule: &Rule) -> Self {
        let mut made = Self::of_policy(rule.traffic_policy.as_ref());
        let subsets =
            rule.subsets.iter().map(|subset| (&subset.name, Self::of_policy(subset.traffic_policy.as_ref())));
        made.subsets = subsets
            .filter(|(_, own)| *own != Self::default())
            .map(|(name, own)| (name.clone(), own))
            .collect();
        made
    }

    fn of_policy(policy: Option<&TrafficPolicy>) -> Self {
        let Some(policy) = policy else { return Self::default() };
        let ports = policy.port_level_settings.iter().filter_map(|own| {
            let hash = own.load_balancer.as_ref()?.consistent_hash.clone()?;
            Some((own.port?.number, hash))
        });
        Self {
            all: policy.load_balancer.as_ref().and_then(|balancer| balancer.consistent_hash.clone()),
            ports: ports.collect(),
            subsets: Vec::new(),
        }
    }

    /// What requests for a port of a subset are hashed by; the subset is empty for the whole service. What is said of the
    /// port of a subset counts before what is said of the subset, of the port, and of all.
    pub(super) fn policy(&self, subset: &str, port: u16) -> Option<HashPolicy> {
        let subset = self.subsets.iter().find(|(name, _)| name == subset).map(|(_, own)| own);
        let at_port = |own: &Self| {
            own.ports.iter().find(|(number, _)| *number == u32::from(port)).map(|(_, hash)| hash.clone())
        };
        let found = subset
            .and_then(at_port)
            .or_else(|| subset.and_then(|own| own.all.clone()))
            .or_else(|| at_port(self))
            .or_else(|| self.all.clone())?;
        hash_policy(&found)
    }
}

/// Hosts that requests of a rule, and copies of them, go to.
pub(super) fn hosts_of(rule: &HttpRoute) -> impl Iterator<Item = &str> {
    let routes = rule.route.iter().filter_map(|route| route.destination.as_ref());
    let mirrors = rule.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
    routes.chain(&rule.mirror).chain(mirrors).map(|destination| destination.host.as_str())
}

/// The cluster of a destination, whether there is one or not: what is unknown is answered 503 by Envoy. Without a port it is
/// the only one of the service, or the one that was asked for.
pub(super) fn cluster(rules: &HttpRules, destination: &Destination, at: &RouteContext<'_>) -> ClusterName {
    let meaning = rules.meaning(&destination.host);
    let said = destination.port.and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port != 0);
    ClusterName {
        direction: Direction::Outbound,
        port: said.or_else(|| meaning?.only_port).unwrap_or(at.port),
        subset: destination.subset.clone(),
        host: meaning.map_or_else(|| destination.host.clone(), |meaning| meaning.host.to_string()),
    }
}

/// What requests to a destination are hashed by.
pub(super) fn hashed_by(
    rules: &HttpRules,
    destination: &Destination,
    cluster: &ClusterName,
) -> Option<HashPolicy> {
    rules.meaning(&destination.host)?.hashing.policy(&cluster.subset, cluster.port)
}

fn hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let said = |text: &&String| !text.is_empty();
    let specifier = if let Some(name) = hash.http_header_name.as_ref().filter(said) {
        PolicySpecifier::Header(Header { header_name: name.clone(), regex_rewrite: None })
    } else if let Some(cookie) = hash.http_cookie.as_ref().filter(|cookie| !cookie.name.is_empty()) {
        let attributes = cookie.attributes.iter().map(|attribute| CookieAttribute {
            name: attribute.name.clone(),
            value: attribute.value.clone(),
        });
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.and_then(duration),
            path: cookie.path.clone(),
            attributes: attributes.collect(),
        })
    } else if hash.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else if let Some(name) = hash.http_query_parameter_name.as_ref().filter(said) {
        PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
    } else {
        return None;
    };
    Some(HashPolicy { terminal: false, policy_specifier: Some(specifier) })
}
