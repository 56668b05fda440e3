//! The scenarios of the conformance suite for xDS servers (`xds-test-harness`), at the level of a stream.
//!
//! Nearly all of them end with "the service never responds more than necessary": each ACK here must be met
//! with silence.

use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};

use super::*;

const WHOLE: [ResourceType; 2] = [Cluster, Listener];
const SINGLE: [ResourceType; 2] = [Route, Endpoint];
const ALL: [ResourceType; 4] = [Cluster, Listener, Route, Endpoint];

fn told(kind: ResourceType, resources: &str) -> Vec<String> {
    vec![format!("{kind} {resources}")]
}

fn sotw_acked(server: &mut Server, kind: ResourceType, names: &[&str]) {
    assert_eq!(server.names(kind, names), (RequestOutcome::Ack { kind }, vec![]), "{kind}");
}

fn delta_acked(server: &mut Server, kind: ResourceType) {
    assert_eq!(server.ack(kind), (RequestOutcome::Ack { kind }, vec![]), "{kind}");
}

// === State of the world: subscribing ===

#[test]
fn wildcard_sends_all() {
    for kind in WHOLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1");
        assert_eq!(server.sotw(kind, "", &[]).1, told(kind, "A=1 B=1 C=1"));
        sotw_acked(&mut server, kind, &[]);
    }
}

#[test]
fn an_update_sends_all_in_one_response() {
    for kind in WHOLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1");
        server.sotw(kind, "", &[]);
        sotw_acked(&mut server, kind, &[]);
        assert_eq!(server.now(&[(kind, "A=2 B=1 C=1")]), told(kind, "A=2 B=1 C=1"));
        sotw_acked(&mut server, kind, &[]);
    }
}

#[test]
fn wildcard_hears_of_new_resources() {
    for kind in WHOLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1");
        server.sotw(kind, "", &[]);
        sotw_acked(&mut server, kind, &[]);
        assert_eq!(server.now(&[(kind, "A=1 B=1 C=1 D=2")]), told(kind, "A=1 B=1 C=1 D=2"));
        sotw_acked(&mut server, kind, &[]);
    }
}

#[test]
fn only_what_is_named_comes() {
    for kind in ALL {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1 D=1");
        assert_eq!(server.sotw(kind, "", &["B", "D"]).1, told(kind, "B=1 D=1"));
        sotw_acked(&mut server, kind, &["B", "D"]);
        let mut server = Server::new(Codec::Delta).with(kind, "A=1 B=1 C=1 D=1");
        assert_eq!(server.subscribe(kind, &["B", "D"], &[]).1, told(kind, "B=1 D=1"));
        delta_acked(&mut server, kind);
    }
}

#[test]
fn a_named_resource_that_changes_comes_with_its_type() {
    for kind in WHOLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1 D=1");
        server.sotw(kind, "", &["B", "D"]);
        sotw_acked(&mut server, kind, &["B", "D"]);
        assert_eq!(server.now(&[(kind, "A=1 B=2 C=1 D=1")]), told(kind, "B=2 D=1"));
        sotw_acked(&mut server, kind, &["B", "D"]);
        assert_eq!(server.now(&[(kind, "A=3 B=2 C=3 D=1")]), NOTHING);
    }
}

#[test]
fn a_named_resource_that_changes_comes_alone() {
    for kind in SINGLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1 D=1");
        server.sotw(kind, "", &["B", "D"]);
        sotw_acked(&mut server, kind, &["B", "D"]);
        assert_eq!(server.now(&[(kind, "A=1 B=2 C=1 D=1")]), told(kind, "B=2"));
        sotw_acked(&mut server, kind, &["B", "D"]);
        assert_eq!(server.now(&[(kind, "A=3 B=2 C=3 D=1")]), NOTHING);
    }
}

#[test]
fn a_named_resource_comes_when_it_is_created() {
    for (kinds, all) in [(WHOLE, "A=1 Z=2"), (SINGLE, "Z=2")] {
        for kind in kinds {
            let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1");
            assert_eq!(server.sotw(kind, "", &["A", "Z"]).1, told(kind, "A=1"));
            sotw_acked(&mut server, kind, &["A", "Z"]);
            assert_eq!(server.now(&[(kind, "A=1 B=1 Z=2")]), told(kind, all));
            sotw_acked(&mut server, kind, &["A", "Z"]);
        }
    }
}

#[test]
fn two_types_share_a_stream() {
    for (one, other) in [(Cluster, Listener), (Route, Endpoint)] {
        let mut server = Server::new(Codec::Sotw).with(one, "A=1 B=1 C=1").with(other, "A=1 B=1 C=1");
        assert_eq!(server.sotw(one, "", &["B"]).1, told(one, "B=1"));
        assert_eq!(server.sotw(other, "", &["B"]).1, told(other, "B=1"));
        sotw_acked(&mut server, one, &["B"]);
        sotw_acked(&mut server, other, &["B"]);
        assert_eq!(server.now(&[(one, "A=1 B=2 C=1")]), told(one, "B=2"));
        sotw_acked(&mut server, one, &["B"]);
    }
}

