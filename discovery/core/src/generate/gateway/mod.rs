//! Gateways: the servers of all `Gateway`s that select a proxy, merged by port and bind address.
//!
//! ```text
//!                 PlaintextHttp    Tls                         Tcp
//! PlaintextHttp   one more host    rejected                    rejected
//! Tls             rejected         distinguished by SNI        rejected
//! Tcp             rejected         rejected                    rejected
//! ```
//!
//! The oldest `Gateway` takes precedence. A rejected server is reported and does not affect the others.
//! <https://istio.io/latest/docs/reference/config/networking/gateway/>

mod filter_chains;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::mesh::MeshTls;

pub use routes::{GatewayRouteInputs, HttpsRedirect, RoutedServer, gateway_routes};

use super::http_connection_manager::GatewayTopology;
use super::listener::{BindAddress, ListenerInputs, ListenerRole};
use super::outbound::{Interception, ListenerSettings, PrivilegedPorts};
use super::{RejectReason, Rejected};
use crate::api::gateway::{Server, ServerTlsMode};
use crate::model::{ConfigObject, ConfigSpec, Hostname, Namespace, Protocol, Shared};
use crate::push::{Routing, ServiceTarget};
use crate::scope::Scope;

/// Inputs of the listeners of a gateway, and their cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayInputs {
    /// `Gateway`s, services and `VirtualService`s.
    pub scope: Shared<Scope>,
    /// Target ports of the services of the gateway, by service port.
    pub ports: BTreeMap<u16, u16>,
    /// Settings of the proxy.
    pub settings: ListenerSettings,
    /// Proxies in front of the gateway.
    pub topology: GatewayTopology,
    /// TLS defaults of the mesh (`tlsDefaults`).
    pub tls_defaults: MeshTls,
}

/// Servers after merging.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MergedServers {
    /// Servers by port and bind address.
    pub by_bind: BTreeMap<(u16, BindAddress), Vec<GatewayServer>>,
    /// Servers by name of their common route configuration.
    pub by_route: BTreeMap<Arc<str>, Vec<GatewayServer>>,
    /// Servers that were rejected.
    pub rejected: Vec<Rejected>,
}

/// Server of a `Gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayServer {
    /// The `Gateway`.
    pub gateway: Shared<ConfigObject>,
    /// Specification of the server.
    pub server: Server,
    /// Declared protocol.
    pub protocol: Protocol,
    /// Declared port; the bind port may differ.
    pub declared_port: u16,
    /// Hosts of the server.
    pub hosts: Vec<ServerHost>,
    /// Name of the route configuration; `None`: not HTTP.
    pub routes: Option<Arc<str>>,
}

/// Host of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerHost {
    /// Namespace of the `VirtualService`s that may bind; `None`: any.
    pub namespace: Option<Namespace>,
    /// Hostname, may start with `*`.
    pub host: Hostname,
}

/// Protocol of the servers on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortProtocol {
    /// HTTP in plaintext.
    PlaintextHttp,
    /// TLS, terminated or passed through.
    Tls,
    /// TCP.
    Tcp,
}

/// Merges the servers of all `Gateway`s that select the gateway, the oldest first.
pub fn merge(inputs: &GatewayInputs) -> MergedServers {
    let mut merged = MergedServers::default();
    let mut tls_hosts: BTreeSet<(u16, BindAddress, ServerHost)> = BTreeSet::new();
    for object in inputs.scope.gateways().iter() {
        let ConfigSpec::Gateway(spec) = &object.spec else { continue };
        for server in &spec.servers {
            let Some(gateway_server) = GatewayServer::of(object, server) else { continue };
            let port = inputs
                .ports
                .get(&gateway_server.declared_port)
                .copied()
                .unwrap_or(gateway_server.declared_port);
            let bind = BindAddress::parse(&server.bind)
                .unwrap_or_else(|| inputs.settings.families.wildcard().into());
            let bind_key = (port, bind.clone());
            let reason = merged
                .conflict(&gateway_server, &bind_key)
                .or_else(|| inputs.port_error(port))
                .or_else(|| {
                    let is_duplicate =
                        |host: &&ServerHost| tls_hosts.contains(&(port, bind.clone(), (*host).clone()));
                    let has_tls = server.tls.is_some() && gateway_server.port_protocol() == PortProtocol::Tls;
                    gateway_server
                        .hosts
                        .iter()
                        .filter(|_| has_tls)
                        .find(is_duplicate)
                        .map(|_| RejectReason::DuplicateDomain)
                });
            if let Some(reason) = reason {
                merged.rejected.push(Rejected {
                    subject: bind.listener_name(port),
                    service: gateway_server.name().into(),
                    reason,
                });
                continue;
            }
            if gateway_server.port_protocol() == PortProtocol::Tls {
                tls_hosts.extend(gateway_server.hosts.iter().map(|host| (port, bind.clone(), host.clone())));
            }
            let gateway_server = GatewayServer { routes: gateway_server.route_name(port), ..gateway_server };
            if let Some(routes) = &gateway_server.routes {
                merged.by_route.entry(routes.clone()).or_default().push(gateway_server.clone());
            }
            merged.by_bind.entry(bind_key).or_default().push(gateway_server);
        }
    }
    merged
}

