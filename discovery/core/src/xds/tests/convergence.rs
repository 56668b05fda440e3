//! Whatever happens on the way, a client that follows the protocol ends where the server is.
//!
//! The client here is written from the protocol alone: it knows nothing of the server's types. Requests and
//! responses cross each other in two queues; the world changes, bad resources come and are rejected with all that
//! came beside them, streams break.

use std::collections::{BTreeSet, VecDeque};

use pilot_proto::ResourceType::{Cluster, Endpoint, Listener};
use proptest::prelude::*;

use super::*;

/// Clusters by wildcard (and by name beside it), listeners and endpoints by name.
const KINDS: [ResourceType; 3] = [Cluster, Listener, Endpoint];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// What a resource can be; a client rejects any response with a bad one. Empty: there is none.
const VERSIONS: [&str; 5] = ["", "1", "2", "3", "bad"];

#[derive(Clone, Debug)]
enum Step {
    World {
        kind: usize,
        name: usize,
        version: usize,
    },
    /// The client changes its mind about one name; in delta, at once or with the next answer.
    Toggle {
        kind: usize,
        name: usize,
        when: When,
    },
    Flush,
    ToClient,
    ToServer,
    OldNonce {
        kind: usize,
    },
    Waive {
        kind: usize,
    },
    Reconnect,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    WithTheNextAnswer,
}

