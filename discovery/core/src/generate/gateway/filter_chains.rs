//! Filter chains of the servers on one port and bind address.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{GatewayInputs, GatewayServer, PortProtocol};
use crate::api::gateway::ServerTlsMode;
use crate::generate::downstream_tls::{TlsPayload, TlsTermination};
use crate::generate::http_connection_manager::{HttpChain, RequestTarget, RouteSource};
use crate::generate::listener::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, TerminalFilter,
};
use crate::generate::tcp_route::TcpRouting;
use crate::generate::{RejectReason, Rejected};
use crate::model::{ClusterName, Location};
use crate::push::Routing;

/// Returns the filter chains in the order of the servers.
pub(super) fn filter_chains(
    inputs: &GatewayInputs,
    port: u16,
    bind: &BindAddress,
    servers: &[GatewayServer],
    rejected: &mut Vec<Rejected>,
) -> Vec<FilterChainInputs> {
    let listener = bind.listener_name(port);
    if let Some(first) = servers.first().filter(|first| first.port_protocol() == PortProtocol::PlaintextHttp)
    {
        // Plaintext servers share one chain; the routes distinguish their hosts.
        return http(inputs, &listener, first).into_iter().collect();
    }
    let mut gateway_chains = GatewayChains { inputs, listener, chains: Vec::new(), rejected };
    for server in servers {
        gateway_chains.add(server);
    }
    gateway_chains.chains
}

/// Chains under construction.
struct GatewayChains<'a> {
    inputs: &'a GatewayInputs,
    listener: String,
    chains: Vec<FilterChainInputs>,
    rejected: &'a mut Vec<Rejected>,
}

// === impl GatewayChains ===

impl GatewayChains<'_> {
    fn add(&mut self, server: &GatewayServer) {
        if server.routes.is_some() {
            if let Some(chain) = http(self.inputs, &self.listener, server) {
                self.push(chain, server);
            }
            return;
        }
        match server.server.tls.as_ref().map(|tls| tls.mode) {
            Some(ServerTlsMode::AutoPassthrough) => self.auto_passthrough(server),
            Some(ServerTlsMode::Passthrough) => self.passthrough(server),
            _ => {
                if let Some(chain) = tcp(self.inputs, server) {
                    self.push(chain, server);
                }
            }
        }
    }

    /// Adds the chains of a server with `PASSTHROUGH`: one per `tls` route, by SNI.
    fn passthrough(&mut self, server: &GatewayServer) {
        let gateway = server.name();
        let tcp_routing = tcp_routing(self.inputs, server);
        let mut chains = Vec::new();
        for routing in
            self.inputs.routings(&gateway).filter(|routing| !server.common_hosts(routing).is_empty())
        {
            for rule in &routing.spec.tls {
                for matches in rule
                    .r#match
                    .iter()
                    .filter(|candidate| applies(candidate.port, &candidate.gateways, server, &gateway))
                {
                    let Some(terminal_filter) = tcp_routing.routes(routing, &rule.route) else { continue };
                    let names: BTreeSet<String> =
                        matches.sni_hosts.iter().filter(|name| *name != "*").cloned().collect();
                    chains.push(FilterChainInputs {
                        name: String::new(),
                        matches: named(names.into_iter().collect()),
                        terminal_filter: TerminalFilter::Tcp(terminal_filter),
                        tls: None,
                        config: routing.sources.first().cloned(),
                    });
                }
            }
        }
        for chain in chains {
            self.push(chain, server);
        }
    }

    /// Adds the chains of a server with `AUTO_PASSTHROUGH`: one per cluster, by the SNI that names the cluster. Only mutual
    /// TLS of the mesh is accepted, because the workload authenticates it.
    fn auto_passthrough(&mut self, server: &GatewayServer) {
        let scope = &self.inputs.scope;
        let services = scope.services().iter().filter(|visible| {
            let host = &visible.service.hostname;
            visible.service.location == Location::MeshInternal
                && server.hosts.iter().any(|candidate| candidate.host.includes(host))
        });
        let mut chains = Vec::new();
        for visible in services {
            for port in visible.ports().filter(|port| visible.service.is_proxied_at(port)) {
                let subsets =
                    visible.rule.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str());
                for subset in std::iter::once("").chain(subsets) {
                    let stat_name = &*self.inputs.settings.filters.stat_name;
                    let tcp_routing =
                        TcpRouting { scope, port: port.port, protocol: port.protocol, stat_name };
                    let cluster = ClusterName {
                        subset: subset.to_owned(),
                        ..ClusterName::outbound(port.port, &visible.service.hostname)
                    };
                    let sni = cluster.sni();
                    chains.push(FilterChainInputs {
                        name: String::new(),
                        matches: ChainMatch {
                            server_names: vec![sni.clone()],
                            protocol: DetectedProtocol::MeshTls,
                            ..ChainMatch::default()
                        },
                        terminal_filter: TerminalFilter::Tcp(tcp_routing.named(sni, visible, subset)),
                        tls: None,
                        config: Some(server.gateway.clone()),
                    });
                }
            }
        }
        for chain in chains {
            self.push(chain, server);
        }
    }

    /// Adds a chain for the connections that no other chain matches. Envoy rejects a listener with equal chain matches.
    fn push(&mut self, mut chain: FilterChainInputs, server: &GatewayServer) {
        for other in &self.chains {
            let rest = chain.matches.subtract(&other.matches);
            if rest.as_ref() != Some(&chain.matches) {
                self.rejected.push(Rejected {
                    subject: self.listener.clone(),
                    service: server.name().into(),
                    reason: RejectReason::DuplicateDomain,
                });
            }
            let Some(rest) = rest else { return };
            chain.matches = rest;
        }
        self.chains.push(chain);
    }
}

