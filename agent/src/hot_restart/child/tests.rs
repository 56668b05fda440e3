use std::{net::TcpListener, os::fd::AsFd, time::SystemTime};

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::hot_restart::{
    Place, StandIn,
    wire::{AdminShutDown, LONGEST_REQUEST, PassedSocket},
};

/// A running Envoy that says what the test tells it to.
struct Parent {
    _folder: TempDir,
    lineage: Lineage,
    endpoint: Endpoint,
}

impl Parent {
    fn new() -> Self {
        let (folder, lineage) = lineage();
        let endpoint = Endpoint::bind(&lineage.socket(Role::Parent, RestartEpoch::FRESH)).unwrap();
        Self { _folder: folder, lineage, endpoint }
    }

    fn child(&self) -> Child {
        Child::bind(&self.lineage, RestartEpoch::FRESH).unwrap()
    }

    async fn asked(&self) -> Request {
        let Datagram { bytes, .. } = self.endpoint.receive().await.unwrap();
        match Collector::up_to(LONGEST_REQUEST).push(&bytes) {
            Progress::Message(Message { body: Some(Body::Request(message)), .. }) => message.request.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn answers(&self, framed: &[u8], socket: Option<&OwnedFd>) {
        let child = self.lineage.socket(Role::Child, RestartEpoch::UNDER_AGENT);
        self.endpoint.send(&child, framed, socket.map(|socket| socket.as_fd())).await.unwrap();
    }
}

fn lineage() -> (TempDir, Lineage) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(&folder.path().join("run"), folder.path()).unwrap();
    let lineage = place.lineage().unwrap();
    (folder, lineage)
}

fn listener() -> (Address, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (Address::Tcp(listener.local_addr().unwrap()), listener.into())
}

fn stats(connections: u64) -> Vec<u8> {
    let stats = Stats { memory_allocated: 1, num_connections: connections };
    Message::reply(Reply::Stats(stats)).framed()
}

fn passed(fd: i32) -> Vec<u8> {
    Message::reply(Reply::PassListenSocket(PassedSocket { fd })).framed()
}

#[tokio::test]
async fn both_ends_understand_each_other() {
    let (_folder, lineage) = lineage();
    let ((shared, one), (each, two), (unheld, _)) = (listener(), listener(), listener());
    let mut held = Held::default();
    held.hold(shared.clone(), Sockets::Shared(Arc::new(one))).unwrap();
    held.hold(each.clone(), Sockets::PerWorker(vec![Arc::new(two)])).unwrap();
    let stand_in = StandIn::bind(&lineage, RestartEpoch::FRESH, SystemTime::now()).unwrap();
    let serving = tokio::spawn(stand_in.serve(watch::channel(held.clone()).1, drop));

    let child = Child::bind(&lineage, RestartEpoch::FRESH).unwrap();
    child.shutdown_admin().await.unwrap();
    let fetched = child.listen_sockets(&[shared.clone(), each.clone(), unheld.clone()]).await.unwrap();
    assert_eq!(fetched.refused, [(unheld, Refused::NoSuch)]);
    for (address, worker, is_held) in
        [(&shared, 0, true), (&shared, 9, true), (&each, 0, true), (&each, 1, false)]
    {
        let (ours, theirs) = (fetched.held.get(address, worker), held.get(address, worker));
        assert_eq!((ours.is_some(), theirs.is_some()), (is_held, is_held));
        assert!(ours.zip(theirs).is_none_or(|(ours, theirs)| is_same(&ours, &theirs)));
    }
    let none = ParentStats { memory_allocated: 0, connections: 0 };
    assert_eq!(child.stats().await.unwrap(), none);
    child.drain_listeners().await.unwrap();
    child.terminate().await.unwrap();
    serving.await.unwrap().unwrap();
    assert!(matches!(child.stats().await, Err(PeerError::Gone(_))));
}

#[tokio::test]
async fn statistics_of_any_length_are_read_to_their_end() {
    let parent = Parent::new();
    let child = parent.child();
    // Far more datagrams than the kernel queues: the parent blocks until all but ten are read.
    let head = b"\x12\x8b\x80\x19\x1a\x87\x80\x19\x08\x09\x10\x07\x1a\xff\xff\x18";
    let body = [&head[..], &vec![0; 100 * 4096 - 1]].concat();
    let framed = [&(body.len() as u64).to_be_bytes()[..], &body].concat();
    let answer = async {
        assert_eq!(parent.asked().await, Request::Stats(Empty {}));
        parent.answers(&framed, None).await;
    };
    let (answered, ()) = tokio::join!(child.stats(), answer);
    assert_eq!(answered.unwrap(), ParentStats { memory_allocated: 9, connections: 7 });
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_not_held() {
    let parent = Parent::new();
    let child = parent.child();
    let ((wanted, _), (elsewhere, wrong)) = (listener(), listener());
    let asked = [wanted.clone()];
    let answer = async {
        for (fd, socket) in [(3, Some(&wrong)), (-1, None)] {
            parent.asked().await;
            parent.answers(&passed(fd), socket).await;
        }
    };
    let (fetched, ()) = tokio::join!(child.listen_sockets(&asked), answer);
    let Fetched { held, refused } = fetched.unwrap();
    let mismatch = Mismatch::Elsewhere { wanted: wanted.clone(), found: elsewhere.to_string() };
    assert_eq!((held.is_empty(), refused), (true, vec![(wanted, Refused::Wrong(mismatch))]));
}

#[tokio::test]
async fn an_answer_to_something_else_is_no_answer() {
    let parent = Parent::new();
    let child = parent.child();
    let admin = AdminShutDown { original_start_time_unix_seconds: 0, enable_reuse_port_default: true };
    for bytes in [
        Message::reply(Reply::ShutdownAdmin(admin)).framed(),
        Message::not_recognized().framed(),
        Message::request(Request::Stats(Empty {})).framed(),
        b"junk".to_vec(),
    ] {
        let answer = async {
            parent.asked().await;
            parent.answers(&bytes, None).await;
        };
        let (answered, ()) = tokio::join!(child.stats(), answer);
        assert!(matches!(answered, Err(PeerError::Unexpected | PeerError::Garbled(_))), "{answered:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_read_and_not_taken_for_the_next() {
    let parent = Parent::new();
    let child = parent.child();
    assert!(matches!(child.stats().await, Err(PeerError::Silent)));
    let late = async {
        parent.asked().await;
        parent.answers(&stats(1), None).await;
        parent.asked().await;
        parent.answers(&stats(2), None).await;
    };
    let (answered, ()) = tokio::join!(child.stats(), late);
    assert_eq!(answered.unwrap().connections, 2);

    // The asker is gone; Envoy would abort if it could not deliver its answer.
    let asker = tokio::spawn(async move { child.stats().await });
    parent.asked().await;
    asker.abort();
    assert!(asker.await.unwrap_err().is_cancelled());
    parent.answers(&stats(3), None).await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_no_answer() {
    let parent = Parent::new();
    let child = parent.child();
    for connections in 0..20 {
        parent.answers(b"junk", None).await;
        parent.answers(&stats(99), None).await;
        let answer = async {
            parent.asked().await;
            parent.answers(&stats(connections), None).await;
        };
        let (answered, ()) = tokio::join!(child.stats(), answer);
        assert_eq!(answered.unwrap().connections, connections);
    }
}

#[tokio::test]
async fn nobody_there_is_known_at_once() {
    let (_folder, lineage) = lineage();
    let child = Child::bind(&lineage, RestartEpoch::FRESH).unwrap();
    assert!(
        matches!(child.stats().await, Err(PeerError::Gone(error)) if error.kind() == io::ErrorKind::NotFound)
    );
}
