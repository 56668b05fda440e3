//! Virtual hosts: which names lead to which service or rules, and who has a name that several claim.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pilot_proto::envoy::config::route::v3::{Route, RouteAction, VirtualHost};

use super::http_routes::{HttpRules, RouteContext, Scheme, http_routes};
use super::retry::{HostSelection, retry_policy};
use super::{HostSet, RouteInputs, RoutedService, ShadowedRules, default_route, route_action};
use crate::generate::route::domains::{Domain, DomainOrigin, DomainPorts, bare, domains};
use crate::generate::{RejectReason, Rejected};
use crate::model::{ClusterName, Hostname, Shared};
use crate::push::Routing;
use crate::push::context::MESH;

/// Virtual hosts in the making.
struct VirtualHostTable<'a> {
    inputs: &'a RouteInputs,
    /// Names that somebody declared, in lower case: no shortened name takes their place.
    declared: BTreeSet<String>,
    /// Who has a domain.
    taken: BTreeMap<String, DomainOwner<'a>>,
    /// Rules of many hosts are read once.
    routes: HashMap<(&'a Shared<Routing>, u16), Vec<Route>>,
    hosts: Vec<VirtualHost>,
    rejected: Vec<Rejected>,
}

/// Who has a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DomainOwner<'a> {
    /// Every other host.
    Rest,
    /// A service, at any of its ports.
    Service(&'a Hostname),
    /// Rules that have no service.
    Rules(&'a Shared<Routing>),
}

/// The virtual hosts, but for the one of every other host.
pub(super) fn virtual_hosts(inputs: &RouteInputs) -> (Vec<VirtualHost>, Vec<Rejected>) {
    let services = inputs.services.iter().map(|visible| &visible.service.hostname);
    let unserved = inputs.host_only.iter().flat_map(|host_only| &host_only.hosts);
    let mut table = VirtualHostTable {
        inputs,
        declared: services.chain(unserved).map(|host| host.as_str().to_ascii_lowercase()).collect(),
        // The domain of every other host is ours.
        taken: BTreeMap::from([("*".to_owned(), DomainOwner::Rest)]),
        routes: HashMap::new(),
        hosts: Vec::new(),
        rejected: Vec::new(),
    };
    for ShadowedRules { host, object: (namespace, name) } in inputs.shadowed.iter() {
        table.rejected.push(Rejected {
            subject: format!("{namespace}/{name} in {}", inputs.name),
            service: host.clone(),
            reason: RejectReason::DuplicateDomain,
        });
    }
    for visible in inputs.services.iter() {
        for port in &visible.ports {
            table.service(visible, *port);
        }
    }
    let port = match inputs.hosts {
        HostSet::OnPort(port) | HostSet::Only(port) | HostSet::Target(port) => port,
        // A host that nobody has has no port either.
        HostSet::All => 80,
    };
    for host_only in inputs.host_only.iter() {
        for host in &host_only.hosts {
            table.unserved(host, &host_only.rules, port);
        }
    }
    (table.hosts, table.rejected)
}

// === impl Table ===

impl<'a> VirtualHostTable<'a> {
    fn service(&mut self, visible: &'a RoutedService, port: u16) {
        let host = &visible.service.hostname;
        let domains = self.claim(host, DomainOwner::Service(host), candidates(self.inputs, visible, port));
        if domains.is_empty() {
            return;
        }
        let mut routes = visible.rules.as_ref().map(|rules| self.routes(rules, port)).unwrap_or_default();
        // Rules that are all for others say nothing about us.
        if routes.is_empty() {
            routes.push(self.default_route(visible, port));
        }
        self.add(host, port, domains, routes);
    }

    fn unserved(&mut self, host: &Hostname, rules: &'a HttpRules, port: u16) {
        let routes = self.routes(rules, port);
        if routes.is_empty() {
            return;
        }
        let named =
            if self.inputs.hosts == HostSet::All { DomainPorts::Named(port) } else { DomainPorts::Ignored };
        let domains = self.claim(
            host,
            DomainOwner::Rules(rules.routing()),
            bare(&host.as_str().to_ascii_lowercase(), named),
        );
        if !domains.is_empty() {
            self.add(host, port, domains, routes);
        }
    }

    /// The domains of these that nobody has.
    fn claim(&mut self, host: &Hostname, owner: DomainOwner<'a>, candidates: Vec<Domain>) -> Vec<String> {
        let mut kept = Vec::new();
        for domain in candidates {
            let key = domain.text.to_ascii_lowercase();
            let shadows = domain.origin == DomainOrigin::Shortened && self.declared.contains(&key);
            match self.taken.get(&key) {
                None if shadows => (),
                None => {
                    self.taken.insert(key, owner);
                    kept.push(domain.text);
                }
                Some(known) if *known == owner => (),
                Some(_) => self.rejected.push(Rejected {
                    subject: format!("{} in {}", domain.text, self.inputs.name),
                    service: host.clone(),
                    reason: RejectReason::DuplicateDomain,
                }),
            }
        }
        kept
    }

    fn routes(&mut self, rules: &'a HttpRules, port: u16) -> Vec<Route> {
        if let Some(known) = self.routes.get(&(rules.routing(), port)) {
            return known.clone();
        }
        let (retries, informational_headers) =
            (self.inputs.retries.as_deref(), self.inputs.informational_headers);
        let made = http_routes(
            rules,
            &RouteContext { gateway: MESH, port, scheme: Scheme::Http, retries, informational_headers },
        );
        self.rejected.extend(made.rejected);
        self.routes.insert((rules.routing(), port), made.routes.clone());
        made.routes
    }

    fn default_route(&self, visible: &RoutedService, port: u16) -> Route {
        let host = &visible.service.hostname;
        let hash = visible.hashing.policy("", port);
        let endpoint = if hash.is_some() { HostSelection::Hashed } else { HostSelection::Any };
        let action = RouteAction {
            hash_policy: hash.into_iter().collect(),
            retry_policy: retry_policy(self.inputs.retries.as_deref(), endpoint),
            ..route_action::to(&ClusterName::outbound(port, host).to_string())
        };
        default_route(action, host.as_str(), port)
    }

    fn add(&mut self, host: &Hostname, port: u16, domains: Vec<String>, routes: Vec<Route>) {
        self.hosts.push(VirtualHost {
            name: format!("{host}:{port}"),
            domains,
            routes,
            include_request_attempt_count: self.inputs.informational_headers.attempts,
            ..VirtualHost::default()
        });
    }
}

fn candidates(inputs: &RouteInputs, visible: &RoutedService, port: u16) -> Vec<Domain> {
    let named = match inputs.hosts {
        HostSet::OnPort(_) | HostSet::Only(_) => DomainPorts::Ignored,
        HostSet::All | HostSet::Target(_) => DomainPorts::Named(port),
    };
    let mut found = domains(&visible.service, &visible.aliases, named, &inputs.dns_domain, inputs.families);
    if inputs.hosts == HostSet::All && port != 80 {
        // At a proxy port a host without a port means port 80.
        found.retain(|domain| domain.text.ends_with(&format!(":{port}")));
    }
    found
}
