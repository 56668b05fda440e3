//! State of the world, rule by rule.

use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};

use super::*;

#[test]
fn the_first_request_is_answered_in_full() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "a=1 b=1").with(Endpoint, "a=1 b=1");
    assert_eq!(server.sotw(Cluster, "", &[]), (subscribed(Cluster, &["*"]), vec!["cds a=1 b=1".into()]));
    assert_eq!(server.sotw(Endpoint, "", &["b"]), (subscribed(Endpoint, &["b"]), vec!["eds b=1".into()]));
}

#[test]
fn a_client_that_comes_from_another_server_is_answered_in_full() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1");
    let nonce_of_theirs = "v9-77";
    assert_eq!(server.sotw(Endpoint, nonce_of_theirs, &["a"]).1, ["eds a=1"]);
}

#[test]
fn a_nonce_of_elsewhere_is_not_stale_while_nothing_was_sent() {
    let mut server = Server::new(Codec::Sotw);
    assert_eq!(server.sotw(Route, "v9-77", &["80"]).1, NOTHING);
    server.world.insert(Route, set("80=1 90=1"));
    assert_eq!(
        server.sotw(Route, "v9-77", &["80", "90"]),
        (subscribed(Route, &["80", "90"]), vec!["rds 80=1 90=1".into()])
    );
}

#[test]
fn no_clusters_are_an_answer_too() {
    let mut server = Server::new(Codec::Sotw);
    assert_eq!(server.sotw(Cluster, "", &[]).1, ["cds"]);
    assert_eq!(server.names(Cluster, &[]), (RequestOutcome::Ack { kind: Cluster }, vec![]));
}

#[test]
fn a_second_request_before_the_first_answer_begins_anew() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a"]);
    let first = server.nonce(Endpoint);
    assert_eq!(
        server.sotw(Endpoint, "", &["a", "b"]),
        (subscribed(Endpoint, &["a", "b"]), vec!["eds a=1 b=1".into()])
    );
    assert_eq!(
        server.sotw(Endpoint, &first, &["a", "b"]),
        (RequestOutcome::StaleNonce { kind: Endpoint }, vec![])
    );
    assert_eq!(server.names(Endpoint, &["a", "b"]).0, RequestOutcome::Ack { kind: Endpoint });
}

#[test]
fn an_ack_is_not_answered() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1");
    server.sotw(Endpoint, "", &["a"]);
    assert_eq!(server.stream.status(Endpoint).unwrap().ack_state, AckState::Pending);
    assert_eq!(server.names(Endpoint, &["a"]), (RequestOutcome::Ack { kind: Endpoint }, vec![]));
    let status = server.stream.status(Endpoint).unwrap();
    assert_eq!((status.ack_state, status.nonce_acked), (AckState::Acked, status.nonce_sent));
}

#[test]
fn a_nack_is_remembered_and_never_answered() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "a=1");
    server.sotw(Cluster, "", &[]);
    let nonce = server.nonce(Cluster);
    let request = DiscoveryRequest { error_detail: Some(error("bad")), ..sotw_request(Cluster, &nonce, &[]) };
    let verdict = server.stream.on_sotw_request(&request);
    assert!(matches!(verdict, RequestOutcome::Nack { kind: Cluster, .. }), "{verdict:?}");
    // Other resources of an earlier stream are not in the list.
    assert_eq!(server.drain(), ["cds"]);
    server.names(Cluster, &[]);
    server.now(&[(Cluster, "a=2")]);
    let nonce = server.nonce(Cluster);
    let request = DiscoveryRequest { error_detail: Some(error("bad")), ..sotw_request(Cluster, &nonce, &[]) };
    server.stream.on_sotw_request(&request);
    assert_eq!(server.drain(), NOTHING, "now it has accepted a list");
    let status = server.stream.status(Cluster).unwrap();
    assert_eq!(
        (status.ack_state, status.last_error, status.nonce_acked.is_some()),
        (AckState::Nacked, Some("bad"), true)
    );
    // The same bytes are not sent again; other bytes are, and an ACK clears the error.
    assert_eq!(server.now(&[(Cluster, "a=2")]), NOTHING);
    assert_eq!(server.now(&[(Cluster, "a=3")]), ["cds a=3"]);
    server.names(Cluster, &[]);
    assert_eq!(server.stream.status(Cluster).unwrap().last_error, None);
}

