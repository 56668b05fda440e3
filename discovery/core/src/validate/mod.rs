//! Validation of configuration objects: errors that reject an object, and warnings about fields without effect.
//!
//! One object at a time: references to other objects are not checked. The rules are those of Istio's webhook and CRDs, so that an
//! object that `kubectl apply` accepts there is accepted here. One file for each kind, and one for each part that several kinds
//! have. <https://istio.io/latest/docs/reference/config/analysis/>

mod destination_rule;
mod envoy_filter;
mod findings;
mod gateway;
mod headers;
mod mesh;
mod proxy_config;
mod server_tls;
mod service_entry;
mod sharing;
mod sidecar;
mod telemetry;
#[cfg(test)]
mod tests;
mod unsupported;
pub mod values;
mod virtual_service;
mod workload;

use pilot_proto::mesh::MeshConfig;

use self::findings::{At, Findings};
use crate::model::{ConfigMeta, ConfigObject, ConfigSpec};

pub use findings::{Finding, Severity};

/// Annotations that Istio's webhook refuses.
const FORBIDDEN: [&str; 4] = [
    "istio.io/dry-run",
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/webhook-always-reject",
];

/// Returns the findings about the mesh configuration, which are all warnings.
pub fn mesh(mesh: &MeshConfig) -> Vec<Finding> {
    let mut out = Findings::default();
    mesh::check(&mut out, mesh);
    out.into_inner()
}

/// Returns the findings about an object; without an [`Severity::Error`] it is used.
pub fn config(object: &ConfigObject) -> Vec<Finding> {
    let mut out = Findings::default();
    let ConfigMeta { namespace, name, annotations, .. } = &object.meta;
    for annotation in FORBIDDEN.into_iter().filter(|name| annotations.contains_key(*name)) {
        out.error(At::Root("metadata.annotations").of(annotation), "is not for objects of this kind");
    }
    let (spec, namespace) = (At::Root("spec"), namespace.as_str());
    match &object.spec {
        ConfigSpec::ServiceEntry(entry) => service_entry::check(&mut out, spec, namespace, entry),
        ConfigSpec::WorkloadEntry(entry) => workload::entry(&mut out, spec, entry, workload::Place::Alone),
        ConfigSpec::WorkloadGroup(group) => workload::group(&mut out, spec, group),
        ConfigSpec::VirtualService(service) => virtual_service::check(&mut out, spec, namespace, service),
        ConfigSpec::DestinationRule(rule) => destination_rule::check(&mut out, spec, namespace, rule),
        ConfigSpec::Gateway(gateway) => gateway::check(&mut out, spec, name, gateway),
        ConfigSpec::Sidecar(sidecar) => sidecar::check(&mut out, spec, namespace, sidecar),
        ConfigSpec::EnvoyFilter(filter) => envoy_filter::check(&mut out, spec, filter),
        ConfigSpec::ProxyConfig(config) => proxy_config::check(&mut out, spec, config),
        ConfigSpec::Telemetry(telemetry) => telemetry::check(&mut out, spec, telemetry),
    }
    unsupported::check(&mut out, spec, &object.spec);
    out.into_inner()
}
