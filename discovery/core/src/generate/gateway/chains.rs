//! The filter chains of servers that meet at a place.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Family, GatewayInputs, ServerAt};
use crate::api::gateway::ServerTlsMode;
use crate::generate::http::{HttpChain, Requests, Routes};
use crate::generate::l4::L4;
use crate::generate::listener::{Bind, Chain, ChainMatch, Speaks, Then};
use crate::generate::tls::{Inside, Termination};
use crate::generate::{Reason, Rejected};
use crate::model::{ClusterName, Location};
use crate::push::Routing;

/// The chains, in the order of the servers.
pub(super) fn chains(
    inputs: &GatewayInputs,
    port: u16,
    bind: &Bind,
    servers: &[ServerAt],
    rejected: &mut Vec<Rejected>,
) -> Vec<Chain> {
    let listener = bind.listener(port);
    if let Some(first) = servers.first().filter(|first| first.family() == Family::Plain) {
        // One for all hosts of all servers: the routes tell them apart.
        return http(inputs, &listener, first).into_iter().collect();
    }
    let mut made = Made { inputs, listener, chains: Vec::new(), rejected };
    for server in servers {
        made.add(server);
    }
    made.chains
}

struct Made<'a> {
    inputs: &'a GatewayInputs,
    listener: String,
    chains: Vec<Chain>,
    rejected: &'a mut Vec<Rejected>,
}

// === impl Made ===

impl Made<'_> {
    fn add(&mut self, server: &ServerAt) {
        if server.routes.is_some() {
            if let Some(chain) = http(self.inputs, &self.listener, server) {
                self.push(chain, server);
            }
            return;
        }
        match server.server.tls.as_ref().map(|tls| tls.mode) {
            Some(ServerTlsMode::AutoPassthrough) => self.by_cluster(server),
            Some(ServerTlsMode::Passthrough) => self.by_name(server),
            _ => {
                if let Some(chain) = tcp(self.inputs, server) {
                    self.push(chain, server);
                }
            }
        }
    }

    /// TLS that is passed on: each rule takes the names it asks for.
    fn by_name(&mut self, server: &ServerAt) {
        let gateway = server.name();
        let l4 = l4(self.inputs, server);
        let mut found = Vec::new();
        for routing in
            self.inputs.routings(&gateway).filter(|routing| !server.common_hosts(routing).is_empty())
        {
            for rule in &routing.spec.tls {
                for matches in
                    rule.r#match.iter().filter(|own| is_here(own.port, &own.gateways, server, &gateway))
                {
                    let Some(then) = l4.routes(routing, &rule.route) else { continue };
                    let names: BTreeSet<String> =
                        matches.sni_hosts.iter().filter(|name| *name != "*").cloned().collect();
                    found.push(Chain {
                        name: String::new(),
                        matches: named(names.into_iter().collect()),
                        then: Then::Tcp(then),
                        tls: None,
                        decided_by: routing.sources.first().cloned(),
                    });
                }
            }
        }
        for chain in found {
            self.push(chain, server);
        }
    }

    /// TLS that is passed on to the cluster that its SNI names. Only the mesh's own: whoever offers its protocols is shown
    /// a certificate on the other side.
    fn by_cluster(&mut self, server: &ServerAt) {
        let scope = &self.inputs.scope;
        let services = scope.services().iter().filter(|seen| {
            let host = &seen.service.hostname;
            seen.service.location == Location::MeshInternal
                && server.hosts.iter().any(|own| own.host.includes(host))
        });
        let mut found = Vec::new();
        for seen in services {
            for port in seen.ports().filter(|port| seen.service.is_proxied_at(port)) {
                let subsets =
                    seen.rule.iter().flat_map(|rule| &rule.subsets).map(|subset| subset.name.as_str());
                for subset in std::iter::once("").chain(subsets) {
                    let stat_name = &*self.inputs.settings.filters.stat_name;
                    let l4 = L4 { scope, port: port.port, protocol: port.protocol, stat_name };
                    let cluster = ClusterName {
                        subset: subset.to_owned(),
                        ..ClusterName::outbound(port.port, &seen.service.hostname)
                    };
                    let sni = cluster.sni();
                    found.push(Chain {
                        name: String::new(),
                        matches: ChainMatch {
                            server_names: vec![sni.clone()],
                            speaks: Speaks::MeshTls,
                            ..ChainMatch::default()
                        },
                        then: Then::Tcp(l4.named(sni, seen, subset)),
                        tls: None,
                        decided_by: Some(server.gateway.clone()),
                    });
                }
            }
        }
        for chain in found {
            self.push(chain, server);
        }
    }

    /// Adds a chain for the connections that no other one takes: Envoy refuses a listener in which two take the same.
    fn push(&mut self, mut chain: Chain, server: &ServerAt) {
        for other in &self.chains {
            let left = chain.matches.without(&other.matches);
            if left.as_ref() != Some(&chain.matches) {
                self.rejected.push(Rejected {
                    subject: self.listener.clone(),
                    service: server.name().into(),
                    reason: Reason::DuplicateDomain,
                });
            }
            let Some(left) = left else { return };
            chain.matches = left;
        }
        self.chains.push(chain);
    }
}

