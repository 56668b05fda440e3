//! From a change to the client that gets it: debounce, snapshot, push queue and stream together, in simulated time.
//!
//! Builds take time; proxies connect and disconnect, take their turns late and acknowledge later still. Whatever the order,
//! a client that is connected when nothing is left to do has the current version of everything that it subscribes to.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pilot_core::model::{ChangeKind, ConfigKey, NameSet, Resource, ResourceSet};
use pilot_core::push::debounce::Params;
use pilot_core::push::{Debounce, PushQueue, PushRequest, Reason, Urgency};
use pilot_proto::ResourceType::Endpoint;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_proto::google::rpc::Status;
use pilot_xds::testing::{Dice, TraceResult, check};
use pilot_xds::{Codec, Regenerate, RequestOutcome, RequestedNames, Response, SendMode, Stream};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Version of each resource; [`NONE`] if it does not exist.
type Versions = [u8; NAMES.len()];

type Flags = [bool; NAMES.len()];

const NONE: u8 = 0;

/// Version that clients reject.
const BAD: u8 = 4;

/// The control plane and its connections.
struct ControlPlane {
    now: Instant,
    debounce: Debounce,
    world: Versions,
    /// The build that is running: its request, and the world when it started.
    building: Option<(PushRequest, Urgency, Versions)>,
    snapshot: Versions,
    queue: PushQueue<u64>,
    connections: BTreeMap<u64, Connection>,
    connected: u64,
}

/// A connection and its client.
struct Connection {
    stream: Stream,
    codec: Codec,
    /// Turn in a push that the connection has not taken yet.
    turn: Option<Arc<PushRequest>>,
    snapshot: Versions,
    in_flight: Vec<Response>,
    client: Client,
}

#[derive(Default)]
struct Client {
    subscribed: Flags,
    /// Names that a delta client adds to its subscription with its next request.
    subscribe_later: Flags,
    versions: Versions,
    nonce: String,
}

/// Request of a client, in either variant.
#[derive(Default)]
struct Request<'a> {
    nonce: &'a str,
    /// All names in state of the world, added names in delta.
    names: Vec<String>,
    unsubscribe: Vec<String>,
    rejects: bool,
}

/// Time at which a delta client sends a change of its subscription.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    WithNextAck,
}

fn position(name: &str) -> Option<usize> {
    NAMES.iter().position(|candidate| *candidate == name)
}

fn names(flags: Flags) -> Vec<String> {
    NAMES.iter().zip(flags).filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()).collect()
}

fn version_of(resource: &Resource) -> u8 {
    resource.version.parse().unwrap()
}

// === impl ControlPlane ===

impl ControlPlane {
    fn new(now: Instant) -> Self {
        let world = [1; NAMES.len()];
        Self {
            now,
            debounce: Debounce::new(Params::default()),
            world,
            building: None,
            snapshot: world,
            queue: PushQueue::default(),
            connections: BTreeMap::new(),
            connected: 0,
        }
    }

    fn step(&mut self, mut dice: Dice) -> TraceResult {
        let roll = dice.roll(16);
        let name = dice.roll(4);
        match roll {
            0..=3 => {
                let version = dice.pick(&[NONE, 1, 2, 3, BAD]);
                self.change(name, version, dice.pick(&[Urgency::Normal, Urgency::Urgent]));
            }
            4 | 5 => self.now += Duration::from_millis(dice.pick(&[1, 30, 100, 250])),
            6 => self.start_build(),
            7 => self.finish_build(),
            8 | 9 => self.dequeue()?,
            10 => match self.any_connection(&mut dice) {
                Some(number) if dice.chance(3) => self.disconnect(number),
                _ => self.connect(dice.pick(&[Codec::Sotw, Codec::Delta])),
            },
            roll => {
                let Some(number) = self.any_connection(&mut dice) else { return Ok(()) };
                match roll {
                    11 => self.toggle(number, name, dice.pick(&[When::Now, When::WithNextAck])),
                    12 | 13 => self.take_turn(number),
                    14 => self.acknowledge(number),
                    _ => self.time_out(number),
                }
            }
        }
        Ok(())
    }

    fn any_connection(&self, dice: &mut Dice) -> Option<u64> {
        let count = u32::try_from(self.connections.len()).unwrap();
        (count > 0).then(|| dice.roll(count)).and_then(|at| self.connections.keys().nth(at).copied())
    }

    fn change(&mut self, name: usize, version: u8, urgency: Urgency) {
        self.world[name] = version;
        let key = ConfigKey { kind: ChangeKind::Endpoints, namespace: "n".into(), name: NAMES[name].into() };
        self.debounce.on_change(self.now, PushRequest::of([key], Reason::Endpoint), urgency);
    }

