//! What one class of proxies may see: which services, and which of several declarations of a host counts.
//!
//! A scope is computed once per snapshot and shared by every proxy of the class. It knows neither addresses of a
//! proxy nor endpoints: those are inputs of single generators.

mod index;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pilot_proto::mesh::MeshConfig;
use pilot_proto::node::NodeType;

pub use index::{Audience, Index};

use crate::model::{ExportTo, Hostname, Namespace, Protocol, Proxy, Registry, Resolution, Service, Shared};
use crate::push::PushContext;

/// Proxies with the same key see the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey {
    /// Namespace of their configuration.
    pub namespace: Namespace,
    /// What kind of proxies.
    pub node_type: NodeType,
}

/// The mesh as one class of proxies sees it.
#[derive(Debug)]
pub struct Scope {
    key: ScopeKey,
    services: Arc<[Visible]>,
    resolved_by_dns: Arc<[Visible]>,
    met_at_members: Arc<[Visible]>,
    by_host: HashMap<Hostname, Visible>,
    by_port: BTreeMap<u16, Arc<[Visible]>>,
}

/// A service, with the other names it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Visible {
    /// The service.
    pub service: Shared<Service>,
    /// Hosts that are only other names for it (Kubernetes `ExternalName`), sorted.
    pub aliases: Arc<[Hostname]>,
}

// === impl ScopeKey ===

impl ScopeKey {
    /// The class of a proxy.
    pub fn of(proxy: &Proxy) -> Self {
        Self { namespace: proxy.namespace.clone(), node_type: proxy.node_type() }
    }
}

// === impl Scope ===

impl Scope {
    /// What proxies with this key see in a snapshot.
    pub fn of(push: &PushContext, key: ScopeKey) -> Arc<Self> {
        let mut declared: Vec<&Arc<Service>> = push
            .services
            .values()
            .filter(|service| {
                let list = exported_to(service, &push.mesh);
                ExportTo::allows(&list, &service.namespace, &key.namespace)
            })
            .collect();
        declared.sort_by_key(|service| preference(service, &key.namespace));

        let mut hosts = BTreeSet::new();
        let mut winners: Vec<&Arc<Service>> =
            declared.into_iter().filter(|service| hosts.insert(&service.hostname)).collect();
        winners.sort_by_key(|service| (service.created, &service.hostname));

        let mut aliases = aliases(&winners);
        let services: Arc<[Visible]> = winners
            .into_iter()
            .filter(|service| !matches!(service.resolution, Resolution::Alias(_)))
            .map(|service| Visible {
                service: service.clone().into(),
                aliases: aliases.remove(&service.hostname).unwrap_or_default().into(),
            })
            .collect();
        let by_host = services.iter().map(|seen| (seen.service.hostname.clone(), seen.clone())).collect();
        let only = |holds: fn(&Service) -> bool| {
            services.iter().filter(|seen| holds(&seen.service)).cloned().collect()
        };
        Arc::new(Self {
            key,
            resolved_by_dns: only(|service| {
                matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
            }),
            met_at_members: only(Service::is_met_at_members),
            by_host,
            by_port: by_port(&services),
            services,
        })
    }

    /// Which class of proxies this is for.
    pub const fn key(&self) -> &ScopeKey {
        &self.key
    }

    /// Every visible service that has clusters of its own, oldest first.
    pub const fn services(&self) -> &Arc<[Visible]> {
        &self.services
    }

    /// Those of them that proxies resolve by DNS, in the same order.
    pub const fn resolved_by_dns(&self) -> &Arc<[Visible]> {
        &self.resolved_by_dns
    }

    /// Those of them whose addresses are their endpoints', in the same order.
    pub const fn met_at_members(&self) -> &Arc<[Visible]> {
        &self.met_at_members
    }

    /// The service that a host means here.
    pub fn by_host(&self, host: &str) -> Option<&Visible> {
        self.by_host.get(host)
    }

    /// Services with a port of this number that can be proxied, oldest first.
    pub fn on_port(&self, port: u16) -> Option<&Arc<[Visible]>> {
        self.by_port.get(&port)
    }
}

/// From where a service is seen: what it says, or what the mesh says for those that say nothing.
fn exported_to<'a>(service: &'a Service, mesh: &MeshConfig) -> Cow<'a, [ExportTo]> {
    if service.export_to.is_empty() {
        mesh.default_service_export_to.iter().map(|text| ExportTo::parse(text)).collect()
    } else {
        Cow::Borrowed(&service.export_to)
    }
}

/// Of several declarations of one host the least counts: own namespace, then Kubernetes, then the oldest.
fn preference<'a>(service: &'a Service, own: &Namespace) -> (bool, bool, i64, &'a Namespace) {
    let elsewhere = service.namespace != *own;
    (elsewhere, service.registry != Registry::Kubernetes, service.created, &service.namespace)
}

/// The other names of each service. Aliases of aliases are followed; names that lead in a circle mean nothing,
/// as they do in DNS.
fn aliases(services: &[&Arc<Service>]) -> BTreeMap<Hostname, Vec<Hostname>> {
    let links: BTreeMap<&Hostname, &Hostname> = services
        .iter()
        .filter_map(|service| match &service.resolution {
            Resolution::Alias(target) => Some((&service.hostname, target)),
            _ => None,
        })
        .collect();
    let mut resolved: BTreeMap<Hostname, Vec<Hostname>> = BTreeMap::new();
    for (alias, first) in &links {
        let mut passed = BTreeSet::from([*alias]);
        let mut target = *first;
        while let Some(next) = links.get(target)
            && passed.insert(target)
        {
            target = next;
        }
        if !links.contains_key(target) {
            resolved.entry(target.clone()).or_default().push((*alias).clone());
        }
    }
    resolved
}

fn by_port(services: &[Visible]) -> BTreeMap<u16, Arc<[Visible]>> {
    let mut by_port: BTreeMap<u16, Vec<Visible>> = BTreeMap::new();
    for seen in services {
        let ports: BTreeSet<u16> = seen
            .service
            .ports
            .iter()
            .filter(|port| port.protocol != Protocol::Udp)
            .map(|port| port.port)
            .collect();
        for port in ports {
            by_port.entry(port).or_default().push(seen.clone());
        }
    }
    by_port.into_iter().map(|(port, services)| (port, services.into())).collect()
}
