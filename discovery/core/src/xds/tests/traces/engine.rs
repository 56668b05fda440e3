//! From a change to the client that hears of it: debounce, snapshot, push queue and stream together, in simulated time.
//!
//! Builds take their time, proxies come and go, take their turns late and answer later still. Whatever the order, a client
//! that is there when all is quiet has the last state of what it wants.

use std::time::{Duration, Instant};

use super::client::When;
use super::requests::{Said, spelt};
use super::server::{BAD, Request, Told, due, regenerated};
use super::*;
use crate::model::{ChangeKind, ConfigKey};
use crate::push::debounce::Params;
use crate::push::{Debounce, PushQueue, PushRequest, Reason, Urgency};

const ENDPOINTS: ResourceType = ResourceType::Endpoint;

type Flags = [bool; NAMES.len()];

/// The control plane and everybody who is connected.
struct Plane {
    now: Instant,
    debounce: Debounce,
    world: Versions,
    /// The build that is running: what it is about, and the world when it began.
    building: Option<(PushRequest, Urgency, Versions)>,
    snapshot: Versions,
    queue: PushQueue<u64>,
    proxies: BTreeMap<u64, Proxy>,
    joined: u64,
}

/// A connection and the client at its other end.
struct Proxy {
    stream: Stream,
    codec: Codec,
    /// Its turn, which it has not taken yet.
    turn: Option<Arc<PushRequest>>,
    snapshot: Versions,
    on_the_way: Vec<Told>,
    /// Names that a delta client adds to its subscription in its next request.
    subscribe_later: Flags,
    wants: Flags,
    has: Versions,
    nonce: String,
}

// === impl Plane ===

impl Plane {
    fn new(now: Instant) -> Self {
        let world = [1; NAMES.len()];
        Self {
            now,
            debounce: Debounce::new(Params::default()),
            world,
            building: None,
            snapshot: world,
            queue: PushQueue::default(),
            proxies: BTreeMap::new(),
            joined: 0,
        }
    }

    fn step(&mut self, mut dice: Dice) -> Held {
        let roll = dice.roll(16);
        let name = dice.roll(4);
        match roll {
            0..=3 => {
                let (version, urgency) =
                    (dice.pick(&[NONE, 1, 2, 3, BAD]), dice.pick(&[Urgency::Normal, Urgency::Urgent]));
                self.change(name, version, urgency);
            }
            4 | 5 => self.pass(Duration::from_millis(dice.pick(&[1, 30, 100, 250]))),
            6 => self.begin_build(),
            7 => self.end_build(),
            8 | 9 => self.dequeue()?,
            10 => match self.somebody(&mut dice) {
                Some(number) if dice.chance(3) => self.leave(number),
                _ => self.join(dice.pick(&[Codec::Sotw, Codec::Delta])),
            },
            roll => {
                let Some(number) = self.somebody(&mut dice) else { return Ok(()) };
                let when = dice.pick(&[When::Now, When::WithTheNextAnswer]);
                self.act(number, roll, name, when);
            }
        }
        Ok(())
    }

    fn act(&mut self, number: u64, roll: usize, name: usize, when: When) {
        let snapshot = self.snapshot;
        let Some(proxy) = self.proxies.get_mut(&number) else { return };
        match roll {
            11 => proxy.toggle(name, when, snapshot),
            12 | 13 => {
                if proxy.take_turn(snapshot) {
                    self.queue.done(&number);
                }
            }
            14 => proxy.answer(snapshot),
            _ => proxy.waive(),
        }
    }

    fn somebody(&self, dice: &mut Dice) -> Option<u64> {
        let many = u32::try_from(self.proxies.len()).unwrap();
        (many > 0).then(|| dice.roll(many)).and_then(|at| self.proxies.keys().nth(at).copied())
    }

    fn change(&mut self, name: usize, version: u8, urgency: Urgency) {
        self.world[name] = version;
        let key = ConfigKey { kind: ChangeKind::Endpoints, namespace: "n".into(), name: NAMES[name].into() };
        self.debounce.on_change(self.now, PushRequest::of([key], Reason::Endpoint), urgency);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn begin_build(&mut self) {
        if let Some((request, urgency)) = self.debounce.take(self.now) {
            self.building = Some((request, urgency, self.world));
        }
    }

    /// The snapshot is there for all before anybody is told of it.
    fn end_build(&mut self) {
        let Some((request, urgency, snapshot)) = self.building.take() else { return };
        self.snapshot = snapshot;
        let request = Arc::new(request);
        for number in self.proxies.keys() {
            self.queue.enqueue(*number, &request, urgency);
        }
        self.debounce.done();
    }

    fn dequeue(&mut self) -> Held {
        let Some((number, request)) = self.queue.dequeue() else { return Ok(()) };
        match self.proxies.get_mut(&number) {
            Some(proxy) if proxy.turn.is_none() => {
                proxy.turn = Some(request);
                Ok(())
            }
            Some(_) => Err(format!("proxy {number} has a second turn before it took the first")),
            None => Err(format!("proxy {number} has a turn and is gone")),
        }
    }

    fn join(&mut self, codec: Codec) {
        if self.proxies.len() < 3 {
            self.joined += 1;
            self.proxies.insert(self.joined, Proxy::new(codec));
        }
    }

    fn leave(&mut self, number: u64) {
        self.proxies.remove(&number);
        self.queue.remove(&number);
    }

    /// Replaces versions that clients reject, and runs every part until none has anything left to do.
    fn come_to_rest(&mut self) -> Held {
        for name in (0..NAMES.len()).filter(|name| self.world[*name] == BAD).collect::<Vec<_>>() {
            self.change(name, 3, Urgency::Normal);
        }
        for _ in 0..200 {
            self.pass(Params::default().max);
            self.begin_build();
            self.end_build();
            self.dequeue()?;
            for number in self.proxies.keys().copied().collect::<Vec<_>>() {
                self.act(number, 12, 0, When::Now);
                self.act(number, 14, 0, When::Now);
            }
            let quiet = self.debounce.due().is_none() && self.building.is_none() && self.queue.is_empty();
            if quiet && self.proxies.values().all(Proxy::is_at_rest) {
                return Ok(());
            }
        }
        Err("it never comes to rest".into())
    }

    fn check(&self) -> Held {
        for (number, proxy) in &self.proxies {
            for (name, spelt) in NAMES.into_iter().enumerate() {
                let (is, has) = (self.world[name], proxy.has[name]);
                let unsaid = is == NONE && proxy.codec == Codec::Sotw;
                if proxy.wants[name] && has != is && !unsaid {
                    return Err(format!("proxy {number} has {spelt}={has}, there is {is}"));
                }
            }
        }
        Ok(())
    }
}

// === impl Proxy ===

impl Proxy {
    fn new(codec: Codec) -> Self {
        Self {
            stream: Stream::new(codec, "test".into()),
            codec,
            turn: None,
            snapshot: Versions::default(),
            on_the_way: Vec::new(),
            subscribe_later: Flags::default(),
            wants: Flags::default(),
            has: Versions::default(),
            nonce: String::new(),
        }
    }

