//! A client that behaves as Envoy does, and the two wires between it and the server, on which messages take their time.
//!
//! It takes clusters by the wildcard (and by name beside it) and everything else by name, answers each response, and rejects
//! any that has something bad in it. How it takes a response is written from the protocol, not from the server.

use std::collections::VecDeque;

use super::requests::{RequestFields, spelt};
use super::server::{BAD, Request, SentContent, Source, spelt_version};
use super::*;

/// The type with a wildcard subscription.
const CLUSTER: usize = 0;

/// Envoy's order of requests after a reconnect: endpoints before clusters have arrived.
const FIRST_REQUESTS: [usize; KINDS.len()] = [1, CLUSTER, 2, 3];

/// Resources that a client claims to hold after a reconnect, in delta.
#[derive(Clone, Copy, Debug)]
pub(super) enum Memory {
    /// Everything.
    Kept,
    /// Nothing: it was started anew.
    Lost,
    /// Arbitrary versions, derived from this number.
    Wrong(u32),
}

/// Time at which a delta client sends a change of its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    WithTheNextAnswer,
}

/// State of a client for one type.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest {
    pub(super) names: [bool; NAMES.len()],
    /// `true` once the client has named anything on this stream.
    spoken: bool,
    pub(super) has: Versions,
    nonce: String,
    subscribe: [bool; NAMES.len()],
    unsubscribe: [bool; NAMES.len()],
    /// The next request contains `*`, because it contains a name.
    wildcard: bool,
}

/// One client and its server.
pub(super) struct Run {
    pub(super) source: Source,
    pub(super) interests: [Interest; KINDS.len()],
    pub(super) to_client: VecDeque<SentContent>,
    pub(super) to_server: VecDeque<Request>,
    /// The response of each type that the server has no answer to and waits for.
    outstanding: [Option<String>; KINDS.len()],
}

// === impl Run ===

