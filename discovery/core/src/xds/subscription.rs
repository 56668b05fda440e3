//! What one client wants of one type, and how its requests change that.
//!
//! Knows names and the wildcard; knows neither nonces nor what was sent.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return>

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::ResourceType;

/// The name that asks for everything.
pub(super) const WILDCARD: &str = "*";

/// The names one client asked for, of one type.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// Whether the client ever named anything. Before that, silence means "everything"; after it, silence
    /// means "nothing".
    spoken: bool,
}

/// What a request changed. [`WILDCARD`] stands in the lists like any other name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Names to be sent: new ones, and in delta those that the client asks for once more.
    pub(super) added: Vec<Arc<str>>,
    /// Names that the client no longer asks for.
    pub(super) dropped: Vec<Arc<str>>,
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
    pub(super) const fn new(kind: ResourceType) -> Self {
        Self { kind, wildcard: false, names: BTreeSet::new(), spoken: false }
    }

    /// The same client begins once more: whether silence means everything is a matter of the whole stream.
    pub(super) const fn anew(&self) -> Self {
        Self { kind: self.kind, wildcard: false, names: BTreeSet::new(), spoken: self.spoken }
    }

    /// A `SotW` request: the whole list, each time.
    pub(super) fn replace(&mut self, names: &[String]) -> Change {
        let wildcard =
            if names.is_empty() { !self.spoken } else { names.iter().any(|name| name == WILDCARD) };
        self.spoken |= !names.is_empty();
        let asked: BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
        let mut change = Change {
            added: asked.iter().copied().filter(|name| !self.names.contains(*name)).map(Arc::from).collect(),
            dropped: self.names.iter().filter(|name| !asked.contains(name.as_ref())).cloned().collect(),
        };
        for name in &change.dropped {
            self.names.remove(name);
        }
        self.names.extend(change.added.iter().cloned());
        self.set_wildcard(wildcard, &mut change);
        change
    }

    /// A delta request: what comes and what goes.
    pub(super) fn change(&mut self, subscribe: &[String], unsubscribe: &[String]) -> Change {
        let mut change = Change::default();
        if subscribe.is_empty() && !self.spoken {
            self.set_wildcard(true, &mut change);
        }
        self.spoken |= !subscribe.is_empty() || unsubscribe.iter().any(|name| name == WILDCARD);
        for name in subscribe {
            if name == WILDCARD {
                // Asked for once more, everything is sent once more.
                self.wildcard = false;
                self.set_wildcard(true, &mut change);
            } else {
                let name: Arc<str> = name.as_str().into();
                self.names.insert(name.clone());
                change.added.push(name);
            }
        }
        for name in unsubscribe {
            if name == WILDCARD {
                self.set_wildcard(false, &mut change);
            } else if let Some(name) = self.names.take(name.as_str()) {
                change.dropped.push(name);
            }
        }
        change.added.retain(|name| self.asks_for(name));
        change
    }

    /// Adds a name that the client already holds.
    pub(super) fn keep(&mut self, name: Arc<str>) {
        self.names.insert(name);
    }

    /// Whether the client wants to hear of this resource.
    pub(super) fn includes(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether everything was asked for.
    pub(super) const fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// What was asked for by name.
    pub(super) const fn names(&self) -> &BTreeSet<Arc<str>> {
        &self.names
    }

    /// Whether nothing is wanted.
    pub(super) fn is_empty(&self) -> bool {
        !self.wildcard && self.names.is_empty()
    }

    fn asks_for(&self, name: &str) -> bool {
        if name == WILDCARD { self.wildcard } else { self.names.contains(name) }
    }

    /// Only clusters and listeners know a wildcard; for the other types it is not a name either.
    fn set_wildcard(&mut self, wildcard: bool, change: &mut Change) {
        let wildcard = wildcard && self.kind.is_wildcard();
        match (self.wildcard, wildcard) {
            (false, true) => change.added.push(WILDCARD.into()),
            (true, false) => change.dropped.push(WILDCARD.into()),
            (true, true) | (false, false) => {}
        }
        self.wildcard = wildcard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn arcs(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// Each step: what is asked for, what is then wanted (`*` for everything), what is new, what is dropped.
    type Step =
        (&'static [&'static str], &'static [&'static str], &'static [&'static str], &'static [&'static str]);

    fn check_sotw(kind: ResourceType, steps: &[Step]) {
        let mut subscription = Subscription::new(kind);
        for (step, (asked, wanted, added, dropped)) in steps.iter().enumerate() {
            let change = subscription.replace(&owned(asked));
            let mut holds = arcs(if subscription.wildcard { &["*"] } else { &[] });
            holds.extend(subscription.names.iter().cloned());
            assert_eq!(holds, arcs(wanted), "step {step}");
            assert_eq!((change.added, change.dropped), (arcs(added), arcs(dropped)), "step {step}");
        }
    }

    #[test]
    fn silence_means_everything_until_the_client_names_something() {
        check_sotw(
            ResourceType::Cluster,
            &[
                (&[], &["*"], &["*"], &[]),
                (&["*", "a"], &["*", "a"], &["a"], &[]),
                (&["a"], &["a"], &[], &["*"]),
                (&[], &[], &[], &["a"]),
                (&["*"], &["*"], &["*"], &[]),
            ],
        );
    }

    #[test]
    fn endpoints_have_no_wildcard() {
        check_sotw(
            ResourceType::Endpoint,
            &[
                (&["*"], &[], &[], &[]),
                (&["b", "a", "b"], &["a", "b"], &["a", "b"], &[]),
                (&[], &[], &[], &["a", "b"]),
            ],
        );
        let mut delta = Subscription::new(ResourceType::Endpoint);
        assert!(delta.change(&[], &[]).is_empty());
        assert!(delta.is_empty());
    }

    #[test]
    fn delta_requests_add_and_take_away() {
        let steps: &[(&[&str], Step)] = &[
            // Names subscribed; names unsubscribed, then as above.
            (&[], (&[], &["*"], &["*"], &[])),
            (&["a"], (&[], &["*", "a"], &["a"], &[])),
            // The client may have forgotten what it asks for again.
            (&["a"], (&[], &["*", "a"], &["a"], &[])),
            (&[], (&["*"], &["a"], &[], &["*"])),
            (&[], (&["a", "phantom"], &[], &[], &["a"])),
            // Everything was unsubscribed by name: silence does not bring the wildcard back.
            (&[], (&[], &[], &[], &[])),
            (&["*"], (&[], &["*"], &["*"], &[])),
            (&["*"], (&[], &["*"], &["*"], &[])),
        ];
        let mut subscription = Subscription::new(ResourceType::Cluster);
        for (step, (subscribe, (unsubscribe, wanted, added, dropped))) in steps.iter().enumerate() {
            let change = subscription.change(&owned(subscribe), &owned(unsubscribe));
            let mut holds = arcs(if subscription.wildcard { &["*"] } else { &[] });
            holds.extend(subscription.names.iter().cloned());
            assert_eq!(holds, arcs(wanted), "step {step}");
            assert_eq!((change.added, change.dropped), (arcs(added), arcs(dropped)), "step {step}");
        }
    }

    #[test]
    fn a_delta_client_can_begin_with_nothing() {
        for first in [&["*"][..], &[]] {
            let mut subscription = Subscription::new(ResourceType::Cluster);
            subscription.change(&owned(first), &owned(&["*"]));
            assert!(subscription.is_empty());
            subscription.change(&[], &[]);
            assert!(subscription.is_empty());
        }
    }
}
