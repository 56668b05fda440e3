//! Patches of route configurations, virtual hosts and routes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route};

use super::cluster::port_of;
use super::edit::edit;
use super::outcome::{Outcomes, Verdict};
use super::set::RoutePatches;
use super::{Context, Patch, of_kind, within};
use crate::api::envoy_filter::{
    ApplyTo, PatchOperation as Operation, RouteAction, RouteConfigurationMatch, RouteMatch, VirtualHostMatch,
};

/// Service ports of a gateway by port of the listener, where they differ: route configurations are named by the latter, and
/// patches refer to the former.
pub type GatewayPorts = BTreeMap<u32, BTreeSet<u32>>;

/// Applies patches to a route configuration.
pub fn route_configuration(
    patches: &RoutePatches,
    (context, ports): (Context, &GatewayPorts),
    mut routes: RouteConfiguration,
    outcomes: &mut Outcomes,
) -> RouteConfiguration {
    let patches = within(patches.iter(), context);
    let concerns = |patch: &Patch, routes: &RouteConfiguration| {
        patch.routes.as_ref().is_none_or(|wanted| fits(wanted, (context, ports), &routes.name))
    };
    for patch in of_kind(&patches, ApplyTo::RouteConfiguration) {
        if concerns(patch, &routes) {
            outcomes.note(patch, patch.merge_into(&mut routes));
        }
    }
    let patches: Vec<&Arc<Patch>> = patches.into_iter().filter(|patch| concerns(patch, &routes)).collect();
    if patches.iter().all(|patch| patch.apply_to == ApplyTo::RouteConfiguration) {
        return routes;
    }
    let hosts = std::mem::take(&mut routes.virtual_hosts);
    let mut hosts: Vec<VirtualHost> =
        hosts.into_iter().filter_map(|host| virtual_host(&patches, host, outcomes)).collect();
    for patch in of_kind(&patches, ApplyTo::VirtualHost).filter(|patch| patch.operation == Operation::Add) {
        outcomes.note(patch, edit(&mut hosts, patch, None::<fn(&VirtualHost) -> bool>));
    }
    routes.virtual_hosts = hosts;
    routes
}

/// Applies patches to a virtual host and its routes; returns `None` if one removes it.
fn virtual_host(
    patches: &[&Arc<Patch>],
    mut host: VirtualHost,
    outcomes: &mut Outcomes,
) -> Option<VirtualHost> {
    for patch in of_kind(patches, ApplyTo::VirtualHost) {
        if patch.operation == Operation::Add || !patch.is_about_host(&host) {
            continue;
        }
        let verdict = match (patch.operation, patch.brings::<VirtualHost>()) {
            (Operation::Remove, _) => {
                outcomes.note(patch, Verdict::Applied);
                return None;
            }
            (Operation::Replace, Some(value)) => {
                host = value.clone();
                Verdict::Applied
            }
            _ => patch.merge_into(&mut host),
        };
        outcomes.note(patch, verdict);
    }
    http_routes(patches, &mut host, outcomes);
    Some(host)
}

/// Applies patches to the routes of a host: first those that change or remove single routes, then those that insert.
fn http_routes(patches: &[&Arc<Patch>], host: &mut VirtualHost, outcomes: &mut Outcomes) {
    let own: Vec<&Arc<Patch>> =
        of_kind(patches, ApplyTo::HttpRoute).filter(|patch| patch.is_about_host(host)).collect();
    if own.is_empty() {
        return;
    }
    host.routes.retain_mut(|route| {
        for patch in &own {
            if !patch.is_about_route(route) {
                continue;
            }
            if patch.operation == Operation::Remove {
                outcomes.note(patch, Verdict::Applied);
                return false;
            }
            if patch.merges() {
                outcomes.note(patch, patch.merge_into(route));
            }
        }
        true
    });
    for patch in own.iter().filter(|patch| !patch.merges() && patch.operation != Operation::Remove) {
        outcomes.note(patch, put_among(patch, &mut host.routes));
    }
}

