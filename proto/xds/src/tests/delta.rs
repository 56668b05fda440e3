//! The incremental variant, rule by rule.

use pilot_proto::ResourceType::{Cluster, Endpoint, Extension, Listener, Route};

use super::*;

fn reconnect_with(
    kind: ResourceType,
    subscribe: &[&str],
    versions: &[(&str, &str)],
) -> DeltaDiscoveryRequest {
    let versions = versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
    DeltaDiscoveryRequest {
        initial_resource_versions: versions.collect(),
        ..delta_request(kind, "", subscribe, &[])
    }
}

#[test]
fn the_first_request_is_answered_in_full() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1 b=1").with(Endpoint, "a=1 b=1");
    assert_eq!(
        server.subscribe(Cluster, &[], &[]),
        (subscribed(Cluster, &["*"]), vec!["cds a=1 b=1".into()])
    );
    assert_eq!(
        server.subscribe(Endpoint, &["a"], &[]),
        (subscribed(Endpoint, &["a"]), vec!["eds a=1".into()])
    );
}

#[test]
fn no_clusters_are_an_answer_too() {
    let mut server = Server::new(Codec::Delta);
    assert_eq!(server.subscribe(Cluster, &["*"], &[]).1, ["cds"]);
    assert_eq!(server.ack(Cluster), (RequestOutcome::Ack { kind: Cluster }, vec![]));
}

#[test]
fn a_client_can_begin_with_nothing() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1 b=1");
    assert_eq!(
        server.subscribe(Cluster, &["*"], &["*"]),
        (RequestOutcome::Unsubscribe { kind: Cluster }, vec![])
    );
    assert_eq!(server.subscribe(Cluster, &["b"], &[]).1, ["cds b=1"]);
}

#[test]
fn versions_that_the_client_has_are_not_sent_again() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1 b=2 c=1").with(Endpoint, "a=1 b=2 c=1");
    let versions = [("a", "1"), ("b", "1"), ("old", "1")];
    // Changed, new and removed resources; `a` is none of them.
    assert_eq!(server.delta(&reconnect_with(Cluster, &["*"], &versions)).1, ["cds b=2 c=1 -old"]);
    let verdict = server.delta(&reconnect_with(Endpoint, &["a", "b", "old"], &versions));
    assert_eq!(verdict, (subscribed(Endpoint, &["a", "b", "old"]), vec!["eds b=2 -old".into()]));
}

#[test]
fn a_client_that_has_everything_is_greeted_with_a_head_alone() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1").with(Endpoint, "a=1");
    assert_eq!(server.delta(&reconnect_with(Cluster, &[], &[("a", "1")])).1, ["cds"]);
    assert_eq!(server.delta(&reconnect_with(Endpoint, &["a"], &[("a", "1")])).1, NOTHING);
}

#[test]
fn what_a_client_holds_of_a_type_without_wildcard_it_also_wants() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=2 b=2");
    let mut request = reconnect_with(Endpoint, &[], &[("a", "1"), ("b", "1")]);
    request.resource_names_unsubscribe = owned(&["b"]);
    assert_eq!(server.delta(&request), (subscribed(Endpoint, &["a"]), vec!["eds a=2".into()]));
    assert_eq!(server.stream.requested(Endpoint), RequestedNames::Names(&names(&["a"])));
}

#[test]
fn a_changed_cluster_gets_its_endpoints_even_if_the_client_has_them() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=2 b=1").with(Endpoint, "a=1 b=1");
    let versions = [("a", "1"), ("b", "1")];
    assert_eq!(server.delta(&reconnect_with(Cluster, &["*"], &versions)).1, ["cds a=2"]);
    // RequestFields before the client read our response, so it does not know that `a` warms.
    assert_eq!(server.delta(&reconnect_with(Endpoint, &["a", "b"], &versions)).1, ["eds a=1"]);
}

