//! Simulation: evaluates a call against the resources of one proxy, as Envoy does.
//!
//! ```text
//! Call ─▶ listener ─▶ filter chain ─▶ tcp_proxy ──────────────────────────────────────────▶ cluster ─▶ endpoints
//!                                └──▶ http_connection_manager ─▶ virtual host ─▶ route ─▶ HTTP filters ─▶ action
//! ```
//!
//! The input is resources only, independent of the generators, so the simulation also tests them. Features that cannot be
//! evaluated (a Lua script, a custom cluster) are named in the trace and skipped, or end it with [`Verdict::Unknown`].

mod call;
mod call_spec;
mod client;
mod cluster_settings;
mod dns;
mod domains;
mod dynamic_forward_proxy;
mod filter_chain;
mod filters;
mod forward;
mod http;
mod listener;
mod matching;
mod network;
mod path_normalization;
mod proxy_config_view;
mod redirect;
mod request_matching;
mod request_state;
mod rewrite;
mod route;
mod route_policy;
mod source_objects;
mod tls_summary;
mod trace;
mod upstream;
mod upstream_types;

pub use call::{AddressError, Call, CallDirection, Certificate, Destination, Payload, Request, Tls, Version};
pub use call_spec::{CallSpec, CallSpecError};
pub use client::{Client, proxy_of};
pub use dns::{ResolvedName, resolve};
pub use proxy_config_view::{ProxyConfigView, ProxyConfigViewError};
pub use trace::{Answer, Closed, Share, Stage, Step, Trace, Verdict};
pub use upstream_types::{Endpoint, Fitness, Security, Upstream};

#[cfg(test)]
mod tests;
