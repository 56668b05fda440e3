//! Scope of one class of proxies (Istio's `SidecarScope`): visible services, precedence among declarations of a host, matching
//! rules.
//!
//! A scope is computed once for each snapshot and shared by all proxies of the class. Addresses of proxies and endpoints are not
//! part of it: they are inputs of single generators.
//!
//! ```text
//! Sidecar ─▶ Egress … Egress ─▶ services (the union, for clusters)
//!              │ imports × services ─▶ Visible (ports, aliases, Rule)
//!              └ imports × VirtualServices ─▶ routings, and which service has which
//! ```

mod aliases;
mod egress;
mod imports;
mod index;
mod known;
mod select;
mod sight;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode};
use pilot_proto::node::NodeType;

pub use egress::{Alone, Egress};
pub use index::{Audience, Index};
pub use known::Known;
use select::{gateway_routings, gateways, sidecar};

use crate::api::Sidecar;
use crate::api::sidecar::OutboundTrafficMode as SidecarMode;
use crate::api::values::Map;
use crate::api::virtual_service::Destination;
use crate::model::{
    ConfigObject, ConfigSpec, ExportTo, Hostname, Labels, Namespace, Proxy, Resolution, Service, ServicePort,
    Shared,
};
use crate::push::{PushContext, Routing, Rule};

/// Class of proxies; proxies with the same key have the same scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    /// Namespace of their configuration.
    pub namespace: Namespace,
    /// Type of the proxies.
    pub node_type: NodeType,
    /// Selectors of objects that match the proxies; sorted.
    pub selected: Arc<[Labels]>,
}

/// Mesh as one class of proxies sees it.
#[derive(Debug)]
pub struct Scope {
    key: ScopeKey,
    sidecar: Option<Shared<ConfigObject>>,
    egress: Arc<[Egress]>,
    gateways: Arc<[Shared<ConfigObject>]>,
    gateway_routings: Arc<[Shared<Routing>]>,
    unknown: Unknown,
    services: Shared<[Visible]>,
    resolved_by_dns: Arc<[Visible]>,
    met_at_members: Arc<[Visible]>,
    by_host: HashMap<Hostname, Visible>,
    named_hosts: bool,
}

/// Treatment of traffic to hosts without a declaration (`outboundTrafficPolicy`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unknown {
    /// Passes the traffic on, or refuses it.
    pub mode: OutboundTrafficMode,
    /// Destination of passed-on traffic; `None`: its original destination.
    pub proxy: Option<Destination>,
}

/// Service as a class of proxies sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Visible {
    /// The service.
    pub service: Shared<Service>,
    /// Aliases of the service (Kubernetes `ExternalName`), sorted.
    pub aliases: Arc<[Hostname]>,
    /// `DestinationRule` for the service.
    pub rule: Option<Shared<Rule>>,
    /// Ports that can be reached; `None`: all.
    only: Option<Arc<BTreeSet<u16>>>,
}

// === impl ScopeKey ===

impl ScopeKey {
    /// Returns the class of a proxy.
    pub fn of(push: &PushContext, proxy: &Proxy) -> Self {
        let root = Namespace::from(&*push.mesh.root_namespace);
        Self {
            namespace: proxy.namespace.clone(),
            node_type: proxy.node_type(),
            selected: push.selectors.matching(&proxy.namespace, &root, &push.labels_of(proxy)),
        }
    }

    /// Returns `true` if the selector of an object matches the class.
    pub fn is_selected(&self, selector: &Map) -> bool {
        selector.is_empty() || self.selected.iter().any(|selected| **selected == *selector)
    }
}

// === impl Visible ===

impl Visible {
    fn of(
        push: &PushContext,
        key: &ScopeKey,
        service: &Arc<Service>,
        aliases: Arc<[Hostname]>,
        only: Option<BTreeSet<u16>>,
    ) -> Self {
        let root = Namespace::from(&*push.mesh.root_namespace);
        let rule =
            push.rules.find(&service.hostname, &service.namespace, &key.namespace, &root, |selector| {
                key.is_selected(selector)
            });
        // A restriction to all ports is none.
        let only = only.filter(|only| !service.ports.iter().all(|port| only.contains(&port.port)));
        Self { service: service.clone().into(), aliases, rule, only: only.map(Arc::new) }
    }

    /// Returns the ports that can be reached, in the order of the declaration.
    pub fn ports(&self) -> impl Iterator<Item = &ServicePort> {
        self.service.ports.iter().filter(|port| self.reaches(port.port))
    }

    /// Returns the port of this number, if it can be reached and is proxied.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.service.port(number).filter(|port| self.reaches(port.port))
    }

    fn reaches(&self, port: u16) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&port))
    }

    /// Adds the ports that another view of the same service can reach.
    fn widen(&mut self, other: &Self) {
        self.only = match (&self.only, &other.only) {
            (Some(own), Some(other)) => Some(Arc::new(&**own | &**other)),
            _ => None,
        };
        if self.aliases.is_empty() {
            self.aliases = other.aliases.clone();
        }
    }
}

