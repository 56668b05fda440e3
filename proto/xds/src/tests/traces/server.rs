//! A minimal caller of a [`Stream`]: resources are created once, nothing is encoded.

use std::sync::LazyLock;

use super::*;

/// Version of what a client rejects.
pub(super) const BAD: u8 = 4;

/// So many types may be due at once, each with nothing to say in the end; one that stays due for ever is a defect.
const PATIENCE: usize = 16;

/// Every resource there can be, by type, name and version.
static RESOURCES: LazyLock<Vec<Vec<Vec<Resource>>>> = LazyLock::new(|| {
    let made = |kind: usize, name: &str, version: u8| {
        Resource::new(name.into(), spelt_version(kind, version).into(), Bytes::from_static(b"x"))
    };
    let versions = |kind, name| (1..=BAD).map(|version| made(kind, name, version)).collect();
    let names = |kind| NAMES.iter().map(|name| versions(kind, name)).collect();
    (0..KINDS.len()).map(names).collect()
});

/// As the wire has it. Versions are hashes of content: no two types have the same.
pub(super) fn spelt_version(kind: usize, version: u8) -> String {
    (kind * 10 + usize::from(version)).to_string()
}

/// Snapshot version of every response.
static VERSION: LazyLock<Arc<str>> = LazyLock::new(|| "v".into());

/// Content of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentContent {
    /// Of this type, by its place in [`KINDS`].
    pub(super) kind: usize,
    pub(super) nonce: String,
    /// Version by name; [`NONE`]: not in it.
    pub(super) has: Versions,
    /// By name: whether the client shall drop it.
    pub(super) gone: [bool; NAMES.len()],
    /// Names that are in it and not in [`NAMES`].
    pub(super) strange: Vec<String>,
}

/// One stream and the world it speaks of.
pub(super) struct Source {
    pub(super) stream: Stream,
    pub(super) codec: Codec,
    pub(super) world: [Versions; KINDS.len()],
    /// The same as the stream is offered it.
    offered: [ResourceSet; KINDS.len()],
}

// === impl SentContent ===

impl SentContent {
    pub(super) fn is_empty(&self) -> bool {
        self.has == [NONE; NAMES.len()] && self.gone == [false; NAMES.len()] && self.strange.is_empty()
    }

    pub(super) fn is_bad(&self) -> bool {
        self.has.contains(&BAD)
    }

    fn read(response: &Response) -> Self {
        let mut told = Self {
            kind: place_of(response.kind),
            nonce: response.nonce.to_string(),
            has: [NONE; NAMES.len()],
            gone: [false; NAMES.len()],
            strange: Vec::new(),
        };
        for resource in response.resources() {
            match place(&resource.name) {
                Some(at) if told.has[at] == NONE => told.has[at] = version(&resource.version),
                _ => told.strange.push(resource.name.to_string()),
            }
        }
        for name in response.removed() {
            match place(name) {
                Some(at) if !told.gone[at] => told.gone[at] = true,
                _ => told.strange.push(name.to_string()),
            }
        }
        told
    }
}

// === impl Source ===

impl Source {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            stream: Stream::new(codec, VERSION.clone()),
            codec,
            world: [[NONE; NAMES.len()]; KINDS.len()],
            offered: Default::default(),
        }
    }

    /// A new stream of the same world.
    pub(super) fn reconnect(&mut self) {
        self.stream = Stream::new(self.codec, VERSION.clone());
    }

    /// The world changes, and the stream hears that its type was touched.
    pub(super) fn set(&mut self, kind: usize, name: usize, version: u8) {
        self.world[kind][name] = version;
        put(&mut self.offered[kind], kind, name, version);
        self.stream.push([KINDS[kind]]);
    }

    /// The next response that is due.
    pub(super) fn respond(&mut self) -> Option<SentContent> {
        for _ in 0..PATIENCE {
            let kind = self.stream.next_due()?;
            let at = place_of(kind);
            let response = self.stream.respond(kind, &VERSION, &self.offered[at], SendMode::Changed);
            if let Some(response) = response {
                return Some(SentContent::read(&response));
            }
        }
        panic!("something is due and cannot be said");
    }

    /// Returns `true` if a version of a resource is withheld from the client.
    pub(super) fn keeps_back(&self, kind: usize, name: usize, version: u8) -> bool {
        let refused = &mut self.stream.withheld(KINDS[kind]);
        refused.any(|refusal| *refusal.name == *NAMES[name] && self::version(&refusal.version) == version)
    }

    pub(super) fn hear(&mut self, request: &Request) -> RequestOutcome {
        match request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        }
    }
}

/// A request in either variant.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// There is now this version of a resource, or none.
fn put(resources: &mut ResourceSet, kind: usize, name: usize, version: u8) {
    match usize::from(version).checked_sub(1) {
        Some(at) => resources.insert(RESOURCES[kind][name][at].clone()),
        None => drop(resources.remove(NAMES[name])),
    }
}

/// The place of a name in [`NAMES`].
pub(super) fn place(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// The place of a type in [`KINDS`].
fn place_of(kind: ResourceType) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap()
}

/// The version that the wire spells so.
pub(super) fn version(text: &str) -> u8 {
    text.parse::<u8>().map_or(u8::MAX, |number| number % 10)
}
