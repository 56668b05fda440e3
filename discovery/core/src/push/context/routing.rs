//! Resolved `VirtualService`s: names completed, delegates merged into their roots.
//!
//! Precedence among those of one host, and visibility, are decided in the scope.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/>

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::{Configs, delegate};
use crate::api::VirtualService;
use crate::api::virtual_service::{Destination, HttpRoute, TcpRoute, TlsRoute};
use crate::model::{ConfigKind, ConfigMeta, ConfigObject, ConfigSpec, ExportTo, Hostname, Namespace, Shared};

/// Name of all sidecars in a list of gateways.
pub const MESH: &str = "mesh";

/// Namespace and name of an object.
pub type ObjectName = (Namespace, Arc<str>);

/// A resolved `VirtualService`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Routing {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Namespace,
    /// Seconds since 1970, 0 when unknown.
    pub created: i64,
    /// Hosts that it routes.
    pub hosts: Vec<Hostname>,
    /// `<namespace>/<name>` of `Gateway`s, or [`MESH`]; never empty.
    pub gateways: Vec<String>,
    /// Namespaces that may use it; empty: all.
    pub export_to: Vec<ExportTo>,
    /// Specification with completed names.
    pub spec: VirtualService,
    /// Objects that it consists of: its own first, then its delegates.
    pub sources: Vec<Shared<ConfigObject>>,
}

/// Resolved `VirtualService`s with their references.
#[derive(Clone, Debug, Default)]
pub struct Routings {
    resolved: OrdMap<ObjectName, Shared<Routing>>,
    /// Roots of each delegate, including delegates that do not exist.
    roots: OrdMap<ObjectName, OrdSet<ObjectName>>,
    /// `VirtualService`s by destination host.
    senders: OrdMap<Hostname, OrdSet<ObjectName>>,
}

/// Mesh-wide defaults for `VirtualService`s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    pub(super) export_to: Vec<ExportTo>,
    pub(super) domain_suffix: Arc<str>,
}

// === impl Routing ===

impl Routing {
    /// Returns `true` if it is for the proxies of a gateway: `<namespace>/<name>` of a `Gateway`, or [`MESH`].
    pub fn is_for(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|own| own == gateway)
    }

    /// Returns the key of precedence for one host: age, then name, then namespace; the lowest wins.
    pub fn precedence(&self) -> (i64, &Arc<str>, &Namespace) {
        (self.created, &self.name, &self.namespace)
    }

    /// Returns `true` if objects in a namespace may use it.
    pub fn is_visible_from(&self, namespace: &Namespace) -> bool {
        ExportTo::allows(&self.export_to, &self.namespace, namespace)
    }

    /// Returns the destinations of routes and mirrors.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let http = self.spec.http.iter().flat_map(|rule| {
            let routes = rule.route.iter().filter_map(|route| route.destination.as_ref());
            let mirrors = rule.mirrors.iter().filter_map(|mirror| mirror.destination.as_ref());
            routes.chain(&rule.mirror).chain(mirrors)
        });
        let tls = self.spec.tls.iter().flat_map(|rule| &rule.route);
        let tcp = self.spec.tcp.iter().flat_map(|rule| &rule.route);
        http.chain(tls.chain(tcp).filter_map(|route| route.destination.as_ref()))
    }
}

// === impl Routings ===

impl Routings {
    /// Returns all that have hosts, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Shared<Routing>> {
        self.resolved.values()
    }

    /// Returns those that refer to a delegate.
    pub fn roots_of(&self, delegate: &ObjectName) -> impl Iterator<Item = &Shared<Routing>> {
        let roots = self.roots.get(delegate).into_iter().flatten();
        roots.filter_map(|root| self.resolved.get(root))
    }

    /// Returns the one of this namespace and name.
    pub fn get(&self, name: &ObjectName) -> Option<&Shared<Routing>> {
        self.resolved.get(name)
    }

    /// Returns those with this destination host.
    pub fn to(&self, host: &Hostname) -> impl Iterator<Item = &Shared<Routing>> {
        self.senders.get(host).into_iter().flatten().filter_map(|name| self.resolved.get(name))
    }

    /// Returns the roots of each delegate.
    #[cfg(test)]
    pub(super) const fn roots(&self) -> &OrdMap<ObjectName, OrdSet<ObjectName>> {
        &self.roots
    }

    /// Updates the index for these changed objects. Unchanged ones keep their identity.
    pub(super) fn update(&mut self, changed: &BTreeSet<ObjectName>, configs: &Configs, defaults: &Defaults) {
        let mut stale = changed.clone();
        stale.extend(changed.iter().filter_map(|name| self.roots.get(name)).flatten().cloned());
        for name in stale {
            self.forget(&name);
            let Some((object, spec)) = virtual_service(configs, &name) else { continue };
            // Without hosts it is a delegate only.
            if spec.hosts.is_empty() {
                continue;
            }
            for delegate in delegates(&name.0, spec) {
                self.roots.entry(delegate).or_default().insert(name.clone());
            }
            let routing = resolve(object, spec, configs, defaults);
            for destination in routing.destinations() {
                let host = Hostname::from(destination.host.as_str());
                self.senders.entry(host).or_default().insert(name.clone());
            }
            self.resolved.insert(name, Shared::from(Arc::new(routing)));
        }
    }

    fn forget(&mut self, name: &ObjectName) {
        let Some(gone) = self.resolved.remove(name) else { return };
        for destination in gone.destinations() {
            withdraw(&mut self.senders, &Hostname::from(destination.host.as_str()), name);
        }
        let Some(spec) = gone.sources.first().and_then(|object| spec_of(object)) else { return };
        for delegate in delegates(&name.0, spec) {
            withdraw(&mut self.roots, &delegate, name);
        }
    }
}

