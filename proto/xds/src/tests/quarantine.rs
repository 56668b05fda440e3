//! One bad resource among good ones: the responses to a client that rejects it, in both variants.

use pilot_proto::ResourceType::{Cluster, Endpoint, Listener};

use super::*;

impl Server {
    /// Rejects the last response of a type as a whole.
    fn reject(&mut self, kind: ResourceType, message: &str) -> (Vec<String>, Vec<String>) {
        let nonce = self.nonce(kind);
        self.reject_nonce(kind, &nonce, message)
    }

    /// Rejects a response; returns the rejected versions and the responses that follow.
    fn reject_nonce(&mut self, kind: ResourceType, nonce: &str, message: &str) -> (Vec<String>, Vec<String>) {
        let error_detail = Some(error(message));
        let verdict = match self.codec {
            Codec::Sotw => {
                let wanted: Vec<String> = match self.stream.requested(kind) {
                    RequestedNames::Names(names) => names.iter().map(ToString::to_string).collect(),
                    RequestedNames::None | RequestedNames::Wildcard => Vec::new(),
                };
                let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                let request = sotw_request(kind, nonce, &wanted);
                self.stream.on_sotw_request(&DiscoveryRequest { error_detail, ..request })
            }
            Codec::Delta => {
                let request = delta_request(kind, nonce, &[], &[]);
                self.stream.on_delta_request(&DeltaDiscoveryRequest { error_detail, ..request })
            }
        };
        let RequestOutcome::Nack { rejected, .. } = verdict else { panic!("{verdict:?}") };
        let rejected = rejected.iter().map(|it| format!("{}={}", it.name, it.version)).collect();
        (rejected, self.drain())
    }

    fn accept(&mut self, kind: ResourceType) -> Vec<String> {
        let names: Vec<String> = match self.stream.requested(kind) {
            RequestedNames::Names(names) => names.iter().map(ToString::to_string).collect(),
            RequestedNames::None | RequestedNames::Wildcard => Vec::new(),
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match self.codec {
            Codec::Sotw => self.names(kind, &names).1,
            Codec::Delta => self.ack(kind).1,
        }
    }

    /// Returns a server with a client that has ACKed these resources.
    fn settled(codec: Codec, kind: ResourceType, resources: &str) -> Self {
        let mut server = Self::new(codec).with(kind, resources);
        let wanted: Vec<&str> =
            resources.split_whitespace().filter_map(|text| text.split('=').next()).collect();
        let wanted = if kind.is_wildcard() { Vec::new() } else { wanted };
        match codec {
            Codec::Sotw => server.sotw(kind, "", &wanted),
            Codec::Delta => server.subscribe(kind, &wanted, &[]),
        };
        server.accept(kind);
        server
    }
}

const BOTH: [Codec; 2] = [Codec::Sotw, Codec::Delta];

#[test]
fn a_bad_resource_is_sent_once_and_no_more_until_it_is_another() {
    for codec in BOTH {
        let mut server = Server::settled(codec, Listener, "bad=1 good=1");
        for version in 2..100 {
            let world = format!("bad={version} good=1");
            let told = server.now(&[(Listener, &world)]);
            assert_eq!(told.len(), 1, "a change, a push");
            assert!(told[0].contains(&format!("bad={version}")), "{told:?}");
            let (refused, told) = server.reject(Listener, "Error adding/updating listener(s) bad: no");
            assert_eq!((refused, told), (vec![format!("bad={version}")], vec![]));
            assert_eq!(server.now(&[(Listener, &world)]), NOTHING);
            assert_eq!(server.stream.withheld(Listener).count(), 1);
        }
        // Other changes are sent, and the client keeps the earlier version of the bad one.
        let kept = if codec == Codec::Sotw { "lds bad=1 good=2" } else { "lds good=2" };
        assert_eq!(server.now(&[(Listener, "bad=99 good=2")]), [kept]);
        assert_eq!(server.accept(Listener), NOTHING);
        assert_eq!(server.stream.status(Listener).unwrap().last_error, None);
        let mended = if codec == Codec::Sotw { "lds bad=100 good=2" } else { "lds bad=100" };
        assert_eq!(server.now(&[(Listener, "bad=100 good=2")]), [mended]);
        assert_eq!(server.stream.withheld(Listener).count(), 0);
    }
}

#[test]
fn what_was_rejected_beside_it_comes_again_at_once() {
    for codec in BOTH {
        let mut server = Server::new(codec).with(Cluster, "bad=1 good=1 other=1");
        match codec {
            Codec::Sotw => server.sotw(Cluster, "", &[]),
            Codec::Delta => server.subscribe(Cluster, &[], &[]),
        };
        let (refused, told) = server.reject(Cluster, "Error adding/updating cluster(s) bad: no");
        assert_eq!((refused, told), (vec!["bad=1".to_owned()], vec!["cds good=1 other=1".to_owned()]));
        assert_eq!(server.accept(Cluster), NOTHING);
    }
}

#[test]
fn an_error_without_a_name_is_traced_by_halves() {
    for codec in BOTH {
        let mut server = Server::new(codec).with(Endpoint, "a=1 b=1 c=1 d=1");
        match codec {
            Codec::Sotw => server.sotw(Endpoint, "", &["a", "b", "c", "d"]),
            Codec::Delta => server.subscribe(Endpoint, &["a", "b", "c", "d"], &[]),
        };
        assert_eq!(server.reject(Endpoint, "no"), (vec![], vec!["eds a=1 b=1".to_owned()]));
        assert_eq!(server.accept(Endpoint), ["eds c=1 d=1"]);
        assert_eq!(server.reject(Endpoint, "no"), (vec![], vec!["eds c=1".to_owned()]));
        assert_eq!(server.accept(Endpoint), ["eds d=1"]);
        assert_eq!(server.reject(Endpoint, "no"), (vec!["d=1".to_owned()], vec![]));
        assert_eq!(server.now(&[(Endpoint, "a=1 b=1 c=1 d=1")]), NOTHING);
        assert_eq!(server.now(&[(Endpoint, "a=2 b=1 c=1 d=1")]), ["eds a=2"]);
    }
}

#[test]
fn suspects_that_are_gone_before_their_trial_hold_nothing_up() {
    let mut server = Server::settled(Codec::Delta, Endpoint, "a=1 b=1 c=1 d=1");
    server.now(&[(Endpoint, "a=2 b=2 c=2 d=2")]);
    assert_eq!(server.reject(Endpoint, "no").1, ["eds a=2 b=2"]);
    // The world takes back one suspect, and the client lets go of another.
    assert_eq!(server.now(&[(Endpoint, "a=2 b=2 c=1 d=2")]), NOTHING, "a and b are on trial");
    server.subscribe(Endpoint, &[], &["d"]);
    assert_eq!(server.accept(Endpoint), NOTHING);
    assert_eq!(server.now(&[(Endpoint, "a=2 b=2 c=3 d=2")]), ["eds c=3"]);
}

#[test]
fn a_removal_that_was_rejected_is_told_again() {
    let mut server = Server::settled(Codec::Delta, Cluster, "bad=1 old=1");
    assert_eq!(server.now(&[(Cluster, "bad=2")]), ["cds bad=2 -old"]);
    assert_eq!(server.reject(Cluster, "bad: no"), (vec!["bad=2".to_owned()], vec!["cds -old".to_owned()]));
    assert_eq!(server.accept(Cluster), NOTHING);
    assert_eq!(server.now(&[(Cluster, "bad=3")]), ["cds bad=3"]);
}

#[test]
fn a_rejection_that_comes_late_brings_back_what_was_not_sent_since() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "bad=1 good=1");
    server.subscribe(Endpoint, &["bad", "good"], &[]);
    let first = server.nonce(Endpoint);
    server.stream.ack_timed_out(Endpoint);
    assert_eq!(server.now(&[(Endpoint, "bad=2 good=1")]), ["eds bad=2"]);
    assert_eq!(server.reject_nonce(Endpoint, &first, "bad: no").1, NOTHING, "the second is under way");
    assert_eq!(server.ack(Endpoint).1, ["eds good=1"], "it was in the first one only");
}

