//! Objects of a source, as last listed or watched. Pure.
//!
//! After an interruption a source lists its objects again: it calls [`ObjectStore::begin`] for a kind, restates every object
//! of the kind, and calls [`ObjectStore::end`], which deletes the objects that were not restated. Nothing is deleted before:
//! a list that is interrupted begins again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::object::{Object, ObjectKey, ObjectKind};

/// Objects of a source.
#[derive(Debug, Default)]
pub(crate) struct ObjectStore {
    objects: BTreeMap<ObjectKey, Object>,
    /// Objects that the current list has not restated yet, by the kinds that are being listed.
    unlisted: BTreeMap<ObjectKind, BTreeSet<ObjectKey>>,
}

/// Change of an object in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectChange {
    /// The object is new.
    Added(Object),
    /// The object differs from its previous version.
    Updated(Object),
    /// The object was deleted.
    Deleted(ObjectKey),
}

/// Kind of an [`ObjectChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectAction {
    /// The object is new.
    Added,
    /// The object differs from its previous version.
    Updated,
    /// The object was deleted.
    Deleted,
}

// === impl ObjectStore ===

impl ObjectStore {
    /// Returns the number of objects.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Begins a list of all objects of a kind. A list of the kind that has not ended begins again.
    pub(crate) fn begin(&mut self, kind: ObjectKind) {
        let keys = self.objects.keys().filter(|key| key.kind == kind).cloned().collect();
        self.unlisted.insert(kind, keys);
    }

    /// Ends the list of a kind. Deletes the objects of the kind that were not restated since it began.
    pub(crate) fn end(&mut self, kind: ObjectKind) -> Vec<ObjectChange> {
        let unlisted = self.unlisted.remove(&kind).unwrap_or_default();
        unlisted.iter().filter_map(|key| self.delete(key)).collect()
    }

    /// Inserts or replaces an object. Returns `None` if it equals the stored one.
    pub(crate) fn upsert(&mut self, object: Object) -> Option<ObjectChange> {
        let key = object.key();
        if let Some(unlisted) = self.unlisted.get_mut(&key.kind) {
            unlisted.remove(&key);
        }
        match self.objects.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(object.clone());
                Some(ObjectChange::Added(object))
            }
            Entry::Occupied(entry) if *entry.get() == object => None,
            Entry::Occupied(mut entry) => {
                entry.insert(object.clone());
                Some(ObjectChange::Updated(object))
            }
        }
    }

    /// Removes an object. Returns `None` if it is not stored.
    pub(crate) fn delete(&mut self, key: &ObjectKey) -> Option<ObjectChange> {
        self.objects.remove(key).map(|_| ObjectChange::Deleted(key.clone()))
    }
}

// === impl ObjectChange ===

impl ObjectChange {
    /// Returns the kind of the object.
    pub(crate) fn kind(&self) -> ObjectKind {
        match self {
            Self::Added(object) | Self::Updated(object) => object.key().kind,
            Self::Deleted(key) => key.kind,
        }
    }

    /// Returns the kind of the change.
    pub(crate) const fn action(&self) -> ObjectAction {
        match self {
            Self::Added(_) => ObjectAction::Added,
            Self::Updated(_) => ObjectAction::Updated,
            Self::Deleted(_) => ObjectAction::Deleted,
        }
    }
}

// === impl ObjectAction ===

impl ObjectAction {
    /// Every action.
    pub(crate) const ALL: [Self; 3] = [Self::Added, Self::Updated, Self::Deleted];

