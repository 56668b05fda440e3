//! A bounded memory of what pure functions returned.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one, and what was
//! old and unused is forgotten. That keeps what every push uses and costs no list of who was used when.
//!
//! A debug build computes every answer again and compares: inputs that forget something are found by the first
//! test that reaches them, not by a user whose proxy got another's configuration.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Enough that the streams of a few dozen cores rarely wait for each other.
const SHARDS: usize = 16;

/// What a pure function returned for the inputs it was last asked for.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    shards: Vec<Mutex<Generations<K, V>>>,
    /// Entries of one generation of one shard.
    capacity: usize,
    hasher: RandomState,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

/// How a memory does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers that were remembered.
    pub hits: u64,
    /// Answers that were computed.
    pub misses: u64,
    /// Answers that are remembered now.
    pub entries: u64,
    /// Answers that were forgotten for want of room.
    pub evictions: u64,
}

// === impl Memo ===

impl<K: Clone + Eq + Hash, V: Clone + Debug + PartialEq> Memo<K, V> {
    /// Remembers about `capacity` answers, and never more than twice as many.
    pub(super) fn new(capacity: usize) -> Self {
        let empty = || Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() });
        Self {
            shards: std::iter::repeat_with(empty).take(SHARDS).collect(),
            capacity: capacity.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// `make(inputs)`, remembered or computed. No lock is held while it is computed: two threads may compute the
    /// same answer, none waits for the other.
    pub(super) fn get(&self, inputs: &K, make: impl Fn(&K) -> V) -> V {
        if let Some(answer) = self.remembered(inputs) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            debug_assert_eq!(make(inputs), answer, "a remembered answer differs from a fresh one");
            return answer;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let answer = make(inputs);
        self.with_shard(inputs, |shard| {
            let forgotten = shard.insert(inputs.clone(), answer.clone(), self.capacity);
            self.evictions.fetch_add(forgotten as u64, Ordering::Relaxed);
        });
        answer
    }

    pub(super) fn stats(&self) -> Stats {
        let count = |shard: &Mutex<Generations<K, V>>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            (shard.young.len() + shard.old.len()) as u64
        };
        Stats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.shards.iter().map(count).sum(),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    /// Forgets every answer.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            *shard = Generations { young: HashMap::new(), old: HashMap::new() };
        }
    }

    /// Shows every answer that is remembered, in no order.
    pub(super) fn each(&self, mut show: impl FnMut(&V)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.values().chain(shard.old.values()).for_each(&mut show);
        }
    }

    fn remembered(&self, inputs: &K) -> Option<V> {
        self.with_shard(inputs, |shard| {
            let (answer, forgotten) = shard.find(inputs, self.capacity)?;
            self.evictions.fetch_add(forgotten as u64, Ordering::Relaxed);
            Some(answer)
        })
        .flatten()
    }

    fn with_shard<R>(&self, inputs: &K, act: impl FnOnce(&mut Generations<K, V>) -> R) -> Option<R> {
        let hash = self.hasher.hash_one(inputs);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        // Only map operations run under the lock, so a poisoned one still guards whole maps.
        self.shards.get(index).map(|shard| act(&mut shard.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

// === impl Generations ===

impl<K: Clone + Eq + Hash, V: Clone> Generations<K, V> {
    /// The answer, and how many others were forgotten for it.
    fn find(&mut self, inputs: &K, capacity: usize) -> Option<(V, usize)> {
        if let Some(answer) = self.young.get(inputs) {
            return Some((answer.clone(), 0));
        }
        let (inputs, answer) = self.old.remove_entry(inputs)?;
        let forgotten = self.insert(inputs, answer.clone(), capacity);
        Some((answer, forgotten))
    }

    /// How many others were forgotten for it.
    fn insert(&mut self, inputs: K, answer: V, capacity: usize) -> usize {
        let mut forgotten = 0;
        if self.young.len() >= capacity {
            forgotten = self.old.len();
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(inputs, answer);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_answer_is_remembered() {
        let memo = Memo::new(100);
        for _ in 0..3 {
            assert_eq!(memo.get(&7, |n| n * 2), 14);
        }
        assert_eq!(memo.stats(), Stats { hits: 2, misses: 1, entries: 1, evictions: 0 });
        let mut shown = Vec::new();
        memo.each(|answer| shown.push(*answer));
        assert_eq!(shown, [14]);
        memo.clear();
        assert_eq!(memo.stats().entries, 0);
    }

    #[test]
    fn what_is_used_survives_what_is_not() {
        let memo = Memo::new(SHARDS * 10);
        let computed = Cell::new(0);
        let used = |n: &u64| {
            computed.set(computed.get() + 1);
            *n
        };
        memo.get(&0, used);
        for other in 1..10_000_u64 {
            memo.get(&other, |n| *n);
            let before = computed.get();
            memo.get(&0, used);
            // A debug build computes remembered answers again.
            assert!(computed.get() - before <= 1);
        }
        let stats = memo.stats();
        assert!(stats.entries <= SHARDS as u64 * 20, "{stats:?}");
        assert_eq!(stats.misses, 10_000, "0 was computed once, {stats:?}");
        assert_eq!(stats.evictions + stats.entries, 10_000, "what is gone was counted, {stats:?}");
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
