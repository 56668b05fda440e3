//! `WorkloadEntry` and `WorkloadGroup`: workloads that are no pods.
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
    /// Service port name to number.
    pub ports: BTreeMap<String, u32>,
    /// Labels of the workload.
    pub labels: Map,
    /// Network it can be reached in.
    pub network: String,
    /// `region/zone/sub-zone`.
    pub locality: String,
    /// Share of the traffic; 0 counts as 1.
    pub weight: u32,
    /// Kubernetes service account of the workload.
    pub service_account: String,
}

/// `WorkloadGroup.spec`: what `WorkloadEntry`s of machines that register themselves are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadGroup {
    /// Labels and annotations of the entries.
    pub metadata: GroupMetadata,
    /// Their spec.
    pub template: Option<WorkloadEntry>,
    /// How they are probed.
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

/// How a workload is probed: one of the last four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessProbe {
    /// Seconds before the first probe.
    pub initial_delay_seconds: i32,
    /// Seconds a probe may take; 0 counts as 1.
    pub timeout_seconds: i32,
    /// Seconds between probes; 0 counts as 10.
    pub period_seconds: i32,
    /// Successes that make it ready.
    pub success_threshold: i32,
    /// Failures that make it not ready.
    pub failure_threshold: i32,
    /// An HTTP request.
    pub http_get: Option<HttpProbe>,
    /// A connection.
    pub tcp_socket: Option<TcpProbe>,
    /// A command.
    pub exec: Option<ExecProbe>,
    /// gRPC's health service.
    pub grpc: Option<GrpcProbe>,
}

/// An HTTP request.
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

/// One header of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProbeHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpProbe {
    /// Host; empty: the workload.
    pub host: String,
    /// Port.
    pub port: u32,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecProbe {
    /// Program and arguments.
    pub command: Vec<String>,
}

/// gRPC's health service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcProbe {
    /// Port.
    pub port: u32,
    /// Service that is asked for.
    pub service: String,
}