fn http(inputs: &GatewayInputs, listener: &str, server: &GatewayServer) -> Option<FilterChainInputs> {
    let routes = server.routes.clone()?;
    let terminated = server.port_protocol() == PortProtocol::Tls;
    let stat_prefix = if terminated && !server.server.name.is_empty() {
        server.server.name.clone()
    } else {
        format!("outbound_{listener};")
    };
    Some(FilterChainInputs {
        name: String::new(),
        matches: if terminated { named(server.server_names()) } else { ChainMatch::default() },
        terminal_filter: TerminalFilter::Http(HttpChain {
            stat_prefix,
            routes: RouteSource::Rds(routes.to_string()),
            protocol: server.protocol,
            request_target: RequestTarget::OriginForm,
            topology: Some(inputs.topology),
        }),
        tls: if terminated { termination(inputs, server, TlsPayload::Http) } else { None },
        config: Some(server.gateway.clone()),
    })
}

/// Returns the chain of a TCP server or of TCP in terminated TLS. The first rule for the port takes precedence.
fn tcp(inputs: &GatewayInputs, server: &GatewayServer) -> Option<FilterChainInputs> {
    let gateway = server.name();
    let tcp_routing = tcp_routing(inputs, server);
    let (routing, terminal_filter) = inputs
        .routings(&gateway)
        .filter(|routing| !server.common_hosts(routing).is_empty())
        .find_map(|routing| Some((routing, first_rule(routing, server, &gateway, &tcp_routing)?)))?;
    Some(FilterChainInputs {
        name: String::new(),
        matches: if server.port_protocol() == PortProtocol::Tls {
            named(server.server_names())
        } else {
            ChainMatch::default()
        },
        terminal_filter,
        tls: termination(inputs, server, TlsPayload::Tcp),
        config: routing.sources.first().cloned(),
    })
}

fn first_rule(
    routing: &Routing,
    server: &GatewayServer,
    gateway: &str,
    tcp_routing: &TcpRouting<'_>,
) -> Option<TerminalFilter> {
    let rule = routing.spec.tcp.iter().filter(|rule| !rule.route.is_empty()).find(|rule| {
        rule.r#match.is_empty()
            || rule
                .r#match
                .iter()
                .any(|candidate| applies(candidate.port, &candidate.gateways, server, gateway))
    })?;
    tcp_routing.routes(routing, &rule.route).map(TerminalFilter::Tcp)
}

fn tcp_routing<'a>(inputs: &'a GatewayInputs, server: &GatewayServer) -> TcpRouting<'a> {
    let stat_name = &*inputs.settings.filters.stat_name;
    TcpRouting { scope: &inputs.scope, port: server.declared_port, protocol: server.protocol, stat_name }
}

fn termination(
    inputs: &GatewayInputs,
    server: &GatewayServer,
    payload: TlsPayload,
) -> Option<Arc<TlsTermination>> {
    let settings = server.server.tls.clone().filter(|_| !server.is_tls_passthrough())?;
    let defaults = inputs.tls_defaults.clone();
    Some(Arc::new(TlsTermination { settings, payload, defaults }))
}

fn named(server_names: Vec<String>) -> ChainMatch {
    ChainMatch { server_names, ..ChainMatch::default() }
}

/// Returns true if a rule applies to the port and the gateway.
fn applies(port: u32, gateways: &[String], server: &GatewayServer, gateway: &str) -> bool {
    (port == 0 || port == u32::from(server.declared_port))
        && (gateways.is_empty() || gateways.iter().any(|candidate| candidate == gateway))
}
