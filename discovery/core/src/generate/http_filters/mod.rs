//! HTTP filters of a connection manager, ordered by phase.
//!
//! Envoy runs decoder filters in the order of the list and encoder filters in reverse, and the router must be the last.
//! The order is Istio's (`buildHTTPConnectionManager` in `pilot/pkg/networking/core/listener_builder.go`); an `EnvoyFilter`
//! that inserts before or after a named filter relies on it.
//!
//! ```text
//! phase                  filter                                             generated
//! custom authorization   rbac (shadow), ext_authz of AuthorizationPolicy    no
//! extension AUTHN        wasm of WasmPlugin                                 no
//! authentication         jwt_authn of RequestAuthentication                 no
//! extension AUTHZ        wasm of WasmPlugin                                 no
//! authorization          rbac of AuthorizationPolicy                        no
//! other extensions       wasm of WasmPlugin: STATS, then unspecified        no
//! gRPC-Web               grpc_web                                           ports with the protocol gRPC-Web
//! gRPC statistics        grpc_stats                                         always
//! configured by routes   fault, cors                                        always
//! host lookup            dynamic_forward_proxy                              outbound, if a route leads to such a cluster
//! router                 router                                             always
//! ```

mod filters;

use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use pilot_proto::mesh::proxy_config::ProxyHeaders;

pub(super) use filters::{fault, router};

use super::IpFamilies;
use crate::model::Protocol;

/// Inputs of the HTTP filters of one connection manager.
#[derive(Clone, Copy)]
pub(super) struct HttpFilterInputs<'a> {
    /// Protocol of the port.
    pub(super) protocol: Protocol,
    /// IP families of DNS lookups for dynamic forward proxy clusters; `None`: no route leads to one.
    pub(super) dns_lookup: Option<IpFamilies>,
    /// `proxyHeaders` of the `ProxyConfig`.
    pub(super) headers: &'a ProxyHeaders,
}

// === impl HttpFilterInputs ===

impl HttpFilterInputs<'_> {
    /// Returns the filters in the order of their phases.
    pub(super) fn filters(self) -> Vec<HttpFilter> {
        let grpc_web = (self.protocol == Protocol::GrpcWeb).then(filters::grpc_web);
        let host_lookup = self.dns_lookup.map(filters::dynamic_forward_proxy);
        let filters = grpc_web.into_iter().chain([filters::grpc_stats(), fault(), filters::cors()]);
        filters.chain(host_lookup).chain([router(self.headers)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_filters_are_in_the_order_of_their_phases() {
        let names = |protocol, dns_lookup| {
            let inputs = HttpFilterInputs { protocol, dns_lookup, headers: &ProxyHeaders::default() };
            let names = inputs.filters().into_iter().map(|filter| filter.name);
            names.map(|name| name.trim_start_matches("envoy.filters.http.").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(Protocol::Http, None), ["grpc_stats", "fault", "cors", "router"]);
        assert_eq!(
            names(Protocol::GrpcWeb, Some(IpFamilies::V4)),
            ["grpc_web", "grpc_stats", "fault", "cors", "dynamic_forward_proxy", "router"]
        );
    }
}
