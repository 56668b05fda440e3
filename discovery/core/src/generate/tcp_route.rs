//! TCP routes: clusters, weights and timeouts of connections without a parsed protocol.
//!
//! `outbound` and `gateway` use them; the chain matches are decided there.

use super::network_filters::{ConnectionHash, TcpChain};
use super::stat_name::StatNameVariables;
use crate::api::destination_rule::{ConsistentHash, LoadBalancer, TrafficPolicy};
use crate::api::virtual_service::{Destination, RouteDestination};
use crate::model::{ClusterName, Hostname, Protocol, Resolution, Shared};
use crate::push::{Routing, Rule};
use crate::scope::{Scope, Visible};

/// Context of the TCP routes of a port.
#[derive(Clone, Copy)]
pub(super) struct TcpRouting<'a> {
    pub(super) scope: &'a Scope,
    /// Destination port of the connections.
    pub(super) port: u16,
    /// Protocol of the port.
    pub(super) protocol: Protocol,
    /// Pattern of the statistics prefix; empty: the name of the cluster.
    pub(super) stat_name: &'a str,
}

/// Cluster of a destination.
struct TcpDestination<'a> {
    cluster: ClusterName,
    /// Service of the host.
    visible: Option<&'a Visible>,
    /// Port of a service that is resolved by SNI.
    sni_port: Option<u16>,
}

// === impl TcpRouting ===

impl<'a> TcpRouting<'a> {
    /// Returns the chain to a service.
    pub(super) fn service(&self, visible: &Visible) -> TcpChain {
        let port = only_port(visible).unwrap_or(self.port);
        let cluster = ClusterName::outbound(port, &visible.service.hostname).to_string();
        let chain =
            self.to(vec![(cluster, 1)], self.stat_prefix(visible, port, ""), visible.rule.as_ref(), "");
        TcpChain { sni_port: sni_port(visible, port), ..chain }
    }

    /// Returns the chain to a cluster of a service under another name.
    pub(super) fn named(&self, cluster: String, visible: &Visible, subset: &str) -> TcpChain {
        let stat_prefix = self.stat_prefix(visible, self.port, subset);
        self.to(vec![(cluster, 1)], stat_prefix, visible.rule.as_ref(), subset)
    }

    /// Returns the chain of a rule; `None`: the rule has no destination. The `DestinationRule` of the first destination
    /// applies to all of them, because idle timeout and hash policy belong to the listener.
    pub(super) fn routes(&self, routing: &Routing, routes: &[RouteDestination]) -> Option<TcpChain> {
        let first = routes.first()?.destination.as_ref()?;
        let TcpDestination { cluster, visible, sni_port } = self.target(first);
        let rule = visible.and_then(|visible| visible.rule.as_ref());
        if routes.len() == 1 {
            let stat_prefix =
                visible.and_then(|visible| self.stat_prefix(visible, cluster.port, &first.subset));
            let chain = self.to(vec![(cluster.to_string(), 1)], stat_prefix, rule, &first.subset);
            return Some(TcpChain { sni_port, ..chain });
        }
        let weighted = |route: &RouteDestination| {
            let weight = u32::try_from(route.weight).ok().filter(|weight| *weight > 0)?;
            Some((self.target(route.destination.as_ref()?), weight))
        };
        let destinations: Vec<(TcpDestination<'_>, u32)> = routes.iter().filter_map(weighted).collect();
        let sni_port = destinations.iter().find_map(|(target, _)| target.sni_port);
        let clusters: Vec<(String, u32)> =
            destinations.into_iter().map(|(target, weight)| (target.cluster.to_string(), weight)).collect();
        let prefix = format!("{}.{}", routing.name, routing.namespace);
        (!clusters.is_empty()).then(|| {
            let chain = self.to(clusters, Some(prefix), rule, "");
            TcpChain { sni_port, ..chain }
        })
    }

    fn to(
        &self,
        clusters: Vec<(String, u32)>,
        stat_prefix: Option<String>,
        rule: Option<&Shared<Rule>>,
        subset: &str,
    ) -> TcpChain {
        let policy = rule.and_then(|rule| rule.traffic_policy.as_ref());
        let pool =
            policy.and_then(|policy| policy.connection_pool.as_ref()).and_then(|pool| pool.tcp.as_ref());
        let first = clusters.first().map(|(name, _)| name.clone()).unwrap_or_default();
        TcpChain {
            stat_prefix: stat_prefix.unwrap_or(first),
            clusters,
            protocol: self.protocol,
            idle_timeout: pool.and_then(|pool| pool.idle_timeout),
            max_duration: pool.and_then(|pool| pool.max_connection_duration),
            hash: rule.map_or(ConnectionHash::None, |rule| hash(rule, subset)),
            sni_port: None,
        }
    }

    /// Returns the statistics prefix of a port; `None`: the mesh has no pattern.
    fn stat_prefix(&self, visible: &Visible, port: u16, subset: &str) -> Option<String> {
        let (service, port) = (&visible.service, visible.service.port(port)?);
        StatNameVariables { service, port, subset, target: None }.expand(self.stat_name)
    }

    /// Resolves a destination. Without a port it is the only port of the service, else the port of the connection.
    fn target(&self, destination: &Destination) -> TcpDestination<'a> {
        let host = Hostname::from(&*destination.host);
        let visible = self.scope.by_host(host.as_str());
        let named =
            destination.port.and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port != 0);
        let port = named.or_else(|| only_port(visible?)).unwrap_or(self.port);
        let cluster =
            ClusterName { subset: destination.subset.clone(), ..ClusterName::outbound(port, &host) };
        TcpDestination { cluster, visible, sni_port: visible.and_then(|visible| sni_port(visible, port)) }
    }
}

/// Returns the port if the service is resolved by SNI.
fn sni_port(visible: &Visible, port: u16) -> Option<u16> {
    let named = visible.service.resolution == Resolution::DynamicDns;
    named.then(|| visible.port(port).map(|port| port.port)).flatten()
}

/// Returns the port of a service with exactly one.
fn only_port(visible: &Visible) -> Option<u16> {
    let mut ports = visible.ports();
    let first = ports.next()?;
    ports.next().is_none().then_some(first.port)
}

/// Returns the hash policy of a service or subset.
fn hash(rule: &Rule, subset: &str) -> ConnectionHash {
    let subset = rule.subsets.iter().find(|candidate| candidate.name == subset);
    let load_balancer = balancer(subset.and_then(|subset| subset.traffic_policy.as_ref()))
        .or_else(|| balancer(rule.traffic_policy.as_ref()));
    match load_balancer.and_then(|balancer| balancer.consistent_hash.as_ref()) {
        Some(ConsistentHash { use_source_ip: Some(true), .. }) => ConnectionHash::SourceIp,
        _ => ConnectionHash::None,
    }
}

fn balancer(policy: Option<&TrafficPolicy>) -> Option<&LoadBalancer> {
    policy?.load_balancer.as_ref()
}
