//! `ServiceEntry`: a service that is in no registry.
//! <https://istio.io/latest/docs/reference/config/networking/service-entry/>

use serde::{Deserialize, Serialize};

use super::WorkloadEntry;
use super::selector::WorkloadSelector;

/// `ServiceEntry.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// Host names; may be wildcards if the resolution is `NONE` or `DYNAMIC_DNS`.
    pub hosts: Vec<String>,
    /// Virtual addresses or networks.
    pub addresses: Vec<String>,
    /// Ports of all hosts.
    pub ports: Vec<ServiceEntryPort>,
    /// Location inside or outside the mesh.
    pub location: ServiceEntryLocation,
    /// Resolution of endpoints.
    pub resolution: ServiceEntryResolution,
    /// Endpoints; excludes `workloadSelector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// Selects pods and `WorkloadEntry`s of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces that can use it.
    pub export_to: Vec<String>,
    /// Identities of the servers.
    pub subject_alt_names: Vec<String>,
}

/// Port of a `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryPort {
    /// Port number for clients.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS; empty: selected by the name.
    pub protocol: String,
    /// Name, unique in the entry.
    pub name: String,
    /// Port of endpoints; 0: `number`.
    pub target_port: u32,
}

/// Location inside or outside the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceEntryLocation {
    /// Outside (the default of the API).
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// Resolution of endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceEntryResolution {
    /// The application resolves the name.
    #[default]
    None,
    /// By `endpoints` or `workloadSelector`.
    Static,
    /// The proxy resolves the name by DNS.
    Dns,
    /// The proxy resolves the name by DNS and uses one address at a time.
    DnsRoundRobin,
    /// The proxy resolves the host of each request or connection by DNS.
    DynamicDns,
}
