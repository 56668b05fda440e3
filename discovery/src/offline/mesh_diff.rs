//! Differences of the resources of proxies between two meshes. Proxies with equal differences are grouped.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use anyhow::Context as _;
use pilot_core::cache::Cache;
use pilot_core::model::{Difference, Proxy, ResourceSet};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_core::simulate::ProxyConfigView;
use pilot_proto::ResourceType;
use pilot_proto::google::protobuf::Any;
use prost::Message as _;
use serde_json::{Value, json};

use super::json_diff::{FieldChange, changes};

/// Differences between two meshes.
#[derive(Debug)]
pub(super) struct MeshDifference {
    /// Proxies with equal differences, and these differences.
    groups: Vec<(Vec<String>, Arc<[ChangedResource]>)>,
    /// Number of proxies without differences.
    unchanged: usize,
}

/// Resource that differs.
#[derive(Clone, Debug, PartialEq)]
struct ChangedResource {
    kind: ResourceType,
    name: Arc<str>,
    change: ResourceChange,
}

/// Change of a resource.
#[derive(Clone, Debug, PartialEq)]
enum ResourceChange {
    Added,
    Removed,
    Changed(Arc<[FieldChange]>),
}

/// Mesh, and the resources generated for it.
struct MeshSide<'a> {
    push: &'a PushContext,
    cache: Cache,
    scopes: BTreeMap<ScopeKey, Arc<Scope>>,
}

/// Changes of a resource, by its versions before and after: many proxies have the same ones.
type Compared = BTreeMap<(ResourceType, Arc<str>, Arc<str>, Arc<str>), Arc<[FieldChange]>>;

/// Largest number of characters of a printed value.
const SHOWN: usize = 120;

// === impl MeshDifference ===

impl MeshDifference {
    /// Compares the resources of every proxy. A proxy that is absent from a mesh has no resources in it.
    pub(super) fn between(
        before: &PushContext,
        after: &PushContext,
        proxies: &BTreeMap<String, [Option<Proxy>; 2]>,
    ) -> anyhow::Result<Self> {
        let (mut old, mut new) = (MeshSide::of(before), MeshSide::of(after));
        let mut compared = Compared::new();
        let mut difference = Self { groups: Vec::new(), unchanged: 0 };
        for (name, [was, is]) in proxies {
            let (was, is) = (old.resources(was.as_ref())?, new.resources(is.as_ref())?);
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

    fn add(&mut self, proxy: &str, resources: Vec<ChangedResource>) {
        if resources.is_empty() {
            self.unchanged += 1;
            return;
        }
        match self.groups.iter_mut().find(|(_, known)| **known == *resources) {
            Some((proxies, _)) => proxies.push(proxy.to_owned()),
            None => self.groups.push((vec![proxy.to_owned()], resources.into())),
        }
    }

    /// Returns true if nothing differs.
    pub(super) const fn is_none(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the differences as JSON.
    pub(super) fn json(&self) -> Value {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|(proxies, resources)| {
                let resources: Vec<Value> = resources.iter().map(ChangedResource::json).collect();
                json!({"proxies": proxies, "resources": resources})
            })
            .collect();
        json!({"groups": groups, "unchanged": self.unchanged})
    }
}

impl Display for MeshDifference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (proxies, resources) in &self.groups {
            writeln!(f, "{}: {}", count(proxies.len(), ""), proxies.join(" "))?;
            for resource in resources.iter() {
                resource.fmt(f)?;
            }
        }
        if self.unchanged > 0 {
            writeln!(
                f,
                "{}: nothing changes",
                count(self.unchanged, if self.is_none() { "" } else { "other " })
            )?;
        }
        Ok(())
    }
}

/// `1 proxy`, `2 other proxies`
fn count(proxies: usize, which: &str) -> String {
    format!("{proxies} {which}{}", if proxies == 1 { "proxy" } else { "proxies" })
}

// === impl MeshSide ===

impl<'a> MeshSide<'a> {
    fn of(push: &'a PushContext) -> Self {
        Self { push, cache: Cache::default(), scopes: BTreeMap::new() }
    }

    fn resources(&mut self, proxy: Option<&Proxy>) -> anyhow::Result<BTreeMap<ResourceType, ResourceSet>> {
        let Some(proxy) = proxy else { return Ok(BTreeMap::new()) };
        let key = ScopeKey::of(self.push, proxy);
        let scope =
            self.scopes.entry(key).or_insert_with_key(|key| Scope::of(self.push, key.clone(), None)).clone();
        let asked = ProxyConfigView::asked(&self.cache, self.push, &scope, proxy);
        let (_, sets) = asked.with_context(|| format!("generate the resources of {}", proxy.id.id))?;
        Ok(sets)
    }
}

fn differing(
    kind: ResourceType,
    was: &ResourceSet,
    is: &ResourceSet,
    compared: &mut Compared,
) -> anyhow::Result<Vec<ChangedResource>> {
    let mut found = Vec::new();
    for difference in was.differences(is) {
        let name = difference.name().clone();
        let change = match difference {
            Difference::Added(_) => ResourceChange::Added,
            Difference::Removed(_) => ResourceChange::Removed,
            Difference::Changed(later) => {
                let Some(earlier) = was.get(&name) else { continue };
                let key = (kind, name.clone(), earlier.version.clone(), later.version.clone());
                let known = match compared.get(&key) {
                    Some(known) => known.clone(),
                    None => changes(&printed(&earlier.body)?, &printed(&later.body)?).into(),
                };
                ResourceChange::Changed(compared.entry(key).or_insert(known).clone())
            }
        };
        found.push(ChangedResource { kind, name, change });
    }
    Ok(found)
}

/// Returns a resource as Envoy's `/config_dump` prints it.
fn printed(body: &[u8]) -> anyhow::Result<Value> {
    let any = Any::decode(body).context("decode a resource")?;
    let name = any.type_url.rsplit_once('/').map_or("", |(_, name)| name);
    pilot_proto::proto3_json::encoded_to_value(name, &any.value).context("print a resource")
}

// === impl ChangedResource ===

impl ChangedResource {
    fn json(&self) -> Value {
        let (action, changes) = match &self.change {
            ResourceChange::Added => ("added", Vec::new()),
            ResourceChange::Removed => ("removed", Vec::new()),
            ResourceChange::Changed(changes) => {
                let change = |change: &FieldChange| json!({"path": change.path, "before": change.before, "after": change.after});
                ("changed", changes.iter().map(change).collect())
            }
        };
        json!({"type": self.kind.short(), "name": &*self.name, "what": action, "changes": changes})
    }
}

impl Display for ChangedResource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mark, changes): (_, &[FieldChange]) = match &self.change {
            ResourceChange::Added => ('+', &[]),
            ResourceChange::Removed => ('-', &[]),
            ResourceChange::Changed(changes) => ('~', changes),
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
