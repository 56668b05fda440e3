//! Names of one type that a client subscribes to, and how requests change them.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return>

use std::collections::BTreeSet;

use pilot_proto::ResourceType;

use super::interner::Interner;
use super::name_set::{Fingerprint, NameSet};

/// The name that subscribes to all resources.
pub(crate) const WILDCARD: &str = "*";

/// Resources of one type that a client has requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedNames<'a> {
    /// None.
    None,
    /// All that the client should have.
    Wildcard,
    /// These.
    Names(&'a NameSet),
}

/// Subscription of one client to one type.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    kind: ResourceType,
    wildcard: bool,
    names: NameSet,
    /// `true` once the client has named anything. Before that, an empty list means all resources; after it, none.
    explicit: bool,
}

/// Difference that a request makes to a subscription. [`WILDCARD`] is a name like any other here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriptionChange {
    /// Names to send: new ones, and in delta those that the client requests again.
    pub(crate) added: NameSet,
    /// Names that the client no longer subscribes to.
    pub(crate) removed: NameSet,
}

// === impl SubscriptionChange ===

impl SubscriptionChange {
    /// Returns `true` if the request changed nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

// === impl Subscription ===

impl Subscription {
    /// Creates the subscription of a client that has sent no request of this type.
    pub(crate) fn new(kind: ResourceType) -> Self {
        Self { kind, wildcard: false, names: NameSet::default(), explicit: false }
    }

    /// Creates an empty subscription of the same client. The meaning of an empty list holds for the whole stream.
    pub(crate) fn restarted(&self) -> Self {
        Self { explicit: self.explicit, ..Self::new(self.kind) }
    }

    /// Applies the names of a state-of-the-world request, which are the complete list.
    pub(crate) fn replace(&mut self, names: &[String], interner: &Interner) -> SubscriptionChange {
        let wildcard =
            if names.is_empty() { !self.explicit } else { names.iter().any(|name| name == WILDCARD) };
        self.explicit |= !names.is_empty();
        let after = interner.names(without_wildcard(names));
        let (before, wildcard_before) = (std::mem::replace(&mut self.names, after.clone()), self.wildcard);
        self.set_wildcard(wildcard);
        if after == before {
            return self.change(NameSet::default(), NameSet::default(), wildcard_before);
        }
        let added = after.filtered(|name| !before.contains(name));
        let removed = before.filtered(|name| !after.contains(name));
        self.change(added, removed, wildcard_before)
    }

    /// Applies the names of a delta request.
    pub(crate) fn update(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        interner: &Interner,
    ) -> SubscriptionChange {
        let wildcard_before = self.wildcard;
        if subscribe.is_empty() && !self.explicit {
            self.set_wildcard(true);
        }
        let has_wildcard = |names: &[String]| names.iter().any(|name| name == WILDCARD);
        self.explicit |= !subscribe.is_empty() || has_wildcard(unsubscribe);
        if has_wildcard(subscribe) {
            self.set_wildcard(true);
        }
        if has_wildcard(unsubscribe) {
            self.set_wildcard(false);
        }
        // A wildcard that is requested again counts as added: everything is sent again.
        let wildcard_before = wildcard_before && !(self.wildcard && has_wildcard(subscribe));
        let unsubscribed: BTreeSet<&str> = without_wildcard(unsubscribe).collect();
        let added = interner.names(without_wildcard(subscribe).filter(|name| !unsubscribed.contains(name)));
        let removed = if unsubscribed.is_empty() {
            NameSet::default()
        } else {
            let in_both: BTreeSet<&str> =
                without_wildcard(subscribe).filter(|name| unsubscribed.contains(name)).collect();
            let removes = |name: &&str| self.names.contains(name) || in_both.contains(name);
            unsubscribed.iter().copied().filter(removes).map(Into::into).collect()
        };
        if !added.is_empty() || !removed.is_empty() {
            let names = self.names.union(&added).filtered(|name| !unsubscribed.contains(name));
            self.names = interner.intern_names(names);
        }
        self.change(added, removed, wildcard_before)
    }

    /// Adds names of resources that the client holds from an earlier stream.
    pub(crate) fn add(&mut self, names: &NameSet, interner: &Interner) {
        self.names = interner.intern_names(self.names.union(names));
    }

    /// Returns `true` if the client subscribes to this resource.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Returns the items of a sequence sorted by name that the client subscribes to.
    pub(crate) fn among<'a, T: 'a>(
        &'a self,
        sorted: impl Iterator<Item = T> + 'a,
        name: impl Fn(&T) -> &str + 'a,
    ) -> Box<dyn Iterator<Item = T> + 'a> {
        if self.wildcard { Box::new(sorted) } else { Box::new(self.names.among(sorted, name)) }
    }

