//! `ServiceEntry`: a service that no registry knows.
//! <https://istio.io/latest/docs/reference/config/networking/service-entry/>

use serde::{Deserialize, Serialize};

use super::WorkloadEntry;
use super::selector::WorkloadSelector;

/// `ServiceEntry.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// Host names; may be wildcards when the resolution is `NONE` or `DYNAMIC_DNS`.
    pub hosts: Vec<String>,
    /// Virtual addresses or networks.
    pub addresses: Vec<String>,
    /// Ports of every host.
    pub ports: Vec<ServiceEntryPort>,
    /// Inside the mesh or not.
    pub location: ServiceEntryLocation,
    /// How endpoints are found.
    pub resolution: ServiceEntryResolution,
    /// Where it is served; excludes `workloadSelector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// Selects pods and `WorkloadEntry`s of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// Who may see it.
    pub export_to: Vec<String>,
    /// Identities of the servers.
    pub subject_alt_names: Vec<String>,
}

/// One port of a `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryPort {
    /// What clients connect to.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS; empty: by the name.
    pub protocol: String,
    /// Unique in the entry.
    pub name: String,
    /// Where endpoints listen when that differs.
    pub target_port: u32,
}

/// Inside the mesh or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceEntryLocation {
    /// Outside (the default of the API).
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceEntryResolution {
    /// The application has resolved the name.
    #[default]
    None,
    /// `endpoints` or `workloadSelector` tell.
    Static,
    /// The proxy asks DNS.
    Dns,
    /// The proxy asks DNS and takes one answer at a time.
    DnsRoundRobin,
    /// The proxy asks DNS for the host that a request or a connection names.
    DynamicDns,
}
