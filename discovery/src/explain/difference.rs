//! What two meshes tell proxies differently: proxies whose differences are the same are told together.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use anyhow::Context as _;
use pilot_core::cache::Cache;
use pilot_core::model::{Difference as SetDifference, Proxy, ResourceSet};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_core::simulate::Told;
use pilot_proto::ResourceType;
use pilot_proto::google::protobuf::Any;
use prost::Message as _;
use serde_json::{Value, json};

use super::changes::{Change, changes};

/// What differs.
#[derive(Debug)]
pub(super) struct Difference {
    /// Proxies, and what differs for each of them.
    groups: Vec<(Vec<String>, Arc<[Resource]>)>,
    /// For how many nothing does.
    same: usize,
}

/// One resource that differs.
#[derive(Clone, Debug, PartialEq)]
struct Resource {
    kind: ResourceType,
    name: Arc<str>,
    fate: Fate,
}

/// What becomes of a resource.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Added,
    Removed,
    Changed(Arc<[Change]>),
}

/// One mesh, and what was made for it.
struct Side<'a> {
    push: &'a PushContext,
    cache: Cache,
    scopes: BTreeMap<ScopeKey, Arc<Scope>>,
}

/// Changes of a resource, by its versions before and after: many proxies have the same ones.
type Compared = BTreeMap<(ResourceType, Arc<str>, Arc<str>, Arc<str>), Arc<[Change]>>;

/// Longer values are cut.
const SHOWN: usize = 120;

// === impl Difference ===

impl Difference {
    /// Compares what every proxy is told; one that is only in one of them is told nothing in the other.
    pub(super) fn between(
        before: &PushContext,
        after: &PushContext,
        proxies: &BTreeMap<String, [Option<Proxy>; 2]>,
    ) -> anyhow::Result<Self> {
        let (mut old, mut new) = (Side::of(before), Side::of(after));
        let mut compared = Compared::new();
        let mut difference = Self { groups: Vec::new(), same: 0 };
        for (name, [was, is]) in proxies {
            let (was, is) = (old.told(was.as_ref())?, new.told(is.as_ref())?);
            let mut resources = Vec::new();
            for kind in ResourceType::ALL {
                let none = ResourceSet::default();
                let (was, is) = (was.get(&kind).unwrap_or(&none), is.get(&kind).unwrap_or(&none));
                resources.extend(differing(kind, was, is, &mut compared)?);
            }
            difference.add(name, resources);
        }
        Ok(difference)
    }

    fn add(&mut self, proxy: &str, resources: Vec<Resource>) {
        if resources.is_empty() {
            self.same += 1;
            return;
        }
        match self.groups.iter_mut().find(|(_, known)| **known == *resources) {
            Some((proxies, _)) => proxies.push(proxy.to_owned()),
            None => self.groups.push((vec![proxy.to_owned()], resources.into())),
        }
    }

    /// Whether there is none.
    pub(super) const fn is_none(&self) -> bool {
        self.groups.is_empty()
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|(proxies, resources)| {
                let resources: Vec<Value> = resources.iter().map(Resource::json).collect();
                json!({"proxies": proxies, "resources": resources})
            })
            .collect();
        json!({"groups": groups, "unchanged": self.same})
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (proxies, resources) in &self.groups {
            writeln!(f, "{}: {}", count(proxies.len(), ""), proxies.join(" "))?;
            for resource in resources.iter() {
                resource.fmt(f)?;
            }
        }
        if self.same > 0 {
            writeln!(f, "{}: nothing changes", count(self.same, if self.is_none() { "" } else { "other " }))?;
        }
        Ok(())
    }
}

/// `1 proxy`, `2 other proxies`
fn count(proxies: usize, which: &str) -> String {
    format!("{proxies} {which}{}", if proxies == 1 { "proxy" } else { "proxies" })
}

// === impl Side ===

impl<'a> Side<'a> {
    fn of(push: &'a PushContext) -> Self {
        Self { push, cache: Cache::default(), scopes: BTreeMap::new() }
    }

    fn told(&mut self, proxy: Option<&Proxy>) -> anyhow::Result<BTreeMap<ResourceType, ResourceSet>> {
        let Some(proxy) = proxy else { return Ok(BTreeMap::new()) };
        let key = ScopeKey::of(self.push, proxy);
        let scope =
            self.scopes.entry(key).or_insert_with_key(|key| Scope::of(self.push, key.clone(), None)).clone();
        let asked = Told::asked(&self.cache, self.push, &scope, proxy);
        let (_, sets) = asked.with_context(|| format!("imagine what {} is told", proxy.id.id))?;
        Ok(sets)
    }
}

fn differing(
    kind: ResourceType,
    was: &ResourceSet,
    is: &ResourceSet,
    compared: &mut Compared,
) -> anyhow::Result<Vec<Resource>> {
    let mut found = Vec::new();
    for difference in was.differences(is) {
        let name = difference.name().clone();
        let fate = match difference {
            SetDifference::Added(_) => Fate::Added,
            SetDifference::Removed(_) => Fate::Removed,
            SetDifference::Changed(later) => {
                let Some(earlier) = was.get(&name) else { continue };
                let key = (kind, name.clone(), earlier.version.clone(), later.version.clone());
                let known = match compared.get(&key) {
                    Some(known) => known.clone(),
                    None => changes(&printed(&earlier.body)?, &printed(&later.body)?).into(),
                };
                Fate::Changed(compared.entry(key).or_insert(known).clone())
            }
        };
        found.push(Resource { kind, name, fate });
    }
    Ok(found)
}

/// A resource as Envoy's `/config_dump` prints it.
fn printed(body: &[u8]) -> anyhow::Result<Value> {
    let any = Any::decode(body).context("decode a resource")?;
    let name = any.type_url.rsplit_once('/').map_or("", |(_, name)| name);
    pilot_proto::json::encoded_to_value(name, &any.value).context("print a resource")
}

// === impl Resource ===

impl Resource {
    fn json(&self) -> Value {
        let (fate, changes) = match &self.fate {
            Fate::Added => ("added", Vec::new()),
            Fate::Removed => ("removed", Vec::new()),
            Fate::Changed(changes) => {
                let change = |change: &Change| json!({"path": change.path, "before": change.before, "after": change.after});
                ("changed", changes.iter().map(change).collect())
            }
        };
        json!({"type": self.kind.short(), "name": &*self.name, "what": fate, "changes": changes})
    }
}

impl Display for Resource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mark, changes): (_, &[Change]) = match &self.fate {
            Fate::Added => ('+', &[]),
            Fate::Removed => ('-', &[]),
            Fate::Changed(changes) => ('~', changes),
        };
        writeln!(f, "  {mark} {} {}", self.kind.short(), self.name)?;
        for change in changes {
            let (before, after) = (shown(change.before.as_ref()), shown(change.after.as_ref()));
            writeln!(f, "      {}: {before} -> {after}", change.path)?;
        }
        Ok(())
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).collect::<String>() + "..." }
}
