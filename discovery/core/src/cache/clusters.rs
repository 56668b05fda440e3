//! Clusters: those of all services, shared by a class of proxies, and the proxy's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::node::{InterceptionMode, NodeType};

use super::endpoints::Outlook;
use super::patched::direction_of_cluster;
use super::policies::identities;
use super::{Generated, Made, Set, View};
use crate::api::destination_rule::{ClientTlsMode, Subset};
use crate::generate::cluster::{
    self, ClusterClient, ClusterInputs, ClusterRole, DestinationRuleName, DnsClusterType, EndpointDiscovery,
    OutboundCluster,
};
use crate::generate::gateway;
use crate::generate::traffic_policy::{MergedTrafficPolicy, MeshPolicy};
use crate::generate::{IpFamilies, RejectReason, Rejected};
use crate::model::{
    ClusterName, Direction, Endpoint, Hostname, Location, Resolution, Service, ServicePort, Shared,
};
use crate::push::Rule;
use crate::scope::Visible;

/// Inputs of the outbound clusters of a class of proxies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClusterSet {
    services: Shared<[Visible]>,
    /// Endpoints of the services that proxies resolve by DNS, in the order of the scope.
    resolved: Vec<Shared<[Endpoint]>>,
    /// View of the client on these endpoints; `None` without such services.
    outlook: Option<Outlook>,
    /// Expected identities of upstreams, by the host of the service (`subjectAltNames`).
    identities: BTreeMap<Hostname, Vec<String>>,
    families: IpFamilies,
    client: ClusterClient,
    /// Hosts with TLS passthrough at a gateway.
    passed_on: BTreeSet<Hostname>,
    original_dst: OriginalDst,
    mesh: Arc<MeshPolicy>,
}

/// Original destination of redirected connections, as the proxy knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OriginalDst {
    Known,
    /// Gateways, and sidecars without interception: they get endpoints instead.
    Unknown,
}

// === impl View ===

impl View<'_> {
    pub(super) fn clusters(self) -> Generated {
        let (NodeType::Sidecar | NodeType::Router) = self.proxy.node_type() else {
            return Generated::default();
        };
        let set = self.patched_cluster(self.cluster_set(), Direction::Outbound);
        let made = self.cache.cluster_sets.get(&set, |set| Arc::new(self.outbound_clusters(&set.inputs)));
        let set = &set.inputs;
        let mut generated = made.seen_from(None);

        let by_mesh = Arc::new(MergedTrafficPolicy::of(None, None, 0, &set.mesh));
        let mut fixed = vec![ClusterRole::BlackHole];
        if self.proxy.node_type() == NodeType::Sidecar {
            fixed.extend([ClusterRole::Passthrough, ClusterRole::InboundPassthrough(set.families)]);
            for (role, policy) in self.inbound(&set.mesh) {
                generated.take(&self.cluster(role, policy));
            }
        }
        for role in fixed {
            generated.take(&self.cluster(role, by_mesh.clone()));
        }
        self.add_clusters(&mut generated);
        generated
    }

    pub(super) fn cluster(self, role: ClusterRole, policy: Arc<MergedTrafficPolicy>) -> Made {
        let direction = direction_of_cluster(&role);
        let inputs = self.patched_cluster(ClusterInputs { role, policy }, direction);
        self.cache.clusters.get(&inputs, |patched| {
            let inputs = &patched.inputs;
            Made::run(&inputs.name(), || patched.cluster(&inputs.hosts(), cluster::cluster(inputs)))
        })
    }

    fn cluster_set(self) -> ClusterSet {
        let router = self.proxy.node_type() == NodeType::Router;
        let blind = router || self.proxy.interception() == InterceptionMode::None;
        let by_dns = self.scope.resolved_by_dns();
        let endpoints = |service: &Service| self.push.endpoints_of(service);
        let resolved: Vec<Shared<[Endpoint]>> =
            by_dns.iter().map(|seen| endpoints(&seen.service).into()).collect();
        let wants = self.wants(self.scope.services().clone());
        let mutual = wants.mutual.iter().map(|service| {
            let own = endpoints(service);
            (service.hostname.clone(), identities(service, &own, &self.push.mesh.trust_domain_aliases))
        });
        ClusterSet {
            services: self.scope.services().clone(),
            outlook: (!resolved.is_empty()).then(|| self.outlook(by_dns.clone().into())),
            resolved,
            identities: mutual.collect(),
            families: IpFamilies::of(self.proxy),
            client: if router { ClusterClient::Gateway } else { ClusterClient::Sidecar },
            passed_on: gateway::auto_passthrough_hosts(self.scope.gateways()),
            original_dst: if blind { OriginalDst::Unknown } else { OriginalDst::Known },
            mesh: self.mesh_policy(),
        }
    }

    fn outbound_clusters(self, inputs: &ClusterSet) -> Set {
        let mut set = Set::default();
        let mut resolved = inputs.resolved.iter();
        for seen in inputs.services.iter() {
            let endpoints = if answers(&seen.service).is_some() { resolved.next() } else { None };
            let mut numbers = BTreeSet::new();
            for port in seen.ports().filter(|port| seen.service.is_proxied_at(port)) {
                if !numbers.insert(port.port) {
                    continue;
                }
                for subset in subsets(seen) {
                    let (outbound, policy) = inputs.outbound(seen, port, subset, endpoints);
                    if inputs.passes_on(&seen.service) {
                        let passing = OutboundCluster { client: ClusterClient::SniDnat, ..outbound.clone() };
                        let unopened = MergedTrafficPolicy { tls: None, ..policy.clone() };
                        set.take(&self.cluster(ClusterRole::Outbound(passing.into()), unopened.into()), None);
                    }
                    set.take(&self.cluster(ClusterRole::Outbound(outbound.into()), policy.into()), None);
                }
            }
            set.generated.reject(&duplicates(seen));
        }
        set
    }
}

