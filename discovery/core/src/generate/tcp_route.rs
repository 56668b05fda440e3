//! Connections that are not read: to which clusters, and for how long.
//!
//! Shared by what leaves a workload and what enters the mesh; which connections they are is decided there.

use super::network_filters::{ConnectionHash, TcpChain};
use super::stat_name::StatNameVariables;
use crate::api::destination_rule::{ConsistentHash, LoadBalancer, TrafficPolicy};
use crate::api::virtual_service::{Destination, RouteDestination};
use crate::model::{ClusterName, Hostname, Protocol, Resolution, Shared};
use crate::push::{Routing, Rule};
use crate::scope::{Scope, Visible};

/// A port whose connections are passed on.
#[derive(Clone, Copy)]
pub(super) struct TcpRouting<'a> {
    pub(super) scope: &'a Scope,
    /// The port that was asked for.
    pub(super) port: u16,
    /// What is said to be spoken there.
    pub(super) protocol: Protocol,
    /// How statistics are named; empty: as clusters are.
    pub(super) stat_name: &'a str,
}

/// Where a destination is.
struct TcpDestination<'a> {
    cluster: ClusterName,
    /// The service of its host.
    visible: Option<&'a Visible>,
    /// The port, if its host is what a client's TLS names.
    sni_port: Option<u16>,
}

// === impl TcpRouting ===

impl<'a> TcpRouting<'a> {
    /// To a service itself.
    pub(super) fn service(&self, visible: &Visible) -> TcpChain {
        let port = only_port(visible).unwrap_or(self.port);
        let cluster = ClusterName::outbound(port, &visible.service.hostname).to_string();
        let chain = self.to(vec![(cluster, 1)], self.counted(visible, port, ""), visible.rule.as_ref(), "");
        TcpChain { sni_port: sni_port(visible, port), ..chain }
    }

    /// To a cluster of a service that goes by another name.
    pub(super) fn named(&self, cluster: String, visible: &Visible, subset: &str) -> TcpChain {
        let stat_prefix = self.counted(visible, self.port, subset);
        self.to(vec![(cluster, 1)], stat_prefix, visible.rule.as_ref(), subset)
    }

    /// To where a rule leads, if it leads anywhere. The first destination's `DestinationRule` holds for all of them:
    /// connections are closed by a listener, not by a cluster.
    pub(super) fn routes(&self, routing: &Routing, routes: &[RouteDestination]) -> Option<TcpChain> {
        let first = routes.first()?.destination.as_ref()?;
        let TcpDestination { cluster, visible, sni_port } = self.target(first);
        let rule = visible.and_then(|visible| visible.rule.as_ref());
        if routes.len() == 1 {
            let stat_prefix = visible.and_then(|visible| self.counted(visible, cluster.port, &first.subset));
            let chain = self.to(vec![(cluster.to_string(), 1)], stat_prefix, rule, &first.subset);
            return Some(TcpChain { sni_port, ..chain });
        }
        let share = |route: &RouteDestination| {
            let weight = u32::try_from(route.weight).ok().filter(|weight| *weight > 0)?;
            Some((self.target(route.destination.as_ref()?), weight))
        };
        let shares: Vec<(TcpDestination<'_>, u32)> = routes.iter().filter_map(share).collect();
        let sni_port = shares.iter().find_map(|(target, _)| target.sni_port);
        let clusters: Vec<(String, u32)> =
            shares.into_iter().map(|(target, weight)| (target.cluster.to_string(), weight)).collect();
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

    /// What statistics of a port are named, where the mesh says how.
    fn counted(&self, visible: &Visible, port: u16, subset: &str) -> Option<String> {
        let (service, port) = (&visible.service, visible.service.port(port)?);
        StatNameVariables { service, port, subset, target: None }.name(self.stat_name)
    }

    /// Where a destination is. One without a port means the only port of its service, or the one that was asked for.
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

/// The port, if what is there is found by the name that a client's TLS asks for.
fn sni_port(visible: &Visible, port: u16) -> Option<u16> {
    let named = visible.service.resolution == Resolution::DynamicDns;
    named.then(|| visible.port(port).map(|port| port.port)).flatten()
}

/// The port of a service that has but one.
fn only_port(visible: &Visible) -> Option<u16> {
    let mut ports = visible.ports();
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
        _ => ConnectionHash::None,
    }
}

fn balancer(policy: Option<&TrafficPolicy>) -> Option<&LoadBalancer> {
    policy?.load_balancer.as_ref()
}
