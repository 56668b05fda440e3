//! One egress listener: the services that can be reached through it, and the `VirtualService`s for them.
//!
//! Without a `Sidecar` there is one, for all services. Envoy's listeners are not decided here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::aliases::aliases;
use super::imports::{Imports, Place};
use super::{ScopeKey, Visible, exported_to, preference};
use crate::api::sidecar::{CaptureMode, EgressListener, SidecarPort};
use crate::model::{ExportTo, Hostname, Namespace, Resolution, Service, Shared};
use crate::push::PushContext;
use crate::push::Routing;
use crate::push::context::MESH;

/// An egress listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Port, if the `Sidecar` names one.
    pub port: Option<SidecarPort>,
    /// Address or `unix:///path`, if the `Sidecar` names one; otherwise empty.
    pub bind: String,
    /// Capture mode: how connections reach the listener.
    pub capture: CaptureMode,
    /// Services, oldest first.
    pub services: Arc<[Visible]>,
    /// `VirtualService`s for them and for hosts without a service, in order of precedence.
    pub routings: Arc<[Shared<Routing>]>,
    /// `VirtualService`s for hosts without a service, with these hosts.
    pub alone: Arc<[Alone]>,
    imports: Imports,
    by_port: Arc<BTreeMap<u16, Arc<[Visible]>>>,
    routing_of: Arc<HashMap<Hostname, Shared<Routing>>>,
}

/// `VirtualService` for hosts without a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alone {
    /// The `VirtualService`.
    pub routing: Shared<Routing>,
    /// The hosts.
    pub hosts: Vec<Hostname>,
}

// === impl Egress ===

impl Egress {
    /// Returns the services with a port of this number that can be proxied, oldest first.
    pub fn on_port(&self, port: u16) -> Option<&Arc<[Visible]>> {
        self.by_port.get(&port)
    }

    /// Returns the `VirtualService` for a service of this listener.
    pub fn routing_of(&self, host: &Hostname) -> Option<&Shared<Routing>> {
        self.routing_of.get(host)
    }