    /// Returns the label value of Istio's metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "add",
            Self::Updated => "update",
            Self::Deleted => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{Decoded, decode};
    use super::*;

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn object(kind: &str, name: &str, version: u8) -> Object {
        let manifest = json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "labels": {"version": version.to_string()}}});
        match decode(manifest).remove(0).decoded {
            Decoded::Object(object) => object,
            other => panic!("{other:?}"),
        }
    }

    fn service(name: &str, version: u8) -> Object {
        object("Service", name, version)
    }

    fn any_services() -> impl Strategy<Value = BTreeMap<&'static str, u8>> {
        prop::collection::btree_map(prop::sample::select(&NAMES[..]), 0_u8..3, 0..5)
    }

    /// Store with these services, and a pod and a node of the same names.
    fn store_of(services: &BTreeMap<&str, u8>) -> ObjectStore {
        let mut store = ObjectStore::default();
        for (name, version) in services {
            store.upsert(service(name, *version));
        }
        for name in NAMES {
            store.upsert(object("Pod", name, 0));
            store.upsert(object("Node", name, 0));
        }
        store
    }

    /// Returns the change from one set of services to another, deletions last.
    fn difference(before: &BTreeMap<&str, u8>, after: &BTreeMap<&str, u8>) -> Vec<ObjectChange> {
        let upserts = after.iter().filter_map(|(name, version)| match before.get(name) {
            None => Some(ObjectChange::Added(service(name, *version))),
            Some(previous) => (previous != version).then(|| ObjectChange::Updated(service(name, *version))),
        });
        let removed = before.keys().filter(|name| !after.contains_key(*name));
        upserts.chain(removed.map(|name| ObjectChange::Deleted(service(name, 0).key()))).collect()
    }

    #[test]
    fn objects_are_added_updated_and_deleted_once() {
        let mut store = ObjectStore::default();
        let (first, second) = (service("a", 1), service("a", 2));
        assert_eq!(store.upsert(first.clone()), Some(ObjectChange::Added(first.clone())));
        assert_eq!(store.upsert(first), None);
        assert_eq!(store.upsert(second.clone()), Some(ObjectChange::Updated(second.clone())));
        assert_eq!(store.delete(&second.key()), Some(ObjectChange::Deleted(second.key())));
        assert_eq!((store.delete(&second.key()), store.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn relist_deletes_exactly_the_objects_that_are_not_restated(
            before in any_services(),
            after in any_services(),
        ) {
            let mut store = store_of(&before);
            store.begin(ObjectKind::Service);
            prop_assert_eq!(store.len(), before.len() + 10, "begin deletes nothing");
            let mut changes: Vec<_> =
                after.iter().filter_map(|(name, version)| store.upsert(service(name, *version))).collect();
            prop_assert!(changes.iter().all(|change| change.action() != ObjectAction::Deleted));
            changes.extend(store.end(ObjectKind::Service));
            prop_assert_eq!(changes, difference(&before, &after));
            prop_assert_eq!(store.len(), after.len() + 10, "other kinds stay");
            prop_assert_eq!(store.end(ObjectKind::Service), []);
        }

        #[test]
        fn interrupted_relist_deletes_nothing_and_leaves_no_mark(
            before in any_services(),
            partial in any_services(),
            after in any_services(),
        ) {
            let mut store = store_of(&before);
            store.begin(ObjectKind::Service);
            for (name, version) in &partial {
                store.upsert(service(name, *version));
            }
            let mut interrupted = before.clone();
            interrupted.extend(partial);
            prop_assert_eq!(store.len(), interrupted.len() + 10);

            store.begin(ObjectKind::Service);
            let mut changes: Vec<_> =
                after.iter().filter_map(|(name, version)| store.upsert(service(name, *version))).collect();
            changes.extend(store.end(ObjectKind::Service));
            prop_assert_eq!(changes, difference(&interrupted, &after));
        }

        #[test]
        fn object_deleted_during_a_relist_is_deleted_once(before in any_services()) {
            let mut store = store_of(&before);
            store.begin(ObjectKind::Service);
            let mut deleted: Vec<_> =
                before.keys().take(1).filter_map(|name| store.delete(&service(name, 0).key())).collect();
            deleted.extend(store.end(ObjectKind::Service));
            prop_assert_eq!(deleted, difference(&before, &BTreeMap::new()));
        }
    }
}
