//! Assignments: which endpoints of which service a cluster's name means to a proxy.

use std::sync::Arc;

use pilot_proto::ResourceType;

use super::{Generated, Made, View};
use crate::generate::endpoint::{AssignmentInputs, Served, Unhealthy, assignment};
use crate::model::{ClusterName, Direction, Endpoint, NameSet, Resolution, Service, ServicePort, Shared};

// === impl View ===

impl View<'_> {
    pub(super) fn endpoints(self, names: &NameSet) -> Generated {
        self.named(ResourceType::Endpoint, names, |name| {
            let inputs = AssignmentInputs { cluster: name.clone(), served: self.served_by(name) };
            Some(self.cache.assignments.get(&inputs, |inputs| {
                Made::run(&inputs.cluster, || {
                    let (assignment, rejected) = assignment(inputs);
                    (Some(assignment), rejected)
                })
            }))
        })
    }

    pub(super) fn unhealthy(self) -> Unhealthy {
        if self.proxy.is_proxyless() { Unhealthy::Withheld } else { Unhealthy::Sent }
    }

    fn served_by(self, cluster: &str) -> Option<Served> {
        let name: ClusterName = cluster.parse().ok()?;
        if name.direction == Direction::Inbound || !name.subset.is_empty() {
            return None;
        }
        let seen = self.scope.by_host(&name.host)?;
        let service = &seen.service;
        if matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
            && !self.proxy.is_proxyless()
        {
            // The cluster has changed from EDS to DNS; the proxy is about to learn that.
            return None;
        }
        let port = seen.port(name.port)?;
        let endpoints = self.push.endpoints_of(service).into();
        Some(served(service, port, endpoints, self.node().as_ref(), self.unhealthy()))
    }

    pub(super) fn node(self) -> Option<Arc<str>> {
        self.proxy.metadata.node_name.as_deref().map(Arc::from)
    }
}

pub(super) fn served(
    service: &Service,
    port: &ServicePort,
    endpoints: Shared<[Endpoint]>,
    node: Option<&Arc<str>>,
    unhealthy: Unhealthy,
) -> Served {
    Served {
        service: service.hostname.clone(),
        endpoints,
        port_name: port.name.clone(),
        // A client that does not say where it runs is near to nothing.
        node: service.node_local.then(|| node.cloned().unwrap_or_default()),
        unhealthy,
    }
}