/// A list carries more than its news: what it repeats, the client has by it, whatever becomes of the lists before it.
#[test]
fn a_rejection_that_comes_late_takes_nothing_from_a_later_list() {
    let mut server = Server::new(Codec::Sotw).with(Cluster, "bad=1 gone=1").with(Listener, "l=1");
    server.sotw(Cluster, "", &[]);
    server.sotw(Listener, "", &[]);
    let first = server.nonce(Cluster);
    server.stream.ack_timed_out(Cluster);
    // Listeners are under way and may name what is gone: it stays for now.
    assert_eq!(server.now(&[(Cluster, "bad=2")]), ["cds bad=2 gone=1"]);
    assert_eq!(server.reject_nonce(Cluster, &first, "bad: no").1, NOTHING, "the second is under way");
    assert_eq!(server.accept(Cluster), NOTHING);
    assert_eq!(server.accept(Listener), ["cds bad=2"]);
}

#[test]
fn endpoints_that_a_cluster_waits_for_come_again_without_the_bad_ones() {
    for codec in BOTH {
        let mut server = Server::settled(codec, Endpoint, "a=1 b=1");
        server.world.insert(Cluster, set("a=1 b=1"));
        match codec {
            Codec::Sotw => server.sotw(Cluster, "", &[]),
            Codec::Delta => server.subscribe(Cluster, &[], &[]),
        };
        // Both were sent again, unchanged: the clusters are new.
        assert_eq!(server.reject(Endpoint, "b: no"), (vec!["b=1".to_owned()], vec!["eds a=1".to_owned()]));
    }
}

#[test]
fn another_stream_of_the_same_client_is_not_offered_it_either() {
    for codec in BOTH {
        let mut server = Server::settled(codec, Listener, "bad=1 good=1");
        server.now(&[(Listener, "bad=2 good=1")]);
        server.reject(Listener, "bad: no");
        let refused: Vec<RejectedVersion> = server.stream.withheld(Listener).cloned().collect();
        server.reconnect();
        server.stream.withhold(Listener, refused);
        let told = match codec {
            Codec::Sotw => server.sotw(Listener, "", &[]).1,
            Codec::Delta => server.subscribe(Listener, &[], &[]).1,
        };
        assert_eq!(told, ["lds bad=1 good=1"], "the last good version serves");
    }
}

#[test]
fn suspects_do_not_wait_for_an_answer_that_does_not_come() {
    let mut server = Server::new(Codec::Delta).with(Endpoint, "a=1 b=1");
    server.subscribe(Endpoint, &["a", "b"], &[]);
    assert_eq!(server.reject(Endpoint, "no").1, ["eds a=1"]);
    server.stream.ack_timed_out(Endpoint);
    assert_eq!(server.drain(), ["eds b=1"]);
    server.stream.ack_timed_out(Endpoint);
    assert_eq!(server.now(&[(Endpoint, "a=1 b=1")]), NOTHING);
}
