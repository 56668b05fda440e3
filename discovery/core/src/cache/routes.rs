//! Inputs of routes of an Envoy beside a workload, by the name of the route configuration.

use std::collections::HashSet;
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::node::NodeType;

use super::{Generated, Made, View, settings};
use crate::generate::IpFamilies;
use crate::generate::route::{
    HTTP_PROXY, HostOnlyRules, HostSet, HttpRules, InformationalHeaders, RouteInputs, RoutedService,
    ShadowedRules, route,
};
use crate::model::{Hostname, NameSet, Shared};
use crate::patch::GatewayPorts;
use crate::push::Routing;
use crate::scope::{Egress, Visible};

/// Prefix of names of routes of a Unix socket.
const UNIX: &str = "unix://";

// === impl View ===

impl View<'_> {
    pub(super) fn routes(self, names: &NameSet) -> Generated {
        match self.proxy.node_type() {
            NodeType::Sidecar => {}
            NodeType::Router => return self.gateway_routes(names),
            _ => return Generated::default(),
        }
        let informational_headers = settings::informational_headers(&self.steering());
        let seen_as = (None, informational_headers);
        self.named(ResourceType::Route, seen_as, names, |name| {
            Some(self.route(RouteInputs { informational_headers, ..self.route_inputs(name)? }))
        })
    }

    /// Returns the routes of one service for a gRPC library, without rules.
    pub(super) fn target_routes(self, name: &Arc<str>, seen: &Visible, port: u16) -> Made {
        let hosts = HostSet::Target(port);
        let services = Arc::from([RoutedService::of(seen, hosts, None, self.scope)]);
        self.route(RouteInputs { services, ..self.no_routes(name, hosts) })
    }

    fn route(self, inputs: RouteInputs) -> Made {
        let inputs = self.patched_routes(inputs, &GatewayPorts::new());
        self.cache.routes.get(&inputs, |patched| {
            Made::run(&patched.inputs.name, || patched.routes(route(&patched.inputs)))
        })
    }

    /// Parses the name of a route configuration: `<port>`, `<host>:<port>`, `http_proxy` or `unix://<path>`; returns the inputs
    /// of the routes.
    fn route_inputs(self, name: &Arc<str>) -> Option<RouteInputs> {
        if **name == *HTTP_PROXY || name.starts_with(UNIX) {
            let egress = self.scope.egress_at(0, name)?;
            return Some(self.table(name, HostSet::All, egress));
        }
        if let Some((host, port)) = name.rsplit_once(':') {
            let port = port_number(port)?;
            let egress = self.scope.egress_at(port, "")?;
            let seen = self.at(egress, host).filter(|seen| seen.port(port).is_some())?;
            let hosts = HostSet::Only(port);
            let services = Arc::from([self.reached(seen, hosts, egress)]);
            return Some(RouteInputs { services, ..self.no_routes(name, hosts) });
        }
        let port = port_number(name)?;
        match self.scope.egress_at(port, "") {
            Some(egress) if egress.is_http_proxy() => Some(self.table(name, HostSet::All, egress)),
            Some(egress) => Some(self.table(name, HostSet::OnPort(port), egress)),
            // A port without services still has the catch-all of the mesh.
            None => Some(self.no_routes(name, HostSet::OnPort(port))),
        }
    }

    /// Returns the service of a host at an egress listener.
    fn at<'a>(&'a self, egress: &'a Egress, host: &str) -> Option<&'a Visible> {
        if egress.port.is_none() && self.scope.egress().len() == 1 {
            return self.scope.by_host(host);
        }
        egress.services.iter().find(|seen| seen.service.hostname.as_str() == host)
    }

    /// Returns the inputs with all hosts of an egress listener.
    fn table(self, name: &Arc<str>, hosts: HostSet, egress: &Egress) -> RouteInputs {
        let visible = match hosts {
            HostSet::OnPort(port) => egress.on_port(port).cloned().unwrap_or_default(),
            HostSet::All | HostSet::Only(_) | HostSet::Target(_) => egress.services.clone(),
        };
        let services: Arc<[RoutedService]> =
            visible.iter().map(|seen| self.reached(seen, hosts, egress)).collect();
        RouteInputs {
            host_only: self.host_only(hosts, egress, &services),
            shadowed: shadowed(egress, &services),
            services,
            ..self.no_routes(name, hosts)
        }
    }

    fn reached(self, seen: &Visible, hosts: HostSet, egress: &Egress) -> RoutedService {
        RoutedService::of(seen, hosts, egress.routing_of(&seen.service.hostname), self.scope)
    }

    /// Returns the hosts without a service. They are added at port 80, at the port of a `Sidecar`'s own listener, and wherever
    /// their `VirtualService` also routes a service.
    fn host_only(self, hosts: HostSet, egress: &Egress, services: &[RoutedService]) -> Arc<[HostOnlyRules]> {
        let own = egress.port.as_ref().map(|port| port.number);
        let everywhere = match hosts {
            HostSet::All | HostSet::OnPort(80) => true,
            HostSet::OnPort(port) => own == Some(port.into()),
            HostSet::Only(_) | HostSet::Target(_) => return Arc::default(),
        };
        let here: HashSet<&Shared<Routing>> =
            services.iter().filter_map(|seen| seen.rules.as_ref()).map(HttpRules::routing).collect();
        let found = egress.alone.iter().filter(|alone| {
            !alone.routing.spec.http.is_empty() && (everywhere || here.contains(&alone.routing))
        });
        found
            .map(|alone| HostOnlyRules {
                hosts: alone.hosts.clone(),
                rules: HttpRules::of(&alone.routing, self.scope),
            })
            .collect()
    }

    fn no_routes(self, name: &Arc<str>, hosts: HostSet) -> RouteInputs {
        RouteInputs {
            name: name.clone(),
            hosts,
            services: Arc::default(),
            host_only: Arc::default(),
            shadowed: Arc::default(),
            dns_domain: self.proxy.id.dns_domain.as_str().into(),
            families: IpFamilies::of(self.proxy),
            fallback_cluster: settings::fallback_cluster(self.scope),
            retries: settings::retries(&self.push.mesh),
            informational_headers: InformationalHeaders::default(),
        }
    }
}

/// Returns the `VirtualService`s that another one for the same host has precedence over.
fn shadowed(egress: &Egress, services: &[RoutedService]) -> Arc<[ShadowedRules]> {
    let is_here = |host: &Hostname| services.iter().any(|seen| seen.service.hostname == *host);
    let mut found = Vec::new();
    for routing in egress.routings.iter().filter(|routing| !routing.spec.http.is_empty()) {
        for host in routing.hosts.iter().filter(|host| !host.is_wildcard()) {
            if egress.routing_of(host).is_some_and(|first| first != routing) && is_here(host) {
                let object = (routing.namespace.clone(), routing.name.clone());
                found.push(ShadowedRules { host: host.clone(), object });
            }
        }
    }
    found.into()
}

/// Parses a port in canonical form; other names are not ours.
fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text)
}
