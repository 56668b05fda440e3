//! The rules between types, and what holds for both variants.

use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};

use super::*;

/// An Envoy that is up and has accepted everything.
fn settled(codec: Codec, worlds: &[(ResourceType, &str)]) -> Server {
    let mut server = Server::new(codec);
    for (kind, resources) in worlds {
        server.world.insert(*kind, set(resources));
        let resources = set(resources);
        let names: Vec<&str> =
            resources.iter().map(|resource| &*resource.name).filter(|_| !kind.is_wildcard()).collect();
        match codec {
            Codec::Sotw => server.sotw(*kind, "", &names),
            Codec::Delta => server.subscribe(*kind, &names, &[]),
        };
    }
    for (kind, _) in worlds {
        accept(&mut server, *kind);
        // Endpoints were owed to the clusters, and accepted once more.
        accept(&mut server, *kind);
    }
    assert!(worlds.iter().all(|(kind, _)| !server.stream.awaits_ack(*kind)));
    server
}

fn accept(server: &mut Server, kind: ResourceType) -> Vec<String> {
    let nonce = server.nonce(kind);
    match server.codec {
        Codec::Delta => server.delta(&delta_request(kind, &nonce, &[], &[])).1,
        Codec::Sotw => {
            let names: Vec<String> = match server.stream.requested(kind) {
                RequestedNames::Names(names) => names.iter().map(ToString::to_string).collect(),
                RequestedNames::None | RequestedNames::Wildcard => Vec::new(),
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            server.sotw(kind, &nonce, &names).1
        }
    }
}

const MESH: [(ResourceType, &str); 4] =
    [(Cluster, "a=1 b=1"), (Endpoint, "a=1 b=1"), (Listener, "l=1"), (Route, "80=1")];

#[test]
fn types_go_out_clusters_first() {
    let mut server = settled(Codec::Delta, &MESH);
    let everything = [(Route, "80=2"), (Listener, "l=2"), (Endpoint, "a=2 b=1"), (Cluster, "a=2 b=1")];
    assert_eq!(server.now(&everything), ["cds a=2", "eds a=2", "lds l=2", "rds 80=2"]);
}

#[test]
fn types_that_nobody_watches_are_not_due() {
    let mut server = settled(Codec::Delta, &[(Cluster, "a=1")]);
    assert_eq!(server.now(&[(Endpoint, "a=1"), (Route, "80=1")]), NOTHING);
}

#[test]
fn a_cluster_that_is_sent_brings_its_endpoints_changed_or_not() {
    let mut server = settled(Codec::Delta, &MESH);
    assert_eq!(server.now(&[(Cluster, "a=2 b=1")]), ["cds a=2", "eds a=1"]);
}

#[test]
fn endpoints_under_way_are_owed_to_the_cluster_until_they_were_answered() {
    let mut server = settled(Codec::Delta, &MESH);
    assert_eq!(server.now(&[(Endpoint, "a=2 b=1")]), ["eds a=2"]);
    assert_eq!(server.now(&[(Cluster, "a=2 b=1")]), ["cds a=2"]);
    assert_eq!(accept(&mut server, Endpoint), ["eds a=2"]);
}

#[test]
fn one_response_of_a_type_is_under_way_and_the_next_says_where_things_stand_then() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut server = settled(codec, &MESH);
        assert_eq!(server.now(&[(Route, "80=2")]), ["rds 80=2"]);
        for version in ["80=3", "80=4", "80=5"] {
            assert_eq!(server.now(&[(Route, version)]), NOTHING);
        }
        // Other types are not held up.
        assert_eq!(server.now(&[(Listener, "l=2")]), ["lds l=2"]);
        assert_eq!(accept(&mut server, Route), ["rds 80=5"]);
        assert_eq!(accept(&mut server, Route), NOTHING);
    }
}

#[test]
fn a_change_that_was_taken_back_meanwhile_is_not_sent() {
    let mut server = settled(Codec::Delta, &MESH);
    server.now(&[(Route, "80=2")]);
    server.now(&[(Route, "80=3")]);
    server.now(&[(Route, "80=2")]);
    assert_eq!(accept(&mut server, Route), NOTHING);
}

#[test]
fn responding_while_one_is_under_way_keeps_the_type_due() {
    let mut server = settled(Codec::Delta, &MESH);
    server.now(&[(Route, "80=2")]);
    assert_eq!(server.stream.respond(Route, &"v9".into(), &set("80=3"), SendMode::Changed), None);
    server.world.insert(Route, set("80=3"));
    assert_eq!(accept(&mut server, Route), ["rds 80=3"]);
}

