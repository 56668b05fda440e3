//! Connections that are not read: which chains a service has, by what `VirtualService`s say of TLS and of bytes.
//!
//! Conditions that are known here (client, port, gateway) are decided here; names and networks become conditions of
//! chains. The first rule that a connection meets counts, so what could only be met after it is left out.

use std::collections::BTreeSet;

use super::Spot;
use super::place::{Place, Whose};
use crate::api::destination_rule::{ConsistentHash, LoadBalancer, TrafficPolicy};
use crate::api::values::Map;
use crate::api::virtual_service::{Destination, RouteDestination};
use crate::generate::filter::{ConnectionHash, TcpChain};
use crate::generate::listener::{Chain, ChainMatch, Then};
use crate::generate::proto::masked;
use crate::model::{ClusterName, Hostname, Protocol, Shared, Vip};
use crate::push::context::MESH;
use crate::push::{Routing, Rule};
use crate::scope::{Scope, Visible};

/// The chains of a service at a place.
pub(super) fn chains(scope: &Scope, seen: &Visible, spot: &Spot<'_>, place: &Place) -> Vec<Chain> {
    let host = &seen.service.hostname;
    let rules: Vec<&Shared<Routing>> = spot
        .l4
        .iter()
        .copied()
        .filter(|routing| routing.hosts.iter().any(|own| own.overlaps(host)))
        .collect();
    let made = Made { scope, seen, spot, place };
    if is_tls(spot.protocol) { made.tls(&rules) } else { made.tcp(&rules) }
}

const fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

#[derive(Clone, Copy)]
struct Made<'a> {
    scope: &'a Scope,
    seen: &'a Visible,
    spot: &'a Spot<'a>,
    place: &'a Place,
}

// === impl Made ===

