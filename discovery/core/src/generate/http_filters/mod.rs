//! HTTP filters of a connection manager, ordered by phase.
//!
//! Envoy runs decoder filters in the order of the list and encoder filters in reverse, and the router must be the last.
//! The order is Istio's (`buildHTTPConnectionManager` in `pilot/pkg/networking/core/listener.go`); an `EnvoyFilter` that
//! inserts before or after a named filter relies on it.
//!
//! ```text
//! phase                 filter                                          generated
//! CustomAuthorization   ext_authz of AuthorizationPolicy CUSTOM         no
//! Authentication        jwt_authn, istio_authn                          no
//! Authorization         rbac of AuthorizationPolicy                     no
//! RateLimit             ratelimit, local_ratelimit                      no
//! Wasm                  wasm of WasmPlugin; phases AUTHN and AUTHZ   no
//!                       precede the filter of their phase
//! GrpcWeb               grpc_web                                        ports with the protocol gRPC-Web
//! Stats                 grpc_stats                                      always
//! RouteConfigured       fault, cors; a route activates them             always
//! HostLookup            dynamic_forward_proxy, for such clusters        outbound, if a route leads to one
//! Router                router                                          always
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

/// Phase of an HTTP filter, in the order in which a request passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    CustomAuthorization,
    Authentication,
    Authorization,
    RateLimit,
    Wasm,
    GrpcWeb,
    Stats,
    RouteConfigured,
    HostLookup,
    Router,
}

// === impl HttpFilterInputs ===

impl HttpFilterInputs<'_> {
    /// Returns the filters in the order of their phases.
    pub(super) fn filters(self) -> Vec<HttpFilter> {
        Phase::ALL.into_iter().flat_map(|phase| self.phase(phase)).collect()
    }

    fn phase(self, phase: Phase) -> Vec<HttpFilter> {
        match phase {
            Phase::CustomAuthorization
            | Phase::Authentication
            | Phase::Authorization
            | Phase::RateLimit
            | Phase::Wasm => Vec::new(),
            Phase::GrpcWeb => {
                let used = self.protocol == Protocol::GrpcWeb;
                used.then(filters::grpc_web).into_iter().collect()
            }
            Phase::Stats => vec![filters::grpc_stats()],
            Phase::RouteConfigured => vec![fault(), filters::cors()],
            Phase::HostLookup => self.dns_lookup.map(filters::dynamic_forward_proxy).into_iter().collect(),
            Phase::Router => vec![router(self.headers)],
        }
    }
}

// === impl Phase ===

impl Phase {
    const ALL: [Self; 10] = [
        Self::CustomAuthorization,
        Self::Authentication,
        Self::Authorization,
        Self::RateLimit,
        Self::Wasm,
        Self::GrpcWeb,
        Self::Stats,
        Self::RouteConfigured,
        Self::HostLookup,
        Self::Router,
    ];
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
