//! Index of connected proxies by the objects that they depend on: finds the proxies that a change affects without a scan.
//!
//! ```text
//!  services of a host ──▶ proxy groups that see it, or saw it ─▶ members
//!  a rule ──────────────▶ proxy groups it is for, or was ──────▶ members
//!  endpoints of a host ─▶ EDS subscription groups ─────────────▶ members
//!  one proxy's workload ▶ its address ─────────────────────────▶ that proxy
//! ```
//!
//! A proxy group is a namespace and a type of proxies. An audience is the proxies of one group with the same EDS subscription;
//! they are notified together. The resource types that a change affects are decided in `push::impact`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{
    ChangeKind, ClusterName, ConfigKey, ConfigKind, ConfigObject, ConfigSpec, ExportTo, Fingerprint,
    Hostname, NameSet, Namespace, Proxy,
};
use crate::push::{PushContext, PushRequest};
use pilot_proto::node::NodeType;

use super::sight::Sights;

/// Index of connected proxies. `K` identifies a connection.
#[derive(Debug)]
pub struct Index<K> {
    members: BTreeMap<K, Member>,
    audiences: BTreeMap<AudienceKey, Group<K>>,
    by_host: HashMap<Hostname, BTreeSet<AudienceKey>>,
    by_address: HashMap<IpAddr, BTreeSet<K>>,
}

/// EDS subscriptions by host; shared by the proxies of a group with the same subscription.
#[derive(Debug, Default)]
pub struct Audience {
    names: NameSet,
    by_host: HashMap<Hostname, Vec<Arc<str>>>,
}

type AudienceKey = (Home, Fingerprint, usize);

type Keys<'a> = BTreeSet<&'a ConfigKey>;

/// Group of proxies that are searched together. Labels are not part of it: they change while a proxy stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Home {
    namespace: Namespace,
    node_type: NodeType,
}

#[derive(Debug)]
struct Member {
    audience: AudienceKey,
    addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct Group<K> {
    audience: Arc<Audience>,
    members: BTreeSet<K>,
}

// === impl Audience ===

impl Audience {
    fn of(names: &NameSet) -> Self {
        let mut by_host: HashMap<Hostname, Vec<Arc<str>>> = HashMap::new();
        for name in names {
            if let Ok(cluster) = name.parse::<ClusterName>() {
                by_host.entry(cluster.host.into()).or_default().push(name.clone());
            }
        }
        Self { names: names.clone(), by_host }
    }

    /// Returns the names of endpoints that services and endpoints of a request affect; `None`: any name.
    pub fn touched(&self, request: &PushRequest) -> Option<NameSet> {
        // A lookup for each key, or all names, which proxies with the same subscription share.
        let many = request.updated.len() > self.names.len() / 4 + 16;
        // A rule can be for any host; its subsets select endpoints by label, and its locality settings weight them.
        let all = |key: &ConfigKey| {
            matches!(
                key.kind,
                ChangeKind::MeshConfig | ChangeKind::Proxy | ChangeKind::Config(ConfigKind::DestinationRule)
            )
        };
        if request.forced || many || request.updated.iter().any(all) {
            return None;
        }
        // The endpoints of a `WorkloadEntry` are in the request themselves.
        let named = |key: &&ConfigKey| matches!(key.kind, ChangeKind::Endpoints | ChangeKind::Service);
        let hosts = request.updated.iter().filter(named).filter_map(|key| self.by_host.get(&*key.name));
        Some(hosts.flatten().cloned().collect())
    }
}

// === impl Index ===

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            audiences: BTreeMap::new(),
            by_host: HashMap::new(),
            by_address: HashMap::new(),
        }
    }
}

impl<K: Copy + Ord> Index<K> {
    /// Adds a proxy without an EDS subscription.
    pub fn join(&mut self, member: K, proxy: &Proxy) {
        for address in &proxy.ips {
            self.by_address.entry(*address).or_default().insert(member);
        }
        let home = Home { namespace: proxy.namespace.clone(), node_type: proxy.node_type() };
        self.enter(member, home, &NameSet::default(), proxy.ips.clone());
    }

    /// Sets the EDS subscription of a proxy to these clusters.
    pub fn follow(&mut self, member: K, names: &NameSet) -> Arc<Audience> {
        let Some(Member { audience, addresses }) = self.exit(member) else { return Arc::default() };
        self.enter(member, audience.0, names, addresses)
    }