#[test]
fn a_client_that_takes_too_long_to_answer_does_not_miss_the_next_change() {
    let mut server = settled(Codec::Delta, &MESH);
    server.now(&[(Cluster, "a=2 b=1")]);
    assert_eq!(server.now(&[(Cluster, "a=3 b=1")]), NOTHING);
    server.stream.ack_timed_out(Cluster);
    assert_eq!(server.stream.status(Cluster).unwrap().ack_state, AckState::TimedOut);
    assert_eq!(server.drain(), ["cds a=3"]);
}

#[test]
fn a_cluster_leaves_after_the_listeners_and_routes_that_named_it() {
    let mut server = settled(Codec::Delta, &MESH);
    let last = [(Cluster, "a=1"), (Listener, "l=2"), (Route, "80=2")];
    assert_eq!(server.now(&last), ["lds l=2", "rds 80=2"]);
    assert_eq!(accept(&mut server, Listener), NOTHING);
    assert_eq!(accept(&mut server, Route), ["cds -b"]);
    // With the world in each response, it is the next world that lacks it.
    let mut server = settled(Codec::Sotw, &MESH);
    assert_eq!(server.now(&[(Cluster, "a=2"), (Route, "80=2")]), ["cds a=2 b=1", "eds a=1", "rds 80=2"]);
    accept(&mut server, Cluster);
    assert_eq!(accept(&mut server, Route), ["cds a=2"]);
}

#[test]
fn a_cluster_that_comes_back_in_time_never_left() {
    let mut server = settled(Codec::Delta, &MESH);
    server.now(&[(Cluster, "a=1"), (Route, "80=2")]);
    assert_eq!(server.now(&[(Cluster, "a=1 b=1")]), NOTHING);
    assert_eq!(accept(&mut server, Route), NOTHING);
}

#[test]
fn a_cluster_leaves_at_once_when_nothing_else_is_under_way() {
    let mut server = settled(Codec::Delta, &MESH);
    assert_eq!(server.now(&[(Cluster, "a=1")]), ["cds -b"]);
}

#[test]
fn what_the_client_holds_from_an_earlier_stream_also_leaves_last() {
    let mut server = settled(Codec::Delta, &MESH);
    server.reconnect();
    server.version += 1;
    server.world.insert(Route, set("80=2"));
    server.world.insert(Cluster, set("a=1"));
    for (kind, names, held) in [(Route, vec!["80"], vec!["80"]), (Cluster, vec!["*"], vec!["a", "b"])] {
        let mut request = delta_request(kind, "", &names, &[]);
        request.initial_resource_versions =
            held.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect();
        server.stream.on_delta_request(&request);
    }
    assert_eq!(server.drain(), ["cds", "rds 80=2"]);
    accept(&mut server, Cluster);
    // We know that version by its name only: there is nothing of it that could be sent once more.
    assert_eq!(server.subscribe(Cluster, &["*"], &[]).1, ["cds a=1"]);
    accept(&mut server, Cluster);
    assert_eq!(accept(&mut server, Route), ["cds -b"]);
}

#[test]
fn force_sends_what_the_client_has() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut server = settled(codec, &MESH);
        let response = server.stream.respond(Route, &"v9".into(), &set("80=1 90=1"), SendMode::All).unwrap();
        assert_eq!(ReceivedResponse::read(codec, &response.encode()).to_string(), "rds 80=1");
        assert_eq!(server.stream.respond(Listener, &"v9".into(), &set("l=1"), SendMode::Changed), None);
    }
}

#[test]
fn what_was_offered_is_the_base_of_a_partial_update() {
    let mut server = settled(Codec::Delta, &MESH);
    let mut offered = server.stream.desired(Endpoint);
    offered.insert(resource("b=2"));
    let response = server.stream.respond(Endpoint, &"v9".into(), &offered, SendMode::Changed).unwrap();
    assert_eq!(ReceivedResponse::read(Codec::Delta, &response.encode()).to_string(), "eds b=2");
}

#[test]
fn what_the_client_did_not_ask_for_may_be_offered_and_is_not_sent() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut server = settled(codec, &MESH);
        assert_eq!(server.now(&[(Endpoint, "a=1 b=1 c=1 d=1")]), NOTHING);
    }
}

#[test]
fn a_type_of_nobody_is_named_in_the_verdict() {
    let url = "type.googleapis.com/envoy.api.v2.Cluster".to_owned();
    let mut stream = Stream::new(Codec::Sotw, "test".into());
    let unknown = RequestOutcome::UnknownType { type_url: url.clone() };
    assert_eq!(
        stream.on_sotw_request(&DiscoveryRequest { type_url: url.clone(), ..Default::default() }),
        unknown
    );
    assert_eq!(
        stream.on_delta_request(&DeltaDiscoveryRequest { type_url: url, ..Default::default() }),
        unknown
    );
}
