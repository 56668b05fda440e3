//! Proxyless gRPC: what a gRPC library is told when it speaks xDS itself.
//!
//! The library dials `xds:///host:port` and asks for the listener `host:port`; that names routes, those name a
//! cluster, that asks for endpoints. It refuses what it does not know, so everything is as small as it can be.
//! <https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md>

use std::net::IpAddr;

use pilot_proto::envoy::config::listener::v3::{ApiListener, FilterChain, Listener};
use pilot_proto::envoy::config::route::v3::{
    NonForwardingAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route, route_match,
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
};

use pilot_proto::mesh::proxy::ProxyHeaders;

use super::http_filters::{fault, router};
use super::network_filters::network_filter;
use super::proto::{address, ads, any};
use crate::model::{ClusterName, Hostname};

/// Begins the names of listeners that gRPC servers ask for; the rest is `<address>:<port>`.
pub const SERVER_LISTENER_PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// Everything a listener of a gRPC library depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrpcListener {
    /// For a client of a service.
    Client {
        /// The target, as the client spells it: `host:port`.
        name: String,
        /// Address of the service.
        address: IpAddr,
        /// The service and its port; also the name of the routes.
        cluster: ClusterName,
    },
    /// For a server on a port of the workload.
    Server {
        /// Where it listens.
        host: String,
        /// Where it listens.
        port: u16,
    },
}

// === impl GrpcListener ===

impl GrpcListener {
    /// Name of the listener.
    pub fn name(&self) -> String {
        match self {
            Self::Client { name, .. } => name.clone(),
            Self::Server { host, port } => format!("{SERVER_LISTENER_PREFIX}{}", authority(host, *port)),
        }
    }
}

/// A listener of a gRPC library.
pub fn listener(inputs: &GrpcListener) -> Listener {
    let name = inputs.name();
    match inputs {
        GrpcListener::Client { address: ip, cluster, .. } => {
            let manager = HttpConnectionManager {
                route_specifier: Some(RouteSpecifier::Rds(Rds {
                    config_source: ads(),
                    route_config_name: cluster.to_string(),
                })),
                // At least one filter must be there, and the router must be the last.
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
                route_specifier: Some(RouteSpecifier::RouteConfig(to_the_server())),
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

/// `host:port`, with brackets where an address needs them.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host and port of `host:port`.
pub fn split_authority(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// What a client may mean by a name: itself, or what a resolver in its DNS domain completes it to.
pub fn resolver_candidates(name: &str, dns_domain: &str) -> Vec<Hostname> {
    let mut meant = vec![Hostname::from(name)];
    let domain = dns_domain.split_once('.').map(|(_, rest)| rest);
    if !name.contains('.') {
        meant.push(format!("{name}.{dns_domain}").into());
    } else if let Some(suffix) = domain {
        // `svc.ns` and `svc.ns.svc`, of any namespace.
        meant.push(format!("{name}.{suffix}").into());
        if let Some((_, rest)) = suffix.split_once('.') {
            meant.push(format!("{name}.{rest}").into());
        }
    }
    meant
}

fn to_the_server() -> RouteConfiguration {
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
