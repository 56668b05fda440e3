//! TCP and TLS filter chains of a service, from the `tcp` and `tls` routes of `VirtualService`s.
//!
//! Criteria on client, port and gateway are evaluated here; SNI and destination networks become chain matches. The first
//! matching rule takes precedence, so rules that no connection can reach are omitted.

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

/// Returns the chains of a service at a bind address.
pub(super) fn tcp_chains(
    inputs: &PlanInputs,
    visible: &Visible,
    listener_port: &ListenerPort<'_>,
    service_bind: &ServiceBind,
) -> Vec<FilterChainInputs> {
    let host = &visible.service.hostname;
    let rules: Vec<&Shared<Routing>> = listener_port
        .tcp_rules
        .iter()
        .copied()
        .filter(|routing| routing.hosts.iter().any(|pattern| pattern.overlaps(host)))
        .collect();
    let builder = TcpChainBuilder { inputs, visible, listener_port, service_bind };
    if is_tls(listener_port.protocol) { builder.tls(&rules) } else { builder.tcp(&rules) }
}

const fn is_tls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Https | Protocol::Tls)
}

/// Inputs of the chains of one service.
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
        let mut distinct = BTreeSet::new();
        for routing in rules {
            for rule in routing.spec.tls.iter().filter(|rule| !rule.route.is_empty()) {
                let applicable = rule.r#match.iter().filter(|matches| {
                    self.applies(
                        matches.port,
                        &matches.gateways,
                        &matches.source_labels,
                        &matches.source_namespace,
                    )
                });
                for matches in applicable {
                    if distinct.insert((&matches.sni_hosts, &matches.destination_subnets)) {
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
                let applicable: Vec<_> = rule
                    .r#match
                    .iter()
                    .filter(|matches| {
                        let (labels, namespace) = (&matches.source_labels, &matches.source_namespace);
                        self.applies(matches.port, &matches.gateways, labels, namespace)
                    })
                    .collect();
                let unconditional = rule.r#match.is_empty()
                    || applicable.iter().any(|matches| {
                        matches.destination_subnets.is_empty() || self.listener_port.number == 0
                    });
                if unconditional {
                    let matches =
                        ChainMatch { networks: self.service_bind.networks.clone(), ..ChainMatch::default() };
                    chains.extend(self.chain(matches, routing, &rule.route));
                    return chains;
                }
                let subnets: Vec<String> = applicable
                    .iter()
                    .flat_map(|matches| matches.destination_subnets.iter().cloned())
                    .collect();
                if !subnets.is_empty() {
                    let matches = ChainMatch { networks: self.networks(&subnets), ..ChainMatch::default() };
                    chains.extend(self.chain(matches, routing, &rule.route));
                }
            }
        }
        chains.push(self.default(Vec::new()));
        chains
    }

    /// Returns true if a rule applies to the client, the port and the mesh gateway.
    fn applies(&self, port: u32, gateways: &[String], labels: &Map, namespace: &str) -> bool {
        let key = self.inputs.scope.key();
        (port == 0 || port == u32::from(self.listener_port.number))
            && (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH))
            && key.is_selected(labels)
            && (namespace.is_empty() || namespace == key.namespace.as_str())
    }

    /// Returns the networks of a rule, else those of the service. A Unix socket has no destination address.
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

    /// Returns the SNI matches of the service on an address that other services share.
    fn server_names(&self) -> Vec<String> {
        if self.service_bind.sharing != Sharing::Shared {
            return Vec::new();
        }
        let names = std::iter::once(&self.visible.service.hostname).chain(self.visible.aliases.iter());
        let mut names: Vec<String> = names.map(ToString::to_string).filter(|name| name != "*").collect();
        names.sort();
        names
    }

    /// Returns the chain to the service.
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