#[test]
fn names_are_honoured_even_in_stale_requests_and_rejections() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1 b=1 c=1");
    server.subscribe(Endpoint, &["a"], &[]);
    server.ack(Endpoint);
    let old = server.nonce(Endpoint);
    server.now(&[(Endpoint, "a=2 b=1 c=1")]);
    // Envoy puts new names into its next ACK, which our response has overtaken.
    let (verdict, told) = server.delta(&delta_request(Endpoint, &old, &["b"], &[]));
    assert_eq!((verdict, told), (subscribed(Endpoint, &["b"]), vec![]));
    assert!(server.stream.awaits_ack(Endpoint), "a stale nonce accepts nothing");
    assert_eq!(server.ack(Endpoint).1, ["eds b=1"]);
    let nonce = server.nonce(Endpoint);
    let nack = DeltaDiscoveryRequest {
        error_detail: Some(error("no")),
        ..delta_request(Endpoint, &nonce, &["c"], &[])
    };
    assert_eq!(server.delta(&nack).1, ["eds c=1"]);
}

#[test]
fn a_stale_request_without_names_is_ignored() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1");
    server.subscribe(Endpoint, &["a"], &[]);
    assert_eq!(
        server.delta(&delta_request(Endpoint, "v0-0", &[], &[])),
        (RequestOutcome::StaleNonce { kind: Endpoint }, vec![])
    );
    assert!(server.stream.awaits_ack(Endpoint));
}

#[test]
fn what_is_asked_for_once_more_is_sent_once_more() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1 b=1").with(Cluster, "a=1");
    server.subscribe(Endpoint, &["a", "b"], &[]);
    server.ack(Endpoint);
    assert_eq!(
        server.subscribe(Endpoint, &["a"], &[]),
        (subscribed(Endpoint, &["a"]), vec!["eds a=1".into()])
    );
    server.subscribe(Cluster, &["*"], &[]);
    server.ack(Cluster);
    assert_eq!(server.subscribe(Cluster, &["*"], &[]).1, ["cds a=1"]);
}

#[test]
fn a_spontaneous_request_without_news_is_not_answered() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1");
    server.subscribe(Endpoint, &["a"], &[]);
    assert_eq!(
        server.subscribe(Endpoint, &[], &["phantom"]),
        (RequestOutcome::Ack { kind: Endpoint }, vec![])
    );
    assert!(server.stream.awaits_ack(Endpoint), "it is no ACK of the response under way");
}

#[test]
fn what_does_not_exist_is_told_once() {
    let mut server = Server::new(Codec::Delta).with(Route, "80=1");
    assert_eq!(server.subscribe(Route, &["80", "90"], &[]).1, ["rds 80=1 -90"]);
    server.ack(Route);
    assert_eq!(server.now(&[(Route, "80=2")]), ["rds 80=2"]);
    server.ack(Route);
    assert_eq!(server.now(&[(Route, "80=2 90=1")]), ["rds 90=1"]);
}

#[test]
fn an_unsubscription_is_not_answered() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1 b=1");
    server.subscribe(Endpoint, &["a", "b"], &[]);
    server.ack(Endpoint);
    assert_eq!(
        server.subscribe(Endpoint, &[], &["a"]),
        (RequestOutcome::Unsubscribe { kind: Endpoint }, vec![])
    );
    assert_eq!(server.now(&[(Endpoint, "a=2 b=1")]), NOTHING);
}

#[test]
fn under_a_wildcard_an_unsubscription_is_answered() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1");
    server.subscribe(Cluster, &["*", "a", "nowhere"], &[]);
    server.ack(Cluster);
    // The client cannot know whether the wildcard still covers the name.
    assert_eq!(server.subscribe(Cluster, &[], &["a"]).1, ["cds a=1"]);
    server.ack(Cluster);
    assert_eq!(server.subscribe(Cluster, &[], &["nowhere"]).1, ["cds -nowhere"]);
}

#[test]
fn without_the_wildcard_only_names_remain() {
    let mut server = Server::new(Codec::Delta).with(Listener, "a=1 b=1");
    server.subscribe(Listener, &[], &[]);
    server.ack(Listener);
    assert_eq!(server.subscribe(Listener, &["a"], &[]).1, ["lds a=1"]);
    server.ack(Listener);
    assert_eq!(
        server.subscribe(Listener, &[], &["*"]),
        (RequestOutcome::Unsubscribe { kind: Listener }, vec![])
    );
    assert_eq!(server.now(&[(Listener, "a=2 b=2")]), ["lds a=2"]);
}