    fn start_build(&mut self) {
        if let Some((request, urgency)) = self.debounce.take(self.now) {
            self.building = Some((request, urgency, self.world));
        }
    }

    /// Publishes the snapshot, then queues the push.
    fn finish_build(&mut self) {
        let Some((request, urgency, snapshot)) = self.building.take() else { return };
        self.snapshot = snapshot;
        let request = Arc::new(request);
        for number in self.connections.keys() {
            self.queue.enqueue(*number, &request, urgency);
        }
        self.debounce.done();
    }

    fn dequeue(&mut self) -> TraceResult {
        let Some((number, request)) = self.queue.dequeue() else { return Ok(()) };
        match self.connections.get_mut(&number) {
            Some(connection) if connection.turn.is_none() => {
                connection.turn = Some(request);
                Ok(())
            }
            Some(_) => Err(format!("connection {number} has a second turn before it took the first")),
            None => Err(format!("connection {number} has a turn and is closed")),
        }
    }

    fn connect(&mut self, codec: Codec) {
        if self.connections.len() < 3 {
            self.connected += 1;
            self.connections.insert(self.connected, Connection::new(codec));
        }
    }

    fn disconnect(&mut self, number: u64) {
        self.connections.remove(&number);
        self.queue.remove(&number);
    }

    fn toggle(&mut self, number: u64, name: usize, when: When) {
        let snapshot = self.snapshot;
        self.connections.get_mut(&number).unwrap().toggle(name, when, snapshot);
    }

    fn take_turn(&mut self, number: u64) {
        if self.connections.get_mut(&number).unwrap().take_turn(self.snapshot) {
            self.queue.done(&number);
        }
    }

    fn acknowledge(&mut self, number: u64) {
        let snapshot = self.snapshot;
        self.connections.get_mut(&number).unwrap().acknowledge(snapshot);
    }

    fn time_out(&mut self, number: u64) {
        let connection = self.connections.get_mut(&number).unwrap();
        connection.stream.ack_timed_out(Endpoint);
        connection.send_due();
    }

    /// Replaces versions that clients reject, and runs every part until none has anything left to do.
    fn settle(&mut self) -> TraceResult {
        for name in (0..NAMES.len()).filter(|name| self.world[*name] == BAD).collect::<Vec<_>>() {
            self.change(name, 3, Urgency::Normal);
        }
        for _ in 0..200 {
            self.now += Params::default().max;
            self.start_build();
            self.finish_build();
            self.dequeue()?;
            for number in self.connections.keys().copied().collect::<Vec<_>>() {
                self.take_turn(number);
                self.acknowledge(number);
            }
            let idle = self.debounce.due().is_none() && self.building.is_none() && self.queue.is_empty();
            if idle && self.connections.values().all(Connection::is_idle) {
                return Ok(());
            }
        }
        Err("pushes never end".into())
    }

    fn check(&self) -> TraceResult {
        for (number, connection) in &self.connections {
            for (at, name) in NAMES.into_iter().enumerate() {
                let (expected, actual) = (self.world[at], connection.client.versions[at]);
                // State of the world has no way to remove endpoints.
                let not_removable = expected == NONE && connection.codec == Codec::Sotw;
                if connection.client.subscribed[at] && actual != expected && !not_removable {
                    return Err(format!("connection {number} has {name}={actual}, expected {expected}"));
                }
            }
        }
        Ok(())
    }
}

// === impl Connection ===

impl Connection {
    fn new(codec: Codec) -> Self {
        Self {
            stream: Stream::new(codec, "test".into()),
            codec,
            turn: None,
            snapshot: Versions::default(),
            in_flight: Vec::new(),
            client: Client::default(),
        }
    }

    fn is_idle(&self) -> bool {
        self.turn.is_none() && self.in_flight.is_empty() && self.client.subscribe_later == Flags::default()
    }

    /// Takes the turn, if there is one, and ends it.
    fn take_turn(&mut self, snapshot: Versions) -> bool {
        let Some(request) = self.turn.take() else { return false };
        self.snapshot = snapshot;
        let affected = |name: &str| request.updated.iter().any(|key| *key.name == *name);
        let affected = match self.stream.requested(Endpoint) {
            RequestedNames::Names(names) => names.filtered(affected),
            RequestedNames::None | RequestedNames::Wildcard => NameSet::default(),
        };
        self.stream.push_names(Endpoint, &affected);
        self.send_due();
        true
    }

