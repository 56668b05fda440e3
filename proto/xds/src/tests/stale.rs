//! Resources to generate again: the stream's subscription decides, and every change of it counts.

use pilot_proto::ResourceType::{Cluster, Endpoint};

use super::*;

fn some(list: &[&str]) -> Regenerate {
    Regenerate::Names(names(list))
}

fn all_of(list: &[&str]) -> Regenerate {
    Regenerate::AllOf(names(list))
}

/// A server whose client subscribes to these endpoints and has acknowledged them; everything is generated.
fn acked(codec: Codec, subscription: &[&str]) -> Server {
    let mut server = Server::new(codec).with(Endpoint, "a=1 b=1 c=1 d=1");
    match codec {
        Codec::Sotw => {
            server.sotw(Endpoint, "", subscription);
            server.names(Endpoint, subscription);
        }
        Codec::Delta => {
            server.subscribe(Endpoint, subscription, &[]);
            server.ack(Endpoint);
        }
    }
    assert_eq!(server.stream.regenerate(Endpoint), all_of(subscription));
    server
}

#[test]
fn subscribed_names_are_stale_until_they_are_regenerated() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut server = acked(codec, &["a", "b"]);
        assert_eq!(server.stream.regenerate(Endpoint), Regenerate::Nothing);
        match codec {
            Codec::Sotw => server.names(Endpoint, &["a", "b", "c"]),
            Codec::Delta => server.subscribe(Endpoint, &["c"], &[]),
        };
        assert_eq!(server.stream.regenerate(Endpoint), some(&["c"]), "{codec:?}");
        assert_eq!(server.stream.regenerate(Endpoint), Regenerate::Nothing);
    }
}

#[test]
fn wildcard_makes_everything_stale() {
    let mut server = Server::new(Codec::Delta).with(Cluster, "a=1");
    server.subscribe(Cluster, &[], &[]);
    assert_eq!(server.stream.regenerate(Cluster), Regenerate::Everything);
    server.stream.push([Cluster]);
    assert_eq!(server.stream.regenerate(Cluster), Regenerate::Everything);
    assert_eq!(server.stream.regenerate(Cluster), Regenerate::Nothing);
}

#[test]
fn nack_that_changes_the_subscription_makes_the_added_names_stale() {
    for codec in [Codec::Sotw, Codec::Delta] {
        let mut server = acked(codec, &["a", "b"]);
        server.now(&[(Endpoint, "a=2 b=1 c=1 d=1")]);
        assert_eq!(server.stream.regenerate(Endpoint), all_of(&["a", "b"]));
        let (nonce, error_detail) = (server.nonce(Endpoint), Some(error("bad")));
        let verdict = match codec {
            Codec::Sotw => {
                let request = sotw_request(Endpoint, &nonce, &["a", "b", "c"]);
                server.stream.on_sotw_request(&DiscoveryRequest { error_detail, ..request })
            }
            Codec::Delta => {
                let request = delta_request(Endpoint, &nonce, &["c"], &[]);
                server.stream.on_delta_request(&DeltaDiscoveryRequest { error_detail, ..request })
            }
        };
        let RequestOutcome::Nack { added, .. } = verdict else { panic!("{verdict:?}") };
        assert_eq!(added, names(&["c"]));
        assert_eq!(server.stream.regenerate(Endpoint), some(&["c"]), "{codec:?}");
        assert_eq!(server.drain(), ["eds c=1"], "{codec:?}: the rejected version of a stays withheld");
    }
}

/// The client has dropped a name in a request that the server ignores, and takes it up again: for the server nothing has
/// changed, so a push in between must reach the name.
#[test]
fn push_follows_the_subscription_of_the_stream_when_a_request_is_ignored() {
    let mut server = acked(Codec::Sotw, &["a", "b"]);
    let before = server.nonce(Endpoint);
    server.now(&[(Endpoint, "a=2 b=1 c=1 d=1")]);
    assert_eq!(server.sotw(Endpoint, &before, &["a"]).0, RequestOutcome::StaleNonce { kind: Endpoint });
    assert_eq!(server.stream.requested(Endpoint), RequestedNames::Names(&names(&["a", "b"])));
    server.stream.push_names(Endpoint, &names(&["b"]));
    let mut server = server.with(Endpoint, "a=2 b=2 c=1 d=1");
    let (verdict, sent) = server.names(Endpoint, &["a", "b"]);
    assert_eq!(verdict, RequestOutcome::Ack { kind: Endpoint });
    assert_eq!(sent, ["eds b=2"]);
}

#[test]
fn unsubscribed_names_are_not_regenerated() {
    let mut server = acked(Codec::Delta, &["a", "b", "c"]);
    server.stream.push_names(Endpoint, &names(&["a", "b"]));
    server.subscribe(Endpoint, &[], &["b"]);
    server.stream.push_names(Endpoint, &names(&["a"]));
    assert_eq!(server.stream.regenerate(Endpoint), all_of(&["a", "c"]));
    server.stream.push_names(Endpoint, &names(&["c"]));
    server.subscribe(Endpoint, &[], &["a", "c"]);
    assert_eq!(server.stream.regenerate(Endpoint), Regenerate::Nothing);
}
