//! What one client asks for, answers and remembers: events of the scanner in, requests out. It knows no HTTP and no clock.
//!
//! ```text
//! clusters (all) ──▶ endpoints (of the clusters that are EDS) ──▶ listeners (all) ──▶ routes (that listeners name)
//! ```
//!
//! As Envoy: the next type is asked for when the one before has come, every response is acknowledged at once, in `SotW` with
//! all names, and again when names have changed. A response that has the refused resource is refused whole.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use anyhow::{Context, Result};
use pilot_proto::envoy::config::core::v3::Node;

use super::names::Names;
use super::orders::{Codec, Goal, HeldResources, Kind, ResumeState};
use super::request::{Acknowledgement, Request};
use super::resource::{self as resource_parser, Resource};
use super::scan::{Event, Interest, ResponseHead};

/// What all clients of a fleet share.
#[derive(Debug)]
pub(super) struct FleetState {
    pub(super) codec: Codec,
    pub(super) kinds: Vec<Kind>,
    pub(super) names: RefCell<Names>,
    /// Routes by the listener that names them; parsing listeners is dear, and they are the same for many.
    pub(super) routes: RefCell<HashMap<u64, Rc<[u32]>>>,
    pub(super) refused: RefCell<Option<String>>,
    pub(super) goal: RefCell<Goal>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Subscriber {
    fleet: Rc<FleetState>,
    node: Node,
    node_sent: NodeSent,
    retention: Retention,
    kinds: BTreeMap<Kind, TypeState>,
    /// Resources of the response that is incoming in.
    incoming: Vec<Resource>,
    /// Requests to be sent, encoded and framed.
    pub(super) requests: Vec<Vec<u8>>,
    /// When the goal was reached, in microseconds since 1970.
    pub(super) reached: Option<u64>,
    /// Responses refused since the mark.
    pub(super) refused: u64,
}

/// Whether the client has said who it is on this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeSent {
    No,
    Yes,
}

/// Whether a client remembers what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    Everything,
    Nothing,
}

/// One type of resources.
#[derive(Debug, Default)]
struct TypeState {
    /// Asked for on this stream.
    asked: Option<BTreeSet<u32>>,
    /// Version of the last response that was accepted.
    version: String,
    /// Resources accepted on this stream: what "configured" counts.
    accepted: u64,
    answered: bool,
    /// Since the mark.
    responses: u64,
    resources: u64,
    bytes: u64,
    held: HashMap<u32, HeldVersion>,
    /// What each resource refers to: a cluster to its endpoints, a listener to its routes.
    refers: HashMap<u32, Rc<[u32]>>,
}

/// One resource that is held.
#[derive(Clone, Copy, Debug)]
struct HeldVersion {
    version: u64,
    at: u64,
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(fleet: Rc<FleetState>, node: Node, retention: Retention) -> Self {
        let kinds = fleet.kinds.iter().map(|kind| (*kind, TypeState::default())).collect();
        Self {
            fleet,
            node,
            node_sent: NodeSent::No,
            retention,
            kinds,
            incoming: Vec::new(),
            requests: Vec::new(),
            reached: None,
            refused: 0,
        }
    }

    /// Begins a stream.
    pub(super) fn begin(&mut self, memory: ResumeState) {
        self.node_sent = NodeSent::No;
        self.incoming.clear();
        self.requests.clear();
        for state in self.kinds.values_mut() {
            state.asked = None;
            state.answered = false;
            state.accepted = 0;
            state.version.clear();
            if memory == ResumeState::Blank {
                state.held.clear();
                state.refers.clear();
            }
        }
        match memory {
            ResumeState::Blank => self.ask_next(),
            ResumeState::Versions => {
                for kind in self.fleet.kinds.clone() {
                    self.ask(kind);
                }
            }
        }
    }

