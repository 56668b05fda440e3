//! Connections that are not read: which chains a service has, by what `VirtualService`s say of TLS and of bytes.
//!
//! Conditions that are known here (client, port, gateway) are decided here; names and networks become conditions of
//! chains. The first rule that a connection meets counts, so what could only be met after it is left out.

use std::collections::BTreeSet;

use super::place::{Place, Whose};
use super::{PlanInputs, Spot};
use crate::api::values::Map;
use crate::api::virtual_service::RouteDestination;
use crate::generate::l4::L4;
use crate::generate::listener::{Chain, ChainMatch, Then};
use crate::generate::proto::masked;
use crate::model::{Protocol, Shared, Vip};
use crate::push::Routing;
use crate::push::context::MESH;
use crate::scope::Visible;

/// The chains of a service at a place.
pub(super) fn chains(inputs: &PlanInputs, seen: &Visible, spot: &Spot<'_>, place: &Place) -> Vec<Chain> {
    let host = &seen.service.hostname;
    let rules: Vec<&Shared<Routing>> = spot
        .l4
        .iter()
        .copied()
        .filter(|routing| routing.hosts.iter().any(|own| own.overlaps(host)))
        .collect();
    let made = Made { inputs, seen, spot, place };
    if is_tls(spot.protocol) { made.tls(&rules) } else { made.tcp(&rules) }
}

const fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

#[derive(Clone, Copy)]
struct Made<'a> {
    inputs: &'a PlanInputs,
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
        let key = self.inputs.scope.key();
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
        Chain {
            name: String::new(),
            matches: ChainMatch { networks, server_names, ..ChainMatch::default() },
            then: Then::Tcp(self.l4().service(self.seen)),
            tls: None,
            decided_by: None,
        }
    }

    fn chain(&self, matches: ChainMatch, routing: &Routing, routes: &[RouteDestination]) -> Option<Chain> {
        let then = Then::Tcp(self.l4().routes(routing, routes)?);
        let decided_by = routing.sources.first().cloned();
        Some(Chain { name: String::new(), matches, then, tls: None, decided_by })
    }

    fn l4(&self) -> L4<'_> {
        let stat_name = &self.inputs.settings.filters.stat_name;
        L4 { scope: &self.inputs.scope, port: self.spot.number, protocol: self.spot.protocol, stat_name }
    }
}
