//! Clusters: those of all services, shared by a class of proxies, and the proxy's own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pilot_proto::node::{InterceptionMode, NodeType};

use super::endpoints::served;
use super::{Generated, Made, Set, View, settings};
use crate::generate::cluster::{self, Answers, ClusterInputs, ClusterRole, Discovery};
use crate::generate::endpoint::Unhealthy;
use crate::generate::{Families, inbound};
use crate::model::{Endpoint, Protocol, Resolution, Service, ServicePort, Shared};
use crate::push::ServiceTarget;
use crate::scope::Visible;

/// Everything the outbound clusters of a class of proxies depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClusterSet {
    services: Shared<[Visible]>,
    /// Endpoints of the services that proxies resolve by DNS, in the scope's order.
    resolved: Vec<Shared<[Endpoint]>>,
    node: Option<Arc<str>>,
    families: Families,
    original_dst: OriginalDst,
    connect_timeout: Duration,
    dns_refresh_rate: Duration,
}

/// Whether the proxy knows where a connection was going before it was redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OriginalDst {
    Known,
    /// Gateways, and sidecars without interception: they are told the endpoints instead.
    Unknown,
}

// === impl View ===

impl View<'_> {
    pub(super) fn clusters(self) -> Generated {
        let (NodeType::Sidecar | NodeType::Router) = self.proxy.node_type() else {
            return Generated::default();
        };
        let set = self.cluster_set();
        let made = self.cache.cluster_sets.get(&set, |set| Arc::new(self.outbound_clusters(set)));
        let mut generated = made.seen_from(None);

        let mut fixed = vec![ClusterRole::BlackHole];
        if self.proxy.node_type() == NodeType::Sidecar {
            fixed.extend([ClusterRole::Passthrough, ClusterRole::InboundPassthrough(set.families)]);
            let targets = self.push.service_targets(self.proxy);
            let settings = settings::listeners(self.push, self.scope, self.proxy, &targets);
            // The listeners report what is wrong with targets.
            let (by_port, _) = inbound::targets(&targets, &settings);
            for (target_port, services) in by_port {
                fixed.extend(inbound_cluster(target_port, &services, set.families));
            }
        }
        for role in fixed {
            generated.take(&self.cluster(role));
        }
        generated
    }

    pub(super) fn cluster(self, role: ClusterRole) -> Made {
        let inputs = ClusterInputs { role, connect_timeout: self.push.mesh.connect_timeout };
        self.cache.clusters.get(&inputs, |inputs| {
            Made::run(&inputs.name(), || match cluster::cluster(inputs) {
                Ok(cluster) => (Some(cluster), Vec::new()),
                Err(rejected) => (None, vec![rejected]),
            })
        })
    }

    fn cluster_set(self) -> ClusterSet {
        let blind =
            self.proxy.node_type() == NodeType::Router || self.proxy.interception() == InterceptionMode::None;
        let by_dns = self.scope.resolved_by_dns().iter();
        let resolved: Vec<Shared<[Endpoint]>> =
            by_dns.map(|seen| self.push.endpoints_of(&seen.service).into()).collect();
        ClusterSet {
            services: self.scope.services().clone(),
            node: self.node().filter(|_| !resolved.is_empty()),
            resolved,
            families: Families::of(self.proxy),
            original_dst: if blind { OriginalDst::Unknown } else { OriginalDst::Known },
            connect_timeout: self.push.mesh.connect_timeout,
            dns_refresh_rate: self.push.mesh.dns_refresh_rate,
        }
    }

    fn outbound_clusters(self, inputs: &ClusterSet) -> Set {
        let mut set = Set::default();
        let mut resolved = inputs.resolved.iter();
        for seen in inputs.services.iter() {
            let service = &seen.service;
            let endpoints = if answers(service).is_some() { resolved.next() } else { None };
            let mut numbers = BTreeSet::new();
            for port in seen.ports().filter(|port| port.protocol != Protocol::Udp) {
                if numbers.insert(port.port) {
                    let discovery = inputs.discovery(service, port, endpoints);
                    let role =
                        ClusterRole::Outbound { service: service.clone(), port: port.clone(), discovery };
                    set.take(&self.cluster(role), None);
                }
            }
        }
        set
    }
}

// === impl ClusterSet ===

impl ClusterSet {
    fn discovery(
        &self,
        service: &Service,
        port: &ServicePort,
        endpoints: Option<&Shared<[Endpoint]>>,
    ) -> Discovery {
        match (answers(service), endpoints) {
            (Some(answers), Some(endpoints)) => Discovery::Dns {
                served: served(service, port, endpoints.clone(), self.node.as_ref(), Unhealthy::Sent),
                answers,
                refresh: self.dns_refresh_rate,
                families: self.families,
            },
            _ if service.resolution == Resolution::Passthrough && self.original_dst == OriginalDst::Known => {
                Discovery::OriginalDst
            }
            _ => Discovery::Eds,
        }
    }
}

/// How a service is resolved by DNS, if it is.
fn answers(service: &Service) -> Option<Answers> {
    match service.resolution {
        Resolution::Dns => Some(Answers::All),
        Resolution::DnsRoundRobin => Some(Answers::First),
        Resolution::ClientSideLb | Resolution::Passthrough | Resolution::Alias(_) => None,
    }
}

fn inbound_cluster(target_port: u16, services: &[&ServiceTarget], families: Families) -> Option<ClusterRole> {
    let first = services.first()?;
    let mut distinct: Vec<Shared<Service>> = Vec::new();
    for target in services {
        let service = Shared::from(target.service.clone());
        if !distinct.contains(&service) {
            distinct.push(service);
        }
    }
    Some(ClusterRole::Inbound { target_port, services: distinct, port: first.port.clone(), families })
}
