//! Sets of names that streams share, and the fingerprints by which sets are compared in one step.

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// What a set contains, in 128 bits. The fingerprint of a union of disjoint sets is the sum of theirs, so a set that
/// changes in one element has its new one at once.
///
/// Keyed by this process: whoever chooses names cannot choose two sets that look the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u128);

/// Names, sorted, each once. Cheap to clone, never changed in place.
#[derive(Clone)]
pub struct NameSet(Arc<Names>);

#[derive(Default)]
struct Names {
    sorted: Box<[Arc<str>]>,
    fingerprint: Fingerprint,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Of one element.
    pub fn of<T: Hash + ?Sized>(element: &T) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        let [high, low] = &*KEYS;
        Self(u128::from(high.hash_one(element)) << 64 | u128::from(low.hash_one(element)))
    }

    /// Of a set of elements, and how many there are.
    pub fn sum(elements: impl Iterator<Item = Self>) -> (Self, usize) {
        elements.fold((Self::default(), 0), |(sum, count), element| (sum.plus(element), count + 1))
    }

    /// With an element, or the elements of a disjoint set, more.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// With an element that is in it, or some of them, less.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

// === impl NameSet ===

impl NameSet {
    /// Equal sets have equal ones.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.sorted.is_empty()
    }

    /// Whether a name is in it.
    pub fn contains(&self, name: &str) -> bool {
        self.0.sorted.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    /// All of them, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<str>> {
        self.0.sorted.iter()
    }

    /// Whether somebody else keeps it too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both are kept in one place.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Those of a sorted sequence whose names are in it, in one walk over both.
    pub fn among<'a, T: 'a>(
        &'a self,
        sorted: impl Iterator<Item = T> + 'a,
        name: impl Fn(&T) -> &str + 'a,
    ) -> impl Iterator<Item = T> + 'a {
        let mut rest = self.0.sorted.iter().peekable();
        sorted.filter(move |item| {
            let wanted = name(item);
            while rest.next_if(|known| ***known < *wanted).is_some() {}
            rest.peek().is_some_and(|known| ***known == *wanted)
        })
    }

    /// Everything that is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            _ if self == other => self.clone(),
            (_, true) => self.clone(),
            (true, false) => other.clone(),
            (false, false) => merged(self.iter(), other.iter()).cloned().collect(),
        }
    }

    /// Those for which this holds; the same set if it holds for all.
    #[must_use]
    pub fn filtered(&self, holds: impl Fn(&str) -> bool) -> Self {
        if self.iter().all(|name| holds(name)) {
            return self.clone();
        }
        self.iter().filter(|name| holds(name)).cloned().collect()
    }
}

impl Default for NameSet {
    fn default() -> Self {
        static EMPTY: LazyLock<Arc<Names>> = LazyLock::new(Arc::default);
        Self(EMPTY.clone())
    }
}

/// Two sorted sequences as one; what is in both is in it once.
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
        Self(Arc::new(Names { sorted: sorted.into(), fingerprint }))
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
    fn a_set_is_its_names_in_any_order() {
        assert_eq!(names("b a b c"), names("c a b"));
        assert_ne!(names("a b"), names("a c"));
        assert_eq!(names(""), NameSet::default());
        let set = names("b a b c");
        assert_eq!((set.len(), set.contains("b"), set.contains("d")), (3, true, false));
        assert_eq!(set.iter().map(|name| &**name).collect::<String>(), "abc");
    }

    #[test]
    fn sets_are_joined_and_thinned_out() {
        for (one, other, both) in [("a b", "b c", "a b c"), ("", "a", "a"), ("a", "", "a"), ("a", "a", "a")] {
            assert_eq!(names(one).union(&names(other)), names(both), "{one} + {other}");
        }
        assert_eq!(names("a b c").filtered(|name| name != "b"), names("a c"));
        assert_eq!(names("a").filtered(|_| false), NameSet::default());
    }

    #[test]
    fn one_walk_finds_what_is_in_both() {
        let sequence = ["a", "b", "b", "d", "f"];
        for (set, found) in [("b c d e", "b b d"), ("", ""), ("a f", "a f"), ("g", ""), ("0 a", "a")] {
            let set = names(set);
            let among: Vec<&str> = set.among(sequence.into_iter(), |name| *name).collect();
            assert_eq!(among.join(" "), found, "{set:?}");
        }
        let (one, other) = (names("a c d"), names("b c e"));
        let both: Vec<&str> = merged(one.iter(), other.iter()).map(|name| &**name).collect();
        assert_eq!(both.join(" "), "a b c d e");
    }

    #[test]
    fn fingerprints_add_up() {
        let (a, b) = (names("a").fingerprint(), names("b").fingerprint());
        assert_eq!(a.plus(b), names("a b").fingerprint());
        assert_eq!(a.plus(b).minus(a), b);
    }
}
