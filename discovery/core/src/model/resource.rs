//! What travels to proxies: named resources, encoded once, in sets that streams share.
//!
//! A set is compared by its fingerprint, whatever its size: a thousand streams that were told the same find that out
//! in one step each. Sets are persistent; one that differs in a resource shares the rest.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::name_set::{Fingerprint, NameSet};

/// An xDS resource as streams carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// Changes exactly when the content does.
    pub version: Arc<str>,
    /// The encoded `google.protobuf.Any`. Empty: a client says it holds this version; it can be compared, not sent.
    pub body: Bytes,
    mark: Fingerprint,
}

/// What a set keeps, where others may keep it too.
pub(crate) type Resources = OrdMap<Arc<str>, Resource>;

/// Resources of one type by name.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    resources: Arc<Resources>,
    fingerprint: Fingerprint,
    /// How many of them have no body. Sets with the same names and versions are equal; they can stand for each other
    /// only if this is equal too.
    held: usize,
}

/// One resource in which two sets differ.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'a> {
    /// Only the later set has it.
    Added(&'a Resource),
    /// Both have it, at different versions; this is the later one.
    Changed(&'a Resource),
    /// Only the earlier set has it; this is what it was.
    Removed(&'a Resource),
}

// === impl Resource ===

impl Resource {
    /// A resource at a version.
    pub fn new(name: Arc<str>, version: Arc<str>, body: Bytes) -> Self {
        let mark = Self::mark_of(&name, &version);
        Self { name, version, body, mark }
    }

    /// Fingerprint of a set of this one alone.
    pub(crate) fn mark_of(name: &str, version: &str) -> Fingerprint {
        Fingerprint::of(&(name, version))
    }

    /// What a client says it holds from an earlier stream.
    pub fn held(name: Arc<str>, version: Arc<str>) -> Self {
        Self::new(name, version, Bytes::new())
    }
}

// === impl ResourceSet ===

impl ResourceSet {
    /// Names and versions of everything in it; equal sets have equal ones.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The resource of this name.
    pub fn get(&self, name: &str) -> Option<&Resource> {
        self.resources.get(name)
    }

    /// Everything, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values()
    }

    /// Puts a resource in, in place of the one of its name.
    pub fn insert(&mut self, resource: Resource) {
        self.fingerprint = self.fingerprint.plus(resource.mark);
        self.held += usize::from(resource.body.is_empty());
        let before = Arc::make_mut(&mut self.resources).insert(resource.name.clone(), resource);
        if let Some(before) = before {
            self.forget(&before);
        }
    }

    /// Takes a resource out.
    pub fn remove(&mut self, name: &str) -> Option<Resource> {
        // Without a copy of the map where there is nothing to take out.
        self.resources.get(name)?;
        let before = Arc::make_mut(&mut self.resources).remove(name)?;
        self.forget(&before);
        Some(before)
    }

    /// Has of these names what `other` has of them, and nothing where that has nothing.
    pub fn adopt(&mut self, names: &NameSet, other: &Self) {
        for name in names {
            match other.get(name) {
                Some(resource) => self.insert(resource.clone()),
                None => drop(self.remove(name)),
            }
        }
    }

    fn forget(&mut self, before: &Resource) {
        self.fingerprint = self.fingerprint.minus(before.mark);
        self.held -= usize::from(before.body.is_empty());
    }

    /// What `later` has, or has no more, that `self` has not, by name. Takes as long as the difference is large.
    pub fn differences<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = Difference<'a>> {
        let differing = (self != later).then(|| self.resources.diff(&later.resources));
        differing.into_iter().flatten().filter_map(|item| match item {
            DiffItem::Add(_, added) => Some(Difference::Added(added)),
            DiffItem::Remove(_, gone) => Some(Difference::Removed(gone)),
            DiffItem::Update { old: (_, old), new: (_, new) } => {
                (old.version != new.version).then_some(Difference::Changed(new))
            }
        })
    }

    /// Sets with the same one can stand for each other.
    pub(crate) fn identity(&self) -> (Fingerprint, usize, usize) {
        (self.fingerprint, self.len(), self.held)
    }

    /// Where its resources are kept: streams that share them are told by one and the same.
    pub(crate) const fn shared(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// The set of these resources, all with a body, whose fingerprint is known.
    pub(crate) const fn kept(resources: Arc<Resources>, fingerprint: Fingerprint) -> Self {
        Self { resources, fingerprint, held: 0 }
    }

    /// The same set, kept where an identical one is kept already.
    pub(crate) const fn kept_at(&self, resources: Arc<Resources>) -> Self {
        Self { resources, fingerprint: self.fingerprint, held: self.held }
    }
}

impl PartialEq for ResourceSet {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.len() == other.len()
    }
}

impl Eq for ResourceSet {}

impl FromIterator<Resource> for ResourceSet {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut set = Self::default();
        set.extend(resources);
        set
    }
}

impl Extend<Resource> for ResourceSet {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        resources.into_iter().for_each(|resource| self.insert(resource));
    }
}

// === impl Difference ===

impl<'a> Difference<'a> {
    /// Name of the resource.
    pub const fn name(self) -> &'a Arc<str> {
        match self {
            Self::Added(resource) | Self::Changed(resource) | Self::Removed(resource) => &resource.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> ResourceSet {
        let resource = |text: &str| {
            let (name, version) = text.split_once('=').unwrap();
            Resource::held(name.into(), version.into())
        };
        text.split_whitespace().map(resource).collect()
    }

    #[test]
    fn sets_are_equal_whatever_way_they_came_about() {
        let mut grown = set("c=3 a=0 b=2 x=9");
        grown.insert(Resource::held("a".into(), "1".into()));
        grown.remove("x");
        grown.remove("never there");
        assert_eq!(grown, set("a=1 b=2 c=3"));
        for other in ["a=1 b=2", "a=1 b=2 c=4", "a=1 b=3 c=2", "a=1 b=2 d=3", "a=1 b=2 c=3 d=1"] {
            assert_ne!(grown, set(other), "{other}");
        }
        grown = set("a=1");
        grown.remove("a");
        assert_eq!(grown, ResourceSet::default());
    }

    #[test]
    fn a_set_adopts_what_another_has_and_lacks() {
        let mut adopting = set("a=1 b=1 c=1");
        let names = ["b", "c", "d", "e"].into_iter().map(Arc::from).collect();
        adopting.adopt(&names, &set("a=2 b=2 d=2"));
        assert_eq!(adopting, set("a=1 b=2 d=2"));
    }

    #[test]
    fn differences_are_what_differs() {
        let (before, after) = (set("a=1 b=1 c=1"), set("a=1 b=2 d=1"));
        let told: Vec<String> = before.differences(&after).map(|item| format!("{item:?}")).collect();
        let names: Vec<&str> = before.differences(&after).map(|item| &**item.name()).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert!(
            told[0].starts_with("Changed") && told[1].starts_with("Removed") && told[2].starts_with("Added")
        );
        assert_eq!(before.differences(&set("c=1 b=1 a=1")).count(), 0);
    }
}
