//! `WorkloadEntry` and `WorkloadGroup`: workloads outside Kubernetes.
//! <https://istio.io/latest/docs/reference/config/networking/workload-entry/>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::Map;

/// `WorkloadEntry.spec`, and an element of `ServiceEntry.endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// IP, host name (DNS resolution) or `unix:///path`.
    pub address: String,
    /// Service port names with port numbers.
    pub ports: BTreeMap<String, u32>,
    /// Labels of the workload.
    pub labels: Map,
    /// Network of the workload.
    pub network: String,
    /// `region/zone/sub-zone`.
    pub locality: String,
    /// Weight; 0 counts as 1.
    pub weight: u32,
    /// Kubernetes service account of the workload.
    pub service_account: String,
}

/// `WorkloadGroup.spec`: template of the `WorkloadEntry`s of machines that register themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadGroup {
    /// Labels and annotations of the entries.
    pub metadata: GroupMetadata,
    /// Specification of the entries.
    pub template: Option<WorkloadEntry>,
    /// Readiness probe of the workloads.
    pub probe: Option<ReadinessProbe>,
}

/// Labels and annotations of the entries of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupMetadata {
    /// Labels.
    pub labels: Map,
    /// Annotations.
    pub annotations: Map,
}

/// Readiness probe; one of the last four is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessProbe {
    /// Seconds before the first probe.
    pub initial_delay_seconds: i32,
    /// Timeout of a probe in seconds; 0 counts as 1.
    pub timeout_seconds: i32,
    /// Seconds between probes; 0 counts as 10.
    pub period_seconds: i32,
    /// Number of successes until ready.
    pub success_threshold: i32,
    /// Number of failures until not ready.
    pub failure_threshold: i32,
    /// Probe by an HTTP request.
    pub http_get: Option<HttpProbe>,
    /// Probe by a TCP connection.
    pub tcp_socket: Option<TcpProbe>,
    /// Probe by a command.
    pub exec: Option<ExecProbe>,
    /// Probe by gRPC's health service.
    pub grpc: Option<GrpcProbe>,
}

/// Probe by an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpProbe {
    /// Path.
    pub path: String,
    /// Port.
    pub port: u32,
    /// Host; empty: the workload.
    pub host: String,
    /// `HTTP` or `HTTPS`.
    pub scheme: String,
    /// Headers of the request.
    pub http_headers: Vec<ProbeHeader>,
}

/// Header of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Probe by a TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpProbe {
    /// Host; empty: the workload.
    pub host: String,
    /// Port.
    pub port: u32,
}

/// Probe by a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecProbe {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Probe by gRPC's health service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcProbe {
    /// Port.
    pub port: u32,
    /// Name of the service.
    pub service: String,
}