fn http(inputs: &GatewayInputs, listener: &str, server: &ServerAt) -> Option<Chain> {
    let routes = server.routes.clone()?;
    let terminated = server.family() == Family::Tls;
    let stat_prefix = if terminated && !server.server.name.is_empty() {
        server.server.name.clone()
    } else {
        format!("outbound_{listener};")
    };
    Some(Chain {
        name: String::new(),
        matches: if terminated { named(server.server_names()) } else { ChainMatch::default() },
        then: Then::Http(HttpChain {
            stat_prefix,
            routes: Routes::Discovered(routes.to_string()),
            protocol: server.protocol,
            requests: Requests::ToOrigin,
            edge: Some(inputs.edge),
        }),
        tls: if terminated { termination(inputs, server, Inside::Http) } else { None },
        decided_by: Some(server.gateway.clone()),
    })
}

/// Bytes, and what is inside TLS that ends here: the first rule for the port takes all.
fn tcp(inputs: &GatewayInputs, server: &ServerAt) -> Option<Chain> {
    let gateway = server.name();
    let l4 = l4(inputs, server);
    let (routing, then) = inputs
        .routings(&gateway)
        .filter(|routing| !server.common_hosts(routing).is_empty())
        .find_map(|routing| Some((routing, first_rule(routing, server, &gateway, &l4)?)))?;
    Some(Chain {
        name: String::new(),
        matches: if server.family() == Family::Tls {
            named(server.server_names())
        } else {
            ChainMatch::default()
        },
        then,
        tls: termination(inputs, server, Inside::Bytes),
        decided_by: routing.sources.first().cloned(),
    })
}

fn first_rule(routing: &Routing, server: &ServerAt, gateway: &str, l4: &L4<'_>) -> Option<Then> {
    let rule = routing.spec.tcp.iter().filter(|rule| !rule.route.is_empty()).find(|rule| {
        rule.r#match.is_empty()
            || rule.r#match.iter().any(|own| is_here(own.port, &own.gateways, server, gateway))
    })?;
    l4.routes(routing, &rule.route).map(Then::Tcp)
}

fn l4<'a>(inputs: &'a GatewayInputs, server: &ServerAt) -> L4<'a> {
    let stat_name = &*inputs.settings.filters.stat_name;
    L4 { scope: &inputs.scope, port: server.declared, protocol: server.protocol, stat_name }
}

fn termination(inputs: &GatewayInputs, server: &ServerAt, inside: Inside) -> Option<Arc<Termination>> {
    let settings = server.server.tls.clone().filter(|_| !server.passes_tls_on())?;
    let defaults = inputs.tls_defaults.clone();
    Some(Arc::new(Termination { settings, inside, defaults }))
}

fn named(server_names: Vec<String>) -> ChainMatch {
    ChainMatch { server_names, ..ChainMatch::default() }
}

/// Whether a rule is for this port of this gateway.
fn is_here(port: u32, gateways: &[String], server: &ServerAt, gateway: &str) -> bool {
    (port == 0 || port == u32::from(server.declared))
        && (gateways.is_empty() || gateways.iter().any(|own| own == gateway))
}