    /// Removes a proxy.
    pub fn leave(&mut self, member: K) {
        for address in self.exit(member).into_iter().flat_map(|left| left.addresses) {
            if let Some(known) = self.by_address.get_mut(&address) {
                known.remove(&member);
                if known.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// Returns the affected proxies with the part of the request that is relevant to each, grouped by EDS subscription. A change
    /// of a proxy's own workload is in the request of that proxy only.
    pub fn concerned(
        &self,
        request: &Arc<PushRequest>,
        before: &PushContext,
        after: &PushContext,
    ) -> Vec<(K, Arc<PushRequest>)> {
        let everybody =
            request.forced || request.updated.iter().any(|key| key.kind == ChangeKind::MeshConfig);
        if everybody {
            let members = self.audiences.values().flat_map(|group| &group.members);
            return members.map(|member| (*member, request.clone())).collect();
        }
        let (mut all, mut own) = (Keys::new(), BTreeMap::<K, Keys<'_>>::new());
        let mut some: BTreeMap<&AudienceKey, Keys<'_>> = BTreeMap::new();
        let mut sights = Sights::of(request, before, after);
        let mut homes: Option<BTreeSet<&Home>> = None;
        for key in &request.updated {
            match key.kind {
                ChangeKind::Proxy => {
                    let address = key.name.parse::<IpAddr>().ok();
                    for member in self.at(address) {
                        own.entry(member).or_default().insert(key);
                    }
                }
                ChangeKind::Endpoints | ChangeKind::Service => {
                    for audience in self.by_host.get(&*key.name).into_iter().flatten() {
                        some.entry(audience).or_default().insert(key);
                    }
                }
                ChangeKind::Config(
                    ConfigKind::VirtualService
                    | ConfigKind::DestinationRule
                    | ConfigKind::Gateway
                    | ConfigKind::Sidecar
                    | ConfigKind::EnvoyFilter
                    | ConfigKind::Telemetry,
                ) => {
                    let reach = Reach::of(key, before, after);
                    let homes = self.audiences.keys().filter(|(home, ..)| reach.has(home));
                    for audience in homes {
                        some.entry(audience).or_default().insert(key);
                    }
                }
                // Affects no endpoints, or all proxies.
                ChangeKind::Config(_) | ChangeKind::MeshConfig => {}
            }
            if key.kind == ChangeKind::Service {
                let seen = Seen::of(key, before, after);
                if seen.everywhere() && sights.are_unlimited() {
                    all.insert(key);
                    continue;
                }
                let told: BTreeSet<&Home> = homes
                    .get_or_insert_with(|| self.audiences.keys().map(|(home, ..)| home).collect())
                    .iter()
                    .copied()
                    .filter(|home| {
                        seen.from(&home.namespace) && sights.show(home.node_type, &home.namespace, key)
                    })
                    .collect();
                for audience in self.audiences.keys().filter(|(home, ..)| told.contains(home)) {
                    some.entry(audience).or_default().insert(key);
                }
                // The service may be exported to other namespaces only, and yet be served by the workload of a proxy here.
                for member in self.at(seen.served_at(key, before, after)) {
                    own.entry(member).or_default().insert(key);
                }
            }
        }
        self.requests(request, &all, &some, own)
    }

    /// Returns the request of each proxy; the original is shared if nothing is left out.
    fn requests(
        &self,
        request: &Arc<PushRequest>,
        all: &Keys<'_>,
        some: &BTreeMap<&AudienceKey, Keys<'_>>,
        mut own: BTreeMap<K, Keys<'_>>,
    ) -> Vec<(K, Arc<PushRequest>)> {
        let mut concerned = Vec::new();
        let only = |keys: &Keys<'_>| {
            let whole = keys.len() == request.updated.len();
            if whole { request.clone() } else { Arc::new(request.only(keys.iter().copied())) }
        };
        let everybody = only(all);
        let groups: Box<dyn Iterator<Item = &AudienceKey>> =
            if all.is_empty() { Box::new(some.keys().copied()) } else { Box::new(self.audiences.keys()) };
        for audience in groups {
            let more = some.get(audience).filter(|keys| !keys.is_subset(all));
            let keys = more.map(|keys| all | keys);
            let theirs = keys.as_ref().map_or_else(|| everybody.clone(), only);
            for member in self.audiences.get(audience).into_iter().flat_map(|group| &group.members) {
                let keys = keys.as_ref().unwrap_or(all);
                let more = own.remove(member).filter(|own| !own.is_subset(keys));
                concerned.push((*member, more.map_or_else(|| theirs.clone(), |own| only(&(keys | &own)))));
            }
        }
        concerned.extend(own.into_iter().map(|(member, keys)| (member, only(&keys))));
        concerned
    }

    fn at(&self, addresses: impl IntoIterator<Item = IpAddr>) -> impl Iterator<Item = K> {
        addresses.into_iter().filter_map(|address| self.by_address.get(&address)).flatten().copied()
    }

    fn enter(&mut self, member: K, home: Home, names: &NameSet, addresses: Vec<IpAddr>) -> Arc<Audience> {
        let key = (home, names.fingerprint(), names.len());
        let by_host = &mut self.by_host;
        let group = self.audiences.entry(key.clone()).or_insert_with(|| {
            let audience = Audience::of(names);
            for host in audience.by_host.keys() {
                by_host.entry(host.clone()).or_default().insert(key.clone());
            }
            Group { audience: Arc::new(audience), members: BTreeSet::new() }
        });
        group.members.insert(member);
        self.members.insert(member, Member { audience: key, addresses });
        group.audience.clone()
    }

    fn exit(&mut self, member: K) -> Option<Member> {
        let left = self.members.remove(&member)?;
        let group = self.audiences.get_mut(&left.audience)?;
        group.members.remove(&member);
        if group.members.is_empty()
            && let Some(gone) = self.audiences.remove(&left.audience)
        {
            for host in gone.audience.by_host.keys() {
                if let Some(asking) = self.by_host.get_mut(host) {
                    asking.remove(&left.audience);
                    if asking.is_empty() {
                        self.by_host.remove(host);
                    }
                }
            }
        }
        Some(left)
    }
}

/// Proxies that a rule is for, or was for.
enum Reach<'a> {
    /// Sidecars of a namespace, or all proxies of it.
    Namespace(&'a Namespace, Option<NodeType>),
    /// All proxies, or all of a type.
    All(Option<NodeType>),
    /// Proxies that see the services with one of these export lists.
    Seeing(Vec<(&'a Namespace, &'a [ExportTo])>),
}

impl<'a> Reach<'a> {
    fn of(key: &'a ConfigKey, before: &'a PushContext, after: &'a PushContext) -> Self {
        let everywhere = *key.namespace.as_str() == *after.mesh.root_namespace;
        match key.kind {
            ChangeKind::Config(ConfigKind::Gateway) => Self::All(Some(NodeType::Router)),
            ChangeKind::Config(ConfigKind::Sidecar) if everywhere => Self::All(Some(NodeType::Sidecar)),
            ChangeKind::Config(ConfigKind::Sidecar) => {
                Self::Namespace(&key.namespace, Some(NodeType::Sidecar))
            }
            ChangeKind::Config(ConfigKind::EnvoyFilter | ConfigKind::Telemetry) if !everywhere => {
                Self::Namespace(&key.namespace, None)
            }
            ChangeKind::Config(ConfigKind::VirtualService) => {
                let name = (key.namespace.clone(), key.name.clone());
                let meaning = |push: &'a PushContext| {
                    push.routings
                        .get(&name)
                        .into_iter()
                        .chain(push.routings.roots_of(&name))
                        .collect::<Vec<_>>()
                };
                let all = meaning(before).into_iter().chain(meaning(after));
                Self::Seeing(all.map(|routing| (&routing.namespace, routing.export_to.as_slice())).collect())
            }
            ChangeKind::Config(ConfigKind::DestinationRule) => {
                let versions = [before, after].into_iter().filter_map(|push| push.config(key));
                let private = versions.into_iter().all(|object| is_private(object));
                if private { Self::Namespace(&key.namespace, None) } else { Self::All(None) }
            }
            _ => Self::All(None),
        }
    }

    fn has(&self, home: &Home) -> bool {
        match self {
            Self::Namespace(namespace, kind) => {
                **namespace == home.namespace && kind.is_none_or(|kind| kind == home.node_type)
            }
            Self::All(kind) => kind.is_none_or(|kind| kind == home.node_type),
            Self::Seeing(lists) => {
                lists.iter().any(|(owner, list)| ExportTo::allows(list, owner, &home.namespace))
            }
        }
    }
}

/// Returns `true` if a `DestinationRule` is for clients of its own namespace only.
fn is_private(object: &ConfigObject) -> bool {
    let ConfigSpec::DestinationRule(rule) = &object.spec else { return false };
    let own = |target: &String| target == "." || target == object.meta.namespace.as_str();
    rule.workload_selector.is_some() || (!rule.export_to.is_empty() && rule.export_to.iter().all(own))
}

/// Visibility of a service before and after the change.
struct Seen<'a> {
    own: &'a Namespace,
    lists: Vec<Cow<'a, [ExportTo]>>,
}

impl<'a> Seen<'a> {
    fn of(key: &'a ConfigKey, before: &'a PushContext, after: &'a PushContext) -> Self {
        let list = |push: &'a PushContext| {
            let service = push.service(&Hostname::from(&*key.name), &key.namespace)?;
            Some(super::exported_to(service, &push.mesh))
        };
        Self { own: &key.namespace, lists: [list(before), list(after)].into_iter().flatten().collect() }
    }

    fn everywhere(&self) -> bool {
        self.lists.iter().any(|list| list.is_empty() || list.contains(&ExportTo::Public))
    }

    /// Returns `true` if proxies of a namespace see the service. Those of its own namespace always do: they may be beside its
    /// workloads.
    fn from(&self, namespace: &Namespace) -> bool {
        self.own == namespace || self.lists.iter().any(|list| ExportTo::allows(list, self.own, namespace))
    }

    /// Returns the addresses of workloads that serve it, or did.
    fn served_at(&self, key: &ConfigKey, before: &PushContext, after: &PushContext) -> BTreeSet<IpAddr> {
        use crate::model::EndpointAddress::Ip;
        let service = (Hostname::from(&*key.name), self.own.clone());
        let endpoints = [before, after].into_iter().filter_map(|push| push.endpoints.get(&service));
        endpoints
            .flat_map(|endpoints| endpoints.iter())
            .filter_map(|endpoint| if let Ip(ip) = endpoint.address { Some(ip) } else { None })
            .collect()
    }
}

#[cfg(test)]
mod tests;
