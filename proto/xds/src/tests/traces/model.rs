//! Responses that the protocol requires of a server and those that it forbids, for any client, including faulty ones. Written
//! from the specification and from guarantees beyond it; the faults below have the same numbers.
//!
//! Required:
//!  1. The first request of clusters or listeners gets a response, even an empty one.
//!  2. A requested name is in the next response of its type: with the resource, in delta also as removed if there is none.
//!     In delta also a name that is requested again, whatever else the request contains (stale nonce, error).
//!  3. In `SotW` a request without a nonce starts a new subscription: everything is sent.
//!  4. A name that is unsubscribed under the wildcard gets a response: the client does not know if the wildcard covers it.
//!  5. All differences from the sent state are sent in one response, as soon as no other is in flight.
//!  6. A cluster that is sent is followed by its endpoints, changed or not; in `SotW` a client that begins with clusters gets all.
//!  7. The valid part of a rejected response is sent again, and so is a corrected version: only rejected versions are withheld.
//!
//! Forbidden:
//! 11. a response of an unknown type, or of one that the client does not subscribe to;
//! 12. a resource that is not subscribed, does not exist, or in a wrong version; a name that occurs twice;
//! 13. a second response of a type before the ACK of the first (or its timeout);
//! 14. a response without a change: to an ACK, to a stale request; to a NACK the same content;
//! 15. in `SotW`, incomplete clusters or listeners, or a removal.
//!
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>

use std::collections::{BTreeSet, VecDeque};

use super::server::{SentContent, place, version as version_of};
use super::*;

const CLUSTER: usize = 0;
const ENDPOINT: usize = 1;
const KEEPERS: [usize; 2] = [2, 3];

/// So many unanswered responses are remembered of a client.
const REMEMBERED: usize = 8;

type Flags = [bool; NAMES.len()];
type World = [Versions; KINDS.len()];

const NOBODY: Flags = [false; NAMES.len()];

/// Resources of one type that were sent to one client, and those that must be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    exists: bool,
    spoken: bool,
    wildcard: bool,
    names: Flags,
    /// Last sent version of each name; [`NONE`]: that it does not exist.
    sent: [Option<u8>; NAMES.len()],
    owed: Flags,
    due: Due,
    /// May be sent though it has not changed.
    excused: Flags,
    /// Endpoints that a cluster brings, changed or not.
    brought: Flags,
    waiting: Option<String>,
    pub(super) last_nonce: Option<String>,
    unanswered: VecDeque<Sent>,
    /// Versions that were in a response which was rejected; one of them may be to blame, and is sent never again.
    suspected: [BTreeSet<u8>; NAMES.len()],
    /// Last rejected response, until anything changes.
    rejected: Option<SentContent>,
}

/// A response that was not answered.
#[derive(Clone, Debug)]
struct Sent {
    told: SentContent,
    /// Versions of the client before it.
    before: [Option<u8>; NAMES.len()],
}

/// Responses that a client waits for without naming a resource.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// All that there is.
    everything: bool,
    /// Any response, and be it that there is nothing.
    an_answer: bool,
}

/// One stream as the protocol sees it.
#[derive(Debug)]
pub(super) struct Model {
    codec: Codec,
    pub(super) watches: [Watch; KINDS.len()],
    /// Clusters that were sent before a subscription to endpoints: changed ones, and all.
    warming: Flags,
    sent_early: Flags,
    was_there: [Flags; KINDS.len()],
    nonces: BTreeSet<String>,
}

fn fault<T>(number: u8, what: impl std::fmt::Debug) -> Result<T, String> {
    Err(format!("rule {number}: {what:?}"))
}

fn places() -> std::ops::Range<usize> {
    0..NAMES.len()
}

fn flags(names: &[String]) -> Flags {
    let mut flags = NOBODY;
    for at in names.iter().filter_map(|name| place(name)) {
        flags[at] = true;
    }
    flags
}

// === impl Watch ===

impl Watch {
    fn includes(&self, name: usize) -> bool {
        self.wildcard || self.names[name]
    }