// === State of the world: unsubscribing ===

#[test]
fn clusters_and_listeners_can_be_dropped_by_name() {
    for kind in WHOLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1 D=1");
        server.sotw(kind, "", &["A", "B", "C"]);
        assert_eq!(server.names(kind, &["A", "C"]).1, told(kind, "A=1 C=1"));
        sotw_acked(&mut server, kind, &["A", "C"]);
        assert_eq!(server.now(&[(kind, "A=2 B=2 C=2 D=1")]), told(kind, "A=2 C=2"));
        sotw_acked(&mut server, kind, &["A", "C"]);
    }
}

#[test]
fn only_what_remains_of_routes_and_endpoints_comes() {
    for kind in SINGLE {
        let mut server = Server::new(Codec::Sotw).with(kind, "B=1 D=1 G=1");
        server.sotw(kind, "", &["B", "D"]);
        assert_eq!(server.names(kind, &["B"]).1, NOTHING);
        assert_eq!(server.now(&[(kind, "B=2 D=2 G=1")]), told(kind, "B=2"));
        sotw_acked(&mut server, kind, &["B"]);
    }
}

#[test]
fn nothing_comes_when_all_are_dropped() {
    for kind in ALL {
        let mut server = Server::new(Codec::Sotw).with(kind, "A=1 B=1 C=1");
        server.sotw(kind, "", &["A", "B"]);
        sotw_acked(&mut server, kind, &["A", "B"]);
        assert_eq!(server.names(kind, &[]), (RequestOutcome::Unsubscribe { kind }, vec![]));
        assert_eq!(server.now(&[(kind, "A=2 B=2 C=1")]), NOTHING);
    }
}

// === Incremental ===

#[test]
fn names_are_subscribed_one_after_another() {
    for kind in ALL {
        let mut server = Server::new(Codec::Delta).with(kind, "A=1 B=1 C=1");
        assert_eq!(server.subscribe(kind, &["A"], &[]).1, told(kind, "A=1"));
        delta_acked(&mut server, kind);
        assert_eq!(server.subscribe(kind, &["B"], &[]).1, told(kind, "B=1"));
        delta_acked(&mut server, kind);
    }
}

#[test]
fn an_update_sends_that_resource_alone() {
    for kind in ALL {
        let mut server = Server::new(Codec::Delta).with(kind, "A=1 B=1 C=1");
        server.subscribe(kind, &["A", "B", "C"], &[]);
        delta_acked(&mut server, kind);
        assert_eq!(server.now(&[(kind, "A=2 B=1 C=1")]), told(kind, "A=2"));
        delta_acked(&mut server, kind);
    }
}

#[test]
fn what_is_missing_is_told_and_comes_when_it_is_created() {
    for kind in ALL {
        let mut server = Server::new(Codec::Delta).with(kind, "A=1");
        assert_eq!(server.subscribe(kind, &["A", "B"], &[]).1, told(kind, "A=1 -B"));
        delta_acked(&mut server, kind);
        assert_eq!(server.now(&[(kind, "A=1 B=1")]), told(kind, "B=1"));
        delta_acked(&mut server, kind);
    }
}

#[test]
fn what_is_removed_is_told_and_comes_back() {
    for kind in ALL {
        let mut server = Server::new(Codec::Delta).with(kind, "A=1 B=1");
        server.subscribe(kind, &["A", "B"], &[]);
        delta_acked(&mut server, kind);
        assert_eq!(server.now(&[(kind, "A=1")]), told(kind, "-B"));
        delta_acked(&mut server, kind);
        assert_eq!(server.now(&[(kind, "A=1 B=2")]), told(kind, "B=2"));
        delta_acked(&mut server, kind);
    }
}

#[test]
fn names_are_unsubscribed_one_after_another() {
    for kind in ALL {
        let mut server = Server::new(Codec::Delta).with(kind, "A=1 B=1");
        server.subscribe(kind, &["A", "B"], &[]);
        delta_acked(&mut server, kind);
        for (name, world) in [("B", "A=1 B=2"), ("A", "A=2 B=2")] {
            assert_eq!(server.subscribe(kind, &[], &[name]), (RequestOutcome::Unsubscribe { kind }, vec![]));
            assert_eq!(server.now(&[(kind, world)]), NOTHING);
        }
    }
}

#[test]
fn two_types_share_an_incremental_stream() {
    for (one, other) in [(Cluster, Listener), (Listener, Cluster), (Route, Endpoint), (Endpoint, Route)] {
        let mut server = Server::new(Codec::Delta).with(one, "A=1 B=1").with(other, "A=1 B=1");
        assert_eq!(server.subscribe(one, &["B"], &[]).1, told(one, "B=1"));
        assert_eq!(server.subscribe(other, &["B"], &[]).1, told(other, "B=1"));
        delta_acked(&mut server, one);
        delta_acked(&mut server, other);
        assert_eq!(server.now(&[(one, "A=1 B=2")]), told(one, "B=2"));
        delta_acked(&mut server, one);
    }
}
