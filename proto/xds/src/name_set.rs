//! Sets of names that streams share, and the fingerprints that compare sets in constant time.

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// 128-bit hash of the content of a set. The fingerprint of a union of disjoint sets is the sum of theirs, so a set that
/// changes in one element gets its new fingerprint in constant time.
///
/// Keyed per process: a client that chooses names cannot construct two sets with the same fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u128);

/// Immutable sorted set of names. Cheap to clone.
#[derive(Clone)]
pub struct NameSet(Arc<SortedNames>);

#[derive(Default)]
struct SortedNames {
    sorted: Box<[Arc<str>]>,
    fingerprint: Fingerprint,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Returns the fingerprint of one element.
    pub fn of<T: Hash + ?Sized>(element: &T) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        let [high, low] = &*KEYS;
        Self(u128::from(high.hash_one(element)) << 64 | u128::from(low.hash_one(element)))
    }

    /// Returns the fingerprint of a set of elements, and their number.
    pub fn sum(elements: impl Iterator<Item = Self>) -> (Self, usize) {
        elements.fold((Self::default(), 0), |(sum, count), element| (sum.plus(element), count + 1))
    }

    /// Adds an element, or the elements of a disjoint set.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Removes an element of the set, or a subset.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

// === impl NameSet ===

impl NameSet {
    /// Returns the fingerprint; equal sets have equal fingerprints.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.0.sorted.len()
    }

    /// Returns `true` if the set has no names.
    pub fn is_empty(&self) -> bool {
        self.0.sorted.is_empty()
    }

    /// Returns `true` if the set contains the name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.sorted.binary_search_by(|element| (**element).cmp(name)).is_ok()
    }

    /// Returns the names in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<str>> {
        self.0.sorted.iter()
    }

    /// Returns `true` if another reference to the same allocation exists.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns `true` if both are references to the same allocation.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the items of a sorted sequence whose names are in the set, in one pass over both.
    pub fn among<'a, T: 'a>(
        &'a self,
        sorted: impl Iterator<Item = T> + 'a,
        name: impl Fn(&T) -> &str + 'a,
    ) -> impl Iterator<Item = T> + 'a {
        let mut rest = self.0.sorted.iter().peekable();
        sorted.filter(move |item| {
            let item = name(item);
            while rest.next_if(|element| ***element < *item).is_some() {}
            rest.peek().is_some_and(|element| ***element == *item)
        })
    }

    /// Returns the union.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            _ if self == other => self.clone(),
            (_, true) => self.clone(),
            (true, false) => other.clone(),
            (false, false) => merged(self.iter(), other.iter()).cloned().collect(),
        }
    }

    /// Returns the names for which `predicate` is true; the same allocation if it is true for all.
    #[must_use]
    pub fn filtered(&self, predicate: impl Fn(&str) -> bool) -> Self {
        if self.iter().all(|name| predicate(name)) {
            return self.clone();
        }
        self.iter().filter(|name| predicate(name)).cloned().collect()
    }
}

impl Default for NameSet {
    fn default() -> Self {
        static EMPTY: LazyLock<Arc<SortedNames>> = LazyLock::new(Arc::default);
        Self(EMPTY.clone())
    }
}

/// Merges two sorted sequences; a name that is in both appears once.
pub(crate) fn merged<'a>(
    one: impl Iterator<Item = &'a Arc<str>>,
    other: impl Iterator<Item = &'a Arc<str>>,
) -> impl Iterator<Item = &'a Arc<str>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || {
        let order = match (one.peek(), other.peek()) {
            (Some(one), Some(other)) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        match order {
            Ordering::Less => one.next(),
            Ordering::Greater => other.next(),
            Ordering::Equal => {
                other.next();
                one.next()
            }
        }
    })
}

impl FromIterator<Arc<str>> for NameSet {
    fn from_iter<I: IntoIterator<Item = Arc<str>>>(names: I) -> Self {
        let mut sorted: Vec<Arc<str>> = names.into_iter().collect();
        if !sorted.is_sorted() {
            sorted.sort_unstable();
        }
        sorted.dedup();
        let (fingerprint, _) = Fingerprint::sum(sorted.iter().map(|name| Fingerprint::of(&**name)));
        Self(Arc::new(SortedNames { sorted: sorted.into(), fingerprint }))
    }
}

impl<'a> IntoIterator for &'a NameSet {
    type Item = &'a Arc<str>;
    type IntoIter = std::slice::Iter<'a, Arc<str>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for NameSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.fingerprint == other.0.fingerprint && self.len() == other.len())
    }
}

impl Eq for NameSet {}

impl Hash for NameSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

impl fmt::Debug for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> NameSet {
        text.split_whitespace().map(Arc::from).collect()
    }

    #[test]
    fn name_set_is_sorted_and_has_each_name_once() {
        assert_eq!(names("b a b c"), names("c a b"));
        assert_ne!(names("a b"), names("a c"));
        assert_eq!(names(""), NameSet::default());
        let set = names("b a b c");
        assert_eq!((set.len(), set.contains("b"), set.contains("d")), (3, true, false));
        assert_eq!(set.iter().map(|name| &**name).collect::<String>(), "abc");
    }

    #[test]
    fn name_sets_have_union_and_filter() {
        for (one, other, both) in [("a b", "b c", "a b c"), ("", "a", "a"), ("a", "", "a"), ("a", "a", "a")] {
            assert_eq!(names(one).union(&names(other)), names(both), "{one} + {other}");
        }
        assert_eq!(names("a b c").filtered(|name| name != "b"), names("a c"));
        assert_eq!(names("a").filtered(|_| false), NameSet::default());
    }

    #[test]
    fn name_set_selects_from_a_sorted_sequence() {
        let sequence = ["a", "b", "b", "d", "f"];
        for (set, expected) in [("b c d e", "b b d"), ("", ""), ("a f", "a f"), ("g", ""), ("0 a", "a")] {
            let set = names(set);
            let among: Vec<&str> = set.among(sequence.into_iter(), |name| *name).collect();
            assert_eq!(among.join(" "), expected, "{set:?}");
        }
        let (one, other) = (names("a c d"), names("b c e"));
        let both: Vec<&str> = merged(one.iter(), other.iter()).map(|name| &**name).collect();
        assert_eq!(both.join(" "), "a b c d e");
    }

    #[test]
    fn fingerprint_of_a_union_is_the_sum() {
        let (a, b) = (names("a").fingerprint(), names("b").fingerprint());
        assert_eq!(a.plus(b), names("a b").fingerprint());
        assert_eq!(a.plus(b).minus(a), b);
    }
}