    fn send_due(&mut self) {
        static VERSION: LazyLock<Arc<str>> = LazyLock::new(|| "v".into());
        for _ in 0..16 {
            let Some(kind) = self.stream.next_due() else { return };
            let desired = self.regenerate();
            self.in_flight.extend(self.stream.respond(kind, &VERSION, &desired, SendMode::Changed));
        }
        panic!("a type stays due");
    }

    /// Generates what is stale; the rest is what the stream was passed last.
    fn regenerate(&mut self) -> ResourceSet {
        let names = match self.stream.regenerate(Endpoint) {
            Regenerate::Nothing => NameSet::default(),
            Regenerate::Names(names) | Regenerate::AllOf(names) => names,
            Regenerate::Everything => panic!("endpoints have no wildcard"),
        };
        let mut desired = self.stream.desired(Endpoint);
        for name in &names {
            let Some(at) = position(name) else { continue };
            match self.snapshot[at] {
                NONE => drop(desired.remove(name)),
                version => {
                    let body = Bytes::from_static(b"x");
                    desired.insert(Resource::new(name.clone(), version.to_string().into(), body));
                }
            }
        }
        desired
    }

    fn request(&mut self, request: Request<'_>, snapshot: Versions) {
        let error_detail =
            request.rejects.then(|| Status { code: 13, message: "bad".into(), ..Status::default() });
        let (type_url, response_nonce) = (Endpoint.type_url().to_owned(), request.nonce.to_owned());
        let outcome = match self.codec {
            Codec::Sotw => self.stream.on_sotw_request(&DiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                resource_names: request.names,
                ..DiscoveryRequest::default()
            }),
            Codec::Delta => self.stream.on_delta_request(&DeltaDiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                resource_names_subscribe: request.names,
                resource_names_unsubscribe: request.unsubscribe,
                ..DeltaDiscoveryRequest::default()
            }),
        };
        if let RequestOutcome::Subscribe { added, .. } | RequestOutcome::Nack { added, .. } = outcome
            && !added.is_empty()
        {
            self.snapshot = snapshot;
        }
        self.send_due();
    }

    fn toggle(&mut self, name: usize, when: When, snapshot: Versions) {
        let client = &mut self.client;
        client.subscribed[name] = !client.subscribed[name];
        if self.codec == Codec::Delta {
            client.versions[name] = NONE;
        }
        let one: Flags = std::array::from_fn(|at| at == name);
        let nonce = client.nonce.clone();
        let request = match (self.codec, client.subscribed[name]) {
            (Codec::Sotw, _) => {
                Request { nonce: &nonce, names: names(client.subscribed), ..Request::default() }
            }
            (Codec::Delta, true) if when == When::WithNextAck => {
                client.subscribe_later[name] = true;
                return;
            }
            (Codec::Delta, true) => Request { names: names(one), ..Request::default() },
            // The server does not know of the name yet.
            (Codec::Delta, false) if std::mem::take(&mut client.subscribe_later[name]) => return,
            (Codec::Delta, false) => Request { unsubscribe: names(one), ..Request::default() },
        };
        self.request(request, snapshot);
    }

    /// The client takes one response and acknowledges it; without one it sends the names that wait for the next request.
    fn acknowledge(&mut self, snapshot: Versions) {
        let client = &mut self.client;
        let later = std::mem::take(&mut client.subscribe_later);
        if self.in_flight.is_empty() {
            if later != Flags::default() {
                self.request(Request { names: names(later), ..Request::default() }, snapshot);
            }
            return;
        }
        let response = self.in_flight.remove(0);
        let rejects = response.resources().iter().any(|resource| version_of(resource) == BAD);
        // A name that is subscribed to again starts without a resource, until the server has processed the request.
        let subscribed = client.subscribed;
        let accepts = |name: &str| position(name).filter(|at| !rejects && subscribed[*at] && !later[*at]);
        for resource in response.resources() {
            if let Some(at) = accepts(&resource.name) {
                client.versions[at] = version_of(resource);
            }
        }
        for name in response.removed() {
            if let Some(at) = accepts(name) {
                client.versions[at] = NONE;
            }
        }
        client.nonce = response.nonce.to_string();
        let (nonce, names) = match self.codec {
            Codec::Sotw => (response.nonce.as_str(), names(subscribed)),
            Codec::Delta => (response.nonce.as_str(), names(later)),
        };
        self.request(Request { nonce, names, rejects, ..Request::default() }, snapshot);
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a start of the simulated time; there is no other way to make an Instant"
)]
fn every_update_reaches_the_clients_that_subscribe_to_it() {
    let start = Instant::now();
    check(36, |steps| {
        let mut control_plane = ControlPlane::new(start);
        for number in steps {
            control_plane.step(Dice(*number))?;
        }
        control_plane.settle()?;
        control_plane.check()
    });
}