enum Request {
    Sotw(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// What a client knows and wants of one type.
#[derive(Default)]
struct Interest {
    names: BTreeSet<String>,
    /// Whether names or `*` were ever said on this stream.
    spoken: bool,
    has: BTreeMap<String, String>,
    nonce: String,
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
}

struct Run {
    codec: Codec,
    server: Server,
    interests: BTreeMap<ResourceType, Interest>,
    to_client: VecDeque<Heard>,
    to_server: VecDeque<Request>,
}

impl Run {
    fn new(codec: Codec) -> Self {
        let server = Server::new(codec);
        let interests = KINDS.into_iter().map(|kind| (kind, Interest::default())).collect();
        let mut run =
            Self { codec, server, interests, to_client: VecDeque::new(), to_server: VecDeque::new() };
        run.connect();
        run
    }

    fn connect(&mut self) {
        self.to_client.clear();
        self.to_server.clear();
        self.server.reconnect();
        // Envoy asks for endpoints before it has heard of clusters.
        for kind in [Endpoint, Cluster, Listener] {
            let interest = self.interests.get_mut(&kind).unwrap();
            interest.nonce.clear();
            interest.spoken = !interest.names.is_empty();
            interest.unsubscribe.clear();
            interest.subscribe = interest.names.clone();
            if kind == Cluster && interest.spoken {
                interest.subscribe.insert("*".into());
            }
            match self.codec {
                _ if kind != Cluster && interest.names.is_empty() => {}
                Codec::Sotw => self.say_sotw(kind, None),
                Codec::Delta => {
                    let versions = if kind == Cluster {
                        interest.has.clone()
                    } else {
                        let wanted = |name: &String| interest.names.contains(name);
                        interest
                            .has
                            .iter()
                            .filter(|(name, _)| wanted(name))
                            .map(|(k, v)| (k.clone(), v.clone()))
                            .collect()
                    };
                    self.say_delta(kind, String::new(), None, versions);
                }
            }
        }
    }

    fn request_sotw(&self, kind: ResourceType, nonce: &str) -> DiscoveryRequest {
        let interest = &self.interests[&kind];
        let mut names: Vec<&str> = interest.names.iter().map(String::as_str).collect();
        if kind == Cluster && interest.spoken {
            names.push("*");
        }
        sotw_request(kind, nonce, &names)
    }

    fn say_sotw(&mut self, kind: ResourceType, error_detail: Option<RpcStatus>) {
        let request = self.request_sotw(kind, &self.interests[&kind].nonce);
        self.to_server.push_back(Request::Sotw(DiscoveryRequest { error_detail, ..request }));
    }

    fn say_delta(
        &mut self,
        kind: ResourceType,
        response_nonce: String,
        error_detail: Option<RpcStatus>,
        initial_resource_versions: BTreeMap<String, String>,
    ) {
        let interest = self.interests.get_mut(&kind).unwrap();
        self.to_server.push_back(Request::Delta(DeltaDiscoveryRequest {
            type_url: kind.type_url().into(),
            response_nonce,
            error_detail,
            initial_resource_versions,
            resource_names_subscribe: std::mem::take(&mut interest.subscribe).into_iter().collect(),
            resource_names_unsubscribe: std::mem::take(&mut interest.unsubscribe).into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        }));
    }

    fn toggle(&mut self, kind: ResourceType, name: &str, when: When) {
        let interest = self.interests.get_mut(&kind).unwrap();
        interest.spoken = true;
        if interest.names.remove(name) {
            interest.subscribe.remove(name);
            interest.unsubscribe.insert(name.into());
            // Under the wildcard, only the server knows whether the name is still covered. In `SotW`, a name that
            // is dropped and taken up again between two answers was never dropped.
            if self.codec == Codec::Delta && kind != Cluster {
                interest.has.remove(name);
            }
        } else {
            interest.names.insert(name.into());
            // Both at once would say: subscribe, then unsubscribe.
            if interest.unsubscribe.remove(name) {
                self.say_delta_if(kind);
            }
            self.interests.get_mut(&kind).unwrap().subscribe.insert(name.into());
        }
        match (self.codec, when) {
            (Codec::Sotw, _) => self.say_sotw(kind, None),
            (Codec::Delta, When::Now) => self.say_delta(kind, String::new(), None, BTreeMap::new()),
            (Codec::Delta, When::WithTheNextAnswer) => {}
        }
    }

    /// The name that was dropped in silence is dropped aloud before it is taken up again.
    fn say_delta_if(&mut self, kind: ResourceType) {
        if self.codec == Codec::Delta {
            self.say_delta(kind, String::new(), None, BTreeMap::new());
        }
    }

    fn flush(&mut self) {
        for heard in self.server.hear() {
            let first = self.codec == Codec::Delta && heard.kind.is_wildcard();
            let whole = self.codec == Codec::Sotw && heard.kind.is_wildcard();
            assert!(first || whole || !heard.has.is_empty() || !heard.gone.is_empty(), "empty: {heard}");
            self.to_client.push_back(heard);
        }
    }

    fn client_hears(&mut self) {
        let Some(heard) = self.to_client.pop_front() else { return };
        let interest = self.interests.get_mut(&heard.kind).unwrap();
        interest.nonce.clone_from(&heard.nonce);
        let rejected = heard.has.values().any(|version| version == "bad").then(|| error("bad"));
        if rejected.is_none() {
            let whole = self.codec == Codec::Sotw && heard.kind.is_wildcard();
            if whole {
                interest.has.clear();
            }
            let wanted = |name: &String| {
                heard.kind == Cluster || self.codec == Codec::Sotw || interest.names.contains(name)
            };
            interest.has.extend(heard.has.into_iter().filter(|(name, _)| wanted(name)));
            interest.has.retain(|name, _| !heard.gone.contains(name));
        }
        match self.codec {
            Codec::Sotw => self.say_sotw(heard.kind, rejected),
            Codec::Delta => self.say_delta(heard.kind, heard.nonce, rejected, BTreeMap::new()),
        }
    }

    fn server_hears(&mut self) {
        match self.to_server.pop_front() {
            Some(Request::Sotw(request)) => self.server.stream.on_sotw_request(&request),
            Some(Request::Delta(request)) => self.server.stream.on_delta_request(&request),
            None => return,
        };
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::World { kind, name, version } => {
                let world = self.server.world.entry(KINDS[kind]).or_default();
                let (name, version) = (NAMES[name], VERSIONS[version]);
                if version.is_empty() {
                    world.remove(name);
                } else {
                    world.insert(resource(&format!("{name}={version}")));
                }
                self.server.stream.push([KINDS[kind]]);
            }
            Step::Toggle { kind, name, when } => self.toggle(KINDS[kind], NAMES[name], when),
            Step::Flush => self.flush(),
            Step::ToClient => self.client_hears(),
            Step::ToServer => self.server_hears(),
            Step::OldNonce { kind } => {
                let kind = KINDS[kind];
                // Of a stream that is long gone, or of this one: an agent between us may confuse them.
                self.to_server.push_back(match self.codec {
                    Codec::Sotw => Request::Sotw(self.request_sotw(kind, "v0-0")),
                    Codec::Delta => Request::Delta(delta_request(kind, "v0-0", &[], &[])),
                });
            }
            Step::Waive { kind } => self.server.stream.waive(KINDS[kind]),
            Step::Reconnect => self.connect(),
        }
    }

    /// What is bad is mended, everything that was said arrives, and nothing more happens.
    fn settle(&mut self) {
        for (kind, world) in &mut self.server.world {
            let mended = |old: &Resource| match old.version.as_ref() {
                "bad" => resource(&format!("{}=mended", old.name)),
                _ => old.clone(),
            };
            *world = world.iter().map(mended).collect();
            self.server.stream.push([*kind]);
        }
        if self.codec == Codec::Delta {
            for kind in KINDS {
                self.say_delta(kind, String::new(), None, BTreeMap::new());
            }
        }
        for _ in 0..1000 {
            self.flush();
            self.client_hears();
            self.server_hears();
            if self.to_client.is_empty()
                && self.to_server.is_empty()
                && self.server.stream.next_due().is_none()
            {
                return;
            }
        }
        panic!("the server never falls silent");
    }

    fn check(&mut self) {
        for kind in KINDS {
            let interest = &self.interests[&kind];
            let wanted = |name: &str| kind == Cluster || interest.names.contains(name);
            let world = self.server.world.get(&kind).cloned().unwrap_or_default();
            let is: BTreeMap<String, String> = world
                .iter()
                .filter(|resource| wanted(&resource.name))
                .map(|resource| (resource.name.to_string(), resource.version.to_string()))
                .collect();
            let mut has = interest.has.clone();
            has.retain(|name, _| wanted(name));
            if self.codec == Codec::Sotw && kind == Endpoint {
                // That there are no endpoints any more cannot be said.
                has.retain(|name, _| is.contains_key(name));
            }
            assert_eq!(has, is, "{:?} {kind}", self.codec);
            assert!(!self.server.stream.is_waiting(kind));
        }
        self.server.stream.push(KINDS);
        assert_eq!(self.server.drain(), NOTHING, "a push without news is not sent");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (kind, name) = (0..KINDS.len(), 0..NAMES.len());
    let when = prop_oneof![Just(When::Now), Just(When::WithTheNextAnswer)];
    prop_oneof![
        6 => (kind.clone(), name.clone(), 0..VERSIONS.len())
            .prop_map(|(kind, name, version)| Step::World { kind, name, version }),
        4 => (kind.clone(), name, when).prop_map(|(kind, name, when)| Step::Toggle { kind, name, when }),
        6 => Just(Step::Flush),
        8 => Just(Step::ToClient),
        8 => Just(Step::ToServer),
        1 => kind.clone().prop_map(|kind| Step::OldNonce { kind }),
        1 => kind.prop_map(|kind| Step::Waive { kind }),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_variants_end_where_the_world_is(steps in prop::collection::vec(step(), 0..80)) {
        for codec in [Codec::Sotw, Codec::Delta] {
            let mut run = Run::new(codec);
            for step in &steps {
                run.step(step);
            }
            run.settle();
            run.check();
        }
    }

    /// Changes one after the other, each accepted before the next: then each response tells what the client
    /// does not know, and nothing else.
    #[test]
    fn a_push_says_nothing_the_client_knows(
        changes in prop::collection::vec((0..KINDS.len(), 0..NAMES.len(), 0..VERSIONS.len() - 1), 0..40),
    ) {
        for codec in [Codec::Sotw, Codec::Delta] {
            let mut run = Run::new(codec);
            for kind in [1, 2] {
                for name in 0..NAMES.len() {
                    run.step(&Step::Toggle { kind, name, when: When::Now });
                }
            }
            run.settle();
            for (kind, name, version) in &changes {
                let before = run.server.world.get(&KINDS[*kind]).cloned().unwrap_or_default();
                // What was gone is sent when it comes back: `SotW` cannot say that it was gone.
                let back = |name: &String| before.get(name.as_str()).is_none();
                run.step(&Step::World { kind: *kind, name: *name, version: *version });
                let mut clusters = BTreeSet::new();
                while run.server.stream.next_due().is_some() {
                    run.flush();
                    for heard in &run.to_client {
                        let knows = &run.interests[&heard.kind].has;
                        let news: BTreeSet<&String> =
                            heard.has.iter().filter(|(k, v)| knows.get(*k) != Some(*v)).map(|(k, _)| k).collect();
                        let whole = codec == Codec::Sotw && heard.kind.is_wildcard();
                        if whole {
                            prop_assert!(knows != &heard.has, "{}", heard);
                        } else {
                            let warming = |k: &String| heard.kind == Endpoint && clusters.contains(k);
                            prop_assert!(heard.has.keys().all(|k| news.contains(k) || warming(k) || back(k)), "{}", heard);
                            prop_assert!(heard.gone.iter().all(|k| knows.contains_key(k) || warming(k)), "{}", heard);
                        }
                        if heard.kind == Cluster {
                            clusters.extend(news.into_iter().cloned());
                        }
                    }
                    while !run.to_client.is_empty() || !run.to_server.is_empty() {
                        run.client_hears();
                        run.server_hears();
                    }
                }
            }
            run.check();
        }
    }
}
