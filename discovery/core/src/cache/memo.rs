//! A bounded cache of the results of pure functions.
//!
//! An entry stays while its value is referenced elsewhere or was used since the last sweep. Others are evicted by a sweep:
//! periodically, and when a shard has twice as many entries as after the last one. The cost follows the current size of the mesh,
//! not its history.
//!
//! A debug build computes results again and compares them, so that an input that is missing in the key fails the first test that
//! reaches it. It checks each of the first few hundred hits, then one in many: a mesh of a thousand proxies must be testable in a
//! debug build.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Number of shards: enough for the streams of a few dozen cores.
const SHARDS: usize = 16;

/// Number of hits that a debug build checks one by one.
const ALL_CHECKED: u64 = 256;

/// After them, it checks one in so many.
const ONE_CHECKED_IN: u64 = 64;

/// Smaller shards are not swept.
const SMALL: usize = 16;

/// Cached value.
pub(super) trait Answer: Clone + Debug + PartialEq {
    /// Returns `true` if the value is referenced outside the cache.
    fn is_held(&self) -> bool;
}

/// Cache from the inputs of a pure function to its result.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    /// Maximum number of entries of one shard.
    capacity: usize,
    hasher: RandomState,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug)]
struct Shard<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Number of entries at which a sweep is due.
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry<V> {
    answer: Later<V>,
    /// `true` if it was used since the last sweep.
    used: bool,
}

/// Value that is computed or being computed; all waiting callers share it.
type Later<V> = Arc<OnceLock<V>>;

/// Counters of one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Lookups that found a value.
    pub hits: u64,
    /// Lookups that computed a value.
    pub misses: u64,
    /// Evicted entries.
    pub evictions: u64,
    /// Current number of entries.
    pub entries: u64,
}

// === impl Memo ===

impl<K: Clone + Eq + Hash, V: Answer> Memo<K, V> {
    /// Creates a cache of at most `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            capacity: capacity.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// Returns `make(inputs)`, cached or computed; concurrent callers with the same inputs compute it once. No shard is locked
    /// during the computation: only callers with the same inputs wait.
    pub(super) fn get(&self, inputs: &K, make: impl Fn(&K) -> V) -> V {
        let mut remembered = true;
        let answer = self.entry(inputs);
        let answer = answer.get_or_init(|| {
            remembered = false;
            self.misses.fetch_add(1, Ordering::Relaxed);
            make(inputs)
        });
        if remembered {
            let hits = self.hits.fetch_add(1, Ordering::Relaxed);
            if cfg!(debug_assertions) && (hits < ALL_CHECKED || hits.is_multiple_of(ONE_CHECKED_IN)) {
                debug_assert_eq!(make(inputs), *answer, "a remembered answer differs from a fresh one");
            }
        }
        answer.clone()
    }

    pub(super) fn stats(&self) -> Stats {
        let count = |shard: &Mutex<Shard<K, V>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).entries.len() as u64
        };
        Stats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries: self.shards.iter().map(count).sum(),
        }
    }

    /// Evicts entries that are not referenced and were not used since the last sweep.
    pub(super) fn forget_unused(&self) {
        for shard in &self.shards {
            let forgotten = shard.lock().unwrap_or_else(PoisonError::into_inner).sweep();
            self.evictions.fetch_add(forgotten as u64, Ordering::Relaxed);
        }
    }

    /// Removes all entries.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    /// Calls `show` with each cached value, in no order.
    pub(super) fn each(&self, mut show: impl FnMut(&V)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.entries.values().filter_map(|entry| entry.answer.get()).for_each(&mut show);
        }
    }

    fn entry(&self, inputs: &K) -> Later<V> {
        let hash = self.hasher.hash_one(inputs);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.shards.get(index) else { return Later::default() };
        // Only map operations run under the lock, so the map is consistent even if the lock is poisoned.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = shard.entries.get_mut(inputs) {
            entry.used = true;
            return entry.answer.clone();
        }
        let (answer, forgotten) = shard.insert(inputs.clone(), self.capacity);
        self.evictions.fetch_add(forgotten as u64, Ordering::Relaxed);
        answer
    }
}

// === impl Stats ===

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            entries: self.entries + other.entries,
        }
    }
}

// === impl Shard ===

impl<K, V> Default for Shard<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), sweep_at: SMALL }
    }
}

