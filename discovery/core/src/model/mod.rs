//! Istio's model of services, endpoints, workloads, proxies and configuration: the language between sources and generators.

pub mod config;
pub mod endpoint;
pub mod event;
pub mod names;
pub mod protocol;
pub mod proxy;
pub mod service;
pub mod shared;
pub mod workload;

pub use config::{ChangeKind, ConfigKey, ConfigKind, ConfigMeta, ConfigObject, ConfigSpec};
pub use endpoint::{Endpoint, EndpointAddress, Health, Locality, TlsMode};
pub use event::{Change, SourceEvent, SourceId};
pub use names::{ClusterName, Direction, Hostname, Namespace};
pub use protocol::Protocol;
pub use proxy::Proxy;
pub use service::{
    Distribution, ExportTo, Location, Registry, Resolution, Service, ServicePort, TargetPort, Vip,
};
pub use shared::Shared;
pub use workload::{Workload, WorkloadKind};

pub use pilot_xds::{Difference, Fingerprint, NameSet, Resource, ResourceSet};

/// Kubernetes labels, shared by all objects with the same set.
pub type Labels = std::sync::Arc<std::collections::BTreeMap<String, String>>;

/// Returns `true` if `labels` contains every pair of `selector`. An empty selector selects everything.
pub fn selects(
    selector: &std::collections::BTreeMap<String, String>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
