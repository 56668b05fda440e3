//! Which services the workload beside a proxy serves, and where.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::PushContext;
use crate::model::{
    EndpointAddress, Hostname, Namespace, Proxy, Service, ServicePort, TargetPort, WorkloadKind, selects,
};

/// One port of one of a proxy's own services, and where it leads in the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// The service.
    pub service: Arc<Service>,
    /// Its port.
    pub port: ServicePort,
    /// Port of the workload.
    pub target_port: u16,
}

// === impl PushContext ===

impl PushContext {
    /// The services that the workload beside the proxy serves, oldest first: those that select its pod or
    /// `WorkloadEntry`, those that have an endpoint at its address, and when there is neither, those that select
    /// the labels the proxy claims (a pod that no source has told of yet).
    pub fn service_targets(&self, proxy: &Proxy) -> Vec<ServiceTarget> {
        let mut targets = Vec::new();
        for ip in &proxy.ips {
            if let Some(workload) = self.workloads.get(ip) {
                targets.extend(self.selecting(
                    &workload.namespace,
                    &workload.labels,
                    &workload.ports,
                    workload.kind,
                ));
            }
            targets.extend(self.serving_at(*ip));
        }
        if targets.is_empty() && !proxy.metadata.labels.is_empty() {
            let ports = claimed_ports(proxy);
            targets = self.selecting(&proxy.namespace, &proxy.metadata.labels, &ports, WorkloadKind::Pod);
        }
        // Oldest first: the first service on a target port decides what is spoken there.
        targets.sort_by(|a, b| order(a).cmp(&order(b)));
        targets.dedup();
        targets
    }

    /// Services of the namespace that select these labels.
    fn selecting(
        &self,
        namespace: &Namespace,
        labels: &BTreeMap<String, String>,
        ports: &BTreeMap<String, u16>,
        kind: WorkloadKind,
    ) -> Vec<ServiceTarget> {
        let hosts = self.in_namespace.get(namespace).into_iter().flatten();
        let services = hosts.filter_map(|host| self.service(host, namespace));
        let mut targets = Vec::new();
        for service in
            services.filter(|service| !service.selector.is_empty() && selects(&service.selector, labels))
        {
            for port in &service.ports {
                let declared = match kind {
                    WorkloadKind::WorkloadEntry => ports.get(&*port.name).copied(),
                    WorkloadKind::Pod => None,
                };
                let target_port = declared.or_else(|| match &port.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => ports.get(name).copied(),
                });
                targets.extend(target_port.map(|target_port| ServiceTarget {
                    service: service.clone(),
                    port: port.clone(),
                    target_port,
                }));
            }
        }
        targets
    }

    /// Services that have an endpoint at this address.
    fn serving_at(&self, ip: IpAddr) -> Vec<ServiceTarget> {
        let mut targets = Vec::new();
        for key in self.served_at.get(&ip).into_iter().flatten() {
            let Some(service) = self.services.get(key) else { continue };
            let endpoints = self.endpoints.get(key).into_iter().flat_map(|endpoints| endpoints.iter());
            for endpoint in endpoints.filter(|endpoint| endpoint.address == EndpointAddress::Ip(ip)) {
                let port = service.ports.iter().find(|port| port.name == endpoint.port_name);
                targets.extend(port.map(|port| ServiceTarget {
                    service: service.clone(),
                    port: port.clone(),
                    target_port: endpoint.port,
                }));
            }
        }
        targets
    }
}

/// Total, so that the order of declarations decides nothing.
fn order(target: &ServiceTarget) -> (i64, &Hostname, &Namespace, u16, u16, &str) {
    let (service, port) = (&target.service, &target.port);
    (service.created, &service.hostname, &service.namespace, port.port, target.target_port, &port.name)
}

/// `POD_PORTS`: container ports by name, as the downward API gives them. What does not parse tells nothing.
fn claimed_ports(proxy: &Proxy) -> BTreeMap<String, u16> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ContainerPort {
        #[serde(default)]
        name: String,
        container_port: u16,
    }
    let ports = proxy
        .metadata
        .pod_ports
        .as_deref()
        .and_then(|text| serde_json::from_str::<Vec<ContainerPort>>(text).ok());
    ports.into_iter().flatten().map(|port| (port.name, port.container_port)).collect()
}