    fn is_at_rest(&self) -> bool {
        self.turn.is_none() && self.on_the_way.is_empty() && self.subscribe_later == Flags::default()
    }

    /// Takes its turn in a push, if it has one; then the turn is over.
    fn take_turn(&mut self, snapshot: Versions) -> bool {
        let Some(request) = self.turn.take() else { return false };
        self.snapshot = snapshot;
        let names = match self.stream.wanted(ENDPOINTS) {
            Wanted::Names(subscribed) => {
                subscribed.filtered(|name| request.updated.iter().any(|key| *key.name == *name))
            }
            Wanted::Nothing | Wanted::All => NameSet::default(),
        };
        self.stream.push_names(ENDPOINTS, &names);
        self.send_due();
        true
    }

    fn send_due(&mut self) {
        let snapshot = self.snapshot;
        let sent = due(&mut self.stream, |stream| regenerated(stream, ENDPOINTS, snapshot));
        self.on_the_way.extend(sent);
    }

    fn request(&mut self, said: Said, snapshot: Versions) {
        let type_url = ENDPOINTS.type_url();
        let request = match self.codec {
            Codec::Sotw => Request::Sotw(said.sotw(type_url)),
            Codec::Delta => Request::Delta(said.delta(type_url)),
        };
        let verdict = match &request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        };
        let added = match verdict {
            Verdict::Subscribe { added, .. } | Verdict::Nack { added, .. } => added,
            Verdict::Unsubscribe { .. }
            | Verdict::Ack { .. }
            | Verdict::Stale { .. }
            | Verdict::Unknown { .. } => NameSet::default(),
        };
        if !added.is_empty() {
            self.snapshot = snapshot;
        }
        self.send_due();
    }

    fn toggle(&mut self, name: usize, when: When, snapshot: Versions) {
        self.wants[name] = !self.wants[name];
        if self.codec == Codec::Delta {
            self.has[name] = NONE;
        }
        let one: Flags = std::array::from_fn(|at| at == name);
        let nonce = self.nonce.clone();
        let said = match (self.codec, self.wants[name]) {
            (Codec::Sotw, _) => Said { nonce: &nonce, names: spelt(self.wants), ..Said::default() },
            (Codec::Delta, true) if when == When::WithTheNextAnswer => {
                self.subscribe_later[name] = true;
                return;
            }
            (Codec::Delta, true) => Said { names: spelt(one), ..Said::default() },
            // The name is not subscribed to yet.
            (Codec::Delta, false) if std::mem::take(&mut self.subscribe_later[name]) => return,
            (Codec::Delta, false) => Said { unsubscribe: spelt(one), ..Said::default() },
        };
        self.request(said, snapshot);
    }

    /// The client takes one response and answers it; without one it sends what it has kept for its next request.
    fn answer(&mut self, snapshot: Versions) {
        let later = std::mem::take(&mut self.subscribe_later);
        if self.on_the_way.is_empty() {
            if later != Flags::default() {
                self.request(Said { names: spelt(later), ..Said::default() }, snapshot);
            }
            return;
        }
        let told = self.on_the_way.remove(0);
        let rejects = told.is_bad();
        for (name, later) in later.into_iter().enumerate() {
            if !rejects && self.wants[name] && !later && (told.has[name] != NONE || told.gone[name]) {
                self.has[name] = told.has[name];
            }
        }
        self.nonce.clone_from(&told.nonce);
        let names = if self.codec == Codec::Sotw { spelt(self.wants) } else { spelt(later) };
        self.request(Said { nonce: &told.nonce, names, rejects, ..Said::default() }, snapshot);
    }

    fn waive(&mut self) {
        self.stream.waive(ENDPOINTS);
        self.send_due();
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant to count from; there is no other way to make one")]
fn no_update_is_lost_between_a_change_and_a_client() {
    let start = Instant::now();
    check(36, |steps| {
        let mut plane = Plane::new(start);
        for number in steps {
            plane.step(Dice(*number))?;
        }
        plane.come_to_rest()?;
        plane.check()
    });
}
