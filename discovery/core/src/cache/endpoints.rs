//! Inputs of endpoint assignments: the service, subset and port of a cluster name, and the view of the client.

use std::sync::Arc;

use pilot_proto::ResourceType;

use super::{Generated, Made, View};
use crate::api::destination_rule::{ClientTlsMode, Subset};
use crate::generate::IpFamilies;
use crate::generate::endpoint::{
    AssignmentInputs, ClientLocality, ClusterLocalHosts, EndpointSelection, LocalityPriority,
    NetworkGateways, NetworkView, TlsModeMetadata, UnhealthyEndpoints, assignment,
};
use crate::generate::route::InformationalHeaders;
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::{ClusterName, Direction, Endpoint, NameSet, Resolution, Service, ServicePort, Shared};
use crate::scope::Visible;

/// Properties of a proxy that its endpoints depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outlook {
    node: Option<Arc<str>>,
    /// Locality of the client; `None` if no rule depends on it.
    vantage: Option<Arc<ClientLocality>>,
    networks: Option<Arc<NetworkView>>,
    /// Cluster of the client, and the hosts that depend on it.
    cluster: Option<(Arc<str>, Shared<ClusterLocalHosts>)>,
    unhealthy: UnhealthyEndpoints,
}

// === impl View ===

impl View<'_> {
    pub(super) fn endpoints(self, names: &NameSet) -> Generated {
        let outlook = Arc::new(self.outlook(self.scope.services().clone()));
        self.named(ResourceType::Endpoint, (Some(&outlook), InformationalHeaders::default()), names, |name| {
            let inputs =
                AssignmentInputs { cluster: name.clone(), selection: self.served_by(name, &outlook) };
            Some(self.cache.assignments.get(&inputs, |inputs| {
                Made::run(&inputs.cluster, || {
                    let (assignment, rejected) = assignment(inputs);
                    (Some(assignment), rejected)
                })
            }))
        })
    }

    /// Returns the view of the proxy on the endpoints of these services.
    pub(super) fn outlook(self, services: Shared<[Visible]>) -> Outlook {
        Outlook {
            node: self.proxy.metadata.node_name.as_deref().map(Arc::from),
            vantage: self.vantage(&self.wants(services)),
            networks: self.networks().map(Arc::new),
            cluster: self.cluster_and_local_hosts(),
            unhealthy: if self.proxy.is_proxyless() {
                UnhealthyEndpoints::Excluded
            } else {
                UnhealthyEndpoints::Included
            },
        }
    }

    /// Returns the networks between the proxy and endpoints; `None` if the mesh has no networks.
    fn networks(self) -> Option<NetworkView> {
        let Self { cache, push, proxy, .. } = self;
        let said = Shared::from(push.networks.clone());
        let gateways = cache.networks.get(&said, |said| Arc::new(NetworkGateways::of(said)));
        let seen = proxy.metadata.network_view();
        (seen.is_some() || !gateways.is_empty()).then(|| NetworkView {
            client_network: proxy.metadata.network.as_deref().unwrap_or_default().into(),
            requested: seen,
            families: IpFamilies::of(proxy),
            gateways,
        })
    }

    fn cluster_and_local_hosts(self) -> Option<(Arc<str>, Shared<ClusterLocalHosts>)> {
        let own = self.proxy.metadata.cluster_id.as_deref().filter(|own| !own.is_empty())?;
        let mesh = (self.push.mesh.clone().into(), self.push.domain_suffix.clone());
        let hosts =
            self.cache.local_hosts.get(&mesh, |(mesh, suffix)| Arc::new(ClusterLocalHosts::of(mesh, suffix)));
        Some((own.into(), hosts.into()))
    }

    fn served_by(self, cluster: &str, outlook: &Outlook) -> Option<EndpointSelection> {
        let name: ClusterName = cluster.parse().ok()?;
        if name.direction == Direction::Inbound {
            return None;
        }
        let seen = self.scope.by_host(&name.host)?;
        let service = &seen.service;
        let resolved_there = match service.resolution {
            Resolution::Dns | Resolution::DnsRoundRobin => !self.proxy.is_proxyless(),
            Resolution::DynamicDns => true,
            Resolution::ClientSideLb | Resolution::Passthrough | Resolution::Alias(_) => false,
        };
        // The cluster is no longer EDS, and the proxy is about to be told; or the subset is gone.
        if resolved_there || !seen.has_subset(&name.subset) {
            return None;
        }
        let port = seen.port(name.port)?;
        let subset = seen.subset(&name.subset);
        let policy = MergedTrafficPolicy::of(seen.rule.as_deref(), subset, port.port, &self.mesh_policy())
            .with_distribution(service.distribution);
        let endpoints = self.push.endpoints_of(service).into();
        Some(outlook.served(service, port, subset, endpoints, &policy))
    }
}

// === impl Outlook ===

impl Outlook {
    /// Returns the endpoints of a port of a service, or of a subset of it.
    pub(super) fn served(
        &self,
        service: &Service,
        port: &ServicePort,
        subset: Option<&Subset>,
        endpoints: Shared<[Endpoint]>,
        policy: &MergedTrafficPolicy,
    ) -> EndpointSelection {
        let here = ClientLocality::default();
        EndpointSelection {
            service: service.hostname.clone(),
            endpoints,
            port_name: port.name.clone(),
            labels: subset.map(|subset| subset.labels.clone()).unwrap_or_default(),
            // A client without a known node is near to no endpoint.
            node: service.node_local.then(|| self.node.clone().unwrap_or_default()),
            cluster: self
                .cluster
                .as_ref()
                .filter(|(_, local)| local.include(&service.hostname))
                .map(|(own, _)| own.clone()),
            unhealthy: if policy.has_panic_threshold() {
                UnhealthyEndpoints::Excluded
            } else {
                self.unhealthy
            },
            tls_mode_metadata: match policy.tls_mode() {
                None | Some(ClientTlsMode::IstioMutual) => TlsModeMetadata::Included,
                Some(ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual) => {
                    TlsModeMetadata::Omitted
                }
            },
            locality_priority: LocalityPriority::of(policy, self.vantage.as_deref().unwrap_or(&here)),
            networks: self.networks.clone(),
        }
    }
}
