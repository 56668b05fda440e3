//! Subscription state of one client: events of the scanner in, requests out, without HTTP or clock.
//!
//! ```text
//! clusters (all) ──▶ endpoints (of EDS clusters) ──▶ listeners (all) ──▶ routes (named by listeners)
//! ```
//!
//! The behaviour is Envoy's: a type is requested after the first response of the type before it. Every response is acknowledged at
//! once, in `SotW` with all names; changed names are sent again. A response with the resource of [`Order::Refuse`] is rejected
//! as a whole.
//!
//! [`Order::Refuse`]: super::Order::Refuse

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use anyhow::{Context, Result};
use pilot_proto::envoy::config::core::v3::Node;

use super::orders::{Codec, Goal, HeldResources, Kind, ResumeState};
use super::request::{Acknowledgement, Request};
use super::resource::{self as resource_parser, Resource};
use super::scan::{Event, Interest, ResponseHead};
use super::state::FleetState;

/// One client.
#[derive(Debug)]
pub(super) struct Subscriber {
    fleet: Rc<FleetState>,
    node: Node,
    node_sent: NodeSent,
    retention: Retention,
    kinds: BTreeMap<Kind, TypeState>,
    /// Resources of the response that is being received.
    incoming: Vec<Resource>,
    /// Encoded and framed requests to be sent.
    pub(super) requests: Vec<Vec<u8>>,
    /// Time at which the goal was reached, in microseconds since 1970.
    pub(super) reached: Option<u64>,
    /// Responses rejected since the mark.
    pub(super) refused: u64,
}

/// State of the node field, which the first request on a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeSent {
    No,
    Yes,
}

/// Retention of resource versions by a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    Everything,
    Nothing,
}

/// State of one type of resources.
#[derive(Debug, Default)]
struct TypeState {
    /// Names requested on this stream.
    requested: Option<BTreeSet<u32>>,
    /// Version of the last accepted response.
    version: String,
    /// Number of resources accepted on this stream, which [`Goal::Configured`] counts.
    accepted: u64,
    answered: bool,
    // Counters since the mark.
    responses: u64,
    resources: u64,
    bytes: u64,
    held: HashMap<u32, HeldVersion>,
    /// References of each resource: a cluster's endpoints, a listener's routes.
    refers: HashMap<u32, Rc<[u32]>>,
}

