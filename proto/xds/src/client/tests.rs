//! A client and a [`Stream`] that exchange encoded messages.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};
use pilot_proto::google::protobuf::Any;
use prost::Message;

use super::*;
use crate::testing::{Dice, TraceResult, check};
use crate::{Response, SendMode, Stream};

const KINDS: [ResourceType; 4] = [Cluster, Endpoint, Listener, Route];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Content that the client of the property rejects.
const BAD: u32 = 9;

/// Stands for any type of resource: the name is its first field.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    revision: u32,
}

fn any(kind: ResourceType, name: &str, revision: u32) -> Any {
    let content = Content { name: name.to_owned(), revision };
    Any { type_url: kind.type_url().to_owned(), value: content.encode_to_vec().into() }
}

fn resource(kind: ResourceType, name: &str, revision: u32) -> Resource {
    let body: Bytes = any(kind, name, revision).encode_to_vec().into();
    Resource::new(name.into(), revision.to_string().into(), body)
}

fn revision(resource: &Resource) -> u32 {
    Content::decode(Any::decode(resource.body.clone()).unwrap().value).unwrap().revision
}

fn node() -> Node {
    Node { id: "sidecar~10.0.0.1~web.default~default.svc.cluster.local".to_owned(), ..Node::default() }
}

fn client(codec: Codec) -> Client {
    let mut client = Client::new(codec, node());
    client.connect();
    client
}

fn sotw(request: Option<ClientRequest>) -> DiscoveryRequest {
    match request {
        Some(ClientRequest::Sotw(request)) => *request,
        other => panic!("{other:?}"),
    }
}

fn delta(request: Option<ClientRequest>) -> DeltaDiscoveryRequest {
    match request {
        Some(ClientRequest::Delta(request)) => *request,
        other => panic!("{other:?}"),
    }
}

fn sotw_response(kind: ResourceType, nonce: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: format!("version of {nonce}"),
        nonce: nonce.to_owned(),
        type_url: kind.type_url().to_owned(),
        resources,
        ..DiscoveryResponse::default()
    }
}

#[test]
fn node_is_in_the_first_request_of_each_stream() {
    let mut client = client(Codec::Delta);
    client.subscribe_wildcard(Cluster);
    client.subscribe_wildcard(Listener);
    for _ in 0..2 {
        assert_eq!(delta(client.next_request()).node, Some(node()));
        assert_eq!(delta(client.next_request()).node, None);
        assert_eq!(client.next_request(), None);
        client.connect();
    }
}

#[test]
fn wildcard_is_an_empty_list_until_a_name_is_sent() {
    let mut client = client(Codec::Sotw);
    client.subscribe_wildcard(Cluster);
    assert_eq!(sotw(client.next_request()).resource_names, [""; 0]);
    client.subscribe(Cluster, ["a".into()]);
    assert_eq!(sotw(client.next_request()).resource_names, ["a", "*"]);
    client.unsubscribe(Cluster, ["a"]);
    assert_eq!(sotw(client.next_request()).resource_names, ["*"]);
}

#[test]
fn sotw_ack_has_the_new_version_and_nack_the_accepted_one() {
    let mut client = client(Codec::Sotw);
    client.subscribe(Endpoint, ["a".into()]);
    sotw(client.next_request());
    let update = client.on_sotw_response(sotw_response(Endpoint, "1", vec![any(Endpoint, "a", 1)])).unwrap();
    client.accept(update);
    let ack = sotw(client.next_request());
    assert_eq!((&*ack.version_info, &*ack.response_nonce, ack.error_detail), ("version of 1", "1", None));
    let update = client.on_sotw_response(sotw_response(Endpoint, "2", vec![any(Endpoint, "a", 2)])).unwrap();
    client.reject(update, "no such port");
    let nack = sotw(client.next_request());
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("version of 1", "2"));
    assert_eq!(nack.error_detail.unwrap().message, "no such port");
    assert_eq!(client.accepted(Endpoint).unwrap().get("a").map(revision), Some(1));
    assert_eq!(client.next_request(), None);
}

#[test]
fn sotw_response_removes_missing_clusters_and_no_endpoints() {
    for (kind, removed) in [(Cluster, vec!["b"]), (Endpoint, vec![])] {
        let mut client = client(Codec::Sotw);
        client.subscribe(kind, ["a".into(), "b".into()]);
        let both = vec![any(kind, "a", 1), any(kind, "b", 1)];
        let update = client.on_sotw_response(sotw_response(kind, "1", both)).unwrap();
        client.accept(update);
        let update = client.on_sotw_response(sotw_response(kind, "2", vec![any(kind, "a", 1)])).unwrap();
        assert_eq!(update.changed, []);
        assert_eq!(update.removed.iter().map(|name| &**name).collect::<Vec<_>>(), removed);
        client.accept(update);
    }
}

