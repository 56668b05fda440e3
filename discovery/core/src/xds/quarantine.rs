//! Resources that a client rejected: found out, kept back, and offered again only when they are others.
//!
//! ```text
//!  response rejected ─▶ its error names resources ────────────▶ these are refused; the rest is sent again without them
//!                    └▶ it names none ─▶ one resource ────────▶ it is refused
//!                                     └▶ more ─▶ half of them is tried alone, the other half waits its turn
//! ```
//!
//! A client may drop a rejected response as a whole, so what is good in it has to be sent once more, and what is bad
//! must not: the same bytes would be rejected again, for ever. Whatever is kept back, the client keeps the version
//! that it had. Knows names and versions, not content.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::{NameSet, Resource, ResourceSet};

/// A version of a resource that a client rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the resource.
    pub name: Arc<str>,
    /// The version that is never sent again.
    pub version: Arc<str>,
    /// What the client said about it.
    pub error: Arc<str>,
    /// What the client has instead, if it had any.
    pub good: Option<Resource>,
}

/// What is kept back from one client, of one type.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    refused: BTreeMap<Arc<str>, Refusal>,
    /// Groups of suspects that wait for their trial.
    waiting: VecDeque<Vec<Suspect>>,
}

#[derive(Clone, Debug)]
struct Suspect {
    name: Arc<str>,
    version: Arc<str>,
    good: Option<Resource>,
}

/// A response that was rejected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rejected<'a> {
    /// What it was news of.
    pub(super) names: &'a NameSet,
    /// That of it which no later response has overtaken.
    pub(super) current: &'a NameSet,
    /// What the client has.
    pub(super) before: &'a ResourceSet,
    /// What it would have known then.
    pub(super) after: &'a ResourceSet,
    pub(super) extent: Extent,
    /// What it said.
    pub(super) message: &'a str,
}

/// What a response carries besides its news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing.
    News,
    /// Everything the client knows then.
    Everything,
}

/// What a rejection means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Known to be bad now.
    pub(super) refused: Vec<Refusal>,
    /// To be sent again, though the client may have had the same version before.
    pub(super) again: NameSet,
}

/// More than this of an error is not searched for names.
const READ: usize = 64 << 10;

/// More refusals of resources that are gone are not remembered.
const REMEMBERED: usize = 1024;

// === impl Quarantine ===

