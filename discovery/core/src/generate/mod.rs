//! Generators: pure functions from what a proxy can see to Envoy's messages.
//!
//! Every generator takes one struct that implements `Eq` and `Hash`. This struct is also the cache key, so a cache hit is
//! correct by construction: a generator cannot depend on data it does not receive. Equal inputs give equal bytes.
//!
//! ```text
//! Scope, Proxy, endpoints ─▶ {Plan, Cluster, Listener, Route, Assignment}Inputs ─▶ message
//! ```
//!
//! Configuration that cannot be used is reported as [`Rejected`] and does not affect the rest.

pub mod cluster;
pub mod downstream_tls;
pub mod endpoint;
pub mod gateway;
pub mod grpc;
pub mod http_connection_manager;
mod http_filters;
pub mod inbound;
mod ip_families;
pub mod listener;
pub mod network_filters;
pub mod outbound;
mod proto;
mod report;
pub mod route;
mod sds_config;
mod stat_name;
mod tcp_route;
pub mod telemetry;
pub mod traffic_policy;

pub use ip_families::IpFamilies;
pub use report::{RejectReason, Rejected, Report};
