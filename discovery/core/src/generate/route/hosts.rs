//! Virtual hosts: which names lead to which service or rules, and who has a name that several claim.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pilot_proto::envoy::config::route::v3::{Route, RouteAction, VirtualHost};

use super::retry::{Endpoint, retry_policy};
use super::rules::{HttpRules, Scheme, Where, http_routes};
use super::{Hosts, Overruled, Reached, RouteInputs, default_route, forward};
use crate::generate::domains::{Domain, Origin, Ports, bare, domains};
use crate::generate::{Reason, Rejected};
use crate::model::{ClusterName, Hostname, Shared};
use crate::push::Routing;
use crate::push::context::MESH;

/// Virtual hosts in the making.
struct Table<'a> {
    inputs: &'a RouteInputs,
    /// Names that somebody declared, in lower case: no shortened name takes their place.
    declared: BTreeSet<String>,
    /// Who has a domain.
    taken: BTreeMap<String, Owner<'a>>,
    /// Rules of many hosts are read once.
    routes: HashMap<(&'a Shared<Routing>, u16), Vec<Route>>,
    hosts: Vec<VirtualHost>,
    rejected: Vec<Rejected>,
}

/// Who has a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner<'a> {
    /// Every other host.
    Rest,
    /// A service, at any of its ports.
    Service(&'a Hostname),
    /// Rules that have no service.
    Rules(&'a Shared<Routing>),
}

/// The virtual hosts, but for the one of every other host.
pub(super) fn virtual_hosts(inputs: &RouteInputs) -> (Vec<VirtualHost>, Vec<Rejected>) {
    let services = inputs.services.iter().map(|seen| &seen.service.hostname);
    let unserved = inputs.alone.iter().flat_map(|alone| &alone.hosts);
    let mut table = Table {
        inputs,
        declared: services.chain(unserved).map(|host| host.as_str().to_ascii_lowercase()).collect(),
        // The domain of every other host is ours.
        taken: BTreeMap::from([("*".to_owned(), Owner::Rest)]),
        routes: HashMap::new(),
        hosts: Vec::new(),
        rejected: Vec::new(),
    };
    for Overruled { host, object: (namespace, name) } in inputs.overruled.iter() {
        table.rejected.push(Rejected {
            subject: format!("{namespace}/{name} in {}", inputs.name),
            service: host.clone(),
            reason: Reason::DuplicateDomain,
        });
    }
    for seen in inputs.services.iter() {
        for port in &seen.ports {
            table.service(seen, *port);
        }
    }
    let port = match inputs.hosts {
        Hosts::OnPort(port) | Hosts::Only(port) | Hosts::Target(port) => port,
        // A host that nobody has has no port either.
        Hosts::All => 80,
    };
    for alone in inputs.alone.iter() {
        for host in &alone.hosts {
            table.unserved(host, &alone.rules, port);
        }
    }
    (table.hosts, table.rejected)
}

// === impl Table ===

impl<'a> Table<'a> {
    fn service(&mut self, seen: &'a Reached, port: u16) {
        let host = &seen.service.hostname;
        let domains = self.claim(host, Owner::Service(host), candidates(self.inputs, seen, port));
        if domains.is_empty() {
            return;
        }
        let mut routes = seen.rules.as_ref().map(|rules| self.routes(rules, port)).unwrap_or_default();
        // Rules that are all for others say nothing about us.
        if routes.is_empty() {
            routes.push(self.default_route(seen, port));
        }
        self.add(host, port, domains, routes);
    }

    fn unserved(&mut self, host: &Hostname, rules: &'a HttpRules, port: u16) {
        let routes = self.routes(rules, port);
        if routes.is_empty() {
            return;
        }
        let named = if self.inputs.hosts == Hosts::All { Ports::Named(port) } else { Ports::Ignored };
        let domains =
            self.claim(host, Owner::Rules(rules.routing()), bare(&host.as_str().to_ascii_lowercase(), named));
        if !domains.is_empty() {
            self.add(host, port, domains, routes);
        }
    }

    /// The domains of these that nobody has.
    fn claim(&mut self, host: &Hostname, owner: Owner<'a>, candidates: Vec<Domain>) -> Vec<String> {
        let mut kept = Vec::new();
        for domain in candidates {
            let key = domain.text.to_ascii_lowercase();
            let shadows = domain.origin == Origin::Shortened && self.declared.contains(&key);
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
                    reason: Reason::DuplicateDomain,
                }),
            }
        }
        kept
    }

    fn routes(&mut self, rules: &'a HttpRules, port: u16) -> Vec<Route> {
        if let Some(known) = self.routes.get(&(rules.routing(), port)) {
            return known.clone();
        }
        let (retries, told) = (self.inputs.retries.as_deref(), self.inputs.told);
        let made = http_routes(rules, &Where { gateway: MESH, port, scheme: Scheme::Http, retries, told });
        self.rejected.extend(made.rejected);
        self.routes.insert((rules.routing(), port), made.routes.clone());
        made.routes
    }

    fn default_route(&self, seen: &Reached, port: u16) -> Route {
        let host = &seen.service.hostname;
        let hash = seen.hashing.policy("", port);
        let endpoint = if hash.is_some() { Endpoint::ByHash } else { Endpoint::Any };
        let action = RouteAction {
            hash_policy: hash.into_iter().collect(),
            retry_policy: retry_policy(self.inputs.retries.as_deref(), endpoint),
            ..forward::to(&ClusterName::outbound(port, host).to_string())
        };
        default_route(action, host.as_str(), port)
    }

    fn add(&mut self, host: &Hostname, port: u16, domains: Vec<String>, routes: Vec<Route>) {
        self.hosts.push(VirtualHost {
            name: format!("{host}:{port}"),
            domains,
            routes,
            include_request_attempt_count: self.inputs.told.attempts,
            ..VirtualHost::default()
        });
    }
}

fn candidates(inputs: &RouteInputs, seen: &Reached, port: u16) -> Vec<Domain> {
    let named = match inputs.hosts {
        Hosts::OnPort(_) | Hosts::Only(_) => Ports::Ignored,
        Hosts::All | Hosts::Target(_) => Ports::Named(port),
    };
    let mut found = domains(&seen.service, &seen.aliases, named, &inputs.dns_domain, inputs.families);
    if inputs.hosts == Hosts::All && port != 80 {
        // At a proxy port a host without a port means port 80.
        found.retain(|domain| domain.text.ends_with(&format!(":{port}")));
    }
    found
}
