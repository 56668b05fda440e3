//! Validation of `VirtualService`.

mod actions;
mod faults;
mod http;
mod shadow;

use super::findings::{At, Findings};
use super::headers::is_claim;
use super::sharing::Exporter;
use super::values::{is_dns_label, is_host, is_ip, is_wildcard_host, is_within};
use crate::api::VirtualService;
use crate::api::virtual_service::{L4Match, RouteDestination, TcpRoute, TlsMatch, TlsRoute};

/// Name of all sidecars in a list of gateways.
const MESH: &str = "mesh";
/// Prefix of the SNI at gateways with `AUTO_PASSTHROUGH`.
const AUTOMATIC: &str = "outbound_";

/// Proxies that an object is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Sidecars, and possibly gateways.
    Mesh,
    /// Gateways only.
    Gateways,
}

pub(super) fn check(out: &mut Findings, at: At<'_>, namespace: &str, service: &VirtualService) {
    let audience = if service.gateways.is_empty() || service.gateways.iter().any(|name| name == MESH) {
        Audience::Mesh
    } else {
        Audience::Gateways
    };
    if service.hosts.is_empty() {
        delegate(out, at, service);
    }
    gateways(out, at.of("gateways"), &service.gateways);
    hosts(out, at.of("hosts"), service, audience);
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        out.error(at, "needs http, tls or tcp");
    }
    let place = if service.hosts.is_empty() { http::Place::Delegate } else { http::Place::Root };
    let (requests, tls, tcp) = (at.of("http"), at.of("tls"), at.of("tcp"));
    for (index, route) in service.http.iter().enumerate() {
        http::check(out, requests.nth(index), route, place);
        if audience == Audience::Mesh {
            claims(out, requests.nth(index), route.r#match.as_slice());
        }
    }
    for (index, route) in service.tls.iter().enumerate() {
        tls_route(out, tls.nth(index), route, service);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        tcp_route(out, tcp.nth(index), route);
    }
    out.export_to(at.of("exportTo"), namespace, &service.export_to, Exporter::Other);
    shadow::http(out, requests, &service.http);
    shadow::tls(out, tls, &service.tls);
    shadow::tcp(out, tcp, &service.tcp);
}

/// Checks a delegate, which has no hosts and only HTTP routes.
fn delegate(out: &mut Findings, at: At<'_>, service: &VirtualService) {
    for (field, is_there) in [
        ("gateways", !service.gateways.is_empty()),
        ("tls", !service.tls.is_empty()),
        ("tcp", !service.tcp.is_empty()),
    ] {
        if is_there {
            out.error(at.of(field), "is not for an object without hosts, to which others delegate");
        }
    }
}

/// Checks `[<namespace>/]<name>`.
fn gateways(out: &mut Findings, at: At<'_>, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let at = at.nth(index);
        match name.split_once('/') {
            Some((namespace, name)) => {
                out.label(at, namespace);
                out.label(at, name);
            }
            None if !is_host(name) => out.error(at, format!("{name:?} is no name of a Gateway")),
            None => {
                let mut parts = name.split('.');
                if let (Some(gateway), Some(namespace)) = (parts.next(), parts.next()) {
                    out.warning(at, format!("the form {namespace}/{gateway} says the same and is preferred"));
                }
            }
        }
    }
}

fn hosts(out: &mut Findings, at: At<'_>, service: &VirtualService, audience: Audience) {
    let has_sni = service.tls.iter().flat_map(|route| &route.r#match).any(|rule| !rule.sni_hosts.is_empty());
    let mut are_valid = true;
    for (index, host) in service.hosts.iter().enumerate() {
        let is_automatic = audience == Audience::Gateways && has_sni && is_automatic(host);
        if host == "*" && audience == Audience::Mesh {
            out.error(at.nth(index), "\"*\" is for gateways alone");
            are_valid = false;
        } else if !is_wildcard_host(host) && !is_ip(host) && !is_automatic {
            out.error(at.nth(index), format!("{host:?} is no host name"));
            are_valid = false;
        }
    }
    for (index, host) in service.hosts.iter().enumerate().filter(|_| are_valid) {
        let mut before = service.hosts.iter().take(index);
        if let Some(other) = before.find(|other| is_within(host, other) || is_within(other, host)) {
            out.error(at.nth(index), format!("{host:?} overlaps with {other:?}"));
        }
    }
}

/// Returns `true` for the SNI format of cluster names: `outbound_.80_._.reviews.default.svc.cluster.local`.
fn is_automatic(name: &str) -> bool {
    let mut parts = name.strip_prefix(AUTOMATIC).unwrap_or_default().split('_');
    let port = parts.next().unwrap_or_default().trim_matches('.');
    let host = parts.nth(1).unwrap_or_default().trim_matches('.');
    port.bytes().any(|byte| byte.is_ascii_digit()) && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

fn claims(out: &mut Findings, at: At<'_>, rules: &[crate::api::virtual_service::HttpMatch]) {
    for (index, rule) in rules.iter().enumerate() {
        let list = at.of("match");
        let at = list.nth(index);
        for (field, headers) in [("headers", &rule.headers), ("withoutHeaders", &rule.without_headers)] {
            for name in headers.keys().filter(|name| is_claim(name)) {
                out.error(at.of(field).of(name), "claims of JWTs are for gateways alone");
            }
        }
    }
}

fn tls_route(out: &mut Findings, at: At<'_>, route: &TlsRoute, service: &VirtualService) {
    if route.r#match.is_empty() {
        out.error(at.of("match"), "is missing");
    }
    for (index, rule) in route.r#match.iter().enumerate() {
        tls_match(out, at.of("match").nth(index), rule, service);
    }
    destinations(out, at.of("route"), &route.route);
}