/// Version and time of arrival of a held resource.
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

    /// Resets the state for a new stream.
    pub(super) fn begin(&mut self, resume: ResumeState) {
        self.node_sent = NodeSent::No;
        self.incoming.clear();
        self.requests.clear();
        for state in self.kinds.values_mut() {
            state.requested = None;
            state.answered = false;
            state.accepted = 0;
            state.version.clear();
            if resume == ResumeState::Blank {
                state.held.clear();
                state.refers.clear();
            }
        }
        match resume {
            ResumeState::Blank => self.request_next(),
            ResumeState::Versions => {
                for kind in self.fleet.kinds.clone() {
                    self.request(kind);
                }
            }
        }
    }

    /// Returns whether the content of resources is needed now.
    pub(super) fn interest(&self) -> Interest {
        let unknown = |kind: &Kind| {
            let state = self.kinds.get(kind);
            kind.is_wildcard() && state.is_some_and(|state| !state.answered)
        };
        let needs_content = self.retention == Retention::Everything
            || self.fleet.refused.borrow().is_some()
            || self.kinds.keys().any(unknown);
        if needs_content { Interest::Content } else { Interest::Count }
    }

    /// Processes an event.
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
            kind.with_context(|| format!("a response of type {:?}, which was not requested", head.type_url))?;
        let incoming = std::mem::take(&mut self.incoming);
        let state = self.kinds.get_mut(&kind).with_context(|| format!("{kind:?} was not requested"))?;
        state.responses += 1;
        state.resources += u64::from(head.resources);
        state.bytes += head.bytes;
        if self.is_refused(&incoming) {
            self.refused += 1;
            self.answer(kind, &head.nonce, Acknowledgement::Nack);
        } else {
            self.accept(kind, head, incoming, now);
            self.answer(kind, &head.nonce, Acknowledgement::Ack);
            self.request_next();
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
        // If the content was not parsed, the previous state stays.
        let is_parsed = incoming.len() == head.resources as usize;
        let replaces = self.fleet.codec == Codec::Sotw && kind.is_wildcard() && is_parsed;
        if replaces {
            let named: BTreeSet<u32> = incoming.iter().map(|resource| resource.name).collect();
            state.held.retain(|name, _| named.contains(name));
            state.refers.retain(|name, _| named.contains(name));
        }
        for Resource { name, version, refers } in incoming {
            if self.retention == Retention::Everything {
                let is_unchanged = state.held.get(&name).is_some_and(|held| held.version == version);
                if !is_unchanged {
                    state.held.insert(name, HeldVersion { version, at: now });
                }
            }
            if kind.is_wildcard() {
                state.refers.insert(name, refers);
            }
        }
        // In SotW this field is the control plane.
        if self.fleet.codec == Codec::Delta {
            for name in &head.removed {
                let name = self.fleet.names.borrow_mut().number(name);
                state.held.remove(&name);
                state.refers.remove(&name);
            }
        }
    }

    /// Requests the first type that is due and has not been requested, and sends changed names.
    fn request_next(&mut self) {
        for kind in self.fleet.kinds.clone() {
            let Some(state) = self.kinds.get(&kind) else { return };
            match (&state.requested, self.names_to_request(kind)) {
                (Some(requested), names_to_request) if *requested != names_to_request => self.request(kind),
                (None, names_to_request) if kind.is_wildcard() || !names_to_request.is_empty() => {
                    self.request(kind);
                }
                _ => {}
            }
            let Some(state) = self.kinds.get(&kind) else { return };
            // A type without names is not waited for.
            if state.requested.is_some() && !state.answered {
                return;
            }
        }
    }

    /// Returns the names to request; empty for all resources.
    fn names_to_request(&self, kind: Kind) -> BTreeSet<u32> {
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

    fn request(&mut self, kind: Kind) {
        let names_to_request = self.names_to_request(kind);
        let Some(state) = self.kinds.get_mut(&kind) else { return };
        let before = state.requested.replace(names_to_request);
        let first = before.is_none();
        let before = before.unwrap_or_default();
        let now = state.requested.iter().flatten();
        let names = self.fleet.names.borrow();
        let text = |name: &u32| names.text(*name).to_owned();
        let mut add: Vec<String> = now.clone().filter(|name| !before.contains(name)).map(text).collect();
        let gone =
            before.iter().filter(|name| !state.requested.iter().any(|requested| requested.contains(name)));
        if first && kind.is_wildcard() && self.fleet.codec == Codec::Delta {
            add.push("*".to_owned());
        }
        let mut versions = Vec::new();
        if first && self.fleet.codec == Codec::Delta {
            let version = |held: &HeldVersion| u32::try_from(held.version).map(|version| text(&version));
            versions.extend(
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
            versions,
        };
        self.requests.push(request.framed(self.fleet.codec));
        self.node_sent = NodeSent::Yes;
    }

    fn answer(&mut self, kind: Kind, nonce: &str, answer: Acknowledgement) {
        let Some(state) = self.kinds.get(&kind) else { return };
        let names = self.fleet.names.borrow();
        let requested = match self.fleet.codec {
            Codec::Sotw => {
                state.requested.iter().flatten().map(|name| names.text(*name).to_owned()).collect()
            }
            Codec::Delta => Vec::new(),
        };
        let request =
            Request { answer, version: &state.version, names: requested, ..Request::new(kind, nonce) };
        self.requests.push(request.framed(self.fleet.codec));
    }

    fn has_reached_goal(&self) -> bool {
        match &*self.fleet.goal.borrow() {
            Goal::Configured => self.kinds.values().all(|state| {
                let requested = state.requested.as_ref().map_or(0, BTreeSet::len) as u64;
                state.answered && state.accepted >= requested
            }),
            Goal::Resources(names_to_request) => names_to_request.iter().all(|(kind, resources)| {
                self.kinds.get(kind).is_some_and(|state| state.resources >= *resources)
            }),
        }
    }

    /// Resets the counters.
    pub(super) fn mark(&mut self) {
        self.reached = None;
        self.refused = 0;
        for state in self.kinds.values_mut() {
            state.responses = 0;
            state.resources = 0;
            state.bytes = 0;
        }
    }

    /// Returns responses, resources and bytes by type since the mark.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Kind, [u64; 3])> + '_ {
        self.kinds.iter().map(|(kind, state)| (*kind, [state.responses, state.resources, state.bytes]))
    }

    /// Returns the held resources of a client that keeps versions.
    pub(super) fn holdings(&self) -> HeldResources {
        let names = self.fleet.names.borrow();
        let version = |held: &HeldVersion| match self.fleet.codec {
            Codec::Sotw => format!("{:016x}", held.version),
            Codec::Delta => names.text(u32::try_from(held.version).unwrap_or(u32::MAX)).to_owned(),
        };
        let versions_of = |state: &TypeState| {
            let held = state.held.iter();
            held.map(|(name, held)| (names.text(*name).to_owned(), (version(held), held.at))).collect()
        };
        self.kinds.iter().map(|(kind, state)| (*kind, versions_of(state))).collect()
    }
}
