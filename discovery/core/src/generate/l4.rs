//! Connections that are not read: to which clusters, and for how long.
//!
//! Shared by what leaves a workload and what enters the mesh; which connections they are is decided there.

use super::filter::{ConnectionHash, TcpChain};
use super::stats::Counted;
use crate::api::destination_rule::{ConsistentHash, LoadBalancer, TrafficPolicy};
use crate::api::virtual_service::{Destination, RouteDestination};
use crate::model::{ClusterName, Hostname, Protocol, Resolution, Shared};
use crate::push::{Routing, Rule};
use crate::scope::{Scope, Visible};

/// A port whose connections are passed on.
#[derive(Clone, Copy)]
pub(super) struct L4<'a> {
    pub(super) scope: &'a Scope,
    /// The port that was asked for.
    pub(super) port: u16,
    /// What is said to be spoken there.
    pub(super) protocol: Protocol,
    /// How statistics are named; empty: as clusters are.
    pub(super) stat_name: &'a str,
}

/// Where a destination is.
struct Target<'a> {
    cluster: ClusterName,
    /// The service of its host.
    seen: Option<&'a Visible>,
    /// The port, if its host is what a client's TLS names.
    named_port: Option<u16>,
}

// === impl L4 ===

impl<'a> L4<'a> {
    /// To a service itself.
    pub(super) fn service(&self, seen: &Visible) -> TcpChain {
        let port = only_port(seen).unwrap_or(self.port);
        let cluster = ClusterName::outbound(port, &seen.service.hostname).to_string();
        let chain = self.to(vec![(cluster, 1)], self.counted(seen, port, ""), seen.rule.as_ref(), "");
        TcpChain { named_port: named_port(seen, port), ..chain }
    }

    /// To a cluster of a service that goes by another name.
    pub(super) fn named(&self, cluster: String, seen: &Visible, subset: &str) -> TcpChain {
        let stat_prefix = self.counted(seen, self.port, subset);
        self.to(vec![(cluster, 1)], stat_prefix, seen.rule.as_ref(), subset)
    }

    /// To where a rule leads, if it leads anywhere. The first destination's `DestinationRule` holds for all of them:
    /// connections are closed by a listener, not by a cluster.
    pub(super) fn routes(&self, routing: &Routing, routes: &[RouteDestination]) -> Option<TcpChain> {
        let first = routes.first()?.destination.as_ref()?;
        let Target { cluster, seen, named_port } = self.target(first);
        let rule = seen.and_then(|seen| seen.rule.as_ref());
        if routes.len() == 1 {
            let stat_prefix = seen.and_then(|seen| self.counted(seen, cluster.port, &first.subset));
            let chain = self.to(vec![(cluster.to_string(), 1)], stat_prefix, rule, &first.subset);
            return Some(TcpChain { named_port, ..chain });
        }
        let share = |route: &RouteDestination| {
            let weight = u32::try_from(route.weight).ok().filter(|weight| *weight > 0)?;
            Some((self.target(route.destination.as_ref()?), weight))
        };
        let shares: Vec<(Target<'_>, u32)> = routes.iter().filter_map(share).collect();
        let named_port = shares.iter().find_map(|(target, _)| target.named_port);
        let clusters: Vec<(String, u32)> =
            shares.into_iter().map(|(target, weight)| (target.cluster.to_string(), weight)).collect();
        let prefix = format!("{}.{}", routing.name, routing.namespace);
        (!clusters.is_empty()).then(|| {
            let chain = self.to(clusters, Some(prefix), rule, "");
            TcpChain { named_port, ..chain }
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
            longest: pool.and_then(|pool| pool.max_connection_duration),
            hash: rule.map_or(ConnectionHash::Nothing, |rule| hash(rule, subset)),
            named_port: None,
        }
    }

    /// What statistics of a port are named, where the mesh says how.
    fn counted(&self, seen: &Visible, port: u16, subset: &str) -> Option<String> {
        let (service, port) = (&seen.service, seen.service.port(port)?);
        Counted { service, port, subset, target: None }.name(self.stat_name)
    }

    /// Where a destination is. One without a port means the only port of its service, or the one that was asked for.
    fn target(&self, destination: &Destination) -> Target<'a> {
        let host = Hostname::from(&*destination.host);
        let seen = self.scope.by_host(host.as_str());
        let named =
            destination.port.and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port != 0);
        let port = named.or_else(|| only_port(seen?)).unwrap_or(self.port);
        let cluster =
            ClusterName { subset: destination.subset.clone(), ..ClusterName::outbound(port, &host) };
        Target { cluster, seen, named_port: seen.and_then(|seen| named_port(seen, port)) }
    }
}

/// The port, if what is there is found by the name that a client's TLS asks for.
fn named_port(seen: &Visible, port: u16) -> Option<u16> {
    let named = seen.service.resolution == Resolution::DynamicDns;
    named.then(|| seen.port(port).map(|port| port.port)).flatten()
}

/// The port of a service that has but one.
fn only_port(seen: &Visible) -> Option<u16> {
    let mut ports = seen.ports();
    let first = ports.next()?;
    ports.next().is_none().then_some(first.port)
}

/// By what the hosts of a service, or of a subset of it, are chosen.
fn hash(rule: &Rule, subset: &str) -> ConnectionHash {
    let subset = rule.subsets.iter().find(|own| own.name == subset);
    let own = balancer(subset.and_then(|subset| subset.traffic_policy.as_ref()));
    let chosen = own.or_else(|| balancer(rule.traffic_policy.as_ref()));
    match chosen.and_then(|balancer| balancer.consistent_hash.as_ref()) {
        Some(ConsistentHash { use_source_ip: Some(true), .. }) => ConnectionHash::SourceIp,
        _ => ConnectionHash::Nothing,
    }
}

fn balancer(policy: Option<&TrafficPolicy>) -> Option<&LoadBalancer> {
    policy?.load_balancer.as_ref()
}