fn tls_match(out: &mut Findings, at: At<'_>, rule: &TlsMatch, service: &VirtualService) {
    if rule.sni_hosts.is_empty() {
        out.error(at.of("sniHosts"), "is missing");
    }
    for (index, host) in rule.sni_hosts.iter().enumerate() {
        let list = at.of("sniHosts");
        let at = list.nth(index);
        let may_be_automatic = !service.gateways.iter().any(|name| name == MESH);
        let is_name = is_wildcard_host(host) || (may_be_automatic && is_automatic(host));
        if is_ip(host) {
            out.warning(at, "an IP address is no SNI, and clients do not send one");
        } else if !is_name {
            out.error(at, format!("{host:?} is no host name"));
        } else if !service.hosts.iter().any(|wide| is_within(host, wide)) {
            out.error(at, format!("{host:?} is in none of the hosts {}", service.hosts.join(", ")));
        }
    }
    networks(out, at.of("destinationSubnets"), &rule.destination_subnets);
    if rule.port != 0 {
        out.port(at.of("port"), rule.port);
    }
    out.labels(at.of("sourceLabels"), &rule.source_labels);
    gateways(out, at.of("gateways"), &rule.gateways);
    source_namespace(out, at.of("sourceNamespace"), &rule.source_namespace);
}

fn tcp_route(out: &mut Findings, at: At<'_>, route: &TcpRoute) {
    for (index, rule) in route.r#match.iter().enumerate() {
        tcp_match(out, at.of("match").nth(index), rule);
    }
    destinations(out, at.of("route"), &route.route);
}

fn tcp_match(out: &mut Findings, at: At<'_>, rule: &L4Match) {
    networks(out, at.of("destinationSubnets"), &rule.destination_subnets);
    if rule.port != 0 {
        out.port(at.of("port"), rule.port);
    }
    out.labels(at.of("sourceLabels"), &rule.source_labels);
    gateways(out, at.of("gateways"), &rule.gateways);
    source_namespace(out, at.of("sourceNamespace"), &rule.source_namespace);
}

fn networks(out: &mut Findings, at: At<'_>, networks: &[String]) {
    for (index, network) in networks.iter().enumerate() {
        out.network(at.nth(index), network);
    }
}

fn source_namespace(out: &mut Findings, at: At<'_>, namespace: &str) {
    if !namespace.is_empty() && !is_dns_label(namespace) {
        out.error(at, format!("{namespace:?} is no namespace"));
    }
}

fn destinations(out: &mut Findings, at: At<'_>, routes: &[RouteDestination]) {
    if routes.is_empty() {
        out.error(at, "is missing");
    }
    for (index, route) in routes.iter().enumerate() {
        let at = at.nth(index);
        match &route.destination {
            None => out.error(at.of("destination"), "is missing"),
            Some(destination) => out.destination(at.of("destination"), destination),
        }
        out.not_negative(at.of("weight"), route.weight);
    }
    weights(out, at, routes.iter().map(|route| route.weight));
}

/// Checks the weights of several destinations.
fn weights(out: &mut Findings, at: At<'_>, weights: impl ExactSizeIterator<Item = i32>) {
    if weights.len() > 1 && weights.map(i64::from).sum::<i64>() == 0 {
        out.error(at, "the sum of the weights is 0");
    }
}