impl Made<'_> {
    fn tls(&self, rules: &[&Shared<Routing>]) -> Vec<Chain> {
        let mut chains = Vec::new();
        let mut met = BTreeSet::new();
        for routing in rules {
            for rule in routing.spec.tls.iter().filter(|rule| !rule.route.is_empty()) {
                let here = rule.r#match.iter().filter(|matches| {
                    self.is_here(
                        matches.port,
                        &matches.gateways,
                        &matches.source_labels,
                        &matches.source_namespace,
                    )
                });
                for matches in here {
                    if met.insert((&matches.sni_hosts, &matches.destination_subnets)) {
                        let networks = self.networks(&matches.destination_subnets);
                        let mut server_names: Vec<String> =
                            matches.sni_hosts.iter().filter(|name| *name != "*").cloned().collect();
                        server_names.sort();
                        server_names.dedup();
                        let matches = ChainMatch { networks, server_names, ..ChainMatch::default() };
                        chains.extend(self.chain(matches, routing, &rule.route));
                    }
                }
            }
        }
        if chains.is_empty() { vec![self.default(self.server_names())] } else { chains }
    }

    fn tcp(&self, rules: &[&Shared<Routing>]) -> Vec<Chain> {
        let mut chains = Vec::new();
        for routing in rules {
            for rule in routing.spec.tcp.iter().filter(|rule| !rule.route.is_empty()) {
                let here: Vec<_> = rule
                    .r#match
                    .iter()
                    .filter(|matches| {
                        let (labels, namespace) = (&matches.source_labels, &matches.source_namespace);
                        self.is_here(matches.port, &matches.gateways, labels, namespace)
                    })
                    .collect();
                let anywhere = rule.r#match.is_empty()
                    || here
                        .iter()
                        .any(|matches| matches.destination_subnets.is_empty() || self.spot.number == 0);
                if anywhere {
                    let matches =
                        ChainMatch { networks: self.place.networks.clone(), ..ChainMatch::default() };
                    chains.extend(self.chain(matches, routing, &rule.route));
                    return chains;
                }
                let subnets: Vec<String> =
                    here.iter().flat_map(|matches| matches.destination_subnets.iter().cloned()).collect();
                if !subnets.is_empty() {
                    let matches = ChainMatch { networks: self.networks(&subnets), ..ChainMatch::default() };
                    chains.extend(self.chain(matches, routing, &rule.route));
                }
            }
        }
        chains.push(self.default(Vec::new()));
        chains
    }

    /// Whether a rule is for this client at this port.
    fn is_here(&self, port: u32, gateways: &[String], labels: &Map, namespace: &str) -> bool {
        let key = self.scope.key();
        (port == 0 || port == u32::from(self.spot.number))
            && (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH))
            && key.is_selected(labels)
            && (namespace.is_empty() || namespace == key.namespace.as_str())
    }

    /// The networks that a rule names; else those of the service. A Unix socket has none.
    fn networks(&self, subnets: &[String]) -> Vec<Vip> {
        let named: BTreeSet<Vip> = subnets
            .iter()
            .filter_map(|text| Vip::parse(text))
            .map(|vip| Vip { ip: masked(vip), prefix: vip.prefix })
            .collect();
        if named.is_empty() || self.spot.number == 0 {
            self.place.networks.clone()
        } else {
            named.into_iter().collect()
        }
    }

    /// Names that tell whom a TLS client wants on an address that others use too.
    fn server_names(&self) -> Vec<String> {
        if self.place.whose != Whose::Everyones {
            return Vec::new();
        }
        let names = std::iter::once(&self.seen.service.hostname).chain(self.seen.aliases.iter());
        let mut names: Vec<String> = names.map(ToString::to_string).filter(|name| name != "*").collect();
        names.sort();
        names
    }

    /// To the service itself.
    fn default(&self, server_names: Vec<String>) -> Chain {
        let networks = self.place.networks.clone();
        let destination =
            Destination { host: self.seen.service.hostname.to_string(), ..Destination::default() };
        let (cluster, rule) = self.target(&destination);
        Chain {
            name: String::new(),
            matches: ChainMatch { networks, server_names, ..ChainMatch::default() },
            then: Then::Tcp(self.to(vec![(cluster, 1)], None, rule, "")),
            decided_by: None,
        }
    }

    /// To where a rule leads. The first destination's `DestinationRule` holds for all of them: connections are closed by a
    /// listener, not by a cluster.
    fn chain(&self, matches: ChainMatch, routing: &Routing, routes: &[RouteDestination]) -> Option<Chain> {
        let first = routes.first()?.destination.as_ref()?;
        let (cluster, rule) = self.target(first);
        let tcp = if routes.len() == 1 {
            self.to(vec![(cluster, 1)], None, rule, &first.subset)
        } else {
            let share = |route: &RouteDestination| {
                let weight = u32::try_from(route.weight).ok().filter(|weight| *weight > 0)?;
                Some((self.target(route.destination.as_ref()?).0, weight))
            };
            let clusters: Vec<(String, u32)> = routes.iter().filter_map(share).collect();
            let prefix = format!("{}.{}", routing.name, routing.namespace);
            (!clusters.is_empty()).then(|| self.to(clusters, Some(prefix), rule, ""))?
        };
        Some(Chain {
            name: String::new(),
            matches,
            then: Then::Tcp(tcp),
            decided_by: routing.sources.first().cloned(),
        })
    }

    fn to(
        &self,
        clusters: Vec<(String, u32)>,
        stat_prefix: Option<String>,
        rule: Option<Shared<Rule>>,
        subset: &str,
    ) -> TcpChain {
        let policy = rule.as_ref().and_then(|rule| rule.traffic_policy.as_ref());
        let pool =
            policy.and_then(|policy| policy.connection_pool.as_ref()).and_then(|pool| pool.tcp.as_ref());
        let first = clusters.first().map(|(name, _)| name.clone()).unwrap_or_default();
        TcpChain {
            stat_prefix: stat_prefix.unwrap_or(first),
            clusters,
            protocol: self.spot.protocol,
            idle_timeout: pool.and_then(|pool| pool.idle_timeout),
            longest: pool.and_then(|pool| pool.max_connection_duration),
            hash: rule.map_or(ConnectionHash::Nothing, |rule| hash(&rule, subset)),
        }
    }

    /// The cluster of a destination, and the rule for its host. A destination without a port means the only port of its
    /// service, or the one that was asked for.
    fn target(&self, destination: &Destination) -> (String, Option<Shared<Rule>>) {
        let host = Hostname::from(&*destination.host);
        let own = host == self.seen.service.hostname;
        let seen = if own { Some(self.seen) } else { self.scope.by_host(host.as_str()) };
        let named =
            destination.port.and_then(|port| u16::try_from(port.number).ok()).filter(|port| *port != 0);
        let port = named.or_else(|| only_port(seen?)).unwrap_or(self.spot.number);
        let cluster =
            ClusterName { subset: destination.subset.clone(), ..ClusterName::outbound(port, &host) };
        (cluster.to_string(), seen.and_then(|seen| seen.rule.clone()))
    }
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
