//! Content of a push: changed objects, reasons, and time of the first change.
//!
//! Requests merge: a request that arrives while a push waits joins it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use crate::model::{ChangeKind, ConfigKey};

/// Reason of a push, with the names of Istio's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Endpoints of a service changed.
    Endpoint,
    /// Endpoints of a headless service changed, which listeners are made from.
    HeadlessEndpoint,
    /// A configuration object changed.
    Config,
    /// A service changed.
    Service,
    /// One proxy's own workload changed.
    Proxy,
    /// Mesh-wide settings changed.
    Global,
    /// Ambient configuration changed.
    Ambient,
    /// No reason is known.
    Unknown,
    /// A debug endpoint forced a push.
    Debug,
    /// A secret changed.
    Secret,
    /// The networks of the mesh changed.
    Networks,
    /// A proxy sent a request.
    ProxyRequest,
    /// A proxy requested a resource that depends on this one.
    DependentResource,
    /// A namespace changed.
    Namespace,
    /// A cluster was added or removed.
    Cluster,
    /// The tags of the revision changed.
    Tag,
}

/// Request for a push (Istio's `PushRequest`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushRequest {
    /// Generates everything for all proxies, regardless of `updated`.
    pub forced: bool,
    /// Changed objects.
    pub updated: BTreeSet<ConfigKey>,
    /// Number of changes by reason; merging adds the numbers.
    pub reasons: BTreeMap<Reason, u32>,
    /// Time of the oldest change; convergence is measured from here.
    pub start: Option<Instant>,
}

// === impl Reason ===

impl Reason {
    /// Returns the name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::HeadlessEndpoint => "headlessendpoint",
            Self::Config => "config",
            Self::Service => "service",
            Self::Proxy => "proxy",
            Self::Global => "global",
            Self::Ambient => "ambient",
            Self::Unknown => "unknown",
            Self::Debug => "debug",
            Self::Secret => "secret",
            Self::Networks => "networks",
            Self::ProxyRequest => "proxyrequest",
            // Misspelt in Istio, and on dashboards of its users.
            Self::DependentResource => "depdendentresource",
            Self::Namespace => "namespace",
            Self::Cluster => "cluster",
            Self::Tag => "tag",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl PushRequest ===

impl PushRequest {
    /// Creates the request for these changes.
    pub fn of(updated: impl IntoIterator<Item = ConfigKey>, reason: Reason) -> Self {
        let (updated, reasons) = (updated.into_iter().collect(), BTreeMap::from([(reason, 1)]));
        Self { updated, reasons, ..Self::default() }
    }

    /// Creates a request that generates everything for all proxies.
    pub fn forced(reason: Reason) -> Self {
        Self { forced: true, ..Self::of([], reason) }
    }

    /// Merges another request into this one. The oldest start is kept.
    pub fn merge(&mut self, other: &Self) {
        self.forced |= other.forced;
        self.updated.extend(other.updated.iter().cloned());
        for (reason, count) in &other.reasons {
            let sum = self.reasons.entry(*reason).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.start = match (self.start, other.start) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// Returns the part of the request for these keys.
    #[must_use]
    pub fn only<'a>(&self, keys: impl IntoIterator<Item = &'a ConfigKey>) -> Self {
        Self { updated: keys.into_iter().cloned().collect(), ..self.clone() }
    }

    /// Returns `true` if nothing is to be pushed.
    pub fn is_empty(&self) -> bool {
        !self.forced && self.updated.is_empty()
    }

    /// Returns `true` if only endpoints changed; then scopes stay as they are.
    pub fn is_endpoints_only(&self) -> bool {
        !self.forced
            && !self.updated.is_empty()
            && self.updated.iter().all(|key| key.kind == ChangeKind::Endpoints)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant to count from; there is no other way to make one")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(kind: ChangeKind, name: &str) -> ConfigKey {
        ConfigKey { kind, namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn requests_merge_to_everything_both_said() {
        let early = Instant::now();
        let late = early + Duration::from_secs(1);
        let one = PushRequest {
            start: Some(late),
            ..PushRequest::of(
                [key(ChangeKind::Endpoints, "a"), key(ChangeKind::Endpoints, "b")],
                Reason::Endpoint,
            )
        };
        let other = PushRequest {
            forced: true,
            start: Some(early),
            ..PushRequest::of(
                [key(ChangeKind::Endpoints, "b"), key(ChangeKind::Service, "c")],
                Reason::Endpoint,
            )
        };
        let (mut merged, mut reversed) = (one.clone(), other.clone());
        merged.merge(&other);
        reversed.merge(&one);
        assert_eq!(merged, reversed);
        assert_eq!(
            merged,
            PushRequest {
                forced: true,
                updated: [
                    key(ChangeKind::Endpoints, "a"),
                    key(ChangeKind::Endpoints, "b"),
                    key(ChangeKind::Service, "c")
                ]
                .into(),
                reasons: [(Reason::Endpoint, 2)].into(),
                start: Some(early),
            }
        );
    }

    #[test]
    fn a_start_survives_a_request_without_one() {
        let start = Some(Instant::now());
        let timed = PushRequest { start, ..PushRequest::forced(Reason::Debug) };
        let (mut merged, mut reversed) = (timed.clone(), PushRequest::default());
        merged.merge(&PushRequest::default());
        reversed.merge(&timed);
        assert_eq!((merged.start, reversed.start), (start, start));
    }

    #[test]
    fn only_endpoints_are_endpoints_only() {
        let endpoints = PushRequest::of([key(ChangeKind::Endpoints, "a")], Reason::Endpoint);
        let service = PushRequest::of(
            [key(ChangeKind::Endpoints, "a"), key(ChangeKind::Service, "a")],
            Reason::Service,
        );
        for (request, endpoints_only, empty) in [
            (endpoints.clone(), true, false),
            (service, false, false),
            (PushRequest { forced: true, ..endpoints }, false, false),
            (PushRequest::forced(Reason::Global), false, false),
            (PushRequest::default(), false, true),
        ] {
            assert_eq!(
                (request.is_endpoints_only(), request.is_empty()),
                (endpoints_only, empty),
                "{request:?}"
            );
        }
    }
}
