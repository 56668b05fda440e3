//! Proxyless gRPC: resources for gRPC libraries that are xDS clients.
//!
//! A client with the target `xds:///host:port` subscribes to the listener `host:port`, then to its routes, their cluster and
//! its endpoints. The library rejects fields it does not support, so the resources have only the necessary fields.
//! <https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md>

use std::net::IpAddr;

use pilot_proto::envoy::config::listener::v3::{ApiListener, FilterChain, Listener};
use pilot_proto::envoy::config::route::v3::{
    NonForwardingAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route, route_match,
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};

use pilot_proto::mesh::proxy_config::ProxyHeaders;

use super::http_filters::{fault, router};
use super::network_filters::network_filter;
use super::proto::{address, ads, any};
use crate::model::{ClusterName, Hostname};

/// Prefix of the listener names of gRPC servers; `<address>:<port>` follows.
pub const SERVER_LISTENER_PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// Inputs of a listener for a gRPC library, and its cache key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrpcListener {
    /// Listener of a client.
    Client {
        /// Target as the client writes it: `host:port`.
        name: String,
        /// Address of the service.
        address: IpAddr,
        /// Cluster of the service port; also the name of the route configuration.
        cluster: ClusterName,
    },
    /// Listener of a server.
    Server {
        /// Bind address.
        host: String,
        /// Bind port.
        port: u16,
    },
}

// === impl GrpcListener ===

impl GrpcListener {
    /// Returns the name of the listener.
    pub fn name(&self) -> String {
        match self {
            Self::Client { name, .. } => name.clone(),
            Self::Server { host, port } => format!("{SERVER_LISTENER_PREFIX}{}", authority(host, *port)),
        }
    }
}

/// Generates a listener for a gRPC library.
pub fn listener(inputs: &GrpcListener) -> Listener {
    let name = inputs.name();
    match inputs {
        GrpcListener::Client { address: ip, cluster, .. } => {
            let manager = HttpConnectionManager {
                route_specifier: Some(RouteSpecifier::Rds(Rds {
                    config_source: ads(),
                    route_config_name: cluster.to_string(),
                })),
                // At least one filter is required, and the router must be the last.
                http_filters: vec![fault(), router(&ProxyHeaders::default())],
                ..HttpConnectionManager::default()
            };
            Listener {
                name,
                address: address(&ip.to_string(), cluster.port),
                api_listener: Some(ApiListener { api_listener: any(&manager) }),
                ..Listener::default()
            }
        }
        GrpcListener::Server { host, port } => {
            let manager = HttpConnectionManager {
                route_specifier: Some(RouteSpecifier::RouteConfig(server_routes())),
                http_filters: vec![router(&ProxyHeaders::default())],
                ..HttpConnectionManager::default()
            };
            Listener {
                name,
                address: address(host, *port),
                filter_chains: vec![FilterChain {
                    name: "inbound-plaintext".into(),
                    filters: vec![network_filter("inbound-hcmplaintext", &manager)],
                    ..FilterChain::default()
                }],
                ..Listener::default()
            }
        }
    }
}

/// Returns `host:port`, with brackets around an IPv6 address.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Splits `host:port`.
pub fn split_authority(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// Returns the hostnames that a target may refer to: the name itself and its completions in the DNS domain of the client.
pub fn resolver_candidates(name: &str, dns_domain: &str) -> Vec<Hostname> {
    let mut candidates = vec![Hostname::from(name)];
    let domain = dns_domain.split_once('.').map(|(_, rest)| rest);
    if !name.contains('.') {
        candidates.push(format!("{name}.{dns_domain}").into());
    } else if let Some(suffix) = domain {
        // `svc.ns` and `svc.ns.svc`, in any namespace.
        candidates.push(format!("{name}.{suffix}").into());
        if let Some((_, rest)) = suffix.split_once('.') {
            candidates.push(format!("{name}.{rest}").into());
        }
    }
    candidates
}

fn server_routes() -> RouteConfiguration {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())),
            ..RouteMatch::default()
        }),
        action: Some(route::Action::NonForwardingAction(NonForwardingAction {})),
        ..Route::default()
    };
    let host = VirtualHost { domains: vec!["*".into()], routes: vec![route], ..VirtualHost::default() };
    RouteConfiguration { name: "inbound".into(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}