// === impl ClusterSet ===

impl ClusterSet {
    fn passes_on(&self, service: &Service) -> bool {
        service.location == Location::MeshInternal
            && self.passed_on.iter().any(|host| host.includes(&service.hostname))
    }

    fn outbound(
        &self,
        seen: &Visible,
        port: &ServicePort,
        subset: Option<&Subset>,
        endpoints: Option<&Shared<[Endpoint]>>,
    ) -> (OutboundCluster, MergedTrafficPolicy) {
        let service = &seen.service;
        let policy = MergedTrafficPolicy::of(seen.rule.as_deref(), subset, port.port, &self.mesh)
            .with_distribution(service.distribution);
        let discovery = match (answers(service), endpoints, &self.outlook, &service.resolution) {
            (Some(answers), Some(endpoints), Some(outlook), _) => EndpointDiscovery::Dns {
                selection: outlook.served(service, port, subset, endpoints.clone(), &policy).into(),
                dns_type: answers,
                families: self.families,
            },
            (.., Resolution::Passthrough) if self.original_dst == OriginalDst::Known => {
                EndpointDiscovery::OriginalDst
            }
            (.., Resolution::DynamicDns) => EndpointDiscovery::DynamicForwardProxy(self.families),
            _ => EndpointDiscovery::Eds,
        };
        let mutual = policy.tls_mode() == Some(ClientTlsMode::IstioMutual);
        let identities = self.identities.get(&service.hostname).filter(|_| mutual);
        let outbound = OutboundCluster {
            service: service.clone(),
            port: port.clone(),
            subset: subset.map_or_else(Arc::default, |subset| subset.name.as_str().into()),
            discovery,
            client: self.client,
            rule: seen.rule.as_deref().and_then(rule_name),
            identities: identities.cloned().unwrap_or_default(),
        };
        (outbound, policy)
    }
}

/// Returns the type of the DNS cluster of a service, if its addresses are resolved before the first request.
const fn answers(service: &Service) -> Option<DnsClusterType> {
    match service.resolution {
        Resolution::Dns => Some(DnsClusterType::Strict),
        Resolution::DnsRoundRobin => Some(DnsClusterType::Logical),
        Resolution::ClientSideLb
        | Resolution::Passthrough
        | Resolution::DynamicDns
        | Resolution::Alias(_) => None,
    }
}

/// Returns the whole service, and each of its subsets once. Services with dynamic names have no subsets: labels of their
/// endpoints are unknown.
fn subsets(seen: &Visible) -> Vec<Option<&Subset>> {
    let mut found = vec![None];
    if seen.service.resolution != Resolution::DynamicDns {
        let mut names = BTreeSet::new();
        let written = seen.rule.iter().flat_map(|rule| &rule.subsets);
        found.extend(written.filter(|subset| names.insert(&subset.name)).map(Some));
    }
    found
}

/// Returns the findings about names of subsets that are defined more than once.
fn duplicates(seen: &Visible) -> Vec<Rejected> {
    let names = seen.rule.iter().flat_map(|rule| &rule.duplicate_subsets);
    let rejected = names.map(|name| Rejected {
        subject: ClusterName::subset(
            seen.ports().next().map_or(0, |port| port.port),
            name,
            &seen.service.hostname,
        )
        .to_string(),
        service: seen.service.hostname.clone(),
        reason: RejectReason::DuplicateSubset,
    });
    rejected.collect()
}

/// Returns the first of the objects that a rule is merged from.
pub(super) fn rule_name(rule: &Rule) -> Option<DestinationRuleName> {
    let meta = &rule.sources.first()?.meta;
    Some(DestinationRuleName {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        has_workload_selector: !rule.selector.is_empty(),
    })
}