#[test]
fn initial_resource_versions_are_those_of_accepted_resources() {
    let mut client = client(Codec::Delta);
    client.subscribe(Route, ["80".into(), "8080".into()]);
    delta(client.next_request());
    let resources = vec![discovery_resource("80", "v7", any(Route, "80", 1))];
    let update = client.on_delta_response(delta_response(Route, "1", resources, &["8080"])).unwrap();
    client.accept(update);
    client.connect();
    let request = delta(client.next_request());
    assert_eq!(request.resource_names_subscribe, ["80", "8080"]);
    assert_eq!(request.initial_resource_versions, [("80".to_owned(), "v7".to_owned())].into());
    assert_eq!(request.response_nonce, "", "the ACK of an earlier stream is not sent");
}

fn discovery_resource(
    name: &str,
    version: &str,
    any: Any,
) -> pilot_proto::envoy::service::discovery::v3::Resource {
    pilot_proto::envoy::service::discovery::v3::Resource {
        name: name.to_owned(),
        version: version.to_owned(),
        resource: Some(any),
        ..Default::default()
    }
}

fn delta_response(
    kind: ResourceType,
    nonce: &str,
    resources: Vec<pilot_proto::envoy::service::discovery::v3::Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        resources,
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[test]
fn invalid_response_is_rejected_without_the_caller() {
    let wrong_type = any(Listener, "a", 1);
    let no_name = any(Cluster, "", 1);
    let cut = Any { value: Bytes::from_static(b"\x0a\x7f"), ..any(Cluster, "a", 1) };
    let same = any(Cluster, "a", 1);
    let cases = [
        (
            vec![wrong_type],
            "cds: resource \"\" is of type \"type.googleapis.com/envoy.config.listener.v3.Listener\"",
        ),
        (vec![no_name], "cds: resource \"\": has no name"),
        (vec![cut], "cds: resource \"\": failed to decode Protobuf message"),
        (vec![same.clone(), same], "cds: resource \"a\" occurs twice"),
    ];
    for (resources, expected) in cases {
        let mut client = client(Codec::Sotw);
        client.subscribe_wildcard(Cluster);
        sotw(client.next_request());
        let error = client.on_sotw_response(sotw_response(Cluster, "1", resources)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        let nack = sotw(client.next_request());
        assert_eq!((nack.response_nonce, nack.error_detail.unwrap().message), ("1".to_owned(), error));
    }
}

#[test]
fn response_of_a_type_without_subscription_has_no_answer() {
    let mut client = client(Codec::Sotw);
    client.subscribe_wildcard(Cluster);
    sotw(client.next_request());
    let error = client.on_sotw_response(sotw_response(Route, "1", Vec::new())).unwrap_err();
    let type_url = Route.type_url().to_owned();
    assert_eq!(error, ResponseError::UnexpectedType { type_url });
    assert_eq!(client.next_request(), None);
}

/// A server and a client with messages in transit.
struct Session {
    codec: Codec,
    stream: Stream,
    client: Client,
    desired: [ResourceSet; KINDS.len()],
    requests: VecDeque<ClientRequest>,
    responses: VecDeque<Response>,
    /// Nonces of responses that the client has read and not answered.
    unanswered: BTreeSet<(ResourceType, String)>,
    version: Arc<str>,
}

impl Session {
    fn new(codec: Codec) -> Self {
        let version: Arc<str> = "v".into();
        let mut session = Self {
            codec,
            stream: Stream::new(codec, version.clone()),
            client: client(codec),
            desired: Default::default(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            unanswered: BTreeSet::new(),
            version,
        };
        session.client.subscribe_wildcard(Cluster);
        session
    }

    fn set(&mut self, kind: usize, name: &str, revision: u32) {
        match revision {
            0 => drop(self.desired[kind].remove(name)),
            _ => self.desired[kind].insert(resource(KINDS[kind], name, revision)),
        }
        self.stream.push([KINDS[kind]]);
    }

    fn connect(&mut self) {
        self.stream = Stream::new(self.codec, self.version.clone());
        self.client.connect();
        self.requests.clear();
        self.responses.clear();
        self.unanswered.clear();
    }

    fn send_requests(&mut self) -> TraceResult {
        while let Some(request) = self.client.next_request() {
            let (type_url, nonce, is_answer) = match &request {
                ClientRequest::Sotw(request) => (&request.type_url, &request.response_nonce, false),
                ClientRequest::Delta(request) => {
                    (&request.type_url, &request.response_nonce, !request.response_nonce.is_empty())
                }
            };
            let kind = ResourceType::from_type_url(type_url).unwrap();
            let answers = self.unanswered.remove(&(kind, nonce.clone()));
            if is_answer && !answers {
                return Err(format!("second answer to {nonce}: {request:?}"));
            }
            self.requests.push_back(request);
        }
        if self.unanswered.is_empty() {
            return Ok(());
        }
        Err(format!("no answer to {:?}", self.unanswered))
    }

    fn server_receives(&mut self) {
        match self.requests.pop_front() {
            Some(ClientRequest::Sotw(request)) => drop(self.stream.on_sotw_request(&request)),
            Some(ClientRequest::Delta(request)) => drop(self.stream.on_delta_request(&request)),
            None => {}
        }
    }

    fn server_sends(&mut self) {
        while let Some(kind) = self.stream.next_due() {
            let at = KINDS.iter().position(|known| *known == kind).unwrap();
            let response = self.stream.respond(kind, &self.version, &self.desired[at], SendMode::Changed);
            self.responses.extend(response);
        }
    }

    fn client_receives(&mut self) {
        let Some(response) = self.responses.pop_front() else { return };
        let bytes = response.encode().concat();
        let update = match self.codec {
            Codec::Sotw => self.client.on_sotw_response(DiscoveryResponse::decode(&*bytes).unwrap()),
            Codec::Delta => self.client.on_delta_response(DeltaDiscoveryResponse::decode(&*bytes).unwrap()),
        };
        self.unanswered.insert((response.kind, response.nonce.to_string()));
        let update = update.unwrap();
        if update.changed.iter().any(|resource| revision(resource) == BAD) {
            self.client.reject(update, "bad");
        } else {
            self.client.accept(update);
        }
    }

    fn step(&mut self, mut dice: Dice) -> TraceResult {
        let action = dice.roll(16);
        let kind = dice.roll(4);
        let name = dice.pick(&NAMES);
        match action {
            0..=3 => self.set(kind, name, dice.pick(&[0, 1, 2, 3, BAD])),
            4 | 5 => self.client.subscribe(KINDS[kind], [name.into()]),
            6 | 7 => self.client.unsubscribe(KINDS[kind], [name]),
            8 => self.connect(),
            9 | 10 => self.send_requests()?,
            11 | 12 => self.server_receives(),
            13 => self.server_sends(),
            _ => {
                self.client_receives();
                self.send_requests()?;
            }
        }
        Ok(())
    }

    /// Replaces bad revisions, delivers everything, and compares both sides.
    fn settle(&mut self) -> TraceResult {
        for (at, kind) in KINDS.into_iter().enumerate() {
            let bad = self.desired[at].iter().filter(|resource| revision(resource) == BAD);
            for name in bad.map(|resource| resource.name.clone()).collect::<Vec<_>>() {
                self.set(at, &name, 4);
            }
            self.stream.push([kind]);
        }
        for _ in 0..200 {
            self.send_requests()?;
            self.server_receives();
            self.server_sends();
            self.client_receives();
        }
        self.send_requests()?;
        if !self.requests.is_empty() || !self.responses.is_empty() {
            return Err("messages without end".to_owned());
        }
        KINDS.into_iter().enumerate().try_for_each(|(at, kind)| self.is_settled(at, kind))
    }

    fn is_settled(&self, at: usize, kind: ResourceType) -> TraceResult {
        let wanted =
            |name: &str| self.client.types.get(&kind).is_some_and(|subscriber| subscriber.includes(name));
        let desired = self.desired[at].iter().filter(|resource| wanted(&resource.name));
        let desired: Vec<_> = desired.map(|resource| (resource.name.clone(), revision(resource))).collect();
        let accepted = self.client.accepted(kind).into_iter().flat_map(ResourceSet::iter);
        // State of the world has no way to remove endpoints or routes.
        let stays = self.codec == Codec::Sotw && !kind.is_wildcard();
        let exists = |resource: &&Resource| !stays || self.desired[at].get(&resource.name).is_some();
        let accepted: Vec<_> =
            accepted.filter(exists).map(|resource| (resource.name.clone(), revision(resource))).collect();
        if accepted == desired {
            return Ok(());
        }
        Err(format!("{:?} {kind}: accepted {accepted:?}, server has {desired:?}", self.codec))
    }
}

#[test]
fn name_that_is_unsubscribed_while_a_response_is_in_flight_is_sent_again() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut session = Session::new(codec);
        session.set(3, "a", 1);
        session.set(3, "b", 1);
        session.client.subscribe(Route, ["a".into(), "b".into()]);
        session.settle().unwrap();
        session.set(3, "a", 2);
        session.server_sends();
        // The server ignores these names in state of the world: the nonce is that of the response before.
        session.client.unsubscribe(Route, ["b"]);
        session.send_requests().unwrap();
        session.client.subscribe(Route, ["b".into()]);
        session.settle().unwrap();
    }
}

fn converges(codec: Codec) {
    check(60, |steps| {
        let mut session = Session::new(codec);
        steps.iter().try_for_each(|step| session.step(Dice(*step)))?;
        session.settle()
    });
}

#[test]
fn sotw_client_converges_to_the_resources_of_the_server() {
    converges(Codec::Sotw);
}

#[test]
fn delta_client_converges_to_the_resources_of_the_server() {
    converges(Codec::Delta);
}
