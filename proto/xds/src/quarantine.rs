//! Versions of resources that a client rejected: identified, withheld, and sent again only in another version.
//!
//! ```text
//!  NACK ─▶ the error names resources ─────────────▶ these are rejected; the rest is sent again without them
//!      └▶ it names none ─▶ one resource ──────────▶ it is rejected
//!                       └▶ several ─▶ bisection ──▶ one half is sent alone, the other half waits
//! ```
//!
//! A client may discard a rejected response as a whole, so its good resources have to be sent again, and the bad ones must
//! not: the same bytes would be rejected again, for ever. In place of a withheld resource the client keeps the version that
//! it had. The content of resources is opaque here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::name_set::NameSet;
use super::resource::{Resource, ResourceSet};

/// A version of a resource that a client rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedVersion {
    /// Name of the resource.
    pub name: Arc<str>,
    /// The version; it is not sent again.
    pub version: Arc<str>,
    /// Error of the client.
    pub error: Arc<str>,
    /// The version that the client has instead, if it had one.
    pub last_good: Option<Resource>,
}

/// Resources of one type that are withheld from one client.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    rejected: BTreeMap<Arc<str>, RejectedVersion>,
    /// Groups of suspects that wait to be sent alone.
    suspects: VecDeque<Vec<Suspect>>,
}

#[derive(Clone, Debug)]
struct Suspect {
    name: Arc<str>,
    version: Arc<str>,
    last_good: Option<Resource>,
}

/// A response that was rejected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejectedResponse<'a> {
    /// Resources that it updated or removed.
    pub(crate) names: &'a NameSet,
    /// Those of them that no later response covers.
    pub(crate) current: &'a NameSet,
    /// Resources of the client before it.
    pub(crate) before: &'a ResourceSet,
    /// Resources of the client after it, had it been accepted.
    pub(crate) after: &'a ResourceSet,
    pub(crate) coverage: Coverage,
    /// Error of the client.
    pub(crate) message: &'a str,
}

/// Resources that a response contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// Those that it updates or removes.
    Changes,
    /// All that the client has after it.
    Complete,
}

/// Result of a rejection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// Resources that are now known to be bad.
    pub(crate) rejected: Vec<RejectedVersion>,
    /// Resources to send again, even if the client had the same version before.
    pub(crate) resend: NameSet,
}

/// Length of an error that is searched for names, in bytes.
const MAX_SEARCHED: usize = 64 << 10;

/// Maximum number of rejected versions kept for resources that no longer exist.
const MAX_REJECTED: usize = 1024;

// === impl Quarantine ===

impl Quarantine {
    /// Withholds a version that the client rejected on another stream.
    pub(crate) fn withhold(&mut self, rejected: RejectedVersion) {
        self.rejected.insert(rejected.name.clone(), rejected);
    }