#[test]
fn extensions_are_never_taken_away() {
    let mut server = Server::new(Codec::Delta).with(Extension, "wasm=1");
    assert_eq!(server.subscribe(Extension, &["wasm", "nowhere"], &[]).1, ["ecds wasm=1"]);
    server.ack(Extension);
    assert_eq!(server.now(&[(Extension, "")]), NOTHING);
    assert_eq!(server.now(&[(Extension, "wasm=1")]), ["ecds wasm=1"]);
}

#[test]
fn who_asks_for_endpoints_before_clusters_is_told_also_what_it_has() {
    // Its clusters warm: it has them from an earlier stream, and waits for endpoints before it requests more clusters.
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1 b=1").with(Endpoint, "a=1 b=1");
    let versions = [("a", "1"), ("b", "1")];
    assert_eq!(server.delta(&reconnect_with(Endpoint, &["a", "b"], &versions)).1, ["eds a=1 b=1"]);
    server.ack(Endpoint);
    assert_eq!(server.delta(&reconnect_with(Cluster, &["*"], &versions)).1, ["cds"]);
}

#[test]
fn a_name_that_is_asked_for_along_with_everything_is_answered() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1");
    server.subscribe(Cluster, &["a"], &[]);
    server.ack(Cluster);
    assert_eq!(server.subscribe(Cluster, &["*", "ghost"], &[]).1, ["cds a=1 -ghost"]);
}

#[test]
fn a_name_that_was_held_and_not_wanted_is_answered_when_it_is_asked_for() {
    let mut server = Server::new(Codec::Delta).with(Listener, "l=1");
    let mut first = delta_request(Cluster, "", &["c"], &["c"]);
    first.initial_resource_versions.insert("c".into(), "1".into());
    server.delta(&first);
    assert_eq!(server.subscribe(Listener, &["*"], &[]).1, ["lds l=1"]);
    server.subscribe(Cluster, &["c"], &[]);
    server.now(&[(Cluster, "c=1")]);
    let mut heard = server.ack(Listener).1;
    heard.extend(server.ack(Cluster).1);
    assert_eq!(heard, ["cds c=1"]);
}

/// The name is dropped while the response that brings it is on its way: the client need not have it, though it acknowledges
/// the response.
#[test]
fn resource_that_was_unsubscribed_before_its_ack_is_not_counted_as_held() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1 b=1");
    server.subscribe(Endpoint, &["a", "b"], &[]);
    server.subscribe(Endpoint, &[], &["b"]);
    server.ack(Endpoint);
    server.now(&[(Endpoint, "a=1 b=2")]);
    assert_eq!(server.subscribe(Endpoint, &["b"], &[]).1, ["eds b=2"]);
    let nonce = server.nonce(Endpoint);
    let rejection = DeltaDiscoveryRequest {
        error_detail: Some(error("b: bad")),
        ..delta_request(Endpoint, &nonce, &[], &[])
    };
    assert_eq!(server.delta(&rejection).1, NOTHING);
    assert_eq!(server.now(&[(Endpoint, "a=1 b=1")]), ["eds b=1"], "it may have none at all");
}

/// The name is dropped and taken up again while the response that brings it is in flight: the client may have the version that
/// it acknowledges then, so its removal is sent even after a NACK of everything that was sent since.
#[test]
fn removal_of_a_resource_that_the_client_may_have_is_sent() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "b=1");
    assert_eq!(server.subscribe(Endpoint, &["b"], &[]).1, ["eds b=1"]);
    server.subscribe(Endpoint, &[], &["b"]);
    server.subscribe(Endpoint, &["b"], &[]);
    assert_eq!(server.now(&[(Endpoint, "b=2")]), NOTHING, "a response is in flight");
    assert_eq!(server.ack(Endpoint).1, ["eds b=2"]);
    let nonce = server.nonce(Endpoint);
    let rejection = DeltaDiscoveryRequest {
        error_detail: Some(error("b: bad")),
        ..delta_request(Endpoint, &nonce, &[], &[])
    };
    assert_eq!(server.delta(&rejection).1, NOTHING);
    assert_eq!(server.now(&[(Endpoint, "")]), ["eds -b"]);
    server.ack(Endpoint);
    assert_eq!(server.now(&[(Endpoint, "")]), NOTHING);
}
