//! Named resources, encoded once, in persistent sets that streams share.
//!
//! Sets are compared by fingerprint in constant time, whatever their size. A set that differs from another in one resource
//! shares the rest with it.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::name_set::{Fingerprint, NameSet};

/// An encoded xDS resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// Hash of the content: equal content, equal version.
    pub version: Arc<str>,
    /// The encoded `google.protobuf.Any`. Empty if only the version is known, from `initial_resource_versions` of a client: such
    /// a resource can be compared, not sent.
    pub body: Bytes,
    fingerprint: Fingerprint,
}

/// Persistent map of a set; equal sets may share one.
pub(crate) type Resources = OrdMap<Arc<str>, Resource>;

/// Resources of one type by name.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    resources: Arc<Resources>,
    fingerprint: Fingerprint,
    /// Number of resources without a body. Sets with the same names and versions are equal; they are interchangeable only if
    /// this number is equal as well.
    bodiless: usize,
}

/// A resource that differs between two sets.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'a> {
    /// Contained in the later set only.
    Added(&'a Resource),
    /// Contained in both with different versions; holds the later one.
    Changed(&'a Resource),
    /// Contained in the earlier set only; holds the earlier one.
    Removed(&'a Resource),
}

// === impl Resource ===

impl Resource {
    /// Creates a resource from its encoded body.
    pub fn new(name: Arc<str>, version: Arc<str>, body: Bytes) -> Self {
        let fingerprint = Self::fingerprint_of(&name, &version);
        Self { name, version, body, fingerprint }
    }

    /// Returns the fingerprint of a set that contains only this resource.
    pub(crate) fn fingerprint_of(name: &str, version: &str) -> Fingerprint {
        Fingerprint::of(&(name, version))
    }

    /// Creates a resource without a body: a version that a client claims to hold from an earlier stream.
    pub fn without_body(name: Arc<str>, version: Arc<str>) -> Self {
        Self::new(name, version, Bytes::new())
    }
}

// === impl ResourceSet ===

impl ResourceSet {
    /// Returns the fingerprint of all names and versions; equal sets have equal fingerprints.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the number of resources.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Returns `true` if the set has no resources.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Returns the resource of this name.
    pub fn get(&self, name: &str) -> Option<&Resource> {
        self.resources.get(name)
    }

    /// Returns the resources in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values()
    }

    /// Inserts a resource; replaces the one of the same name.
    pub fn insert(&mut self, resource: Resource) {
        self.fingerprint = self.fingerprint.plus(resource.fingerprint);
        self.bodiless += usize::from(resource.body.is_empty());
        let before = Arc::make_mut(&mut self.resources).insert(resource.name.clone(), resource);
        if let Some(before) = before {
            self.subtract(&before);
        }
    }

    /// Removes and returns the resource of this name.
    pub fn remove(&mut self, name: &str) -> Option<Resource> {
        // Avoids a copy of the map when there is nothing to remove.
        self.resources.get(name)?;
        let before = Arc::make_mut(&mut self.resources).remove(name)?;
        self.subtract(&before);
        Some(before)
    }

    /// Replaces the resources of these names with those of `other`; removes the ones that `other` does not contain.
    pub fn adopt(&mut self, names: &NameSet, other: &Self) {
        for name in names {
            match other.get(name) {
                Some(resource) => self.insert(resource.clone()),
                None => drop(self.remove(name)),
            }
        }
    }

    fn subtract(&mut self, before: &Resource) {
        self.fingerprint = self.fingerprint.minus(before.fingerprint);
        self.bodiless -= usize::from(before.body.is_empty());
    }

    /// Returns the differences between this set and a later one, by name. The cost is proportional to the number of differences.
    pub fn differences<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = Difference<'a>> {
        let differing = (self != later).then(|| self.resources.diff(&later.resources));
        differing.into_iter().flatten().filter_map(|item| match item {
            DiffItem::Add(_, added) => Some(Difference::Added(added)),
            DiffItem::Remove(_, removed) => Some(Difference::Removed(removed)),
            DiffItem::Update { old: (_, old), new: (_, new) } => {
                (old.version != new.version).then_some(Difference::Changed(new))
            }
        })
    }

    /// Returns the identity; sets with equal identity are interchangeable.
    pub(crate) fn identity(&self) -> (Fingerprint, usize, usize) {
        (self.fingerprint, self.len(), self.bodiless)
    }

    /// Returns the map, which equal sets may share.
    pub(crate) const fn shared(&self) -> &Arc<Resources> {
        &self.resources
    }

    /// Creates the set of a shared map, all of whose resources have a body, with its fingerprint.
    pub(crate) const fn from_shared(resources: Arc<Resources>, fingerprint: Fingerprint) -> Self {
        Self { resources, fingerprint, bodiless: 0 }
    }

    /// Returns the same set with the shared map of an identical one.
    pub(crate) const fn with_shared(&self, resources: Arc<Resources>) -> Self {
        Self { resources, fingerprint: self.fingerprint, bodiless: self.bodiless }
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
    /// Returns the name of the resource.
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
            Resource::without_body(name.into(), version.into())
        };
        text.split_whitespace().map(resource).collect()
    }

    #[test]
    fn resource_sets_are_equal_if_names_and_versions_are() {
        let mut grown = set("c=3 a=0 b=2 x=9");
        grown.insert(Resource::without_body("a".into(), "1".into()));
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
    fn resource_set_adopts_resources_of_another_set() {
        let mut adopting = set("a=1 b=1 c=1");
        let names = ["b", "c", "d", "e"].into_iter().map(Arc::from).collect();
        adopting.adopt(&names, &set("a=2 b=2 d=2"));
        assert_eq!(adopting, set("a=1 b=2 d=2"));
    }

    #[test]
    fn resource_set_differences_are_added_changed_removed() {
        let (before, after) = (set("a=1 b=1 c=1"), set("a=1 b=2 d=1"));
        let items: Vec<String> = before.differences(&after).map(|item| format!("{item:?}")).collect();
        let names: Vec<&str> = before.differences(&after).map(|item| &**item.name()).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert!(
            items[0].starts_with("Changed")
                && items[1].starts_with("Removed")
                && items[2].starts_with("Added")
        );
        assert_eq!(before.differences(&set("c=1 b=1 a=1")).count(), 0);
    }
}
