//! What a gateway serves: the servers of all `Gateway`s that select it, by the port and address they meet at.
//!
//! ```text
//!            Plain            Tls                         Opaque
//! Plain      one more host    refused                     refused
//! Tls        refused          told apart by SNI           refused
//! Opaque     refused          refused                     refused
//! ```
//!
//! Who came first has the port; what is refused is reported, and everything else is served.
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

/// Everything that the servers of a gateway depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayInputs {
    /// The `Gateway`s, the services, and the rules.
    pub scope: Shared<Scope>,
    /// Ports of the gateway's own services, and where they lead in its workload.
    pub ports: BTreeMap<u16, u16>,
    /// The rest.
    pub settings: ListenerSettings,
    /// What stands in front of it.
    pub topology: GatewayTopology,
    /// What the mesh asks of TLS with clients outside.
    pub tls_defaults: MeshTls,
}

/// The servers, where they meet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MergedServers {
    /// By port and address.
    pub by_bind: BTreeMap<(u16, BindAddress), Vec<GatewayServer>>,
    /// By name of the routes they share.
    pub by_route: BTreeMap<Arc<str>, Vec<GatewayServer>>,
    /// What could not be served.
    pub rejected: Vec<Rejected>,
}

/// A server at a port of this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayServer {
    /// The `Gateway`.
    pub gateway: Shared<ConfigObject>,
    /// What it says.
    pub server: Server,
    /// What it declares to be spoken there.
    pub protocol: Protocol,
    /// The port that it declares; the one it is served at may be another.
    pub declared_port: u16,
    /// The hosts it serves.
    pub hosts: Vec<ServerHost>,
    /// Name of its routes, if it serves HTTP.
    pub routes: Option<Arc<str>>,
}

/// A host that a server serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerHost {
    /// Of rules of this namespace; `None`: of any.
    pub namespace: Option<Namespace>,
    /// The host; may begin with `*`.
    pub host: Hostname,
}

/// What meets at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortProtocol {
    /// HTTP in plaintext.
    PlaintextHttp,
    /// TLS, which ends here or is passed on.
    Tls,
    /// Bytes.
    Tcp,
}

/// Merges the servers of all `Gateway`s that select the gateway, the oldest first.
pub fn merge(inputs: &GatewayInputs) -> MergedServers {
    let mut merged = MergedServers::default();
    let mut tls_hosts: BTreeSet<(u16, BindAddress, ServerHost)> = BTreeSet::new();
    for object in inputs.scope.gateways().iter() {
        let ConfigSpec::Gateway(spec) = &object.spec else { continue };
        for server in &spec.servers {
            let Some(at) = GatewayServer::of(object, server) else { continue };
            let port = inputs.ports.get(&at.declared_port).copied().unwrap_or(at.declared_port);
            let bind = BindAddress::parse(&server.bind)
                .unwrap_or_else(|| inputs.settings.families.wildcard().into());
            let place = (port, bind.clone());
            let reason = merged.refusal(&at, &place).or_else(|| inputs.unusable(port)).or_else(|| {
                let taken = |host: &&ServerHost| tls_hosts.contains(&(port, bind.clone(), (*host).clone()));
                let doubled = server.tls.is_some() && at.family() == PortProtocol::Tls;
                at.hosts.iter().filter(|_| doubled).find(taken).map(|_| RejectReason::DuplicateDomain)
            });
            if let Some(reason) = reason {
                merged.rejected.push(Rejected {
                    subject: bind.listener_name(port),
                    service: at.name().into(),
                    reason,
                });
                continue;
            }
            if at.family() == PortProtocol::Tls {
                tls_hosts.extend(at.hosts.iter().map(|host| (port, bind.clone(), host.clone())));
            }
            let at = GatewayServer { routes: at.routes_at(port), ..at };
            if let Some(routes) = &at.routes {
                merged.by_route.entry(routes.clone()).or_default().push(at.clone());
            }
            merged.by_bind.entry(place).or_default().push(at);
        }
    }
    merged
}