    /// Whether the content of resources matters now.
    pub(super) fn interest(&self) -> Interest {
        let unknown = |kind: &Kind| {
            let state = self.kinds.get(kind);
            kind.is_wildcard() && state.is_some_and(|state| !state.answered)
        };
        let wanted = self.retention == Retention::Everything
            || self.fleet.refused.borrow().is_some()
            || self.kinds.keys().any(unknown);
        if wanted { Interest::Content } else { Interest::Count }
    }

    /// Takes what has come at this time.
    pub(super) fn on_event(&mut self, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Resource(bytes) => {
                let resource = resource_parser::resource(&self.fleet, bytes).context("read a resource")?;
                self.incoming.push(resource);
                Ok(())
            }
            Event::End(head) => self.on_response(&head, now),
        }
    }

    fn on_response(&mut self, head: &ResponseHead, now: u64) -> Result<()> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.resource_type().type_url() == head.type_url);
        let kind =
            kind.with_context(|| format!("a response of type {:?}, which nobody asked for", head.type_url))?;
        let incoming = std::mem::take(&mut self.incoming);
        let state = self.kinds.get_mut(&kind).with_context(|| format!("{kind:?} comes unasked"))?;
        state.responses += 1;
        state.resources += u64::from(head.resources);
        state.bytes += head.bytes;
        if self.is_refused(&incoming) {
            self.refused += 1;
            self.answer(kind, &head.nonce, Acknowledgement::Nack);
        } else {
            self.accept(kind, head, incoming, now);
            self.answer(kind, &head.nonce, Acknowledgement::Ack);
            self.ask_next();
        }
        if self.reached.is_none() && self.has_reached_goal() {
            self.reached = Some(now);
        }
        Ok(())
    }

    fn is_refused(&self, incoming: &[Resource]) -> bool {
        let refused = self.fleet.refused.borrow();
        let Some(name) = refused.as_deref() else { return false };
        let names = self.fleet.names.borrow();
        incoming.iter().any(|resource| names.text(resource.name) == name)
    }

    fn accept(&mut self, kind: Kind, head: &ResponseHead, incoming: Vec<Resource>, now: u64) {
        let Some(state) = self.kinds.get_mut(&kind) else { return };
        state.version.clone_from(&head.version);
        state.answered = true;
        state.accepted += u64::from(head.resources);
        // Where nobody looked inside, what was known stays known.
        let seen = incoming.len() == head.resources as usize;
        let replaces = self.fleet.codec == Codec::Sotw && kind.is_wildcard() && seen;
        if replaces {
            let named: BTreeSet<u32> = incoming.iter().map(|resource| resource.name).collect();
            state.held.retain(|name, _| named.contains(name));
            state.refers.retain(|name, _| named.contains(name));
        }
        for Resource { name, version, refers } in incoming {
            if self.retention == Retention::Everything {
                let known = state.held.get(&name).is_some_and(|known| known.version == version);
                if !known {
                    state.held.insert(name, HeldVersion { version, at: now });
                }
            }
            if kind.is_wildcard() {
                state.refers.insert(name, refers);
            }
        }
        // The same field is the control plane's name in SotW.
        if self.fleet.codec == Codec::Delta {
            for name in &head.removed {
                let name = self.fleet.names.borrow_mut().number(name);
                state.held.remove(&name);
                state.refers.remove(&name);
            }
        }
    }

    /// Asks for the first type that is due and has not been asked for, and for names that have come or gone.
    fn ask_next(&mut self) {
        for kind in self.fleet.kinds.clone() {
            let Some(state) = self.kinds.get(&kind) else { return };
            match (&state.asked, self.wanted(kind)) {
                (Some(asked), wanted) if *asked != wanted => self.ask(kind),
                (None, wanted) if kind.is_wildcard() || !wanted.is_empty() => self.ask(kind),
                _ => {}
            }
            let Some(state) = self.kinds.get(&kind) else { return };
            // Who has nothing to ask for need not wait for it.
            if state.asked.is_some() && !state.answered {
                return;
            }
        }
    }

    /// The names to ask for; none for all.
    fn wanted(&self, kind: Kind) -> BTreeSet<u32> {
        let by = match kind {
            Kind::Eds => Kind::Cds,
            Kind::Rds => Kind::Lds,
            Kind::Cds | Kind::Lds => return BTreeSet::new(),
        };
        let state = self.kinds.get(&by);
        state
            .into_iter()
            .flat_map(|state| state.refers.values())
            .flat_map(|names| names.iter().copied())
            .collect()
    }

    fn ask(&mut self, kind: Kind) {
        let wanted = self.wanted(kind);
        let Some(state) = self.kinds.get_mut(&kind) else { return };
        let before = state.asked.replace(wanted);
        let first = before.is_none();
        let before = before.unwrap_or_default();
        let now = state.asked.iter().flatten();
        let names = self.fleet.names.borrow();
        let text = |name: &u32| names.text(*name).to_owned();
        let mut add: Vec<String> = now.clone().filter(|name| !before.contains(name)).map(text).collect();
        let gone = before.iter().filter(|name| !state.asked.iter().any(|asked| asked.contains(name)));
        if first && kind.is_wildcard() && self.fleet.codec == Codec::Delta {
            add.push("*".to_owned());
        }
        let mut known = Vec::new();
        if first && self.fleet.codec == Codec::Delta {
            let version = |held: &HeldVersion| u32::try_from(held.version).map(|version| text(&version));
            known.extend(
                state.held.iter().map(|(name, held)| (text(name), version(held).unwrap_or_default())),
            );
        }
        let request = Request {
            kind,
            node: (self.node_sent == NodeSent::No).then(|| self.node.clone()),
            nonce: "",
            answer: Acknowledgement::None,
            version: &state.version,
            names: now.map(text).collect(),
            drop: gone.map(text).collect(),
            add,
            known,
        };
        self.requests.push(request.framed(self.fleet.codec));
        self.node_sent = NodeSent::Yes;
    }

    fn answer(&mut self, kind: Kind, nonce: &str, answer: Acknowledgement) {
        let Some(state) = self.kinds.get(&kind) else { return };
        let names = self.fleet.names.borrow();
        let asked = match self.fleet.codec {
            Codec::Sotw => state.asked.iter().flatten().map(|name| names.text(*name).to_owned()).collect(),
            Codec::Delta => Vec::new(),
        };
        let request = Request { answer, version: &state.version, names: asked, ..Request::new(kind, nonce) };
        self.requests.push(request.framed(self.fleet.codec));
    }

    fn has_reached_goal(&self) -> bool {
        match &*self.fleet.goal.borrow() {
            Goal::Configured => self.kinds.values().all(|state| {
                let asked = state.asked.as_ref().map_or(0, BTreeSet::len) as u64;
                state.answered && state.accepted >= asked
            }),
            Goal::Resources(wanted) => wanted.iter().all(|(kind, resources)| {
                self.kinds.get(kind).is_some_and(|state| state.resources >= *resources)
            }),
        }
    }

    /// Counts from now on.
    pub(super) fn mark(&mut self) {
        self.reached = None;
        self.refused = 0;
        for state in self.kinds.values_mut() {
            state.responses = 0;
            state.resources = 0;
            state.bytes = 0;
        }
    }

    /// Responses, resources and bytes of each type since the mark.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Kind, [u64; 3])> + '_ {
        self.kinds.iter().map(|(kind, state)| (*kind, [state.responses, state.resources, state.bytes]))
    }

    /// What it holds, if it retention that.
    pub(super) fn holdings(&self) -> HeldResources {
        let names = self.fleet.names.borrow();
        let version = |held: &HeldVersion| match self.fleet.codec {
            Codec::Sotw => format!("{:016x}", held.version),
            Codec::Delta => names.text(u32::try_from(held.version).unwrap_or(u32::MAX)).to_owned(),
        };
        let told = |state: &TypeState| {
            let held = state.held.iter();
            held.map(|(name, held)| (names.text(*name).to_owned(), (version(held), held.at))).collect()
        };
        self.kinds.iter().map(|(kind, state)| (*kind, told(state))).collect()
    }
}
