//! Decoded configuration of one proxy. Contents that Envoy would reject are listed by [`ProxyConfigView::faults`].

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::envoy::config::cluster::v3::{Cluster, cluster};
use pilot_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use pilot_proto::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use pilot_proto::envoy::config::route::v3::RouteConfiguration;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use pilot_proto::google::protobuf::Any;
use prost::{Message, Name};

use crate::cache::{Cache, origins, resources};
use crate::model::{NameSet, Proxy, ResourceSet};
use crate::push::PushContext;
use crate::scope::Scope;

/// Decoded resources of one proxy, by name.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfigView {
    /// LDS
    pub listeners: BTreeMap<String, Listener>,
    /// RDS
    pub routes: BTreeMap<String, RouteConfiguration>,
    /// CDS
    pub clusters: BTreeMap<String, Cluster>,
    /// EDS
    pub assignments: BTreeMap<String, ClusterLoadAssignment>,
    /// Source objects of a resource (for routes: of a virtual host), as far as the generator records them,
    /// `<kind>/<namespace>/<name>`.
    pub origins: BTreeMap<(ResourceType, String), Vec<String>>,
}

/// A resource that cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("decode {kind} {name}")]
pub struct ProxyConfigViewError {
    kind: &'static str,
    name: String,
    source: prost::DecodeError,
}

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Generates all resources that a proxy subscribes to; returns them decoded and encoded, by type. The order is Envoy's: clusters
    /// and listeners, then the resources they name.
    pub fn asked(
        cache: &Cache,
        push: &PushContext,
        scope: &Arc<Scope>,
        proxy: &Proxy,
    ) -> Result<(Self, BTreeMap<ResourceType, ResourceSet>), ProxyConfigViewError> {
        let (mut told, mut sets) = (Self::default(), BTreeMap::new());
        let order =
            [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];
        for kind in order {
            let names = match kind {
                ResourceType::Endpoint => Some(told.wanted_assignments()),
                ResourceType::Route => Some(told.wanted_routes()),
                _ => None,
            };
            let set = resources(cache, push, scope, proxy, kind, names.as_ref()).resources;
            told.take(kind, &set)?;
            sets.insert(kind, set);
        }
        let listeners = told.listeners.keys().map(|name| (ResourceType::Listener, name));
        // Virtual hosts, not route configurations: these are of everything on a port.
        let hosts = told.routes.values().flat_map(|routes| &routes.virtual_hosts);
        let hosts = hosts.map(|host| (ResourceType::Route, &host.name));
        let clusters = told.clusters.keys().map(|name| (ResourceType::Cluster, name));
        let named = listeners.chain(hosts).chain(clusters);
        told.origins = named.map(|(kind, name)| ((kind, name.clone()), origins(scope, kind, name))).collect();
        Ok((told, sets))
    }

    /// Adds encoded resources of a type. Types without influence on calls are ignored.
    pub fn take(&mut self, kind: ResourceType, set: &ResourceSet) -> Result<(), ProxyConfigViewError> {
        for resource in set.iter() {
            let fail = |source| ProxyConfigViewError {
                kind: kind.type_url(),
                name: resource.name.to_string(),
                source,
            };
            let name = resource.name.to_string();
            let body = Any::decode(resource.body.clone()).map_err(fail)?.value;
            match kind {
                ResourceType::Listener => {
                    drop(self.listeners.insert(name, Listener::decode(body).map_err(fail)?));
                }
                ResourceType::Route => {
                    drop(self.routes.insert(name, RouteConfiguration::decode(body).map_err(fail)?));
                }
                ResourceType::Cluster => {
                    drop(self.clusters.insert(name, Cluster::decode(body).map_err(fail)?));
                }
                ResourceType::Endpoint => {
                    drop(self.assignments.insert(name, ClusterLoadAssignment::decode(body).map_err(fail)?));
                }
                ResourceType::Secret | ResourceType::Extension => {}
            }
        }
        Ok(())
    }

    /// Returns the names of the assignments that clusters subscribe to.
    pub fn wanted_assignments(&self) -> NameSet {
        let eds = self.clusters.values().filter(|cluster| {
            let kind = cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into());
            cluster.cluster_discovery_type.as_ref() == Some(&kind)
        });
        eds.map(|cluster| Arc::from(assignment_name(cluster))).collect()
    }

    /// Returns the names of the route configurations that listeners subscribe to.
    pub fn wanted_routes(&self) -> NameSet {
        let filters = self.listeners.values().flat_map(chains).flat_map(|chain| &chain.filters);
        let managers = filters.filter_map(message::<HttpConnectionManager>);
        let names = managers.filter_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => Some(Arc::from(rds.route_config_name)),
            _ => None,
        });
        names.collect()
    }

    pub(super) fn origins_of(&self, kind: ResourceType, name: &str) -> Vec<String> {
        self.origins.get(&(kind, name.to_owned())).cloned().unwrap_or_default()
    }

    /// Returns contents that Envoy would reject and that no call reveals: filter chains with equal matches, duplicate domains, regular
    /// expressions that do not compile, missing route configurations.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for listener in self.listeners.values() {
            for (index, chain) in listener.filter_chains.iter().enumerate() {
                let same = |other: &&FilterChain| other.filter_chain_match == chain.filter_chain_match;
                if listener.filter_chains.iter().take(index).any(|other| same(&other)) {
                    faults.push(format!(
                        "listener {}: two chains have the match of {:?}",
                        listener.name, chain.name
                    ));
                }
            }
        }
        for name in self.wanted_routes().iter().filter(|name| !self.routes.contains_key(&***name)) {
            faults.push(format!("routes {name} are named and not there"));
        }
        for (name, routes) in &self.routes {
            let mut seen = HashSet::new();
            for host in &routes.virtual_hosts {
                for domain in &host.domains {
                    if !seen.insert(domain.to_ascii_lowercase()) {
                        faults.push(format!("routes {name}: domain {domain} appears twice"));
                    }
                }
            }
            let names: BTreeSet<&str> = routes.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
            if names.len() != routes.virtual_hosts.len() {
                faults.push(format!("routes {name}: two virtual hosts have one name"));
            }
        }
        faults
    }
}

/// Returns all chains of a listener, the default filter chain last.
pub(super) fn chains(listener: &Listener) -> impl Iterator<Item = &FilterChain> {
    listener.filter_chains.iter().chain(&listener.default_filter_chain)
}

/// Returns the resource name of a cluster's endpoints.
pub(super) fn assignment_name(cluster: &Cluster) -> &str {
    let service = cluster.eds_cluster_config.as_ref().map(|config| config.service_name.as_str());
    service.filter(|name| !name.is_empty()).unwrap_or(&cluster.name)
}

/// Returns the configuration of a network filter, if it has this type.
pub(super) fn message<M: Message + Name + Default>(filter: &Filter) -> Option<M> {
    match &filter.config_type {
        Some(filter::ConfigType::TypedConfig(config)) => unpack(config),
        _ => None,
    }
}

/// Returns the message in an `Any`, if it has this type.
pub(super) fn unpack<M: Message + Name + Default>(any: &Any) -> Option<M> {
    (any.type_url == M::type_url()).then(|| M::decode(any.value.clone()).ok()).flatten()
}