    pub(super) fn wants_something(&self) -> bool {
        self.exists && (self.wildcard || self.names != NOBODY)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn owe(&mut self, names: impl Fn(usize) -> bool) {
        for name in places().filter(|name| names(*name)) {
            self.owed[name] = true;
        }
    }

    /// Applies an ACK or NACK of a response that need not be the last one.
    fn answered(&mut self, nonce: &str) -> Option<Sent> {
        if self.last_nonce.as_deref() == Some(nonce) {
            self.waiting = None;
        }
        let at = self.unanswered.iter().position(|sent| sent.told.nonce == nonce)?;
        self.unanswered.drain(..=at).next_back()
    }

    /// The client keeps the state before the response, with later changes.
    fn reject(&mut self, nonce: &str, whole: bool) {
        let Some(Sent { told, before }) = self.answered(nonce) else { return };
        let first = self.suspected.iter().all(BTreeSet::is_empty);
        for name in places() {
            let news = if whole { self.includes(name) } else { told.has[name] != NONE || told.gone[name] };
            let overtaken = self
                .unanswered
                .iter()
                .any(|later| whole || later.told.has[name] != NONE || later.told.gone[name]);
            if news && told.has[name] != NONE {
                self.suspected[name].insert(told.has[name]);
            }
            if news && !overtaken {
                self.sent[name] = before[name];
                self.excused[name] = true;
            }
        }
        // A client that rejects repeatedly is also suspected in resources that it accepted.
        self.rejected = (first && self.unanswered.is_empty()).then_some(told);
    }

    /// Returns `true` if this version may be withheld.
    fn is_suspected(&self, name: usize, version: u8) -> bool {
        self.suspected[name].contains(&version)
    }

    /// The client wants other names than before; what it no longer wants it has no longer.
    fn forget_the_unwanted(&mut self) {
        for name in places() {
            if !self.includes(name) {
                (self.sent[name], self.owed[name]) = (None, false);
                self.unanswered.iter_mut().for_each(|sent| sent.before[name] = None);
            }
        }
    }
}

// === impl Model ===

impl Model {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            watches: Default::default(),
            warming: NOBODY,
            sent_early: NOBODY,
            was_there: Default::default(),
            nonces: BTreeSet::new(),
        }
    }

    fn is_whole(&self, kind: usize) -> bool {
        self.codec == Codec::Sotw && KINDS[kind].is_wildcard()
    }

    pub(super) fn on_sotw(&mut self, kind: usize, request: &DiscoveryRequest) {
        let (names, nonce) = (&request.resource_names, request.response_nonce.as_str());
        let watch = &mut self.watches[kind];
        let current = watch.last_nonce.as_deref() == Some(nonce);
        if request.error_detail.is_some() {
            watch.reject(nonce, KINDS[kind].is_wildcard());
            if current {
                self.rename(kind, names);
            }
            return;
        }
        if names.is_empty() && !KINDS[kind].is_wildcard() {
            *watch = Watch::default();
            return;
        }
        watch.answered(nonce);
        if watch.last_nonce.is_none() || nonce.is_empty() {
            self.begin(kind, names);
        } else if current {
            self.rename(kind, names);
        }
    }

    fn begin(&mut self, kind: usize, names: &[String]) {
        let Watch { spoken, suspected, .. } = std::mem::take(&mut self.watches[kind]);
        self.watches[kind] = Watch { exists: true, spoken, suspected, ..Watch::default() };
        self.rename(kind, names);
        let watch = &mut self.watches[kind];
        watch.due.everything = true;
        watch.due.an_answer = KINDS[kind].is_wildcard();
        self.inserted(kind);
        if kind == CLUSTER {
            self.watches[ENDPOINT].due.everything = true;
        }
    }

    fn inserted(&mut self, kind: usize) {
        if kind == ENDPOINT {
            let warming = std::mem::replace(&mut self.warming, NOBODY);
            let watch = &mut self.watches[ENDPOINT];
            let covered: Flags = std::array::from_fn(|name| warming[name] && watch.includes(name));
            watch.owe(|name| covered[name]);
            watch.brought = std::mem::replace(&mut self.sent_early, NOBODY);
        }
    }

    fn rename(&mut self, kind: usize, names: &[String]) {
        let whole = KINDS[kind].is_wildcard();
        let watch = &mut self.watches[kind];
        let before = (watch.wildcard, watch.names);
        let everything = if names.is_empty() { !watch.spoken } else { names.iter().any(|name| name == "*") };
        watch.spoken |= !names.is_empty();
        (watch.wildcard, watch.names) = (everything && whole, flags(names));
        if before == (watch.wildcard, watch.names) {
            return;
        }
        let names = watch.names;
        watch.rejected = None;
        if whole {
            (watch.due.everything, watch.due.an_answer) = (true, true);
        } else {
            watch.owe(|name| names[name] && !before.1[name]);
        }
        watch.forget_the_unwanted();
    }

    pub(super) fn on_delta(&mut self, kind: usize, request: &DeltaDiscoveryRequest) {
        let watch = &mut self.watches[kind];
        match (watch.exists, request.error_detail.is_some()) {
            (false, true) => {}
            (false, false) => self.first(kind, request),
            (true, rejects) => {
                if rejects {
                    watch.reject(&request.response_nonce, false);
                } else {
                    watch.answered(&request.response_nonce);
                }
                self.resubscribe(kind, request);
            }
        }
    }

    fn first(&mut self, kind: usize, request: &DeltaDiscoveryRequest) {
        self.watches[kind].exists = true;
        self.resubscribe(kind, request);
        // An Envoy with warming clusters subscribes to endpoints first, and waits for all of them.
        let warms = kind == ENDPOINT && !self.watches[CLUSTER].exists;
        let watch = &mut self.watches[kind];
        (watch.due.everything, watch.due.an_answer) = (false, KINDS[kind].is_wildcard());
        let dropped = flags(&request.resource_names_unsubscribe);
        // A name that is unsubscribed in the first request was never held on this stream.
        watch.owed = std::array::from_fn(|name| watch.owed[name] && !dropped[name]);
        for (name, version) in &request.initial_resource_versions {
            let Some(at) = place(name) else { continue };
            self.was_there[kind][at] = true;
            if !KINDS[kind].is_wildcard() && !dropped[at] {
                watch.names[at] = true;
            }
            watch.sent[at] = watch.includes(at).then(|| version_of(version));
            watch.owed[at] = warms && watch.includes(at);
        }
        self.inserted(kind);
    }

    fn resubscribe(&mut self, kind: usize, request: &DeltaDiscoveryRequest) {
        let (subscribe, unsubscribe) =
            (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let whole = KINDS[kind].is_wildcard();
        let all = |names: &[String]| whole && names.iter().any(|name| name == "*");
        let (added, dropped) = (flags(subscribe), flags(unsubscribe));
        let watch = &mut self.watches[kind];
        let silent = subscribe.is_empty() && !watch.spoken;
        if (silent && whole && !watch.wildcard) || all(subscribe) {
            watch.wildcard = true;
            // A name that is subscribed and unsubscribed may still be sent.
            watch.excused = std::array::from_fn(|name| watch.excused[name] || watch.due.everything);
            watch.due.everything = !all(unsubscribe);
            watch.due.an_answer |= watch.due.everything;
        }
        watch.spoken |= !subscribe.is_empty() || unsubscribe.iter().any(|name| name == "*");
        if all(unsubscribe) {
            watch.wildcard = false;
        }
        for name in places() {
            let named = watch.names[name] || added[name];
            watch.names[name] = named && !dropped[name];
            let asked = added[name] && !dropped[name];
            let covered = named && dropped[name] && watch.wildcard;
            watch.owed[name] |= asked || covered;
        }
        if !subscribe.is_empty() || !unsubscribe.is_empty() {
            watch.rejected = None;
        }
        watch.forget_the_unwanted();
    }

    pub(super) fn on_waive(&mut self, kind: usize) {
        self.watches[kind].waiting = None;
    }

    pub(super) fn on_change(&mut self, kind: usize, name: usize, version: u8) {
        self.was_there[kind][name] = true;
        self.watches[kind].rejected = None;
        // In `SotW` a removal cannot be sent, so the resource is sent again when it exists again.
        if version == NONE && self.codec == Codec::Sotw {
            self.watches[kind].excused[name] = true;
        }
    }

    /// Returns `true` if a response contains a version that the client does not have.
    pub(super) fn brings_news(&self, told: &SentContent) -> bool {
        let watch = &self.watches[told.kind];
        places().any(|name| told.has[name] != NONE && watch.sent[name] != Some(told.has[name]))
    }

    /// Holds a response against the rules.
    pub(super) fn on_told(&mut self, told: &SentContent, world: &World) -> TraceResult {
        let kind = told.kind;
        let (whole, codec) = (self.is_whole(kind), self.codec);
        let watch = &self.watches[kind];
        if !watch.wants_something() {
            return fault(11, told);
        }
        if watch.is_waiting() {
            return fault(13, told);
        }
        if !self.nonces.insert(told.nonce.clone()) || !told.strange.is_empty() {
            return fault(12, told);
        }
        if codec == Codec::Sotw && told.gone != NOBODY {
            return fault(15, told);
        }
        for name in places() {
            let (has, gone, there) = (told.has[name], told.gone[name], world[kind][name]);
            // A cluster that listeners or routes may still name leaves after them.
            let kept = kind == CLUSTER && there == NONE;
            // The client keeps the earlier version of a rejected resource, or has none.
            let held_back = watch.is_suspected(name, there);
            let right = (has == NONE || has == there || kept || held_back)
                && !(gone && (has != NONE || (there != NONE && !held_back)));
            if !right || ((has != NONE || gone) && !watch.includes(name)) {
                return fault(12, (NAMES[name], told));
            }
            if whole && watch.includes(name) && has == NONE && there != NONE && !held_back {
                return fault(15, (NAMES[name], told));
            }
        }
        let asked =
            watch.owed != NOBODY || watch.brought != NOBODY || watch.due.everything || watch.due.an_answer;
        let same = |rejected: &SentContent| (rejected.has, rejected.gone) == (told.has, told.gone);
        if !asked && watch.rejected.as_ref().is_some_and(same) {
            return fault(14, ("the same", told));
        }
        let news = if whole { self.is_news_as_a_whole(told) } else { self.is_news(told) };
        if !news {
            return fault(14, (told, &self.watches[kind]));
        }
        self.complete(told, world)?;
        self.take(told);
        self.nothing_is_missing(kind, world)
    }

    fn is_news_as_a_whole(&self, told: &SentContent) -> bool {
        let watch = &self.watches[told.kind];
        let differs =
            |name: usize| watch.includes(name) && watch.sent[name].unwrap_or(NONE) != told.has[name];
        // Suspects have their trial one group after the other, and some of them may be gone by then.
        let excused = watch.excused != NOBODY || watch.suspected.iter().any(|versions| !versions.is_empty());
        excused || watch.due.everything || watch.due.an_answer || places().any(differs)
    }

    /// Each resource has a reason of its own.
    fn is_news(&self, told: &SentContent) -> bool {
        let watch = &self.watches[told.kind];
        let is_in = |name: usize| told.has[name] != NONE || told.gone[name];
        let has_reason = |name: usize| {
            let changed = match watch.sent[name] {
                Some(sent) => sent != told.has[name],
                // A client that subscribes to the wildcard again may get removals that happened meanwhile.
                None => told.has[name] != NONE || self.was_there[told.kind][name],
            };
            changed
                || watch.owed[name]
                || watch.due.everything
                || watch.excused[name]
                || watch.brought[name]
                || !watch.suspected[name].is_empty()
        };
        let idle = places().filter(|name| is_in(*name)).any(|name| !has_reason(name));
        !idle && (watch.due.an_answer || watch.due.everything || places().any(is_in))
    }

    /// Checks that the response contains all that must be sent.
    fn complete(&self, told: &SentContent, world: &World) -> TraceResult {
        let (kind, watch) = (told.kind, &self.watches[told.kind]);
        for name in places().filter(|name| watch.includes(*name)) {
            let there = world[kind][name] != NONE;
            let sayable = there || (self.codec == Codec::Delta && kind != CLUSTER);
            let is_in = told.has[name] != NONE || told.gone[name];
            let held_back = watch.is_suspected(name, world[kind][name]);
            if !is_in && !held_back && ((watch.owed[name] && sayable) || (watch.due.everything && there)) {
                return fault(2, (NAMES[name], told, watch));
            }
        }
        Ok(())
    }

    /// Applies a response to the client's state.
    fn take(&mut self, told: &SentContent) {
        let (kind, whole) = (told.kind, self.is_whole(told.kind));
        let is_in: Flags = std::array::from_fn(|name| told.has[name] != NONE || told.gone[name]);
        let watch = &mut self.watches[kind];
        let before = watch.sent;
        watch.rejected = None;
        let mut changed = NOBODY;
        for name in places() {
            let covered = if whole { watch.includes(name) } else { is_in[name] };
            if !covered {
                continue;
            }
            changed[name] = told.has[name] != NONE && watch.sent[name] != Some(told.has[name]);
            watch.sent[name] = Some(told.has[name]);
            watch.excused[name] = false;
        }
        (watch.owed, watch.brought) = (NOBODY, NOBODY);
        (watch.due.everything, watch.due.an_answer) = (false, false);
        (watch.waiting, watch.last_nonce) = (Some(told.nonce.clone()), Some(told.nonce.clone()));
        if watch.unanswered.len() >= REMEMBERED {
            watch.unanswered.pop_front();
        }
        watch.unanswered.push_back(Sent { told: told.clone(), before });
        if kind == CLUSTER {
            let endpoints = &mut self.watches[ENDPOINT];
            for name in places().filter(|name| told.has[*name] != NONE) {
                if !endpoints.exists {
                    self.warming[name] |= changed[name];
                    self.sent_early[name] = true;
                } else if endpoints.includes(name) {
                    endpoints.owed[name] |= changed[name];
                    endpoints.brought[name] = true;
                }
            }
        }
    }

    /// Checks that the client has the current state.
    fn nothing_is_missing(&self, kind: usize, world: &World) -> TraceResult {
        let watch = &self.watches[kind];
        for name in places().filter(|name| watch.includes(*name)) {
            let there = world[kind][name];
            let unsaid = self.codec == Codec::Sotw && !KINDS[kind].is_wildcard();
            let kept = kind == CLUSTER;
            let known = watch.sent[name].unwrap_or(NONE) == there || watch.is_suspected(name, there);
            if !known && !(there == NONE && (unsaid || kept)) {
                return fault(5, (KINDS[kind], NAMES[name], there, watch));
            }
        }
        Ok(())
    }

    /// Checks that no response is missing when no type is due. `keeps_back` returns if a version of a resource is withheld.
    pub(super) fn at_rest(
        &mut self,
        world: &World,
        keeps_back: impl Fn(usize, usize, u8) -> bool,
    ) -> TraceResult {
        let keepers_wait = KEEPERS.iter().any(|kind| self.watches[*kind].is_waiting());
        for kind in 0..KINDS.len() {
            let (codec, watch) = (self.codec, &mut self.watches[kind]);
            if watch.is_waiting() || !watch.wants_something() {
                continue;
            }
            let single = codec == Codec::Sotw && !KINDS[kind].is_wildcard();
            for name in places().filter(|name| watch.includes(*name)) {
                let there = world[kind][name] != NONE;
                let sayable = there || !(single || kind == CLUSTER);
                let suspected = watch.is_suspected(name, world[kind][name]);
                let owed = watch.owed[name] && sayable && !suspected;
                if owed || (watch.due.everything && there && !suspected) {
                    return fault(2, (KINDS[kind], NAMES[name], watch));
                }
                let known = watch.sent[name].unwrap_or(NONE) == world[kind][name];
                // Other suspects have their trial when the client has answered what it was sent.
                let on_trial = suspected && !watch.unanswered.is_empty();
                // A client that rejects its earlier version too cannot be satisfied.
                let hopeless = watch.suspected[name].len() > 1;
                let on_trial = on_trial || (suspected && hopeless);
                let held_back = on_trial || (suspected && keeps_back(kind, name, world[kind][name]));
                let known = known || held_back;
                let unsaid = !there && (single || (kind == CLUSTER && keepers_wait));
                if !known && !unsaid {
                    return fault(5, (KINDS[kind], NAMES[name], world[kind][name], watch));
                }
            }
            if watch.due.an_answer {
                return fault(1, (KINDS[kind], watch));
            }
            (watch.owed, watch.due.everything) = (NOBODY, false);
        }
        Ok(())
    }
}
