//! From a change to the client that hears of it: debounce, snapshot, push queue and stream together, in simulated time.
//!
//! Builds take their time, proxies come and go, take their turns late and answer later still. Whatever the order, a client
//! that is there when all is quiet has the last state of what it wants.

use std::time::{Duration, Instant};

use super::requests::{Said, spelt};
use super::server::{Request, Told, due, patched, place};
use super::*;
use crate::model::{ConfigKey, Kind};
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
    stale: Flags,
    on_the_way: Vec<Told>,
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
                    (dice.pick(&[NONE, 1, 2, 3]), dice.pick(&[Urgency::Normal, Urgency::Urgent]));
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
                self.act(number, roll, name);
            }
        }
        Ok(())
    }

    fn act(&mut self, number: u64, roll: usize, name: usize) {
        let snapshot = self.snapshot;
        let Some(proxy) = self.proxies.get_mut(&number) else { return };
        match roll {
            11 => proxy.toggle(name, snapshot),
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
        let key = ConfigKey { kind: Kind::Endpoints, namespace: "n".into(), name: NAMES[name].into() };
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

    /// Everybody does what he has to do until nothing is left to do.
    fn come_to_rest(&mut self) -> Held {
        for _ in 0..200 {
            self.pass(Params::default().max);
            self.begin_build();
            self.end_build();
            self.dequeue()?;
            for number in self.proxies.keys().copied().collect::<Vec<_>>() {
                self.act(number, 12, 0);
                self.act(number, 14, 0);
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
            stale: Flags::default(),
            on_the_way: Vec::new(),
            wants: Flags::default(),
            has: Versions::default(),
            nonce: String::new(),
        }
    }

    fn is_at_rest(&self) -> bool {
        self.turn.is_none() && self.on_the_way.is_empty()
    }

    /// Takes its turn in a push, if it has one; then the turn is over.
    fn take_turn(&mut self, snapshot: Versions) -> bool {
        let Some(request) = self.turn.take() else { return false };
        self.snapshot = snapshot;
        for at in request.updated.iter().filter_map(|key| place(&key.name)) {
            self.stale[at] |= self.wants[at];
        }
        self.stream.push([ENDPOINTS]);
        self.send_due();
        true
    }

    fn send_due(&mut self) {
        let (stale, snapshot) = (&mut self.stale, &self.snapshot);
        let sent =
            due(&mut self.stream, |stream| patched(stream, ENDPOINTS, std::mem::take(stale), *snapshot));
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
        if let Verdict::Subscribe { added, .. } = verdict {
            self.snapshot = snapshot;
            for at in added.iter().filter_map(|name| place(name)) {
                self.stale[at] = true;
            }
        }
        self.send_due();
    }

    fn toggle(&mut self, name: usize, snapshot: Versions) {
        self.wants[name] = !self.wants[name];
        if self.codec == Codec::Delta {
            self.has[name] = NONE;
        }
        let one: Flags = std::array::from_fn(|at| at == name);
        let nonce = self.nonce.clone();
        let said = match (self.codec, self.wants[name]) {
            (Codec::Sotw, _) => Said { nonce: &nonce, names: spelt(self.wants), ..Said::default() },
            (Codec::Delta, true) => Said { names: spelt(one), ..Said::default() },
            (Codec::Delta, false) => Said { unsubscribe: spelt(one), ..Said::default() },
        };
        self.request(said, snapshot);
    }

    /// The client hears one message, and the server its answer.
    fn answer(&mut self, snapshot: Versions) {
        if self.on_the_way.is_empty() {
            return;
        }
        let told = self.on_the_way.remove(0);
        for name in 0..NAMES.len() {
            if self.wants[name] && (told.has[name] != NONE || told.gone[name]) {
                self.has[name] = told.has[name];
            }
        }
        self.nonce.clone_from(&told.nonce);
        let names = if self.codec == Codec::Sotw { spelt(self.wants) } else { Vec::new() };
        self.request(Said { nonce: &told.nonce, names, ..Said::default() }, snapshot);
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