    /// Returns `true` if the client subscribes to all resources.
    pub(crate) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Returns `true` if the client subscribes to nothing.
    pub(crate) fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    /// Returns the requested resources.
    pub(crate) fn requested(&self) -> RequestedNames<'_> {
        match (self.wildcard, self.names.is_empty()) {
            (true, _) => RequestedNames::Wildcard,
            (false, true) => RequestedNames::None,
            (false, false) => RequestedNames::Names(&self.names),
        }
    }

    /// Returns the fingerprint; subscriptions with the same one include the same names, whatever the type.
    pub(crate) fn fingerprint(&self) -> (Fingerprint, bool) {
        (self.names.fingerprint(), self.wildcard)
    }

    /// Sets the wildcard, which only clusters and listeners have; for other types it is ignored.
    const fn set_wildcard(&mut self, wildcard: bool) {
        self.wildcard = wildcard && self.kind.is_wildcard();
    }

    fn change(&self, added: NameSet, removed: NameSet, wildcard_before: bool) -> SubscriptionChange {
        let wildcard = || NameSet::from_iter([WILDCARD.into()]);
        match (wildcard_before, self.wildcard) {
            (false, true) => SubscriptionChange { added: added.union(&wildcard()), removed },
            (true, false) => SubscriptionChange { added, removed: removed.union(&wildcard()) },
            (true, true) | (false, false) => SubscriptionChange { added, removed },
        }
    }
}

fn without_wildcard(names: &[String]) -> impl Iterator<Item = &str> + Clone {
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

    /// Names that are subscribed to after a request (`*` for all), those that are added, those that are removed.
    type Expected = (Names, Names, Names);

    fn check(
        subscription: &Subscription,
        change: &SubscriptionChange,
        (subscribed, added, removed): Expected,
        step: usize,
    ) {
        let everything = if subscription.wildcard { set(&["*"]) } else { set(&[]) };
        assert_eq!(everything.union(&subscription.names), set(subscribed), "step {step}");
        assert_eq!((&change.added, &change.removed), (&set(added), &set(removed)), "step {step}");
    }

    fn check_sotw(kind: ResourceType, steps: &[(Names, Expected)]) {
        let (interner, mut subscription) = (Interner::default(), Subscription::new(kind));
        for (number, (names, expected)) in steps.iter().enumerate() {
            let change = subscription.replace(&owned(names), &interner);
            check(&subscription, &change, *expected, number);
        }
    }

    #[test]
    fn empty_list_is_the_wildcard_until_the_client_names_a_resource() {
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
        assert!(delta.update(&[], &[], &Interner::default()).is_empty());
        assert!(delta.is_empty());
    }

    #[test]
    fn delta_requests_add_and_remove_names() {
        let steps: &[(Names, Names, Expected)] = &[
            (&[], &[], (&["*"], &["*"], &[])),
            (&["a"], &[], (&["*", "a"], &["a"], &[])),
            // The client may have lost the resource that it requests again.
            (&["a"], &[], (&["*", "a"], &["a"], &[])),
            (&[], &["*"], (&["a"], &[], &["*"])),
            (&[], &["a", "phantom"], (&[], &[], &["a"])),
            // Everything was unsubscribed by name: an empty list does not bring the wildcard back.
            (&[], &[], (&[], &[], &[])),
            (&["*"], &[], (&["*"], &["*"], &[])),
            (&["*"], &[], (&["*"], &["*"], &[])),
            (&["b", "c"], &["c", "*"], (&["b"], &["b"], &["c", "*"])),
        ];
        let (interner, mut subscription) = (Interner::default(), Subscription::new(ResourceType::Cluster));
        for (number, (subscribe, unsubscribe, expected)) in steps.iter().enumerate() {
            let change = subscription.update(&owned(subscribe), &owned(unsubscribe), &interner);
            check(&subscription, &change, *expected, number);
        }
    }

    #[test]
    fn delta_subscription_can_begin_empty() {
        for first in [&["*"][..], &[]] {
            let (interner, mut subscription) =
                (Interner::default(), Subscription::new(ResourceType::Cluster));
            subscription.update(&owned(first), &owned(&["*"]), &interner);
            assert!(subscription.is_empty());
            subscription.update(&[], &[], &interner);
            assert!(subscription.is_empty());
        }
    }
}
