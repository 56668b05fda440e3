//! What streams share: names that clients ask for, sets that they were told, and what to tell them next.
//!
//! A mesh has a few classes of proxies and thousands of each. Streams of a class ask for the same names, hold the same
//! resources and are to be told the same; here all that is kept once, found by fingerprint. Nothing in here changes
//! what a stream is told, only what it costs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::step::{Step, StepKey};
use crate::model::resource::Resources;
use crate::model::{Fingerprint, NameSet, Resource, ResourceSet};

/// Bytes of encoded resources that are kept for the next stream that is to be told the same. Members of a class are
/// pushed to one after the other, so a few classes are enough; what is under way to a client is kept by the response.
const KEPT: usize = 16 << 20;

/// Steps that are kept, however small they are.
const STEPS: usize = 4096;

/// What all streams of a server share.
#[derive(Debug, Default)]
pub struct Pool {
    names: Mutex<Interned<(Fingerprint, usize), NameSet>>,
    resources: Mutex<Interned<(Fingerprint, usize, usize), Weak<Resources>>>,
    steps: Mutex<Steps>,
}

/// One of each, for as long as somebody uses it.
#[derive(Debug)]
struct Interned<K, T> {
    known: HashMap<K, T>,
    /// How many there may be before those that nobody uses are looked for.
    sweep_at: usize,
}

/// What streams were told lately, oldest first.
#[derive(Debug, Default)]
struct Steps {
    known: HashMap<StepKey, Kept>,
    order: VecDeque<StepKey>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    step: Step,
    /// Whether it was taken since the last time.
    used: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each of them is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Pool ===

impl Pool {
    /// The set of these names.
    pub fn names<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> NameSet {
        let (fingerprint, count) = Fingerprint::sum(names.clone().map(Fingerprint::of));
        // Names that are said twice make another fingerprint, and the set is looked for once more below.
        if let Some(known) = lock(&self.names).known.get(&(fingerprint, count)) {
            return known.clone();
        }
        self.share_names(names.map(Arc::from).collect())
    }

    /// The same set, kept once.
    pub fn share_names(&self, set: NameSet) -> NameSet {
        let mut names = lock(&self.names);
        names.sweep(|known| !known.is_shared());
        names.known.entry((set.fingerprint(), set.len())).or_insert(set).clone()
    }

    /// The same set, kept once.
    pub fn share(&self, set: &ResourceSet) -> ResourceSet {
        let mut resources = lock(&self.resources);
        resources.sweep(|known| known.strong_count() == 0);
        let entry = resources.known.entry(set.identity());
        let known = entry.or_insert_with(|| Arc::downgrade(set.shared()));
        if let Some(kept) = known.upgrade() {
            return set.kept_at(kept);
        }
        *known = Arc::downgrade(set.shared());
        set.clone()
    }

    /// What a client says it holds: names and versions. Bodies are there where somebody else holds the same.
    pub fn held<'n>(&self, held: impl Iterator<Item = (&'n str, &'n str)> + Clone) -> ResourceSet {
        let marks = held.clone().map(|(name, version)| Resource::mark_of(name, version));
        let (fingerprint, count) = Fingerprint::sum(marks);
        let known = lock(&self.resources).known.get(&(fingerprint, count, 0)).and_then(Weak::upgrade);
        known.map_or_else(
            || held.map(|(name, version)| Resource::held(name.into(), version.into())).collect(),
            |resources| ResourceSet::kept(resources, fingerprint),
        )
    }

    /// Forgets steps that no stream has taken since the last time, and with them what they hold of a mesh that was.
    pub fn forget_unused(&self) {
        let steps = &mut *lock(&self.steps);
        steps.known.retain(|_, kept| std::mem::take(&mut kept.used));
        steps.order.retain(|key| steps.known.contains_key(key));
        steps.bytes = steps.known.values().map(|kept| kept.step.size()).sum();
    }

    /// What a stream in this position is told next, remembered or computed. Two threads may compute the same step;
    /// neither waits for the other.
    pub(super) fn step(&self, key: StepKey, compute: impl FnOnce() -> Step) -> Step {
        if let Some(kept) = lock(&self.steps).known.get_mut(&key) {
            kept.used = true;
            return kept.step.clone();
        }
        let step = compute();
        lock(&self.steps).remember(key, step.clone());
        step
    }
}

// === impl Interned ===

impl<K, T> Default for Interned<K, T> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: 64 }
    }
}

impl<K, T> Interned<K, T> {
    /// Forgets what nobody uses, once there is twice as much as there was after the last time.
    fn sweep(&mut self, unused: impl Fn(&T) -> bool) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| !unused(known));
            self.sweep_at = self.known.len().max(32) * 2;
        }
    }
}

// === impl Steps ===

impl Steps {
    fn remember(&mut self, key: StepKey, step: Step) {
        let size = step.size();
        if self.known.insert(key.clone(), Kept { step, used: true }).is_none() {
            self.order.push_back(key);
            self.bytes += size;
        }
        // The newest stays, however large it is.
        while (self.bytes > KEPT || self.order.len() > STEPS) && self.order.len() > 1 {
            if let Some(old) = self.order.pop_front().and_then(|key| self.known.remove(&key)) {
                self.bytes = self.bytes.saturating_sub(old.step.size());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(count: u32) -> ResourceSet {
        (0..count).map(|i| Resource::held(i.to_string().into(), "1".into())).collect()
    }

    #[test]
    fn equal_sets_are_kept_once() {
        let pool = Pool::default();
        let (one, other) = (resources(5), resources(5));
        assert!(!Arc::ptr_eq(one.shared(), other.shared()));
        assert!(Arc::ptr_eq(pool.share(&one).shared(), pool.share(&other).shared()));
        let (one, other) = (pool.names(["b", "a"].into_iter()), pool.names(["a", "b", "a"].into_iter()));
        assert!(one.is_same(&other));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let pool = Pool::default();
        let used = pool.share(&resources(3));
        for count in 0..1000 {
            pool.share(&resources(count % 200));
            drop(pool.names([count.to_string().as_str()].into_iter()));
        }
        assert!(lock(&pool.resources).known.len() <= 128, "{}", lock(&pool.resources).known.len());
        assert!(lock(&pool.names).known.len() <= 128);
        assert!(Arc::ptr_eq(pool.share(&resources(3)).shared(), used.shared()));
    }
}
