//! Connections that are not read: which chains a service has, by what `VirtualService`s say of TLS and of bytes.
//!
//! Conditions that are known here (client, port, gateway) are decided here; names and networks become conditions of
//! chains. The first rule that a connection meets counts, so what could only be met after it is left out.

use std::collections::BTreeSet;

use super::bind::{ServiceBind, Sharing};
use super::{ListenerPort, PlanInputs};
use crate::api::values::Map;
use crate::api::virtual_service::RouteDestination;
use crate::generate::listener::{ChainMatch, FilterChainInputs, TerminalFilter};
use crate::generate::proto::masked;
use crate::generate::tcp_route::TcpRouting;
use crate::model::{Protocol, Shared, Vip};
use crate::push::Routing;
use crate::push::context::MESH;
use crate::scope::Visible;

/// The chains of a service at a place.
pub(super) fn chains(
    inputs: &PlanInputs,
    visible: &Visible,
    listener_port: &ListenerPort<'_>,
    service_bind: &ServiceBind,
) -> Vec<FilterChainInputs> {
    let host = &visible.service.hostname;
    let rules: Vec<&Shared<Routing>> = listener_port
        .l4
        .iter()
        .copied()
        .filter(|routing| routing.hosts.iter().any(|own| own.overlaps(host)))
        .collect();
    let made = TcpChainBuilder { inputs, visible, listener_port, service_bind };
    if is_tls(listener_port.protocol) { made.tls(&rules) } else { made.tcp(&rules) }
}

const fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

#[derive(Clone, Copy)]
struct TcpChainBuilder<'a> {
    inputs: &'a PlanInputs,
    visible: &'a Visible,
    listener_port: &'a ListenerPort<'a>,
    service_bind: &'a ServiceBind,
}

// === impl TcpChainBuilder ===

impl TcpChainBuilder<'_> {
    fn tls(&self, rules: &[&Shared<Routing>]) -> Vec<FilterChainInputs> {
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

    fn tcp(&self, rules: &[&Shared<Routing>]) -> Vec<FilterChainInputs> {
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
                    || here.iter().any(|matches| {
                        matches.destination_subnets.is_empty() || self.listener_port.number == 0
                    });
                if anywhere {
                    let matches =
                        ChainMatch { networks: self.service_bind.networks.clone(), ..ChainMatch::default() };
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
        (port == 0 || port == u32::from(self.listener_port.number))
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
        if named.is_empty() || self.listener_port.number == 0 {
            self.service_bind.networks.clone()
        } else {
            named.into_iter().collect()
        }
    }

    /// Names that tell whom a TLS client wants on an address that others use too.
    fn server_names(&self) -> Vec<String> {
        if self.service_bind.whose != Sharing::Shared {
            return Vec::new();
        }
        let names = std::iter::once(&self.visible.service.hostname).chain(self.visible.aliases.iter());
        let mut names: Vec<String> = names.map(ToString::to_string).filter(|name| name != "*").collect();
        names.sort();
        names
    }

    /// To the service itself.
    fn default(&self, server_names: Vec<String>) -> FilterChainInputs {
        let networks = self.service_bind.networks.clone();
        FilterChainInputs {
            name: String::new(),
            matches: ChainMatch { networks, server_names, ..ChainMatch::default() },
            terminal_filter: TerminalFilter::Tcp(self.l4().service(self.visible)),
            tls: None,
            config: None,
        }
    }

    fn chain(
        &self,
        matches: ChainMatch,
        routing: &Routing,
        routes: &[RouteDestination],
    ) -> Option<FilterChainInputs> {
        let terminal_filter = TerminalFilter::Tcp(self.l4().routes(routing, routes)?);
        let config = routing.sources.first().cloned();
        Some(FilterChainInputs { name: String::new(), matches, terminal_filter, tls: None, config })
    }

    fn l4(&self) -> TcpRouting<'_> {
        let stat_name = &self.inputs.settings.filters.stat_name;
        TcpRouting {
            scope: &self.inputs.scope,
            port: self.listener_port.number,
            protocol: self.listener_port.protocol,
            stat_name,
        }
    }
}