    /// Returns all versions that are known to be bad.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = &RejectedVersion> {
        self.rejected.values()
    }

    /// Forgets the versions that the client had of these resources.
    pub(crate) fn forget_last_good(&mut self, names: &NameSet) {
        for name in names {
            if let Some(rejected) = self.rejected.get_mut(name) {
                rejected.last_good = None;
            }
        }
        for suspect in self.suspects.iter_mut().flatten().filter(|suspect| names.contains(&suspect.name)) {
            suspect.last_good = None;
        }
    }

    /// Identifies the bad resources of a rejected response, or starts or continues the bisection.
    pub(crate) fn isolate(&mut self, response: RejectedResponse<'_>) -> Isolation {
        let has_body = |name: &&Arc<str>| response.after.get(name).is_some_and(|sent| !sent.body.is_empty());
        let candidates: Vec<&Arc<str>> = response.current.iter().filter(has_body).collect();
        let text = response.message.get(..MAX_SEARCHED).unwrap_or(response.message);
        let mut bad: Vec<&Arc<str>> =
            candidates.iter().copied().filter(|name| mentions(text, name)).collect();
        // A resource that a later response covers may be the bad one, and so may one that is withheld already.
        let superseded = response.current.len() != response.names.len();
        let bisect = bad.is_empty() && !superseded && !self.explains(response);
        // A version that the client has accepted on this stream is a candidate only if there is no other.
        let (changed, unchanged): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|name| !response.accepted_before(name));
        let candidates = if changed.is_empty() { unchanged } else { changed };
        if let (true, [only]) = (bisect, candidates.as_slice()) {
            bad.push(*only);
        }
        let mut withheld: BTreeSet<&Arc<str>> = bad.iter().copied().collect();
        if bisect && candidates.len() > 1 {
            let second_half = candidates.get(candidates.len().div_ceil(2)..).unwrap_or_default();
            self.suspects.push_front(second_half.iter().filter_map(|name| response.suspect(name)).collect());
            withheld.extend(second_half.iter().copied());
        }
        let mut isolation = Isolation::default();
        for suspect in bad.into_iter().filter_map(|name| response.suspect(name)) {
            let Suspect { name, version, last_good } = suspect;
            let rejected = RejectedVersion { name, version, error: response.message.into(), last_good };
            self.withhold(rejected.clone());
            let last_good = rejected.last_good.filter(|last_good| !last_good.body.is_empty());
            isolation.rejected.push(RejectedVersion { last_good, ..rejected });
        }
        isolation.resend = response.current.iter().filter(|name| !withheld.contains(name)).cloned().collect();
        isolation
    }

    /// Returns `true` if the response contains a version that was withheld after it was sent.
    fn explains(&self, response: RejectedResponse<'_>) -> bool {
        let contains = |name: &Arc<str>, version: &Arc<str>| {
            (response.coverage == Coverage::Complete || response.names.contains(name))
                && response.after.get(name).is_some_and(|sent| sent.version == *version)
        };
        self.rejected.values().any(|rejected| contains(&rejected.name, &rejected.version))
            || self.suspects.iter().flatten().any(|suspect| contains(&suspect.name, &suspect.version))
    }

    /// Releases the next group of suspects, since the group before it was accepted or rejected. Returns those that the client
    /// had in the same version, `None` if there is no group.
    pub(crate) fn release_suspects(&mut self) -> Option<NameSet> {
        let unchanged =
            |suspect: &Suspect| suspect.last_good.as_ref().is_some_and(|last_good| last_good.body.is_empty());
        Some(self.suspects.pop_front()?.into_iter().filter(unchanged).map(|suspect| suspect.name).collect())
    }

    /// Returns the desired resources with the last good version in place of each withheld one. Forgets versions that have
    /// been replaced.
    pub(crate) fn apply(&mut self, desired: &ResourceSet) -> ResourceSet {
        if self.rejected.is_empty() && self.suspects.is_empty() {
            return desired.clone();
        }
        let unchanged =
            |name: &str, version: &str| desired.get(name).is_none_or(|now| *now.version == *version);
        self.rejected.retain(|name, rejected| unchanged(name, &rejected.version));
        for group in &mut self.suspects {
            group.retain(|suspect| unchanged(&suspect.name, &suspect.version));
        }
        self.suspects.retain(|group| !group.is_empty());
        if self.rejected.len() > MAX_REJECTED {
            self.rejected.retain(|name, _| desired.get(name).is_some());
        }
        let rejected = self.rejected.values().map(|rejected| (&rejected.name, &rejected.last_good));
        let suspects = self.suspects.iter().flatten().map(|suspect| (&suspect.name, &suspect.last_good));
        let mut allowed = desired.clone();
        for (name, last_good) in rejected.chain(suspects) {
            match last_good {
                _ if desired.get(name).is_none() => {}
                Some(last_good) => allowed.insert(last_good.clone()),
                None => drop(allowed.remove(name)),
            }
        }
        allowed
    }
}

// === impl RejectedResponse ===

impl RejectedResponse<'_> {
    /// Returns `true` if the client has accepted this version of the resource on the same stream. A version that it claims
    /// to hold from an earlier stream (no body) proves nothing.
    fn accepted_before(&self, name: &str) -> bool {
        let accepted = self.before.get(name).filter(|accepted| !accepted.body.is_empty());
        accepted
            .is_some_and(|accepted| self.after.get(name).is_some_and(|sent| sent.version == accepted.version))
    }

    fn suspect(&self, name: &Arc<str>) -> Option<Suspect> {
        let version = self.after.get(name)?.version.clone();
        let last_good = self.before.get(name).map(|before| {
            // The same version was sent a second time. The client keeps it, and it must not be sent a third time.
            let same = before.version == version;
            if same { Resource::without_body(name.clone(), "".into()) } else { before.clone() }
        });
        Some(Suspect { name: name.clone(), version, last_good })
    }
}

