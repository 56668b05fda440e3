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

use super::contents::{self, Resource};
use super::names::Names;
use super::orders::{Codec, Goal, Holdings, Kind, Memory};
use super::request::{Answer, Request};
use super::scan::{Event, Head, Interest};

/// What all clients of a fleet share.
#[derive(Debug)]
pub(super) struct Common {
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
    common: Rc<Common>,
    node: Node,
    introduced: Introduced,
    keeps: Keeps,
    kinds: BTreeMap<Kind, Topic>,
    /// Resources of the response that is coming in.
    coming: Vec<Resource>,
    /// Requests to be sent, encoded and framed.
    pub(super) requests: Vec<Vec<u8>>,
    /// When the goal was reached, in microseconds since 1970.
    pub(super) reached: Option<u64>,
    /// Responses refused since the mark.
    pub(super) refused: u64,
}

/// Whether the client has said who it is on this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Introduced {
    No,
    Yes,
}

/// Whether a client remembers what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Everything,
    Nothing,
}

/// One type of resources.
#[derive(Debug, Default)]
struct Topic {
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
    held: HashMap<u32, Held>,
    /// What each resource refers to: a cluster to its endpoints, a listener to its routes.
    refers: HashMap<u32, Rc<[u32]>>,
}

/// One resource that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    version: u64,
    at: u64,
}

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(common: Rc<Common>, node: Node, keeps: Keeps) -> Self {
        let kinds = common.kinds.iter().map(|kind| (*kind, Topic::default())).collect();
        Self {
            common,
            node,
            introduced: Introduced::No,
            keeps,
            kinds,
            coming: Vec::new(),
            requests: Vec::new(),
            reached: None,
            refused: 0,
        }
    }

    /// Begins a stream.
    pub(super) fn begin(&mut self, memory: Memory) {
        self.introduced = Introduced::No;
        self.coming.clear();
        self.requests.clear();
        for topic in self.kinds.values_mut() {
            topic.asked = None;
            topic.answered = false;
            topic.accepted = 0;
            topic.version.clear();
            if memory == Memory::Blank {
                topic.held.clear();
                topic.refers.clear();
            }
        }
        match memory {
            Memory::Blank => self.ask_next(),
            Memory::Versions => {
                for kind in self.common.kinds.clone() {
                    self.ask(kind);
                }
            }
        }
    }

    /// Whether the content of resources matters now.
    pub(super) fn interest(&self) -> Interest {
        let unknown = |kind: &Kind| {
            let topic = self.kinds.get(kind);
            kind.is_wildcard() && topic.is_some_and(|topic| !topic.answered)
        };
        let wanted = self.keeps == Keeps::Everything
            || self.common.refused.borrow().is_some()
            || self.kinds.keys().any(unknown);
        if wanted { Interest::Content } else { Interest::Count }
    }

    /// Takes what has come at this time.
    pub(super) fn on_event(&mut self, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Resource(bytes) => {
                let resource = contents::resource(&self.common, bytes).context("read a resource")?;
                self.coming.push(resource);
                Ok(())
            }
            Event::End(head) => self.on_response(&head, now),
        }
    }

    fn on_response(&mut self, head: &Head, now: u64) -> Result<()> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.resource_type().type_url() == head.type_url);
        let kind =
            kind.with_context(|| format!("a response of type {:?}, which nobody asked for", head.type_url))?;
        let coming = std::mem::take(&mut self.coming);
        let topic = self.kinds.get_mut(&kind).with_context(|| format!("{kind:?} comes unasked"))?;
        topic.responses += 1;
        topic.resources += u64::from(head.resources);
        topic.bytes += head.bytes;
        if self.is_refused(&coming) {
            self.refused += 1;
            self.answer(kind, &head.nonce, Answer::Refused);
        } else {
            self.accept(kind, head, coming, now);
            self.answer(kind, &head.nonce, Answer::Accepted);
            self.ask_next();
        }
        if self.reached.is_none() && self.is_there() {
            self.reached = Some(now);
        }
        Ok(())
    }

    fn is_refused(&self, coming: &[Resource]) -> bool {
        let refused = self.common.refused.borrow();
        let Some(name) = refused.as_deref() else { return false };
        let names = self.common.names.borrow();
        coming.iter().any(|resource| names.text(resource.name) == name)
    }

    fn accept(&mut self, kind: Kind, head: &Head, coming: Vec<Resource>, now: u64) {
        let Some(topic) = self.kinds.get_mut(&kind) else { return };
        topic.version.clone_from(&head.version);
        topic.answered = true;
        topic.accepted += u64::from(head.resources);
        // Where nobody looked inside, what was known stays known.
        let seen = coming.len() == head.resources as usize;
        let replaces = self.common.codec == Codec::Sotw && kind.is_wildcard() && seen;
        if replaces {
            let named: BTreeSet<u32> = coming.iter().map(|resource| resource.name).collect();
            topic.held.retain(|name, _| named.contains(name));
            topic.refers.retain(|name, _| named.contains(name));
        }
        for Resource { name, version, refers } in coming {
            if self.keeps == Keeps::Everything {
                let known = topic.held.get(&name).is_some_and(|known| known.version == version);
                if !known {
                    topic.held.insert(name, Held { version, at: now });
                }
            }
            if kind.is_wildcard() {
                topic.refers.insert(name, refers);
            }
        }
        // The same field is the control plane's name in SotW.
        if self.common.codec == Codec::Delta {
            for name in &head.removed {
                let name = self.common.names.borrow_mut().number(name);
                topic.held.remove(&name);
                topic.refers.remove(&name);
            }
        }
    }

    /// Asks for the first type that is due and has not been asked for, and for names that have come or gone.
    fn ask_next(&mut self) {
        for kind in self.common.kinds.clone() {
            let Some(topic) = self.kinds.get(&kind) else { return };
            match (&topic.asked, self.wanted(kind)) {
                (Some(asked), wanted) if *asked != wanted => self.ask(kind),
                (None, wanted) if kind.is_wildcard() || !wanted.is_empty() => self.ask(kind),
                _ => {}
            }
            let Some(topic) = self.kinds.get(&kind) else { return };
            // Who has nothing to ask for need not wait for it.
            if topic.asked.is_some() && !topic.answered {
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
        let topic = self.kinds.get(&by);
        topic
            .into_iter()
            .flat_map(|topic| topic.refers.values())
            .flat_map(|names| names.iter().copied())
            .collect()
    }

    fn ask(&mut self, kind: Kind) {
        let wanted = self.wanted(kind);
        let Some(topic) = self.kinds.get_mut(&kind) else { return };
        let before = topic.asked.replace(wanted);
        let first = before.is_none();
        let before = before.unwrap_or_default();
        let now = topic.asked.iter().flatten();
        let names = self.common.names.borrow();
        let text = |name: &u32| names.text(*name).to_owned();
        let mut add: Vec<String> = now.clone().filter(|name| !before.contains(name)).map(text).collect();
        let gone = before.iter().filter(|name| !topic.asked.iter().any(|asked| asked.contains(name)));
        if first && kind.is_wildcard() && self.common.codec == Codec::Delta {
            add.push("*".to_owned());
        }
        let mut known = Vec::new();
        if first && self.common.codec == Codec::Delta {
            let version = |held: &Held| u32::try_from(held.version).map(|version| text(&version));
            known.extend(
                topic.held.iter().map(|(name, held)| (text(name), version(held).unwrap_or_default())),
            );
        }
        let request = Request {
            kind,
            node: (self.introduced == Introduced::No).then(|| self.node.clone()),
            nonce: "",
            answer: Answer::None,
            version: &topic.version,
            names: now.map(text).collect(),
            drop: gone.map(text).collect(),
            add,
            known,
        };
        self.requests.push(request.framed(self.common.codec));
        self.introduced = Introduced::Yes;
    }

    fn answer(&mut self, kind: Kind, nonce: &str, answer: Answer) {
        let Some(topic) = self.kinds.get(&kind) else { return };
        let names = self.common.names.borrow();
        let asked = match self.common.codec {
            Codec::Sotw => topic.asked.iter().flatten().map(|name| names.text(*name).to_owned()).collect(),
            Codec::Delta => Vec::new(),
        };
        let request = Request { answer, version: &topic.version, names: asked, ..Request::new(kind, nonce) };
        self.requests.push(request.framed(self.common.codec));
    }

    fn is_there(&self) -> bool {
        match &*self.common.goal.borrow() {
            Goal::Configured => self.kinds.values().all(|topic| {
                let asked = topic.asked.as_ref().map_or(0, BTreeSet::len) as u64;
                topic.answered && topic.accepted >= asked
            }),
            Goal::Resources(wanted) => wanted.iter().all(|(kind, resources)| {
                self.kinds.get(kind).is_some_and(|topic| topic.resources >= *resources)
            }),
        }
    }

    /// Counts from now on.
    pub(super) fn mark(&mut self) {
        self.reached = None;
        self.refused = 0;
        for topic in self.kinds.values_mut() {
            topic.responses = 0;
            topic.resources = 0;
            topic.bytes = 0;
        }
    }

    /// Responses, resources and bytes of each type since the mark.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Kind, [u64; 3])> + '_ {
        self.kinds.iter().map(|(kind, topic)| (*kind, [topic.responses, topic.resources, topic.bytes]))
    }

    /// What it holds, if it keeps that.
    pub(super) fn holdings(&self) -> Holdings {
        let names = self.common.names.borrow();
        let version = |held: &Held| match self.common.codec {
            Codec::Sotw => format!("{:016x}", held.version),
            Codec::Delta => names.text(u32::try_from(held.version).unwrap_or(u32::MAX)).to_owned(),
        };
        let told = |topic: &Topic| {
            let held = topic.held.iter();
            held.map(|(name, held)| (names.text(*name).to_owned(), (version(held), held.at))).collect()
        };
        self.kinds.iter().map(|(kind, topic)| (*kind, told(topic))).collect()
    }
}