fn put_among(patch: &Patch, routes: &mut Vec<Route>) -> Verdict {
    let anchored = patch.route().is_some();
    let anchor = |route: &Route| patch.is_about_route(route);
    // `INSERT_FIRST` with a route name requires that the route exists.
    if patch.operation == Operation::InsertFirst && !routes.iter().any(anchor) && anchored {
        return Verdict::NotMatched;
    }
    edit(routes, patch, anchored.then_some(anchor))
}

/// Returns `true` if the condition matches a route configuration of this name.
fn fits(wanted: &RouteConfigurationMatch, (context, ports): (Context, &GatewayPorts), name: &str) -> bool {
    if !wanted.name.is_empty() && wanted.name != name {
        return false;
    }
    if context != Context::Gateway {
        return wanted.port_number == 0 || wanted.port_number == sidecar_port(name);
    }
    let server = Server::of(name);
    let on_port = || match ports.get(&server.port) {
        Some(ports) => ports.contains(&wanted.port_number),
        None => server.port == wanted.port_number,
    };
    (wanted.port_name.is_empty() || wanted.port_name == server.port_name)
        && (wanted.gateway.is_empty() || wanted.gateway == server.gateway)
        && (wanted.port_number == 0 || on_port())
}

/// Returns the port of a sidecar's route configuration: `80`, or `inbound|80||`.
fn sidecar_port(name: &str) -> u32 {
    if name.starts_with("inbound") { port_of(name) } else { name.parse().unwrap_or(0) }
}

/// Server of a gateway, parsed from the name of its route configuration.
#[derive(Default)]
struct Server<'a> {
    port: u32,
    port_name: &'a str,
    /// `<namespace>/<name>`.
    gateway: String,
}

// === impl Server ===

impl<'a> Server<'a> {
    /// Parses `http.<port>`, or `https.<port>.<port name>.<gateway>.<namespace>`.
    fn of(name: &'a str) -> Self {
        if let Some(port) = name.strip_prefix("http.") {
            return Self { port: port.parse().unwrap_or(0), ..Self::default() };
        }
        let Some(rest) = name.strip_prefix("https.") else { return Self::default() };
        match *rest.split('.').collect::<Vec<_>>().as_slice() {
            [port, port_name, gateway, namespace] => {
                Self { port: port.parse().unwrap_or(0), port_name, gateway: format!("{namespace}/{gateway}") }
            }
            _ => Self::default(),
        }
    }
}

// === impl Patch ===

impl Patch {
    fn host(&self) -> Option<&VirtualHostMatch> {
        self.routes.as_ref()?.vhost.as_ref()
    }

    fn route(&self) -> Option<&RouteMatch> {
        self.host()?.route.as_ref()
    }

    fn is_about_host(&self, host: &VirtualHost) -> bool {
        self.host().is_none_or(|wanted| {
            (wanted.name.is_empty() || wanted.name == host.name)
                && (wanted.domain_name.is_empty() || host.domains.contains(&wanted.domain_name))
        })
    }

    fn is_about_route(&self, route: &Route) -> bool {
        self.route().is_none_or(|wanted| {
            (wanted.name.is_empty() || wanted.name == route.name) && does(route, wanted.action)
        })
    }
}

/// Returns `true` if a route has this action. As in Istio, a route with none of the three matches each of them.
fn does(route: &Route, wanted: RouteAction) -> bool {
    match (wanted, &route.action) {
        (RouteAction::Any, _) => true,
        (wanted, Some(route::Action::Route(_))) => wanted == RouteAction::Route,
        (wanted, Some(route::Action::Redirect(_))) => wanted == RouteAction::Redirect,
        (wanted, Some(route::Action::DirectResponse(_))) => wanted == RouteAction::DirectResponse,
        _ => true,
    }
}