impl Quarantine {
    /// What other streams of the same client found out.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refused.insert(refusal.name.clone(), refusal);
    }

    /// Everything that is known to be bad.
    pub(super) fn refused(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values()
    }

    /// The client no longer has what it had of these.
    pub(super) fn lose(&mut self, names: &NameSet) {
        for name in names {
            if let Some(refusal) = self.refused.get_mut(name) {
                refusal.good = None;
            }
        }
        for suspect in self.waiting.iter_mut().flatten().filter(|suspect| names.contains(&suspect.name)) {
            suspect.good = None;
        }
    }

    /// A response was rejected.
    pub(super) fn reject(&mut self, rejected: Rejected<'_>) -> Outcome {
        let sent = |name: &&Arc<str>| rejected.after.get(name).is_some_and(|sent| !sent.body.is_empty());
        let suspects: Vec<&Arc<str>> = rejected.current.iter().filter(sent).collect();
        let text = rejected.message.get(..READ).unwrap_or(rejected.message);
        let mut blamed: Vec<&Arc<str>> =
            suspects.iter().copied().filter(|name| mentions(text, name)).collect();
        // What was overtaken may be what was meant, and so may be what an earlier answer made suspect.
        let overtaken = rejected.current.len() != rejected.names.len();
        let traced = blamed.is_empty() && !overtaken && !self.explains(rejected);
        // A version that the client has accepted on this stream is to blame only if no other version can be.
        let (changed, unchanged): (Vec<_>, Vec<_>) =
            suspects.into_iter().partition(|name| !rejected.accepted_before(name));
        let suspects = if changed.is_empty() { unchanged } else { changed };
        if let (true, [only]) = (traced, suspects.as_slice()) {
            blamed.push(*only);
        }
        let mut kept_back: BTreeSet<&Arc<str>> = blamed.iter().copied().collect();
        if traced && suspects.len() > 1 {
            let later = suspects.get(suspects.len().div_ceil(2)..).unwrap_or_default();
            self.waiting.push_front(later.iter().filter_map(|name| rejected.suspect(name)).collect());
            kept_back.extend(later.iter().copied());
        }
        let mut outcome = Outcome::default();
        for suspect in blamed.into_iter().filter_map(|name| rejected.suspect(name)) {
            let Suspect { name, version, good } = suspect;
            let refusal = Refusal { name, version, error: rejected.message.into(), good };
            self.refuse(refusal.clone());
            let good = refusal.good.filter(|good| !good.body.is_empty());
            outcome.refused.push(Refusal { good, ..refusal });
        }
        outcome.again = rejected.current.iter().filter(|name| !kept_back.contains(name)).cloned().collect();
        outcome
    }

    /// Whether a response has something in it that is kept back since it was sent.
    fn explains(&self, rejected: Rejected<'_>) -> bool {
        let carries = |name: &Arc<str>, version: &Arc<str>| {
            (rejected.extent == Extent::Everything || rejected.names.contains(name))
                && rejected.after.get(name).is_some_and(|sent| sent.version == *version)
        };
        self.refused.values().any(|refusal| carries(&refusal.name, &refusal.version))
            || self.waiting.iter().flatten().any(|suspect| carries(&suspect.name, &suspect.version))
    }

    /// The next suspects may be offered again now: what was tried before was accepted. Those among them that were
    /// sent although the client had them.
    pub(super) fn try_next(&mut self) -> Option<NameSet> {
        let repeated = |suspect: &Suspect| suspect.good.as_ref().is_some_and(|good| good.body.is_empty());
        Some(self.waiting.pop_front()?.into_iter().filter(repeated).map(|suspect| suspect.name).collect())
    }

    /// `offered` without what is kept back: there the client keeps what it had.
    pub(super) fn masked(&mut self, offered: &ResourceSet) -> ResourceSet {
        if self.refused.is_empty() && self.waiting.is_empty() {
            return offered.clone();
        }
        // Another version is another resource.
        let still = |name: &str, version: &str| offered.get(name).is_none_or(|now| *now.version == *version);
        self.refused.retain(|name, refusal| still(name, &refusal.version));
        for group in &mut self.waiting {
            group.retain(|suspect| still(&suspect.name, &suspect.version));
        }
        self.waiting.retain(|group| !group.is_empty());
        if self.refused.len() > REMEMBERED {
            self.refused.retain(|name, _| offered.get(name).is_some());
        }
        let refused = self.refused.values().map(|refusal| (&refusal.name, &refusal.good));
        let waiting = self.waiting.iter().flatten().map(|suspect| (&suspect.name, &suspect.good));
        let mut masked = offered.clone();
        for (name, good) in refused.chain(waiting) {
            match good {
                _ if offered.get(name).is_none() => {}
                Some(good) => masked.insert(good.clone()),
                None => drop(masked.remove(name)),
            }
        }
        masked
    }
}

// === impl Rejected ===

impl Rejected<'_> {
    /// Returns `true` if the client has accepted this version of the resource on the same stream. A version that it claims
    /// to hold from an earlier stream (no body) proves nothing.
    fn accepted_before(&self, name: &str) -> bool {
        let accepted = self.before.get(name).filter(|accepted| !accepted.body.is_empty());
        accepted
            .is_some_and(|accepted| self.after.get(name).is_some_and(|sent| sent.version == accepted.version))
    }

    fn suspect(&self, name: &Arc<str>) -> Option<Suspect> {
        let version = self.after.get(name)?.version.clone();
        let good = self.before.get(name).map(|good| {
            // The same version was sent once more. The client keeps it, and it must not come a third time.
            let same = good.version == version;
            if same { Resource::held(name.clone(), "".into()) } else { good.clone() }
        });
        Some(Suspect { name: name.clone(), version, good })
    }
}

