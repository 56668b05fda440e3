//! Selection of the virtual host.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-virtualhost>:
//! exact domains, then suffix wildcards (`*.foo.com`), then prefix wildcards (`foo.*`), the longest first, then `*`.

use std::cmp::Reverse;

use pilot_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use super::call::Request;

/// Kind of a domain match; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Exact,
    Suffix(Reverse<usize>),
    Prefix(Reverse<usize>),
    Any,
}

/// Selects the virtual host of a request.
pub(super) fn virtual_host<'a>(routes: &'a RouteConfiguration, request: &Request) -> Option<&'a VirtualHost> {
    let host = if routes.vhost_header.is_empty() {
        request.authority.clone()
    } else {
        request.header(&routes.vhost_header).unwrap_or_default()
    };
    let end = if routes.ignore_port_in_host_matching { port_start(&host) } else { None };
    let host = end.and_then(|end| host.get(..end)).unwrap_or(&host).to_ascii_lowercase();
    let found = routes.virtual_hosts.iter().flat_map(|candidate| {
        let likeness = |domain: &String| likeness(&domain.to_ascii_lowercase(), &host);
        candidate.domains.iter().filter_map(likeness).map(move |likeness| (likeness, candidate))
    });
    found.min_by_key(|(likeness, _)| *likeness).map(|(_, candidate)| candidate)
}

fn likeness(domain: &str, host: &str) -> Option<Likeness> {
    if domain == "*" {
        return Some(Likeness::Any);
    }
    if domain == host {
        return Some(Likeness::Exact);
    }
    // A wildcard stands for one character at least.
    if let Some(suffix) = domain.strip_prefix('*') {
        let matches = host.len() > suffix.len() && host.ends_with(suffix);
        return matches.then_some(Likeness::Suffix(Reverse(suffix.len())));
    }
    let prefix = domain.strip_suffix('*')?;
    (host.len() > prefix.len() && host.starts_with(prefix)).then_some(Likeness::Prefix(Reverse(prefix.len())))
}

/// Returns the position of the port's colon in a host, even if the port is not a number. In an IPv6 address, it follows the
/// brackets.
pub(super) fn port_start(host: &str) -> Option<usize> {
    let start = host.rfind(':')?;
    let is_inside = host.rfind(']').is_some_and(|bracket| bracket > start);
    (!is_inside).then_some(start)
}
