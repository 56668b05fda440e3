//! One copy of equal sets, for as long as any stream uses it.
//!
//! A mesh has few classes of proxies and thousands of proxies in each. Streams of a class subscribe to the same names and
//! hold the same resources. Interning changes the memory that this takes, never the content of a response.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::name_set::{Fingerprint, NameSet};
use super::resource::{Resource, ResourceSet, Resources};

/// Equal sets of names and resources of all streams of a server, each once.
#[derive(Debug, Default)]
pub struct Interner {
    names: Mutex<InternTable<(Fingerprint, usize), NameSet>>,
    resources: Mutex<InternTable<(Fingerprint, usize, usize), Weak<Resources>>>,
}

#[derive(Debug)]
struct InternTable<K, T> {
    entries: HashMap<K, T>,
    /// Number of entries at which unused ones are removed.
    sweep_at: usize,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The content is consistent between any two statements, so a panic of another thread does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Interner ===

impl Interner {
    /// Returns the set of these names.
    pub fn names<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> NameSet {
        let (fingerprint, count) = Fingerprint::sum(names.clone().map(Fingerprint::of));
        // Repeated names have another fingerprint; `intern_names` then finds the set by its own.
        if let Some(set) = lock(&self.names).entries.get(&(fingerprint, count)) {
            return set.clone();
        }
        self.intern_names(names.map(Arc::from).collect())
    }

    /// Returns the shared copy of a set of names.
    pub fn intern_names(&self, set: NameSet) -> NameSet {
        let mut names = lock(&self.names);
        names.sweep(|entry| !entry.is_shared());
        names.entries.entry((set.fingerprint(), set.len())).or_insert(set).clone()
    }

    /// Returns the shared copy of a set of resources.
    pub fn intern(&self, set: &ResourceSet) -> ResourceSet {
        let mut resources = lock(&self.resources);
        resources.sweep(|entry| entry.strong_count() == 0);
        let entry = resources.entries.entry(set.identity());
        let entry = entry.or_insert_with(|| Arc::downgrade(set.shared()));
        if let Some(shared) = entry.upgrade() {
            return set.with_shared(shared);
        }
        *entry = Arc::downgrade(set.shared());
        set.clone()
    }

    /// Returns the set of these names and versions. Resources have a body if an identical set is in use.
    pub fn versions<'n>(&self, versions: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> ResourceSet {
        let fingerprints = versions.clone().map(|(name, version)| Resource::fingerprint_of(name, version));
        let (fingerprint, count) = Fingerprint::sum(fingerprints);
        let shared = lock(&self.resources).entries.get(&(fingerprint, count, 0)).and_then(Weak::upgrade);
        shared.map_or_else(
            || versions.map(|(name, version)| Resource::without_body(name.into(), version.into())).collect(),
            |resources| ResourceSet::from_shared(resources, fingerprint),
        )
    }
}

// === impl InternTable ===

impl<K, T> Default for InternTable<K, T> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: 64 }
    }
}

impl<K: Eq + Hash, T> InternTable<K, T> {
    /// Removes unused entries once the table has twice as many as after the last sweep.
    fn sweep(&mut self, unused: impl Fn(&T) -> bool) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, entry| !unused(entry));
            self.sweep_at = self.entries.len().max(32) * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(count: u32) -> ResourceSet {
        (0..count).map(|i| Resource::without_body(i.to_string().into(), "1".into())).collect()
    }

    #[test]
    fn interner_keeps_equal_sets_once() {
        let interner = Interner::default();
        let (one, other) = (resources(5), resources(5));
        assert!(!Arc::ptr_eq(one.shared(), other.shared()));
        assert!(Arc::ptr_eq(interner.intern(&one).shared(), interner.intern(&other).shared()));
        let one = interner.names(["b", "a"].into_iter());
        let other = interner.names(["a", "b", "a"].into_iter());
        assert!(one.is_same(&other));
    }

    #[test]
    fn interner_removes_unused_sets() {
        let interner = Interner::default();
        let used = interner.intern(&resources(3));
        for count in 0..1000 {
            interner.intern(&resources(count % 200));
            drop(interner.names([count.to_string().as_str()].into_iter()));
        }
        let entries = lock(&interner.resources).entries.len();
        assert!(entries <= 128, "{entries}");
        assert!(lock(&interner.names).entries.len() <= 128);
        assert!(Arc::ptr_eq(interner.intern(&resources(3)).shared(), used.shared()));
    }
}
