//! Services of the workload beside a proxy, with their ports (Istio's `ServiceTarget`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::PushContext;
use crate::model::{
    EndpointAddress, Hostname, Namespace, Proxy, Service, ServicePort, TargetPort, WorkloadKind, selects,
};

/// Port of a service, and the port of the workload that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTarget {
    /// Service of the workload.
    pub service: Arc<Service>,
    /// Port of the service.
    pub port: ServicePort,
    /// Port of the workload.
    pub target_port: u16,
}

// === impl PushContext ===

impl PushContext {
    /// Returns the services of the workload beside the proxy, oldest first: those that select its pod or `WorkloadEntry`, and
    /// those that have an endpoint at its address. If there are neither, those that select the labels that the proxy claims (a
    /// pod that no source has yet).
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
        // The first service of a target port decides its protocol.
        targets.sort_by(|a, b| order(a).cmp(&order(b)));
        targets.dedup();
        targets
    }

    /// Returns the services of the namespace that select these labels.
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

    /// Returns the services that have an endpoint at this address.
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

/// Total order: the result does not depend on the order of declarations.
fn order(target: &ServiceTarget) -> (i64, &Hostname, &Namespace, u16, u16, &str) {
    let (service, port) = (&target.service, &target.port);
    (service.created, &service.hostname, &service.namespace, port.port, target.target_port, &port.name)
}

/// Returns the container ports of `POD_PORTS` by name, as the downward API gives them. Invalid entries are left out.
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