#[test]
fn a_nack_of_an_older_response_leaves_the_last_one_under_way() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a"]);
    let request =
        DiscoveryRequest { error_detail: Some(error("bad")), ..sotw_request(Endpoint, "v0-0", &["b"]) };
    assert!(matches!(server.stream.on_sotw_request(&request), RequestOutcome::Nack { .. }));
    assert!(server.stream.awaits_ack(Endpoint));
    // Its names do not count either: the client repeats them with its next ACK.
    assert_eq!(server.stream.requested(Endpoint), RequestedNames::Names(&names(&["a"])));
}

#[test]
fn a_nack_before_anything_was_asked_for_begins_nothing() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "a=1");
    let request = DiscoveryRequest { error_detail: Some(error("bad")), ..sotw_request(Cluster, "x", &[]) };
    assert!(matches!(server.stream.on_sotw_request(&request), RequestOutcome::Nack { .. }));
    assert_eq!((server.drain(), server.stream.status(Cluster)), (vec![], None));
}

#[test]
fn new_names_in_a_nack_are_served_without_what_was_rejected() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a"]);
    let nonce = server.nonce(Endpoint);
    let request =
        DiscoveryRequest { error_detail: Some(error("bad")), ..sotw_request(Endpoint, &nonce, &["a", "b"]) };
    assert!(matches!(server.stream.on_sotw_request(&request), RequestOutcome::Nack { .. }));
    assert_eq!(server.drain(), ["eds b=1"]);
}

#[test]
fn the_good_ones_of_a_rejected_response_come_back_without_the_bad_one() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "bad=1 good=1 other=1");
    server.sotw(Endpoint, "", &["bad", "good"]);
    let nonce = server.nonce(Endpoint);
    let nack = DiscoveryRequest {
        error_detail: Some(error("bad")),
        ..sotw_request(Endpoint, &nonce, &["bad", "good", "other"])
    };
    server.stream.on_sotw_request(&nack);
    assert_eq!(server.drain(), ["eds good=1 other=1"]);
    server.names(Endpoint, &["bad", "good", "other"]);
    assert_eq!(server.now(&[(Endpoint, "bad=1 good=1 other=2")]), ["eds other=2"]);
    server.names(Endpoint, &["bad", "good", "other"]);
    assert_eq!(server.now(&[(Endpoint, "bad=2 good=1 other=2")]), ["eds bad=2"]);
}

#[test]
fn no_names_end_a_subscription() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1");
    // Also as the first request: Envoy without routes requests none.
    assert_eq!(server.sotw(Route, "", &[]), (RequestOutcome::Unsubscribe { kind: Route }, vec![]));
    server.sotw(Endpoint, "", &["a"]);
    assert_eq!(server.names(Endpoint, &[]), (RequestOutcome::Unsubscribe { kind: Endpoint }, vec![]));
    assert_eq!(server.stream.requested(Endpoint), RequestedNames::None);
    assert_eq!(server.now(&[(Endpoint, "a=2")]), NOTHING);
    assert_eq!(server.names(Endpoint, &["a"]).1, ["eds a=2"]);
}

#[test]
fn stale_requests_are_ignored_with_their_names() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a"]);
    let first = server.nonce(Endpoint);
    server.names(Endpoint, &["a"]);
    server.now(&[(Endpoint, "a=2 b=1")]);
    assert_eq!(
        server.sotw(Endpoint, &first, &["a", "b"]),
        (RequestOutcome::StaleNonce { kind: Endpoint }, vec![])
    );
    assert!(server.stream.awaits_ack(Endpoint), "a stale nonce accepts nothing");
    assert_eq!(server.names(Endpoint, &["a", "b"]).1, ["eds b=1"]);
}

#[test]
fn new_names_bring_only_themselves() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a"]);
    assert_eq!(server.names(Endpoint, &["a", "b"]), (subscribed(Endpoint, &["b"]), vec!["eds b=1".into()]));
}

