//! Hosts of a `Sidecar` egress listener: `<namespace>/<host>`.
//!
//! The namespace is a name, `.` (the `Sidecar`'s own) or `*` (any); after `~` the host is excluded, and `~` alone is a namespace
//! without services. <https://istio.io/latest/docs/reference/config/networking/sidecar/#IstioEgressListener>

use std::collections::BTreeMap;

use crate::model::{Hostname, Namespace};

/// Search range of imported services.
pub(super) enum Place<'a> {
    /// All services.
    Everywhere,
    /// Services of a host.
    Host(&'a Hostname),
    /// Services of a namespace.
    Namespace(&'a Namespace),
    /// One service.
    Service(&'a Hostname, &'a Namespace),
}

/// Imported hosts, by namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Imports {
    of: BTreeMap<Namespace, Hosts>,
    anywhere: Hosts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Hosts {
    included: Vec<Hostname>,
    excluded: Vec<Hostname>,
}

// === impl Imports ===

impl Imports {
    /// Creates the imports of a list of hosts, for proxies of a namespace.
    pub(super) fn of<'a>(list: impl IntoIterator<Item = &'a str>, own: &Namespace) -> Self {
        let mut imports = Self::default();
        for text in list {
            let Some((namespace, host)) = text.split_once('/') else { continue };
            let (namespace, excluded) = match namespace.strip_prefix('~') {
                // `~/*`: nothing.
                Some("") => ("*", true),
                Some(namespace) => (namespace, true),
                None => (namespace, false),
            };
            let hosts = match namespace {
                "*" => &mut imports.anywhere,
                "." => imports.of.entry(own.clone()).or_default(),
                name => imports.of.entry(name.into()).or_default(),
            };
            let list = if excluded { &mut hosts.excluded } else { &mut hosts.included };
            list.push(host.into());
        }
        imports
    }

    /// Imports all services.
    pub(super) fn everything() -> Self {
        let anywhere = Hosts { included: vec!["*".into()], excluded: Vec::new() };
        Self { of: BTreeMap::new(), anywhere }
    }

    /// Returns the places to search for imported services, instead of all services. A service may be in several of them.
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let has_wildcard = |hosts: &Hosts| hosts.included.iter().any(Hostname::is_wildcard);
        if has_wildcard(&self.anywhere) {
            return vec![Place::Everywhere];
        }
        let mut places: Vec<Place<'_>> = self.anywhere.included.iter().map(Place::Host).collect();
        for (namespace, hosts) in &self.of {
            if has_wildcard(hosts) {
                places.push(Place::Namespace(namespace));
            } else {
                places.extend(hosts.included.iter().map(|host| Place::Service(host, namespace)));
            }
        }
        places
    }

    /// Returns `true` if a service of a namespace is imported.
    pub(super) fn service(&self, namespace: &Namespace, host: &Hostname) -> bool {
        self.allows(namespace, host, Hostname::includes)
    }

    /// Returns `true` if a `VirtualService` of a namespace for a host is imported: it may route some of the imported hosts.
    pub(super) fn rules_for(&self, namespace: &Namespace, host: &Hostname) -> bool {
        self.allows(namespace, host, Hostname::overlaps)
    }

    fn allows(
        &self,
        namespace: &Namespace,
        host: &Hostname,
        matches: fn(&Hostname, &Hostname) -> bool,
    ) -> bool {
        let lists = || self.of.get(namespace).into_iter().chain([&self.anywhere]);
        lists().any(|hosts| hosts.included.iter().any(|own| matches(own, host)))
            && !lists().any(|hosts| hosts.excluded.iter().any(|own| own.includes(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_let_through_by_namespace_and_name() {
        for (list, namespace, host, service, rules) in [
            (&["*/*"][..], "far", "a.com", true, true),
            (&["./*"], "own", "a.com", true, true),
            (&["./*"], "far", "a.com", false, false),
            (&["far/*"], "far", "a.com", true, true),
            (&["far/a.com"], "far", "b.com", false, false),
            (&["far/*.com"], "far", "a.com", true, true),
            (&["far/a.com"], "far", "*.com", false, true),
            (&["*/a.com", "far/b.com"], "far", "a.com", true, true),
            (&["~/*"], "own", "a.com", false, false),
            (&["*/*", "~far/*"], "far", "a.com", false, false),
            (&["*/*", "~far/*"], "own", "a.com", true, true),
            (&["*/*", "~*/a.com"], "own", "a.com", false, false),
            (&["*/*", "~far/a.com"], "far", "b.com", true, true),
            (&["nonsense"], "own", "a.com", false, false),
        ] {
            let imports = Imports::of(list.iter().copied(), &"own".into());
            let (namespace, host) = (Namespace::from(namespace), Hostname::from(host));
            let found = (imports.service(&namespace, &host), imports.rules_for(&namespace, &host));
            assert_eq!(found, (service, rules), "{list:?} {namespace}/{host}");
        }
        assert!(Imports::everything().service(&"far".into(), &"a.com".into()));
    }
}
