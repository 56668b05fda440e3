//! State of a request between the connection manager and the action of its route. It holds no decisions.

use pilot_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

use super::call::{Certificate, Request};

/// A request after the connection manager has accepted it: the input of route matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestState {
    /// The request with normalized host and path.
    pub(super) request: Request,
    /// `http` or `https`: the transport, or the client's `x-forwarded-proto` if the proxy trusts it.
    pub(super) scheme: String,
    /// The client's certificate, if the proxy terminates TLS.
    pub(super) certificate: Certificate,
}

/// A matching route and the configuration around it.
#[derive(Clone, Copy)]
pub(super) struct MatchedRoute<'a> {
    /// The route configuration.
    pub(super) routes: &'a RouteConfiguration,
    /// The virtual host.
    pub(super) host: &'a VirtualHost,
    /// The route.
    pub(super) route: &'a Route,
    /// The part of the path that the route matched.
    pub(super) matched: PathMatch,
}

/// The part of a path that a route matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathMatch {
    /// Kind of the path matcher, for the trace.
    pub(super) by: &'static str,
    /// Length in bytes of the part that a prefix rewrite replaces.
    pub(super) length: usize,
}
