//! Istio's configuration objects: one type for each message of the API.
//!
//! A type accepts what can be written; `validate` checks what is allowed. Names are Istio's, and all fields are present, so that
//! fields without effect can be reported. A `oneof` of the API is several fields, of which at most one is set.
//! <https://istio.io/latest/docs/reference/config/networking/>

pub mod destination_rule;
pub mod envoy_filter;
pub mod gateway;
pub mod proxy_config;
pub mod selector;
pub mod service_entry;
pub mod sidecar;
pub mod telemetry;
pub mod values;
pub mod virtual_service;
pub mod workload;

pub use destination_rule::DestinationRule;
pub use envoy_filter::EnvoyFilter;
pub use gateway::Gateway;
pub use pilot_proto::proto3_json::de;
pub use proxy_config::ProxyConfig;
pub use service_entry::ServiceEntry;
pub use sidecar::Sidecar;
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;
pub use workload::{WorkloadEntry, WorkloadGroup};
