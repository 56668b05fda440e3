//! Differences shared by all streams in the same state, and the sets that these streams share.
//!
//! A difference is computed and encoded once for all streams that hold the same, should have the same and subscribe to the
//! same. Caching changes the cost of a response, never its content.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use super::diff::{Diff, DiffKey};
use super::interner::{Interner, lock};

/// Maximum size of cached differences, in bytes. Proxies of a class are pushed to one after the other, so room for a few
/// classes is enough; a response that is being sent holds its own bytes.
const MAX_BYTES: usize = 16 << 20;

/// Maximum number of cached differences, however small.
const MAX_ENTRIES: usize = 4096;

/// State that all streams of a server share.
#[derive(Debug, Default)]
pub struct StreamCache {
    interner: Interner,
    diffs: Mutex<DiffCache>,
}

/// Recent differences, oldest first.
#[derive(Debug, Default)]
struct DiffCache {
    entries: HashMap<DiffKey, CachedDiff>,
    order: VecDeque<DiffKey>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedDiff {
    diff: Diff,
    /// `true` if a stream has used it since the last sweep.
    used: bool,
}

// === impl StreamCache ===

impl StreamCache {
    /// Returns the interner of sets.
    pub const fn interner(&self) -> &Interner {
        &self.interner
    }

    /// Removes differences that no stream has used since the last call.
    pub fn forget_unused(&self) {
        let diffs = &mut *lock(&self.diffs);
        diffs.entries.retain(|_, cached| std::mem::take(&mut cached.used));
        diffs.order.retain(|key| diffs.entries.contains_key(key));
        diffs.bytes = diffs.entries.values().map(|cached| cached.diff.size()).sum();
    }

    /// Returns the cached difference or computes it. Two threads may compute the same one; neither waits for the other.
    pub(crate) fn diff(&self, key: DiffKey, compute: impl FnOnce() -> Diff) -> Diff {
        if let Some(cached) = lock(&self.diffs).entries.get_mut(&key) {
            cached.used = true;
            return cached.diff.clone();
        }
        let diff = compute();
        lock(&self.diffs).insert(key, diff.clone());
        diff
    }
}

// === impl DiffCache ===

impl DiffCache {
    fn insert(&mut self, key: DiffKey, diff: Diff) {
        let size = diff.size();
        if self.entries.insert(key.clone(), CachedDiff { diff, used: true }).is_none() {
            self.order.push_back(key);
            self.bytes += size;
        }
        // The newest entry stays, however large it is.
        while (self.bytes > MAX_BYTES || self.order.len() > MAX_ENTRIES) && self.order.len() > 1 {
            if let Some(oldest) = self.order.pop_front().and_then(|key| self.entries.remove(&key)) {
                self.bytes = self.bytes.saturating_sub(oldest.diff.size());
            }
        }
    }
}