// === impl Scope ===

impl Scope {
    /// Returns the scope of a key in a snapshot. Parts that are equal to those of `before` are the same values.
    pub fn of(push: &PushContext, key: ScopeKey, before: Option<&Arc<Self>>) -> Arc<Self> {
        let sidecar = sidecar(push, &key);
        let spec = sidecar.as_ref().and_then(|object| spec_of(object));
        let listeners = spec.map(|spec| spec.egress.as_slice()).unwrap_or_default();
        let mut egress: Vec<Egress> = if listeners.is_empty() {
            vec![Egress::of(push, &key, None)]
        } else {
            listeners.iter().map(|listener| Egress::of(push, &key, Some(listener))).collect()
        };
        for (at, egress) in egress.iter_mut().enumerate() {
            egress.index();
            if let Some(before) = before.and_then(|before| before.egress.get(at)) {
                egress.keep(before);
            }
        }
        let unknown = Unknown::of(spec, push, &key);
        let mut services: Shared<[Visible]> = union(push, &key, &egress, &unknown).into();
        let mut egress: Arc<[Egress]> = egress.into();
        if let Some(before) = before {
            if *before.services == *services {
                services = before.services.clone();
            }
            if before.egress == egress {
                egress = before.egress.clone();
            }
        }
        let only = |holds: fn(&Service) -> bool| -> Arc<[Visible]> {
            services.iter().filter(|seen| holds(&seen.service)).cloned().collect()
        };
        let gateways = gateways(push, &key);
        let gateway_routings = gateway_routings(push, &key, &gateways);
        if let Some(before) = before
            && before.services == services
            && Arc::ptr_eq(&before.egress, &egress)
            && before.gateways == gateways
            && before.gateway_routings == gateway_routings
            && before.unknown == unknown
            && before.sidecar == sidecar
        {
            return before.clone();
        }
        Arc::new(Self {
            egress,
            gateways,
            gateway_routings,
            unknown,
            resolved_by_dns: only(|service| {
                matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
            }),
            met_at_members: only(Service::is_met_at_members),
            named_hosts: services.iter().any(|seen| seen.service.resolution == Resolution::DynamicDns),
            by_host: services.iter().map(|seen| (seen.service.hostname.clone(), seen.clone())).collect(),
            services,
            sidecar,
            key,
        })
    }

    /// Returns `true` if the scope can depend on a service, or on an earlier version of it.
    fn could_see(&self, host: &Hostname, versions: &[&Arc<Service>], mesh: &MeshConfig) -> bool {
        versions.iter().any(|service| {
            may_see(&self.key, service, mesh)
                && (self.unknown.proxy.as_ref().is_some_and(|proxy| proxy.host == host.as_str())
                    || self.egress.iter().any(|egress| egress.leads_to(host, &service.namespace)))
        })
    }

    /// Returns the class of proxies.
    pub const fn key(&self) -> &ScopeKey {
        &self.key
    }

    /// Returns the `Sidecar` of the class.
    pub const fn sidecar(&self) -> Option<&Shared<ConfigObject>> {
        self.sidecar.as_ref()
    }

    /// Returns the specification of the `Sidecar`.
    pub fn sidecar_spec(&self) -> Option<&Sidecar> {
        self.sidecar.as_ref().and_then(|object| spec_of(object))
    }

    /// Returns the egress listeners, those with a port first; never empty.
    pub const fn egress(&self) -> &Arc<[Egress]> {
        &self.egress
    }

    /// Returns the egress listener whose route configuration has this port, or this Unix path if the port is 0.
    pub fn egress_at(&self, port: u16, path: &str) -> Option<&Egress> {
        self.egress.iter().find(|egress| match &egress.port {
            None => true,
            Some(own) if own.number == 0 && port == 0 => egress.bind == path,
            Some(own) => own.number == u32::from(port),
        })
    }

    /// Returns the `Gateway`s of a gateway proxy, in order of precedence.
    pub const fn gateways(&self) -> &Arc<[Shared<ConfigObject>]> {
        &self.gateways
    }

    /// Returns the `VirtualService`s for them, in order of precedence.
    pub const fn gateway_routings(&self) -> &Arc<[Shared<Routing>]> {
        &self.gateway_routings
    }

    /// Returns the treatment of traffic to hosts without a declaration.
    pub const fn unknown(&self) -> &Unknown {
        &self.unknown
    }

    /// Returns the visible services that have clusters of their own, oldest first.
    pub const fn services(&self) -> &Shared<[Visible]> {
        &self.services
    }

    /// Returns those that proxies resolve by DNS, in the same order.
    pub const fn resolved_by_dns(&self) -> &Arc<[Visible]> {
        &self.resolved_by_dns
    }

