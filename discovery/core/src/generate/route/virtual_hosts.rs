//! Virtual hosts: domains of services and rules, and precedence if several claim the same domain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pilot_proto::envoy::config::route::v3::{Route, RouteAction, VirtualHost};

use super::context::{HttpRules, RouteContext, Scheme};
use super::domains::{DomainOrigin, DomainPorts, VirtualHostDomain, host_domains, service_domains};
use super::http_routes::http_routes;
use super::retry::{HostSelection, retry_policy};
use super::{HostSet, RouteInputs, RoutedService, ShadowedRules, default_route, route_action};
use crate::generate::{RejectReason, Rejected};
use crate::model::{ClusterName, Hostname, Shared};
use crate::push::Routing;
use crate::push::context::MESH;

/// Virtual hosts under construction.
struct VirtualHostTable<'a> {
    inputs: &'a RouteInputs,
    /// Declared hostnames in lower case; short domains do not take their place.
    declared: BTreeSet<String>,
    /// Owner of each domain.
    owners: BTreeMap<String, DomainOwner<'a>>,
    /// Routes by rules and port; rules with several hosts are translated once.
    routes: HashMap<(&'a Shared<Routing>, u16), Vec<Route>>,
    hosts: Vec<VirtualHost>,
    rejected: Vec<Rejected>,
}

/// Owner of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DomainOwner<'a> {
    /// Virtual host of all other hosts.
    Fallback,
    /// Service, with any of its ports.
    Service(&'a Hostname),
    /// Rules for hosts without a service.
    Rules(&'a Shared<Routing>),
}

/// Returns the virtual hosts without the fallback.
pub(super) fn virtual_hosts(inputs: &RouteInputs) -> (Vec<VirtualHost>, Vec<Rejected>) {
    let services = inputs.services.iter().map(|visible| &visible.service.hostname);
    let without_service = inputs.host_only.iter().flat_map(|host_only| &host_only.hosts);
    let mut table = VirtualHostTable {
        inputs,
        declared: services.chain(without_service).map(|host| host.as_str().to_ascii_lowercase()).collect(),
        // Reserved for the fallback.
        owners: BTreeMap::from([("*".to_owned(), DomainOwner::Fallback)]),
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
        // A host without a service has no declared port.
        HostSet::All => 80,
    };
    for host_only in inputs.host_only.iter() {
        for host in &host_only.hosts {
            table.host_only(host, &host_only.rules, port);
        }
    }
    (table.hosts, table.rejected)
}

// === impl VirtualHostTable ===

impl<'a> VirtualHostTable<'a> {
    fn service(&mut self, visible: &'a RoutedService, port: u16) {
        let host = &visible.service.hostname;
        let domains = self.claim(host, DomainOwner::Service(host), candidates(self.inputs, visible, port));
        if domains.is_empty() {
            return;
        }
        let mut routes = visible.rules.as_ref().map(|rules| self.routes(rules, port)).unwrap_or_default();
        // None of the rules applies to this client.
        if routes.is_empty() {
            routes.push(self.default_route(visible, port));
        }
        self.add(host, port, domains, routes);
    }

    fn host_only(&mut self, host: &Hostname, rules: &'a HttpRules, port: u16) {
        let routes = self.routes(rules, port);
        if routes.is_empty() {
            return;
        }
        let named =
            if self.inputs.hosts == HostSet::All { DomainPorts::Named(port) } else { DomainPorts::Ignored };
        let domains = self.claim(
            host,
            DomainOwner::Rules(rules.routing()),
            host_domains(&host.as_str().to_ascii_lowercase(), named),
        );
        if !domains.is_empty() {
            self.add(host, port, domains, routes);
        }
    }

    /// Takes the candidate domains that have no owner yet.
    fn claim(
        &mut self,
        host: &Hostname,
        owner: DomainOwner<'a>,
        candidates: Vec<VirtualHostDomain>,
    ) -> Vec<String> {
        let mut claimed = Vec::new();
        for domain in candidates {
            let key = domain.text.to_ascii_lowercase();
            let shadows = domain.origin == DomainOrigin::Shortened && self.declared.contains(&key);
            match self.owners.get(&key) {
                None if shadows => (),
                None => {
                    self.owners.insert(key, owner);
                    claimed.push(domain.text);
                }
                Some(existing) if *existing == owner => (),
                Some(_) => self.rejected.push(Rejected {
                    subject: format!("{} in {}", domain.text, self.inputs.name),
                    service: host.clone(),
                    reason: RejectReason::DuplicateDomain,
                }),
            }
        }
        claimed
    }

    fn routes(&mut self, rules: &'a HttpRules, port: u16) -> Vec<Route> {
        if let Some(existing) = self.routes.get(&(rules.routing(), port)) {
            return existing.clone();
        }
        let (retries, informational_headers) =
            (self.inputs.retries.as_deref(), self.inputs.informational_headers);
        let translated = http_routes(
            rules,
            &RouteContext { gateway: MESH, port, scheme: Scheme::Http, retries, informational_headers },
        );
        self.rejected.extend(translated.rejected);
        self.routes.insert((rules.routing(), port), translated.routes.clone());
        translated.routes
    }

    fn default_route(&self, visible: &RoutedService, port: u16) -> Route {
        let host = &visible.service.hostname;
        let hash = visible.hash_policies.policy("", port);
        let selection = if hash.is_some() { HostSelection::Hashed } else { HostSelection::Any };
        let action = RouteAction {
            hash_policy: hash.into_iter().collect(),
            retry_policy: retry_policy(self.inputs.retries.as_deref(), selection),
            ..route_action::to_cluster(&ClusterName::outbound(port, host).to_string())
        };
        default_route(action, host.as_str(), port)
    }

    fn add(&mut self, host: &Hostname, port: u16, domains: Vec<String>, routes: Vec<Route>) {
        self.hosts.push(VirtualHost {
            name: format!("{host}:{port}"),
            domains,
            routes,
            include_request_attempt_count: self.inputs.informational_headers.attempt_count,
            ..VirtualHost::default()
        });
    }
}

fn candidates(inputs: &RouteInputs, visible: &RoutedService, port: u16) -> Vec<VirtualHostDomain> {
    let named = match inputs.hosts {
        HostSet::OnPort(_) | HostSet::Only(_) => DomainPorts::Ignored,
        HostSet::All | HostSet::Target(_) => DomainPorts::Named(port),
    };
    let mut domains =
        service_domains(&visible.service, &visible.aliases, named, &inputs.dns_domain, inputs.families);
    if inputs.hosts == HostSet::All && port != 80 {
        // On an HTTP proxy port a host without a port has port 80.
        domains.retain(|domain| domain.text.ends_with(&format!(":{port}")));
    }
    domains
}