/// The listeners of a gateway.
pub fn listeners(inputs: &GatewayInputs, merged: &MergedServers) -> (Vec<ListenerInputs>, Vec<Rejected>) {
    let mut rejected = merged.rejected.clone();
    let listeners = merged.by_bind.iter().filter_map(|((port, bind), servers)| {
        let chains = filter_chains::filter_chains(inputs, *port, bind, servers, &mut rejected);
        // Envoy refuses a listener without any.
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

/// The hosts whose TLS the servers of a gateway pass on by the cluster that its SNI names.
pub fn auto_passthrough_hosts(gateways: &[Shared<ConfigObject>]) -> BTreeSet<Hostname> {
    let specs = gateways.iter().filter_map(|object| match &object.spec {
        ConfigSpec::Gateway(spec) => Some(spec),
        _ => None,
    });
    let passing = specs
        .flat_map(|spec| &spec.servers)
        .filter(|server| server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough));
    let hosts = passing.flat_map(|server| &server.hosts);
    hosts.map(|host| host.rsplit('/').next().unwrap_or(host).into()).collect()
}

/// Where the ports of a gateway's own services lead: `Gateway`s name the port of the service, the proxy listens on the one
/// of the workload.
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
    fn unusable(&self, port: u16) -> Option<RejectReason> {
        let low = matches!(
            &self.settings.interception,
            Interception::Off { privileged_ports: PrivilegedPorts::Forbidden, .. }
        );
        if self.settings.reserved_ports.contains(&port) {
            Some(RejectReason::ReservedPort)
        } else {
            (low && port < 1024).then_some(RejectReason::PrivilegedPort)
        }
    }

    /// The rules for one `Gateway`, those that count first at the front.
    pub(super) fn routings(&self, gateway: &str) -> impl Iterator<Item = &Shared<Routing>> {
        self.scope.gateway_routings().iter().filter(move |routing| routing.is_for(gateway))
    }
}

// === impl MergedServers ===

impl MergedServers {
    /// Why a server cannot be at a place.
    fn refusal(&self, at: &GatewayServer, place: &(u16, BindAddress)) -> Option<RejectReason> {
        let family = at.family();
        if family == PortProtocol::Tls && at.server.tls.is_none() {
            return Some(RejectReason::NoCertificate);
        }
        let first = self.by_bind.get(place)?.first()?;
        let fits = match (first.family(), family) {
            (PortProtocol::PlaintextHttp, PortProtocol::PlaintextHttp) => true,
            (PortProtocol::Tls, PortProtocol::Tls) => {
                let routes = at.routes_at(place.0);
                routes.is_none_or(|routes| !self.by_route.contains_key(&routes))
            }
            _ => false,
        };
        (!fits).then(|| RejectReason::PortTaken { existing: first.name().into() })
    }
}

// === impl GatewayServer ===

impl GatewayServer {
    fn of(object: &Shared<ConfigObject>, server: &Server) -> Option<Self> {
        let port = server.port.as_ref()?;
        let own = &object.meta.namespace;
        let hosts = server.hosts.iter().map(|text| match text.split_once('/') {
            None | Some(("*", _)) => {
                let host = text.strip_prefix("*/").unwrap_or(text);
                ServerHost { namespace: None, host: host.to_ascii_lowercase().into() }
            }
            Some((".", host)) => {
                ServerHost { namespace: Some(own.clone()), host: host.to_ascii_lowercase().into() }
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

    fn family(&self) -> PortProtocol {
        if self.protocol.is_http() {
            PortProtocol::PlaintextHttp
        } else if self.server.tls.is_some() || matches!(self.protocol, Protocol::Https | Protocol::Tls) {
            PortProtocol::Tls
        } else {
            PortProtocol::Tcp
        }
    }

    /// Whether TLS is passed on unopened.
    fn passes_tls_on(&self) -> bool {
        let mode = self.server.tls.as_ref().map(|tls| tls.mode);
        matches!(mode, Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    /// Name of its routes when it is served at a port, as Istio spells it.
    fn routes_at(&self, port: u16) -> Option<Arc<str>> {
        let server = &self.server;
        let bind = if server.bind.is_empty() { String::new() } else { format!(".{}", server.bind) };
        if self.protocol.is_http() {
            return Some(format!("http.{port}{bind}").into());
        }
        let terminated = self.protocol == Protocol::Https && !self.passes_tls_on();
        terminated.then(|| {
            let (meta, name) = (&self.gateway.meta, server.port.as_ref().map_or("", |port| &port.name));
            format!("https.{}.{name}.{}.{}{bind}", self.declared_port, meta.name, meta.namespace).into()
        })
    }

    /// Names that clients ask for by SNI; none: any.
    fn server_names(&self) -> Vec<String> {
        let names: BTreeSet<&Hostname> = self.hosts.iter().map(|host| &host.host).collect();
        if names.iter().any(|name| name.as_str() == "*") {
            return Vec::new();
        }
        names.into_iter().map(ToString::to_string).collect()
    }

    /// The hosts of some rules that the server serves: the narrower one of each pair.
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