impl Run {
    pub(super) fn new(codec: Codec) -> Self {
        let mut run = Self {
            source: Source::new(codec),
            interests: Default::default(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            outstanding: Default::default(),
        };
        run.connect(Memory::Lost);
        run
    }

    /// A new stream; whatever was under way is lost.
    pub(super) fn connect(&mut self, memory: Memory) {
        self.to_client.clear();
        self.to_server.clear();
        self.source.reconnect();
        self.outstanding = Default::default();
        for kind in FIRST_REQUESTS {
            let interest = &mut self.interests[kind];
            match memory {
                Memory::Kept => {}
                Memory::Lost => interest.has = Versions::default(),
                Memory::Wrong(number) => {
                    let mut dice = Dice(number.rotate_left(u32::try_from(kind).unwrap() * 8));
                    interest.has = std::array::from_fn(|_| dice.pick(&[NONE, 1, 2, 3, 9]));
                }
            }
            let by_name = interest.names.contains(&true);
            if kind != CLUSTER {
                for name in 0..NAMES.len() {
                    if !interest.names[name] {
                        interest.has[name] = NONE;
                    }
                }
                if !by_name {
                    *interest = Interest::default();
                    continue;
                }
            }
            interest.nonce.clear();
            interest.spoken = by_name;
            interest.wildcard = kind == CLUSTER && by_name;
            (interest.subscribe, interest.unsubscribe) = (interest.names, Default::default());
            let holds = match self.source.codec {
                Codec::Sotw => BTreeMap::new(),
                Codec::Delta => held(kind, interest.has),
            };
            self.say(kind, "", holds, false);
        }
    }

    /// Sends the next request of a type, with all pending changes.
    fn say(&mut self, kind: usize, nonce: &str, holds: BTreeMap<String, String>, rejects: bool) {
        let interest = &mut self.interests[kind];
        let (type_url, codec) = (KINDS[kind].type_url(), self.source.codec);
        let flags = match codec {
            Codec::Sotw => interest.names,
            Codec::Delta => std::mem::take(&mut interest.subscribe),
        };
        let mut names = spelt(flags);
        let wildcard = match codec {
            Codec::Sotw => kind == CLUSTER && interest.spoken,
            Codec::Delta => std::mem::take(&mut interest.wildcard),
        };
        names.extend(wildcard.then(|| "*".to_owned()));
        let unsubscribe = spelt(std::mem::take(&mut interest.unsubscribe));
        let said = RequestFields { nonce, names, unsubscribe, holds, rejects };
        self.to_server.push_back(match codec {
            Codec::Sotw => Request::Sotw(said.sotw(type_url)),
            Codec::Delta => Request::Delta(said.delta(type_url)),
        });
    }

    fn say_now(&mut self, kind: usize) {
        let nonce = match self.source.codec {
            Codec::Sotw => self.interests[kind].nonce.clone(),
            Codec::Delta => String::new(),
        };
        self.say(kind, &nonce, BTreeMap::new(), false);
    }

    /// The client wants a name that it did not want, or the other way round.
    pub(super) fn toggle(&mut self, kind: usize, name: usize, when: When) {
        let codec = self.source.codec;
        let interest = &mut self.interests[kind];
        interest.spoken = true;
        interest.names[name] = !interest.names[name];
        if interest.names[name] {
            if std::mem::take(&mut interest.unsubscribe[name]) && codec == Codec::Delta {
                // Both in one request would say: subscribe, then unsubscribe.
                interest.unsubscribe[name] = true;
                self.say_now(kind);
            }
            self.interests[kind].subscribe[name] = true;
        } else {
            interest.subscribe[name] = false;
            interest.unsubscribe[name] = true;
            // Under the wildcard, only the server knows if the name is still covered. In `SotW`, a name that is unsubscribed and
            // subscribed again between two responses was never dropped.
            if codec == Codec::Delta && kind != CLUSTER {
                interest.has[name] = NONE;
            }
        }
        if codec == Codec::Sotw || when == When::Now {
            self.say_now(kind);
        }
    }

    /// Everything that is due goes on its way.
    pub(super) fn flush(&mut self) -> TraceResult {
        while let Some(told) = self.source.respond() {
            self.one_at_a_time(&told)?;
            let whole = KINDS[told.kind].is_wildcard();
            if told.is_empty() && !whole {
                return Err(format!("an empty response: {told:?}"));
            }
            self.to_client.push_back(told);
        }
        Ok(())
    }

    fn one_at_a_time(&mut self, told: &SentContent) -> TraceResult {
        match self.outstanding[told.kind].replace(told.nonce.clone()) {
            None => Ok(()),
            Some(before) => Err(format!("{told:?} while {before} is not answered")),
        }
    }

    pub(super) fn ack_timed_out(&mut self, kind: usize) {
        self.source.stream.ack_timed_out(KINDS[kind]);
        self.outstanding[kind] = None;
    }

    /// Sends the nonce of an earlier stream or an invalid one, as a faulty relay may.
    pub(super) fn old_nonce(&mut self, kind: usize) {
        self.say(kind, "v-0", BTreeMap::new(), false);
        if self.source.codec == Codec::Sotw {
            // Its names are ignored; Envoy would repeat them with its next ACK.
            self.say_now(kind);
        }
    }

    /// The client takes a message and answers it.
    pub(super) fn client_hears(&mut self) {
        let Some(told) = self.to_client.pop_front() else { return };
        let (kind, codec) = (told.kind, self.source.codec);
        let interest = &mut self.interests[kind];
        interest.nonce.clone_from(&told.nonce);
        let rejects = told.is_bad();
        if !rejects {
            if codec == Codec::Sotw && KINDS[kind].is_wildcard() {
                interest.has = told.has;
            } else {
                for name in 0..NAMES.len() {
                    let wanted = kind == CLUSTER || codec == Codec::Sotw || interest.names[name];
                    if told.has[name] != NONE && wanted {
                        interest.has[name] = told.has[name];
                    }
                    if told.gone[name] {
                        interest.has[name] = NONE;
                    }
                }
            }
        }
        self.say(kind, &told.nonce, BTreeMap::new(), rejects);
    }

    pub(super) fn server_hears(&mut self) {
        let Some(request) = self.to_server.pop_front() else { return };
        let (type_url, nonce) = match &request {
            Request::Sotw(request) => (&request.type_url, &request.response_nonce),
            Request::Delta(request) => (&request.type_url, &request.response_nonce),
        };
        let kind = KINDS.iter().position(|kind| kind.type_url() == type_url).unwrap();
        let anew = nonce.is_empty() && self.source.codec == Codec::Sotw;
        let forgotten = matches!(&request, Request::Sotw(request) if request.resource_names.is_empty())
            && !KINDS[kind].is_wildcard();
        if anew || forgotten || self.outstanding[kind].as_ref() == Some(nonce) {
            self.outstanding[kind] = None;
        }
        self.source.hear(&request);
    }

    /// Delivers all messages, without further changes.
    pub(super) fn settle(&mut self) -> TraceResult {
        if self.source.codec == Codec::Delta {
            for kind in 0..KINDS.len() {
                let Interest { subscribe, unsubscribe, .. } = self.interests[kind];
                if subscribe.contains(&true) || unsubscribe.contains(&true) {
                    self.say_now(kind);
                }
            }
        }
        for _ in 0..200 {
            self.flush()?;
            self.client_hears();
            self.server_hears();
            let silent = self.to_client.is_empty() && self.to_server.is_empty();
            if silent && self.source.stream.next_due().is_none() {
                return Ok(());
            }
        }
        Err("the server never falls silent".into())
    }

    /// Replaces every bad version.
    pub(super) fn mend(&mut self) {
        for kind in 0..KINDS.len() {
            for name in 0..NAMES.len() {
                if self.source.world[kind][name] == BAD {
                    self.source.set(kind, name, 3);
                }
            }
        }
    }

    /// Returns the versions of the subscribed resources. State of the world has no way to remove endpoints or routes.
    pub(super) fn has(&self, kind: usize) -> Versions {
        let interest = &self.interests[kind];
        let world = &self.source.world[kind];
        let unsaid = self.source.codec == Codec::Sotw && !KINDS[kind].is_wildcard();
        std::array::from_fn(|name| match kind == CLUSTER || interest.names[name] {
            true if unsaid && world[name] == NONE => NONE,
            true => interest.has[name],
            false => NONE,
        })
    }

    /// Checks that the idle client has the current versions, and that the server sends nothing if nothing has changed.
    pub(super) fn is_where_the_world_is(&mut self) -> TraceResult {
        for (kind, resource_type) in KINDS.into_iter().enumerate() {
            let interest = &self.interests[kind];
            let is: Versions = std::array::from_fn(|name| {
                let wanted = kind == CLUSTER || interest.names[name];
                if wanted { self.source.world[kind][name] } else { NONE }
            });
            let has = self.has(kind);
            if has != is {
                return Err(format!("{:?} {resource_type}: has {has:?}, there is {is:?}", self.source.codec));
            }
            if self.source.stream.awaits_ack(resource_type) {
                return Err(format!("{resource_type}: waits for an answer that was given"));
            }
        }
        self.source.stream.push(KINDS);
        match self.source.respond() {
            Some(told) => Err(format!("a push without news is sent: {told:?}")),
            None => Ok(()),
        }
    }
}

/// Returns the versions that a delta client holds.
fn held(kind: usize, has: Versions) -> BTreeMap<String, String> {
    let there = NAMES.iter().zip(has).filter(|(_, version)| *version != NONE);
    there.map(|(name, version)| ((*name).to_owned(), spelt_version(kind, version))).collect()
}