impl<K: Clone + Eq + Hash, V: Answer> Shard<K, V> {
    /// Inserts an entry without a value; returns it with the number of evicted entries.
    fn insert(&mut self, inputs: K, capacity: usize) -> (Later<V>, usize) {
        let mut forgotten = 0;
        if self.entries.len() >= self.sweep_at.min(capacity) {
            forgotten = self.sweep();
            if self.entries.len() >= capacity {
                forgotten += self.entries.len();
                self.entries.clear();
            }
        }
        let answer = Later::default();
        self.entries.insert(inputs, Entry { answer: answer.clone(), used: true });
        (answer, forgotten)
    }

    /// Removes unused entries; returns their number.
    fn sweep(&mut self) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, Entry { answer, used }| {
            let computed = Arc::strong_count(answer) > 1;
            mem::take(used) || computed || answer.get().is_some_and(V::is_held)
        });
        self.sweep_at = (self.entries.len() * 2).max(SMALL);
        before - self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    impl Answer for Arc<u64> {
        fn is_held(&self) -> bool {
            Arc::strong_count(self) > 1
        }
    }

    impl Answer for &'static str {
        fn is_held(&self) -> bool {
            false
        }
    }

    #[test]
    fn an_answer_is_remembered() {
        let memo = Memo::<u64, Arc<u64>>::new(100);
        for _ in 0..3 {
            assert_eq!(*memo.get(&7, |n| Arc::new(n * 2)), 14);
        }
        assert_eq!(memo.stats(), Stats { hits: 2, misses: 1, evictions: 0, entries: 1 });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "those who ask at the same time are threads")]
    fn what_many_ask_for_at_the_same_time_is_computed_once() {
        const ASKING: usize = 4;
        let memo = Memo::<u64, Arc<u64>>::new(100);
        let begun = AtomicU64::new(0);
        let ask = || {
            begun.fetch_add(1, Ordering::SeqCst);
            memo.get(&7, |n| {
                while begun.load(Ordering::SeqCst) < ASKING as u64 {
                    std::thread::yield_now();
                }
                Arc::new(n * 2)
            })
        };
        std::thread::scope(|threads| {
            let asking: Vec<_> = (0..ASKING).map(|_| threads.spawn(ask)).collect();
            assert!(asking.into_iter().all(|thread| *thread.join().unwrap() == 14));
        });
        assert_eq!(memo.stats(), Stats { hits: ASKING as u64 - 1, misses: 1, evictions: 0, entries: 1 });
    }

    #[test]
    fn what_is_used_or_held_survives_what_is_not() {
        let memo = Memo::new(SHARDS * 1000);
        let held = memo.get(&u64::MAX, |_| Arc::new(7));
        let mut hits = 0;
        memo.get(&0, |n| Arc::new(*n));
        for other in 1..10_000_u64 {
            memo.get(&other, |n| Arc::new(*n));
            memo.get(&0, |n| Arc::new(*n));
            hits += 1;
        }
        assert!(Arc::ptr_eq(&memo.get(&u64::MAX, |_| Arc::new(7)), &held));
        let stats = memo.stats();
        assert_eq!(
            (stats.hits, stats.misses),
            (hits + 1, 10_001),
            "0 and the one that is held were computed once"
        );
        assert!(stats.entries <= SHARDS as u64 * 50, "{stats:?}");
        assert_eq!(stats.entries + stats.evictions, 10_001, "what is gone was counted, {stats:?}");
        memo.clear();
        memo.each(|answer| panic!("{answer} is remembered"));
    }

    #[test]
    fn what_was_not_asked_for_between_two_times_is_forgotten() {
        let memo = Memo::new(SHARDS * 1000);
        let held = memo.get(&1, |n| Arc::new(*n));
        drop((memo.get(&2, |n| Arc::new(*n)), memo.get(&3, |n| Arc::new(*n))));
        memo.forget_unused();
        drop(memo.get(&2, |n| Arc::new(*n)));
        memo.forget_unused();
        let mut kept = Vec::new();
        memo.each(|answer| kept.push(**answer));
        kept.sort_unstable();
        assert_eq!((kept, *held), (vec![1, 2], 1));
    }

    #[test]
    fn there_is_a_limit_for_what_is_held_too() {
        let memo = Memo::new(SHARDS * 20);
        let held: Vec<Arc<u64>> = (0..10_000).map(|n| memo.get(&n, |n| Arc::new(*n))).collect();
        assert!(memo.stats().entries <= SHARDS as u64 * 20, "{:?} of {}", memo.stats(), held.len());
    }

    #[test]
    #[should_panic(expected = "differs from a fresh one")]
    #[cfg(debug_assertions)]
    fn inputs_that_forget_something_are_found_out() {
        let memo = Memo::new(1);
        memo.get(&"service", |_| "for one proxy");
        memo.get(&"service", |_| "for another");
    }
}
