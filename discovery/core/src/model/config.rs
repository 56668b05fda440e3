//! Istio's configuration objects as they were written, and the keys that changes are tracked by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Namespace;

/// What kind of thing changed. Every service change, whatever the registry, is a `ServiceEntry` change of
/// its host name (as in Istio).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A service appeared, changed or went.
    ServiceEntry,
    /// Only endpoints of a service changed.
    Endpoints,
    /// A `WorkloadEntry` changed.
    WorkloadEntry,
    /// The mesh configuration changed.
    MeshConfig,
    /// One proxy's own workload changed.
    Proxy,
}

impl Kind {
    /// As logs and debug pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceEntry => "ServiceEntry",
            Self::Endpoints => "Endpoints",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::MeshConfig => "MeshConfig",
            Self::Proxy => "Proxy",
        }
    }
}

/// Names one thing that can change. For services and endpoints the name is the host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; empty for what has none.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// What every configuration object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMeta {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Seconds since 1970, 0 when unknown.
    pub created: i64,
}

/// A configuration object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigObject {
    /// Who it is.
    pub meta: ConfigMeta,
    /// What it says.
    pub spec: ConfigSpec,
}

/// The kinds of configuration we read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSpec {
    /// `networking.istio.io ServiceEntry`
    ServiceEntry(ServiceEntry),
    /// `networking.istio.io WorkloadEntry`
    WorkloadEntry(WorkloadEntry),
}

impl ConfigSpec {
    /// Which kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
        }
    }
}

/// `ServiceEntry.spec`. <https://istio.io/latest/docs/reference/config/networking/service-entry/>
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceEntry {
    /// Host names; may be wildcards when the resolution is `NONE`.
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
    #[serde(alias = "workload_selector")]
    pub workload_selector: Option<WorkloadSelector>,
    /// Who may see it.
    #[serde(alias = "export_to")]
    pub export_to: Vec<String>,
    /// Identities of the servers.
    #[serde(alias = "subject_alt_names")]
    pub subject_alt_names: Vec<String>,
}

/// One port of a `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ServiceEntryPort {
    /// What clients connect to.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS; empty: by the name.
    pub protocol: String,
    /// Unique in the entry.
    pub name: String,
    /// Where endpoints listen when that differs.
    #[serde(alias = "target_port")]
    pub target_port: u32,
}

/// Inside the mesh or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceEntryLocation {
    /// Outside (the default of the API).
    #[default]
    MeshExternal,
    /// Inside.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
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
}

/// Selects workloads by labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadSelector {
    /// All of them must be there.
    pub labels: BTreeMap<String, String>,
}

/// `WorkloadEntry.spec`, and an element of `ServiceEntry.endpoints`.
/// <https://istio.io/latest/docs/reference/config/networking/workload-entry/>
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WorkloadEntry {
    /// IP, host name (DNS resolution) or `unix:///path`.
    pub address: String,
    /// Service port name to number.
    pub ports: BTreeMap<String, u32>,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// Network it can be reached in.
    pub network: String,
    /// `region/zone/sub-zone`.
    pub locality: String,
    /// Share of the traffic; 0 counts as 1.
    pub weight: u32,
    /// Kubernetes service account of the workload.
    #[serde(alias = "service_account")]
    pub service_account: String,
}
