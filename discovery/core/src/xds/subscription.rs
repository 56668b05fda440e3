//! What one client wants of one type, and how its requests change that.
//!
//! Knows names and the wildcard; knows neither nonces nor what was sent.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return>

use std::collections::BTreeSet;

use pilot_proto::ResourceType;

use super::pool::Pool;
use crate::model::{Fingerprint, NameSet};

/// The name that asks for everything.
pub(super) const WILDCARD: &str = "*";

/// The names one client asked for, of one type.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    wildcard: bool,
    names: NameSet,
    /// Whether the client ever named anything. Before that, silence means "everything"; after it, silence
    /// means "nothing".
    spoken: bool,
}

/// What a request changed. [`WILDCARD`] stands in the lists like any other name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Names to be sent: new ones, and in delta those that the client asks for once more.
    pub(super) added: NameSet,
    /// Names that the client no longer asks for.
    pub(super) dropped: NameSet,
}

impl Change {
    /// Whether the request changed nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }
}

// === impl Subscription ===

impl Subscription {
    /// A client that has not asked for anything yet.
    pub(super) fn new(kind: ResourceType) -> Self {
        Self { kind, wildcard: false, names: NameSet::default(), spoken: false }
    }

    /// The same client begins once more: whether silence means everything is a matter of the whole stream.
    pub(super) fn anew(&self) -> Self {
        Self { spoken: self.spoken, ..Self::new(self.kind) }
    }

    /// A `SotW` request: the whole list, each time.
    pub(super) fn replace(&mut self, names: &[String], pool: &Pool) -> Change {
        let wildcard =
            if names.is_empty() { !self.spoken } else { names.iter().any(|name| name == WILDCARD) };
        self.spoken |= !names.is_empty();
        let asked = pool.names(named(names));
        let (before, wildcard_before) = (std::mem::replace(&mut self.names, asked.clone()), self.wildcard);
        self.set_wildcard(wildcard);
        if asked == before {
            return self.change_of(NameSet::default(), NameSet::default(), wildcard_before);
        }
        let added = asked.filtered(|name| !before.contains(name));
        let dropped = before.filtered(|name| !asked.contains(name));
        self.change_of(added, dropped, wildcard_before)
    }

    /// A delta request: what comes and what goes.
    pub(super) fn change(&mut self, subscribe: &[String], unsubscribe: &[String], pool: &Pool) -> Change {
        let wildcard_before = self.wildcard;
        if subscribe.is_empty() && !self.spoken {
            self.set_wildcard(true);
        }
        let names_it = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        self.spoken |= !subscribe.is_empty() || names_it(unsubscribe);
        if names_it(subscribe) {
            self.set_wildcard(true);
        }
        if names_it(unsubscribe) {
            self.set_wildcard(false);
        }
        // Asked for once more, everything is sent once more.
        let wildcard_before = wildcard_before && !(self.wildcard && names_it(subscribe));
        let unsubscribed: BTreeSet<&str> = named(unsubscribe).collect();
        let added = pool.names(named(subscribe).filter(|name| !unsubscribed.contains(name)));
        let dropped = if unsubscribed.is_empty() {
            NameSet::default()
        } else {
            let known = |name: &str| self.names.contains(name);
            let taken_back: BTreeSet<&str> =
                named(subscribe).filter(|name| unsubscribed.contains(name)).collect();
            let known_or_taken_back = |name: &&str| known(name) || taken_back.contains(name);
            unsubscribed.iter().copied().filter(known_or_taken_back).map(Into::into).collect()
        };
        if !added.is_empty() || !dropped.is_empty() {
            let joined = self.names.union(&added).filtered(|name| !unsubscribed.contains(name));
            self.names = pool.share_names(joined);
        }
        self.change_of(added, dropped, wildcard_before)
    }

    /// Adds names that the client already holds.
    pub(super) fn keep(&mut self, names: &NameSet, pool: &Pool) {
        self.names = pool.share_names(self.names.union(names));
    }