/// Returns `true` if an error names a resource. Envoy writes `Error adding/updating cluster(s) a: why, b: why`. A name of
/// digits alone, such as a route that is named by its port, does not count: numbers in errors have many meanings.
fn mentions(text: &str, name: &str) -> bool {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '|');
    text.match_indices(name).any(|(at, matched)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let mut after = text.get(at + matched.len()..).unwrap_or_default().chars();
        let (next, second) = (after.next(), after.next());
        let continues = match next {
            Some('.' | ':') => second.is_some_and(part_of_name),
            next => next.is_some_and(part_of_name),
        };
        !before.is_some_and(|c| part_of_name(c) || c == '.') && !continues
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_mentions_a_resource_only_by_its_whole_name() {
        let cluster = "outbound|80||a.default.svc.cluster.local";
        for (name, text, expected) in [
            (cluster, "Error adding/updating cluster(s) outbound|80||a.default.svc.cluster.local: no", true),
            (cluster, "outbound|80||a.default.svc.cluster.local", true),
            (cluster, "outbound|80||a.default.svc.cluster.local.", true),
            (cluster, "outbound|80||a.default.svc.cluster.local.evil: no", false),
            (cluster, "outbound|80||a.default.svc.cluster.localhost: no", false),
            (cluster, "outbound|8080||a.default.svc.cluster.local: no", false),
            ("a", "cluster a.b: no", false),
            ("a", "cluster b.a: no", false),
            ("a", "'a'", true),
            ("0.0.0.0_80", "listener(s) 0.0.0.0_80: bad, 10.0.0.0.0_80: worse", true),
            ("0.0.0.0_80", "listener(s) 0.0.0.0_8080: bad", false),
            ("0.0.0.0_80", "listener(s) 10.0.0.0_80: bad", false),
            ("a:80", "a:8080 is bad", false),
            ("80", "route 80: bad", false),
            ("ä", "ä: bad", true),
        ] {
            assert_eq!(mentions(text, name), expected, "{name} in {text}");
        }
    }

    fn set(text: &str) -> ResourceSet {
        let resource = |text: &str| {
            let (name, version) = text.split_once('=').unwrap();
            Resource::new(name.into(), version.into(), "body".into())
        };
        text.split_whitespace().map(resource).collect()
    }

    fn names(text: &str) -> NameSet {
        text.split_whitespace().map(Arc::from).collect()
    }

    /// Rejects a response that leads from one set to another; returns the rejected versions and the names to send again.
    fn reject(
        quarantine: &mut Quarantine,
        before: &str,
        after: &str,
        of: &str,
        message: &str,
    ) -> (String, NameSet) {
        let (before, after, names) = (set(before), set(after), names(of));
        let response = RejectedResponse {
            names: &names,
            current: &names,
            before: &before,
            after: &after,
            message,
            coverage: Coverage::Changes,
        };
        let isolation = quarantine.isolate(response);
        let rejected = isolation.rejected.iter();
        let rejected: Vec<String> =
            rejected.map(|rejected| format!("{}={}", rejected.name, rejected.version)).collect();
        (rejected.join(" "), isolation.resend)
    }

    #[test]
    fn resource_that_the_error_names_is_withheld_and_the_rest_is_sent_again() {
        let mut quarantine = Quarantine::default();
        let isolation = reject(&mut quarantine, "b=1", "a=2 b=2 c=2", "a b c gone", "b: bad");
        assert_eq!(isolation, ("b=2".into(), names("a c gone")));
        assert_eq!(quarantine.apply(&set("a=2 b=2 c=2")), set("a=2 b=1 c=2"), "the last good version");
        assert_eq!(quarantine.apply(&set("a=2")), set("a=2"));
        assert_eq!(quarantine.apply(&set("b=2")), set("b=1"), "removed and added again in the same version");
        assert_eq!(quarantine.apply(&set("a=2 b=3")), set("a=2 b=3"), "another version");
        assert_eq!(quarantine.apply(&set("b=2")), set("b=2"), "forgotten");
    }

    #[test]
    fn single_resource_of_a_rejected_response_is_withheld() {
        let mut quarantine = Quarantine::default();
        assert_eq!(reject(&mut quarantine, "", "a=1 b=1", "a", "no"), ("a=1".into(), names("")));
        assert_eq!(quarantine.apply(&set("a=1 b=1")), set("b=1"));
    }

    #[test]
    fn bisection_finds_the_bad_resource() {
        let mut quarantine = Quarantine::default();
        let world = "a=1 b=1 c=1 d=1 e=1";
        assert_eq!(reject(&mut quarantine, "", world, "a b c d e", "no"), (String::new(), names("a b c")));
        assert_eq!(quarantine.apply(&set(world)), set("a=1 b=1 c=1"));
        assert_eq!(reject(&mut quarantine, "", "a=1 b=1 c=1", "a b c", "no"), (String::new(), names("a b")));
        assert_eq!(quarantine.release_suspects(), Some(names("")), "a and b were accepted");
        assert_eq!(quarantine.apply(&set(world)), set("a=1 b=1 c=1"));
        assert_eq!(reject(&mut quarantine, "a=1 b=1", "a=1 b=1 c=1", "c", "no"), ("c=1".into(), names("")));
        assert_eq!(quarantine.apply(&set(world)), set("a=1 b=1"));
        assert_eq!(quarantine.release_suspects(), Some(names("")));
        assert_eq!(quarantine.apply(&set(world)), set("a=1 b=1 d=1 e=1"));
        assert_eq!(quarantine.release_suspects(), None);
    }

    #[test]
    fn accepted_version_is_no_suspect_while_another_resource_may_be_bad() {
        let mut quarantine = Quarantine::default();
        let (rejected, resend) = reject(&mut quarantine, "a=1", "a=1 b=2", "a b", "no");
        assert_eq!((rejected.as_str(), resend), ("b=2", names("a")));
        let (rejected, resend) = reject(&mut quarantine, "a=1", "a=1", "a", "no");
        assert_eq!((rejected.as_str(), resend), ("a=1", names("")), "no other candidate");
    }

    #[test]
    fn suspect_that_changes_is_released() {
        let mut quarantine = Quarantine::default();
        reject(&mut quarantine, "", "a=1 b=1", "a b", "no");
        assert_eq!(quarantine.apply(&set("a=1 b=2")), set("a=1 b=2"));
        assert_eq!(quarantine.release_suspects(), None);
    }
}