/// Returns the listeners of a gateway.
pub fn listeners(inputs: &GatewayInputs, merged: &MergedServers) -> (Vec<ListenerInputs>, Vec<Rejected>) {
    let mut rejected = merged.rejected.clone();
    let listeners = merged.by_bind.iter().filter_map(|((port, bind), servers)| {
        let chains = filter_chains::filter_chains(inputs, *port, bind, servers, &mut rejected);
        // Envoy rejects a listener without filter chains.
        (!chains.is_empty()).then(|| ListenerInputs {
            name: bind.listener_name(*port),
            additional_addresses: bind.additional_addresses(inputs.settings.families),
            bind: bind.clone(),
            port: *port,
            role: ListenerRole::Gateway(inputs.topology.proxy_protocol),
            chains,
            detection_timeout: inputs.settings.detection_timeout,
            filters: inputs.settings.filters.clone(),
        })
    });
    let listeners = listeners.collect();
    (listeners, rejected)
}

/// Returns the hosts of servers with `AUTO_PASSTHROUGH`; the SNI of their connections names the cluster.
pub fn auto_passthrough_hosts(gateways: &[Shared<ConfigObject>]) -> BTreeSet<Hostname> {
    let specs = gateways.iter().filter_map(|object| match &object.spec {
        ConfigSpec::Gateway(spec) => Some(spec),
        _ => None,
    });
    let auto_passthrough = specs
        .flat_map(|spec| &spec.servers)
        .filter(|server| server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough));
    let hosts = auto_passthrough.flat_map(|server| &server.hosts);
    hosts.map(|host| host.rsplit('/').next().unwrap_or(host).into()).collect()
}

/// Returns the target ports of the services of a gateway. A `Gateway` declares the port of the service; the proxy listens
/// on the target port.
pub fn target_ports(targets: &[ServiceTarget]) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    for target in targets {
        let opted_out =
            target.service.labels.contains_key("experimental.istio.io/disable-gateway-port-translation");
        if !opted_out {
            ports.entry(target.port.port).or_insert(target.target_port);
        }
    }
    ports
}

// === impl GatewayInputs ===

impl GatewayInputs {
    fn port_error(&self, port: u16) -> Option<RejectReason> {
        let forbidden = matches!(
            &self.settings.interception,
            Interception::Off { privileged_ports: PrivilegedPorts::Forbidden, .. }
        );
        if self.settings.reserved_ports.contains(&port) {
            Some(RejectReason::ReservedPort)
        } else {
            (forbidden && port < 1024).then_some(RejectReason::PrivilegedPort)
        }
    }

    /// Returns the `VirtualService`s bound to a `Gateway`, in order of precedence.
    pub(super) fn routings(&self, gateway: &str) -> impl Iterator<Item = &Shared<Routing>> {
        self.scope.gateway_routings().iter().filter(move |routing| routing.is_for(gateway))
    }
}

// === impl MergedServers ===