#[test]
fn a_grpc_library_hears_of_all_its_names() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.stream = Stream::new(Codec::Sotw, "test".into()).proxyless();
    server.sotw(Endpoint, "", &["a"]);
    assert_eq!(server.names(Endpoint, &["a", "b"]).1, ["eds a=1 b=1"]);
    assert_eq!(server.names(Endpoint, &["b"]), (RequestOutcome::Unsubscribe { kind: Endpoint }, vec![]));
}

#[test]
fn fewer_names_of_endpoints_are_not_answered_and_of_clusters_are() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1").with(Cluster, "a=1 b=1");
    server.sotw(Endpoint, "", &["a", "b"]);
    assert_eq!(server.names(Endpoint, &["a"]), (RequestOutcome::Unsubscribe { kind: Endpoint }, vec![]));
    server.sotw(Cluster, "", &["a", "b"]);
    assert_eq!(
        server.names(Cluster, &["a"]),
        (RequestOutcome::Unsubscribe { kind: Cluster }, vec!["cds a=1".into()])
    );
}

#[test]
fn a_name_that_is_dropped_and_taken_up_again_is_sent_again() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a", "b"]);
    server.names(Endpoint, &["a"]);
    assert_eq!(server.names(Endpoint, &["a", "b"]).1, ["eds b=1"]);
}

#[test]
fn silence_after_names_ends_a_subscription_to_listeners() {
    let mut server = Server::new(Codec::Sotw).with(Listener, "a=1 b=1");
    server.sotw(Listener, "", &[]);
    assert_eq!(server.names(Listener, &["*", "a"]).1, ["lds a=1 b=1"]);
    assert_eq!(server.names(Listener, &["a"]).1, ["lds a=1"]);
    assert_eq!(server.names(Listener, &[]), (RequestOutcome::Unsubscribe { kind: Listener }, vec![]));
    // Even without a nonce: it is a matter of the whole stream.
    assert_eq!(server.sotw(Listener, "", &[]), (RequestOutcome::Unsubscribe { kind: Listener }, vec![]));
    assert_eq!(server.now(&[(Listener, "a=2")]), NOTHING);
}

#[test]
fn clusters_come_all_together_and_endpoints_one_by_one() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "a=1 b=1").with(Endpoint, "a=1 b=1");
    server.sotw(Cluster, "", &[]);
    server.names(Cluster, &[]);
    server.sotw(Endpoint, "", &["a", "b"]);
    server.names(Endpoint, &["a", "b"]);
    assert_eq!(server.now(&[(Endpoint, "a=1 b=2")]), ["eds b=2"]);
    server.names(Endpoint, &["a", "b"]);
    assert_eq!(server.now(&[(Cluster, "a=1 b=2")]), ["cds a=1 b=2", "eds b=2"]);
}

#[test]
fn endpoints_that_are_gone_cannot_be_told() {
    let mut server = Server::new(Codec::Sotw).with(Endpoint, "a=1 b=1");
    server.sotw(Endpoint, "", &["a", "b"]);
    server.names(Endpoint, &["a", "b"]);
    assert_eq!(server.now(&[(Endpoint, "a=1")]), NOTHING);
    // A resource that exists again is sent, although the client may have kept it.
    assert_eq!(server.now(&[(Endpoint, "a=1 b=1")]), ["eds b=1"]);
}

#[test]
fn clusters_that_a_reconnecting_envoy_asks_for_bring_the_endpoints_it_asked_for_before() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "a=1").with(Endpoint, "a=1 other=1");
    assert_eq!(server.sotw(Endpoint, "v0-1", &["a", "other"]).1, ["eds a=1 other=1"]);
    // Under way, so they wait for the answer.
    assert_eq!(server.sotw(Cluster, "v0-2", &[]).1, ["cds a=1"]);
    assert_eq!(
        server.names(Endpoint, &["a", "other"]),
        (RequestOutcome::Ack { kind: Endpoint }, vec!["eds a=1 other=1".into()])
    );
    assert_eq!(server.names(Endpoint, &["a", "other"]).1, NOTHING);
}