    /// Returns `true` for an HTTP proxy that applications are configured with: all ports, by URL.
    pub fn is_http_proxy(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.protocol.eq_ignore_ascii_case("HTTP_PROXY"))
    }

    /// Returns the only port of the services that can be reached.
    fn only_port(&self) -> Option<u16> {
        let port = self.port.as_ref().filter(|port| port.number != 0 && !self.is_http_proxy())?;
        u16::try_from(port.number).ok()
    }

    /// Creates the egress listener of a `Sidecar`; `None`: the one for all services.
    pub(super) fn of(push: &PushContext, key: &ScopeKey, listener: Option<&EgressListener>) -> Self {
        let hosts = listener.map(|listener| &listener.hosts);
        let imports = hosts.map_or_else(Imports::everything, |hosts| {
            Imports::of(hosts.iter().map(String::as_str), &key.namespace)
        });
        let mut made = Self {
            port: listener.and_then(|listener| listener.port.clone()),
            bind: listener.map(|listener| listener.bind.clone()).unwrap_or_default(),
            capture: listener.map(|listener| listener.capture_mode).unwrap_or_default(),
            services: Arc::default(),
            routings: routings(push, key, &imports),
            alone: Arc::default(),
            by_port: Arc::default(),
            routing_of: Arc::default(),
            imports,
        };
        made.services = made.visible(push, key);
        made
    }

    /// Replaces parts that are equal to those of `before` with the same values, so that cached results apply.
    pub(super) fn keep(&mut self, before: &Self) {
        if self.services == before.services {
            self.services = before.services.clone();
            self.by_port = before.by_port.clone();
        }
        if self.routings == before.routings {
            self.routings = before.routings.clone();
        }
    }

    /// Computes the indexes: services by port, and the `VirtualService` of each service.
    pub(super) fn index(&mut self) {
        let mut by_port: BTreeMap<u16, Vec<Visible>> = BTreeMap::new();
        for seen in self.services.iter() {
            let proxied = seen.ports().filter(|port| seen.service.is_proxied_at(port));
            for port in proxied.map(|port| port.port).collect::<BTreeSet<_>>() {
                by_port.entry(port).or_default().push(seen.clone());
            }
        }
        self.by_port = Arc::new(by_port.into_iter().map(|(port, seen)| (port, seen.into())).collect());
        self.pair();
    }

    /// Assigns to each service the `VirtualService` of the most specific host that includes its own; of several for the same host
    /// the one with precedence.
    fn pair(&mut self) {
        let mut exact: HashMap<&Hostname, &Shared<Routing>> = HashMap::new();
        let mut wide: BTreeMap<(Reverse<usize>, &Hostname), &Shared<Routing>> = BTreeMap::new();
        for routing in self.routings.iter() {
            for host in &routing.hosts {
                if host.is_wildcard() {
                    wide.entry((Reverse(host.as_str().len()), host)).or_insert(routing);
                } else {
                    exact.entry(host).or_insert(routing);
                }
            }
        }
        let best = |host: &Hostname| {
            let wide = || wide.iter().find(|((_, wide), _)| wide.includes(host)).map(|(_, routing)| *routing);
            exact.get(host).copied().or_else(wide).cloned()
        };
        let services = self.services.iter().map(|seen| &seen.service.hostname);
        let routing_of: HashMap<Hostname, Shared<Routing>> =
            services.filter_map(|host| Some((host.clone(), best(host)?))).collect();
        let declared: HashSet<&Hostname> = self.services.iter().map(|seen| &seen.service.hostname).collect();
        let is_served = |host: &Hostname| {
            if host.is_wildcard() {
                declared.iter().any(|service| host.includes(service))
            } else {
                declared.contains(host)
            }
        };
        let alone = self.routings.iter().filter_map(|routing| {
            let hosts: Vec<Hostname> =
                routing.hosts.iter().filter(|host| !is_served(host)).cloned().collect();
            (!hosts.is_empty()).then(|| Alone { routing: routing.clone(), hosts })
        });
        self.alone = alone.collect();
        self.routing_of = Arc::new(routing_of);
    }

    /// Returns `true` if a service may be imported, or be a destination of a `VirtualService`.
    pub(super) fn leads_to(&self, host: &Hostname, namespace: &Namespace) -> bool {
        self.imports.service(namespace, host)
            || self.routings.iter().any(|routing| routing.destinations().any(|to| to.host == host.as_str()))
    }

    fn visible(&self, push: &PushContext, key: &ScopeKey) -> Arc<[Visible]> {
        let imports = &self.imports;
        let seen_from = |service: &&Arc<Service>| {
            let list = exported_to(service, &push.mesh);
            ExportTo::allows(&list, &service.namespace, &key.namespace)
                && imports.service(&service.namespace, &service.hostname)
        };
        let mut declared: Vec<&Arc<Service>> = Vec::new();
        for place in imports.places() {
            match place {
                Place::Everywhere => declared.extend(push.services.values().filter(seen_from)),
                Place::Host(host) => declared.extend(push.of_host(host).filter(seen_from)),
                Place::Namespace(namespace) => {
                    let hosts = push.in_namespace.get(namespace).into_iter().flatten();
                    let here = hosts.filter_map(|host| push.service(host, namespace));
                    declared.extend(here.filter(seen_from));
                }
                Place::Service(host, namespace) => {
                    declared.extend(push.service(host, namespace).filter(seen_from));
                }
            }
        }
        declared.sort_by_key(|service| preference(service, &key.namespace));
        let mut hosts = BTreeSet::new();
        let mut winners: Vec<&Arc<Service>> =
            declared.into_iter().filter(|service| hosts.insert(&service.hostname)).collect();
        winners.sort_by_key(|service| (service.created, &service.hostname));
        let mut aliases = aliases(winners.iter().copied());
        let reachable =
            winners.into_iter().filter(|service| !matches!(service.resolution, Resolution::Alias(_)));
        reachable
            .filter_map(|service| {
                let only = match self.only_port() {
                    None => None,
                    Some(port) => {
                        service.port(port)?;
                        Some(BTreeSet::from([port]))
                    }
                };
                let aliases = aliases.remove(&service.hostname).unwrap_or_default();
                Some(Visible::of(push, key, service, aliases.into(), only))
            })
            .collect()
    }

    /// Returns the services that are destinations of `VirtualService`s without being imported, with the destination ports only.
    pub(super) fn implied(&self, push: &PushContext, key: &ScopeKey) -> Vec<Visible> {
        let mut wanted: BTreeMap<Hostname, Option<BTreeSet<u16>>> = BTreeMap::new();
        for routing in self.routings.iter() {
            for destination in routing.destinations() {
                let ports =
                    wanted.entry(destination.host.as_str().into()).or_insert_with(|| Some(BTreeSet::new()));
                match destination
                    .port
                    .and_then(|port| u16::try_from(port.number).ok())
                    .filter(|port| *port != 0)
                {
                    Some(port) => _ = ports.as_mut().map(|ports| ports.insert(port)),
                    None => *ports = None,
                }
            }
        }
        let mut implied = Vec::new();
        for (host, ports) in wanted {
            let Some(service) = super::by_name(push, key, &host) else { continue };
            let only = match self.only_port() {
                Some(port) => Some(BTreeSet::from([port])),
                None => ports,
            };
            let reaches =
                only.as_ref().is_none_or(|only| only.iter().any(|port| service.port(*port).is_some()));
            if reaches && !matches!(service.resolution, Resolution::Alias(_)) {
                implied.push(Visible::of(push, key, service, Arc::default(), only));
            }
        }
        implied
    }
}

/// Returns the `VirtualService`s for sidecars of a namespace that the imports include.
fn routings(push: &PushContext, key: &ScopeKey, imports: &Imports) -> Arc<[Shared<Routing>]> {
    let found = push
        .routings
        .iter()
        .filter(|routing| routing.is_for(MESH) && routing.is_visible_from(&key.namespace))
        .filter(|routing| routing.hosts.iter().any(|host| imports.rules_for(&routing.namespace, host)));
    ordered(found, &key.namespace)
}

/// Returns `VirtualService`s in order of precedence for proxies of a namespace: those exported to it alone, those exported to it
/// and others, those exported to all; within each group the oldest first.
pub(super) fn ordered<'a>(
    routings: impl Iterator<Item = &'a Shared<Routing>>,
    namespace: &Namespace,
) -> Arc<[Shared<Routing>]> {
    let mut found: Vec<&Shared<Routing>> = routings.collect();
    found.sort_by_key(|routing| {
        let public = routing.export_to.is_empty() || routing.export_to.contains(&ExportTo::Public);
        let near = match (public, routing.namespace == *namespace) {
            (true, _) => 2,
            (false, false) => 1,
            (false, true) => 0,
        };
        (near, routing.precedence())
    });
    found.into_iter().cloned().collect()
}