    /// Returns those that are addressed by their endpoints (headless), in the same order.
    pub const fn met_at_members(&self) -> &Arc<[Visible]> {
        &self.met_at_members
    }

    /// Returns `true` if there are services with wildcard hosts, whose names are known only from a request.
    pub const fn leads_to_named_hosts(&self) -> bool {
        self.named_hosts
    }

    /// Returns the service of a host.
    pub fn by_host(&self, host: &str) -> Option<&Visible> {
        self.by_host.get(host)
    }

    /// Returns the services with a port of this number that can be proxied, oldest first.
    pub fn on_port(&self, port: u16) -> Option<&Arc<[Visible]>> {
        self.egress_at(port, "")?.on_port(port)
    }
}

// === impl Unknown ===

impl Unknown {
    fn of(sidecar: Option<&Sidecar>, push: &PushContext, key: &ScopeKey) -> Self {
        match sidecar.and_then(|spec| spec.outbound_traffic_policy.as_ref()) {
            None => Self { mode: push.mesh.outbound_traffic_policy.mode, proxy: None },
            Some(policy) => Self {
                mode: match policy.mode {
                    SidecarMode::RegistryOnly => OutboundTrafficMode::RegistryOnly,
                    SidecarMode::AllowAny => OutboundTrafficMode::AllowAny,
                },
                proxy: policy
                    .egress_proxy
                    .as_ref()
                    .map(|proxy| egress_proxy(proxy, &key.namespace, &push.domain_suffix)),
            },
        }
    }
}

const fn spec_of(object: &ConfigObject) -> Option<&Sidecar> {
    match &object.spec {
        ConfigSpec::Sidecar(spec) => Some(spec),
        _ => None,
    }
}

/// Returns the services of all egress listeners and the destinations of their `VirtualService`s. An imported service has
/// precedence over a destination.
fn union(push: &PushContext, key: &ScopeKey, egress: &[Egress], unknown: &Unknown) -> Arc<[Visible]> {
    let mut found: Vec<Visible> = Vec::new();
    let mut places: HashMap<Hostname, usize> = HashMap::new();
    let mut add = |seen: Visible| match places.get(&seen.service.hostname).and_then(|at| found.get_mut(*at)) {
        None => {
            places.insert(seen.service.hostname.clone(), found.len());
            found.push(seen);
        }
        Some(known) if known.service == seen.service => known.widen(&seen),
        Some(_) => {}
    };
    for listener in egress {
        listener.services.iter().cloned().for_each(&mut add);
        listener.implied(push, key).into_iter().for_each(&mut add);
    }
    // The egress proxy of a `Sidecar` must be visible.
    let proxy = unknown.proxy.as_ref().map(|proxy| Hostname::from(proxy.host.as_str()));
    if let Some(proxy) = proxy.as_ref().and_then(|host| by_name(push, key, host)) {
        add(Visible::of(push, key, proxy, Arc::default(), None));
    }
    found.sort_by(|a, b| {
        (a.service.created, &a.service.hostname).cmp(&(b.service.created, &b.service.hostname))
    });
    found.into()
}

/// Returns the service of a host for a class that does not import it: that of its own namespace, else one of Kubernetes, else the
/// oldest visible one.
fn by_name<'a>(push: &'a PushContext, key: &ScopeKey, host: &'a Hostname) -> Option<&'a Arc<Service>> {
    let visible = push.of_host(host).filter(|service| may_see(key, service, &push.mesh));
    visible.min_by_key(|service| preference(service, &key.namespace))
}

/// Returns `true` if a service is exported to a class, or is in its namespace.
fn may_see(key: &ScopeKey, service: &Service, mesh: &MeshConfig) -> bool {
    let list = exported_to(service, mesh);
    service.namespace == key.namespace || ExportTo::allows(&list, &service.namespace, &key.namespace)
}

/// Returns the egress proxy of a `Sidecar` (`outboundTrafficPolicy.egressProxy`) with a complete host name.
fn egress_proxy(said: &Destination, namespace: &Namespace, domain_suffix: &str) -> Destination {
    let host = Hostname::completed(&said.host, namespace, domain_suffix).to_string();
    Destination { host, ..said.clone() }
}

/// Returns the export list of a service, or the default of the mesh.
fn exported_to<'a>(service: &'a Service, mesh: &MeshConfig) -> Cow<'a, [ExportTo]> {
    if service.export_to.is_empty() {
        mesh.default_service_export_to.iter().map(|text| ExportTo::parse(text)).collect()
    } else {
        Cow::Borrowed(&service.export_to)
    }
}

/// Returns the key of precedence among declarations of one host: own namespace, then the rank of the registry, then the oldest;
/// the lowest wins.
fn preference<'a>(service: &'a Service, own: &Namespace) -> (bool, u8, i64, &'a Namespace) {
    let elsewhere = service.namespace != *own;
    (elsewhere, service.registry.rank(), service.created, &service.namespace)
}