fn withdraw<K: Ord + Clone>(from: &mut OrdMap<K, OrdSet<ObjectName>>, key: &K, name: &ObjectName) {
    if let Some(names) = from.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            from.remove(key);
        }
    }
}

fn virtual_service<'a>(
    configs: &'a Configs,
    (namespace, name): &ObjectName,
) -> Option<(&'a Arc<ConfigObject>, &'a VirtualService)> {
    let object = configs.get(&(ConfigKind::VirtualService, namespace.clone(), name.clone()))?;
    Some((object, spec_of(object)?))
}

const fn spec_of(object: &ConfigObject) -> Option<&VirtualService> {
    match &object.spec {
        ConfigSpec::VirtualService(spec) => Some(spec),
        _ => None,
    }
}

/// Returns the delegates that an object refers to.
fn delegates<'a>(
    namespace: &'a Namespace,
    spec: &'a VirtualService,
) -> impl Iterator<Item = ObjectName> + 'a {
    spec.http.iter().filter_map(|rule| rule.delegate.as_ref()).map(|delegate| {
        let own = delegate.namespace.is_empty();
        let namespace = if own { namespace.clone() } else { delegate.namespace.as_str().into() };
        (namespace, delegate.name.as_str().into())
    })
}

fn resolve(
    object: &Arc<ConfigObject>,
    spec: &VirtualService,
    configs: &Configs,
    defaults: &Defaults,
) -> Routing {
    let meta = &object.meta;
    let mut sources = vec![Shared::from(object.clone())];
    let mut spec = completed(spec.clone(), meta, &defaults.domain_suffix);
    spec.http = spec
        .http
        .into_iter()
        .flat_map(|rule| {
            let Some(delegate) = rule.delegate.clone() else { return vec![rule] };
            let own = delegate.namespace.is_empty();
            let namespace = if own { meta.namespace.clone() } else { Namespace::from(&*delegate.namespace) };
            // A rule without its delegate is left out.
            let Some((delegate, theirs)) =
                virtual_service(configs, &(namespace, delegate.name.as_str().into()))
            else {
                return Vec::new();
            };
            // So is one whose delegate has hosts of its own, or is not exported to this namespace.
            let list = export_list(&theirs.export_to, defaults);
            if !theirs.hosts.is_empty() || !ExportTo::allows(&list, &delegate.meta.namespace, &meta.namespace)
            {
                return Vec::new();
            }
            sources.push(delegate.clone().into());
            let theirs = completed(theirs.clone(), &delegate.meta, &defaults.domain_suffix);
            delegate::merged(&rule, theirs.http)
        })
        .collect();
    Routing {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        created: meta.created,
        hosts: spec.hosts.iter().map(|host| host.as_str().into()).collect(),
        gateways: if spec.gateways.is_empty() { vec![MESH.to_owned()] } else { spec.gateways.clone() },
        export_to: export_list(&spec.export_to, defaults),
        spec,
        sources,
    }
}

fn export_list(list: &[String], defaults: &Defaults) -> Vec<ExportTo> {
    if list.is_empty() {
        defaults.export_to.clone()
    } else {
        list.iter().map(|text| ExportTo::parse(text)).collect()
    }
}

/// Completes all names relative to the namespace of the object.
fn completed(mut spec: VirtualService, meta: &ConfigMeta, suffix: &str) -> VirtualService {
    let host = |text: &mut String| *text = Hostname::completed(text, &meta.namespace, suffix).to_string();
    let gateways = |names: &mut Vec<String>| {
        for name in names {
            *name = gateway(name, &meta.namespace);
        }
    };
    let target = |destination: &mut Option<Destination>| {
        if let Some(destination) = destination {
            host(&mut destination.host);
        }
    };
    spec.hosts.iter_mut().for_each(host);
    gateways(&mut spec.gateways);
    for HttpRoute { r#match, route, mirror, mirrors, .. } in &mut spec.http {
        r#match.iter_mut().map(|matches| &mut matches.gateways).for_each(gateways);
        route.iter_mut().map(|route| &mut route.destination).for_each(target);
        mirrors.iter_mut().map(|mirror| &mut mirror.destination).for_each(target);
        target(mirror);
    }
    for TlsRoute { r#match, route } in &mut spec.tls {
        r#match.iter_mut().map(|matches| &mut matches.gateways).for_each(gateways);
        route.iter_mut().map(|route| &mut route.destination).for_each(target);
    }
    for TcpRoute { r#match, route } in &mut spec.tcp {
        r#match.iter_mut().map(|matches| &mut matches.gateways).for_each(gateways);
        route.iter_mut().map(|route| &mut route.destination).for_each(target);
    }
    spec
}

/// Completes `<namespace>/<name>` of a `Gateway`. `<name>.<namespace>...` is a deprecated form of it.
fn gateway(name: &str, namespace: &Namespace) -> String {
    if name == MESH || name.contains('/') {
        // `./name` is in the namespace of the object.
        return name.strip_prefix("./").map_or_else(|| name.to_owned(), |own| format!("{namespace}/{own}"));
    }
    match name.split_once('.') {
        Some((own, rest)) => format!("{}/{own}", rest.split('.').next().unwrap_or_default()),
        None => format!("{namespace}/{name}"),
    }
}