impl MergedServers {
    /// Returns the reason why a server conflicts with the servers on the same port and bind address.
    fn conflict(
        &self,
        gateway_server: &GatewayServer,
        bind_key: &(u16, BindAddress),
    ) -> Option<RejectReason> {
        let port_protocol = gateway_server.port_protocol();
        if port_protocol == PortProtocol::Tls && gateway_server.server.tls.is_none() {
            return Some(RejectReason::NoCertificate);
        }
        let first = self.by_bind.get(bind_key)?.first()?;
        let compatible = match (first.port_protocol(), port_protocol) {
            (PortProtocol::PlaintextHttp, PortProtocol::PlaintextHttp) => true,
            (PortProtocol::Tls, PortProtocol::Tls) => {
                let routes = gateway_server.route_name(bind_key.0);
                routes.is_none_or(|routes| !self.by_route.contains_key(&routes))
            }
            _ => false,
        };
        (!compatible).then(|| RejectReason::PortTaken { existing: first.name().into() })
    }
}

// === impl GatewayServer ===

impl GatewayServer {
    fn of(object: &Shared<ConfigObject>, server: &Server) -> Option<Self> {
        let port = server.port.as_ref()?;
        let own_namespace = &object.meta.namespace;
        let hosts = server.hosts.iter().map(|text| match text.split_once('/') {
            None | Some(("*", _)) => {
                let host = text.strip_prefix("*/").unwrap_or(text);
                ServerHost { namespace: None, host: host.to_ascii_lowercase().into() }
            }
            Some((".", host)) => {
                ServerHost { namespace: Some(own_namespace.clone()), host: host.to_ascii_lowercase().into() }
            }
            Some((namespace, host)) => {
                ServerHost { namespace: Some(namespace.into()), host: host.to_ascii_lowercase().into() }
            }
        });
        Some(Self {
            gateway: object.clone(),
            server: server.clone(),
            protocol: Protocol::parse(&port.protocol),
            declared_port: u16::try_from(port.number).ok()?,
            hosts: hosts.collect(),
            routes: None,
        })
    }

    /// `<namespace>/<name>` of the `Gateway`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.gateway.meta.namespace, self.gateway.meta.name)
    }

    fn port_protocol(&self) -> PortProtocol {
        if self.protocol.is_http() {
            PortProtocol::PlaintextHttp
        } else if self.server.tls.is_some() || matches!(self.protocol, Protocol::Https | Protocol::Tls) {
            PortProtocol::Tls
        } else {
            PortProtocol::Tcp
        }
    }

    /// Returns true if TLS is not terminated.
    fn is_tls_passthrough(&self) -> bool {
        let mode = self.server.tls.as_ref().map(|tls| tls.mode);
        matches!(mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    /// Returns the name of the route configuration for a bind port, in Istio's format.
    fn route_name(&self, port: u16) -> Option<Arc<str>> {
        let server = &self.server;
        let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
        if self.protocol.is_http() {
            return Some(format!("http.{port}{bind}").into());
        }
        let terminated = self.protocol == Protocol::Https && !self.is_tls_passthrough();
        terminated.then(|| {
            let (meta, name) = (&self.gateway.meta, server.port.as_ref().map_or("", |port| &port.name));
            format!("https.{}.{name}.{}.{}{bind}", self.declared_port, meta.name, meta.namespace).into()
        })
    }

    /// Returns the SNI matches; empty: any.
    fn server_names(&self) -> Vec<String> {
        let names: BTreeSet<&Hostname> = self.hosts.iter().map(|host| &host.host).collect();
        if names.iter().any(|name| name.as_str() == "*") {
            return Vec::new();
        }
        names.into_iter().map(ToString::to_string).collect()
    }

    /// Returns the hosts that a `VirtualService` and the server have in common: the more specific host of each pair.
    pub fn common_hosts(&self, routing: &Routing) -> BTreeSet<Hostname> {
        let served = self.hosts.iter().filter(|served| {
            served.namespace.as_ref().is_none_or(|namespace| *namespace == routing.namespace)
        });
        let mut common = BTreeSet::new();
        for served in served {
            for host in &routing.hosts {
                let host = Hostname::from(host.as_str().to_ascii_lowercase());
                if served.host.includes(&host) {
                    common.insert(host);
                } else if host.includes(&served.host) {
                    common.insert(served.host.clone());
                }
            }
        }
        common
    }
}