/// Whether an error speaks of a resource. Envoy writes `Error adding/updating cluster(s) a: why, b: why`. Numbers stand
/// in errors for many things: a route's name that is a port proves nothing.
fn mentions(text: &str, name: &str) -> bool {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '|');
    text.match_indices(name).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let mut after = text.get(at + found.len()..).unwrap_or_default().chars();
        let (next, second) = (after.next(), after.next());
        let goes_on = match next {
            Some('.' | ':') => second.is_some_and(part_of_name),
            next => next.is_some_and(part_of_name),
        };
        !before.is_some_and(|c| part_of_name(c) || c == '.') && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_speaks_of_a_resource_when_it_names_it_whole() {
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

    /// A response that brought the client from one set to another was rejected: what is refused, what comes again.
    fn reject(
        quarantine: &mut Quarantine,
        before: &str,
        after: &str,
        of: &str,
        message: &str,
    ) -> (String, NameSet) {
        let (before, after, names) = (set(before), set(after), names(of));
        let rejected = Rejected {
            names: &names,
            current: &names,
            before: &before,
            after: &after,
            message,
            extent: Extent::News,
        };
        let outcome = quarantine.reject(rejected);
        let refused: Vec<String> =
            outcome.refused.iter().map(|refusal| format!("{}={}", refusal.name, refusal.version)).collect();
        (refused.join(" "), outcome.again)
    }

    #[test]
    fn what_the_error_names_is_refused_and_the_rest_comes_again() {
        let mut quarantine = Quarantine::default();
        let told = reject(&mut quarantine, "b=1", "a=2 b=2 c=2", "a b c gone", "b: bad");
        assert_eq!(told, ("b=2".into(), names("a c gone")));
        assert_eq!(quarantine.masked(&set("a=2 b=2 c=2")), set("a=2 b=1 c=2"), "it keeps what it had");
        assert_eq!(quarantine.masked(&set("a=2")), set("a=2"));
        assert_eq!(quarantine.masked(&set("b=2")), set("b=1"), "gone and back is the same");
        assert_eq!(quarantine.masked(&set("a=2 b=3")), set("a=2 b=3"), "mended");
        assert_eq!(quarantine.masked(&set("b=2")), set("b=2"), "and forgotten");
    }

    #[test]
    fn one_alone_is_the_bad_one() {
        let mut quarantine = Quarantine::default();
        assert_eq!(reject(&mut quarantine, "", "a=1 b=1", "a", "no"), ("a=1".into(), names("")));
        assert_eq!(quarantine.masked(&set("a=1 b=1")), set("b=1"));
    }

    #[test]
    fn halves_are_tried_until_one_is_left() {
        let mut quarantine = Quarantine::default();
        let world = "a=1 b=1 c=1 d=1 e=1";
        assert_eq!(reject(&mut quarantine, "", world, "a b c d e", "no"), (String::new(), names("a b c")));
        assert_eq!(quarantine.masked(&set(world)), set("a=1 b=1 c=1"));
        assert_eq!(reject(&mut quarantine, "", "a=1 b=1 c=1", "a b c", "no"), (String::new(), names("a b")));
        assert_eq!(quarantine.try_next(), Some(names("")), "a and b were accepted");
        assert_eq!(quarantine.masked(&set(world)), set("a=1 b=1 c=1"));
        assert_eq!(reject(&mut quarantine, "a=1 b=1", "a=1 b=1 c=1", "c", "no"), ("c=1".into(), names("")));
        assert_eq!(quarantine.masked(&set(world)), set("a=1 b=1"));
        assert_eq!(quarantine.try_next(), Some(names("")));
        assert_eq!(quarantine.masked(&set(world)), set("a=1 b=1 d=1 e=1"));
        assert_eq!(quarantine.try_next(), None);
    }

    #[test]
    fn accepted_version_is_no_suspect_while_another_resource_may_be_bad() {
        let mut quarantine = Quarantine::default();
        let (outcome, again) = reject(&mut quarantine, "a=1", "a=1 b=2", "a b", "no");
        assert_eq!((outcome.as_str(), again), ("b=2", names("a")));
        let (outcome, again) = reject(&mut quarantine, "a=1", "a=1", "a", "no");
        assert_eq!((outcome.as_str(), again), ("a=1", names("")), "nothing else is left");
    }

    #[test]
    fn a_suspect_that_changes_is_free() {
        let mut quarantine = Quarantine::default();
        reject(&mut quarantine, "", "a=1 b=1", "a b", "no");
        assert_eq!(quarantine.masked(&set("a=1 b=2")), set("a=1 b=2"));
        assert_eq!(quarantine.try_next(), None);
    }
}