    /// Whether the client wants to hear of this resource.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Those of a sequence sorted by name that the client wants to hear of.
    pub(super) fn among<'a, T: 'a>(
        &'a self,
        sorted: impl Iterator<Item = T> + 'a,
        name: impl Fn(&T) -> &str + 'a,
    ) -> Box<dyn Iterator<Item = T> + 'a> {
        if self.wildcard { Box::new(sorted) } else { Box::new(self.names.among(sorted, name)) }
    }

    /// Whether everything was asked for.
    pub(super) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// What was asked for by name.
    pub(super) const fn names(&self) -> &NameSet {
        &self.names
    }

    /// Whether nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    /// Subscriptions with the same one want the same, whatever the type.
    pub(super) fn fingerprint(&self) -> (Fingerprint, bool) {
        (self.names.fingerprint(), self.wildcard)
    }

    /// Only clusters and listeners know a wildcard; for the other types it is not a name either.
    const fn set_wildcard(&mut self, wildcard: bool) {
        self.wildcard = wildcard && self.kind.is_wildcard();
    }

    fn change_of(&self, added: NameSet, dropped: NameSet, wildcard_before: bool) -> Change {
        let wildcard = || NameSet::from_iter([WILDCARD.into()]);
        match (wildcard_before, self.wildcard) {
            (false, true) => Change { added: added.union(&wildcard()), dropped },
            (true, false) => Change { added, dropped: dropped.union(&wildcard()) },
            (true, true) | (false, false) => Change { added, dropped },
        }
    }
}

/// What is asked for by name.
fn named(names: &[String]) -> impl Iterator<Item = &str> + Clone {
    names.iter().map(String::as_str).filter(|name| *name != WILDCARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn set(names: &[&str]) -> NameSet {
        names.iter().map(|name| (*name).into()).collect()
    }

    type Names = &'static [&'static str];

    /// What is wanted after a request (`*` for everything), what is new, what is dropped.
    type Expected = (Names, Names, Names);

    fn check(subscription: &Subscription, change: &Change, (wanted, added, dropped): Expected, step: usize) {
        let everything = if subscription.wildcard { set(&["*"]) } else { set(&[]) };
        assert_eq!(everything.union(&subscription.names), set(wanted), "step {step}");
        assert_eq!((&change.added, &change.dropped), (&set(added), &set(dropped)), "step {step}");
    }

    fn check_sotw(kind: ResourceType, steps: &[(Names, Expected)]) {
        let (pool, mut subscription) = (Pool::default(), Subscription::new(kind));
        for (number, (asked, expected)) in steps.iter().enumerate() {
            let change = subscription.replace(&owned(asked), &pool);
            check(&subscription, &change, *expected, number);
        }
    }

    #[test]
    fn silence_means_everything_until_the_client_names_something() {
        check_sotw(
            ResourceType::Cluster,
            &[
                (&[], (&["*"], &["*"], &[])),
                (&["*", "a"], (&["*", "a"], &["a"], &[])),
                (&["a"], (&["a"], &[], &["*"])),
                (&[], (&[], &[], &["a"])),
                (&["*"], (&["*"], &["*"], &[])),
            ],
        );
    }

    #[test]
    fn endpoints_have_no_wildcard() {
        check_sotw(
            ResourceType::Endpoint,
            &[
                (&["*"], (&[], &[], &[])),
                (&["b", "a", "b"], (&["a", "b"], &["a", "b"], &[])),
                (&[], (&[], &[], &["a", "b"])),
            ],
        );
        let mut delta = Subscription::new(ResourceType::Endpoint);
        assert!(delta.change(&[], &[], &Pool::default()).is_empty());
        assert!(delta.is_empty());
    }

    #[test]
    fn delta_requests_add_and_take_away() {
        let steps: &[(Names, Names, Expected)] = &[
            (&[], &[], (&["*"], &["*"], &[])),
            (&["a"], &[], (&["*", "a"], &["a"], &[])),
            // The client may have forgotten what it asks for again.
            (&["a"], &[], (&["*", "a"], &["a"], &[])),
            (&[], &["*"], (&["a"], &[], &["*"])),
            (&[], &["a", "phantom"], (&[], &[], &["a"])),
            // Everything was unsubscribed by name: silence does not bring the wildcard back.
            (&[], &[], (&[], &[], &[])),
            (&["*"], &[], (&["*"], &["*"], &[])),
            (&["*"], &[], (&["*"], &["*"], &[])),
            (&["b", "c"], &["c", "*"], (&["b"], &["b"], &["c", "*"])),
        ];
        let (pool, mut subscription) = (Pool::default(), Subscription::new(ResourceType::Cluster));
        for (number, (subscribe, unsubscribe, expected)) in steps.iter().enumerate() {
            let change = subscription.change(&owned(subscribe), &owned(unsubscribe), &pool);
            check(&subscription, &change, *expected, number);
        }
    }

    #[test]
    fn a_delta_client_can_begin_with_nothing() {
        for first in [&["*"][..], &[]] {
            let (pool, mut subscription) = (Pool::default(), Subscription::new(ResourceType::Cluster));
            subscription.change(&owned(first), &owned(&["*"]), &pool);
            assert!(subscription.is_empty());
            subscription.change(&[], &[], &pool);
            assert!(subscription.is_empty());
        }
    }
}
