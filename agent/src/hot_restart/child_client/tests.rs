use std::{net::TcpListener, os::fd::AsFd, time::SystemTime};

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::hot_restart::{
    ParentEmulator, RuntimeDir,
    wire::{AdminShutDown, MAX_REQUEST, PassedSocket},
};

/// Running Envoy with replies of the test.
struct Parent {
    _folder: TempDir,
    base_id: BaseIdLease,
    endpoint: Endpoint,
}

impl Parent {
    fn new() -> Self {
        let (folder, base_id) = base_id();
        let endpoint = Endpoint::bind(&base_id.socket(SocketRole::Parent, RestartEpoch::FRESH)).unwrap();
        Self { _folder: folder, base_id, endpoint }
    }

    fn child(&self) -> ChildClient {
        ChildClient::bind(&self.base_id, RestartEpoch::FRESH).unwrap()
    }

    async fn asked(&self) -> Request {
        let Datagram { bytes, .. } = self.endpoint.receive().await.unwrap();
        match MessageAssembler::up_to(MAX_REQUEST).push(&bytes) {
            Progress::Message(Message { body: Some(Body::Request(message)), .. }) => message.request.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn answers(&self, framed: &[u8], socket: Option<&OwnedFd>) {
        let child = self.base_id.socket(SocketRole::Child, RestartEpoch::UNDER_AGENT);
        self.endpoint.send(&child, framed, socket.map(|socket| socket.as_fd())).await.unwrap();
    }
}

fn base_id() -> (TempDir, BaseIdLease) {
    let folder = tempfile::tempdir().unwrap();
    let runtime_dir = RuntimeDir::open(&folder.path().join("run"), folder.path()).unwrap();
    let base_id = runtime_dir.reserve_base_id().unwrap();
    (folder, base_id)
}

fn listener() -> (ListenAddress, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (ListenAddress::Tcp(listener.local_addr().unwrap()), listener.into())
}

fn stats(connections: u64) -> Vec<u8> {
    let stats = Stats { memory_allocated: 1, num_connections: connections };
    Message::reply(Reply::Stats(stats)).framed()
}

fn passed(fd: i32) -> Vec<u8> {
    Message::reply(Reply::PassListenSocket(PassedSocket { fd })).framed()
}

impl ChildClient {
    /// Makes Envoy close its admin for good.
    async fn shutdown_admin(&self) -> Result<(), PeerError> {
        match self.ask(Request::ShutdownAdmin(Empty {})).await? {
            ChildReply::Reply(Reply::ShutdownAdmin(_), _) => Ok(()),
            _ => Err(PeerError::Unexpected),
        }
    }

    /// Makes Envoy exit as after SIGTERM. There is no acknowledgement.
    async fn terminate(&self) -> Result<(), PeerError> {
        self.ask(Request::Terminate(Empty {})).await.map(drop)
    }
}

#[tokio::test]
async fn both_ends_understand_each_other() {
    let (_folder, base_id) = base_id();
    let ((shared, one), (each, two), (unheld, _)) = (listener(), listener(), listener());
    let mut retained = RetainedListeners::default();
    retained.insert(shared.clone(), ListenSockets::Shared(Arc::new(one))).unwrap();
    retained.insert(each.clone(), ListenSockets::PerWorker(vec![Arc::new(two)])).unwrap();
    let stand_in = ParentEmulator::bind(&base_id, RestartEpoch::FRESH, SystemTime::now()).unwrap();
    let serving = tokio::spawn(stand_in.serve(watch::channel(retained.clone()).1, drop));

    let child = ChildClient::bind(&base_id, RestartEpoch::FRESH).unwrap();
    child.shutdown_admin().await.unwrap();
    let fetched = child.listen_sockets(&[shared.clone(), each.clone(), unheld.clone()]).await.unwrap();
    assert_eq!(fetched.refused, [(unheld, FetchRefusal::NoSocket)]);
    for (address, worker, is_held) in
        [(&shared, 0, true), (&shared, 9, true), (&each, 0, true), (&each, 1, false)]
    {
        let (ours, theirs) = (fetched.retained.get(address, worker), retained.get(address, worker));
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
    let FetchedListeners { retained, refused } = fetched.unwrap();
    let mismatch = SocketMismatch::Elsewhere { requested: wanted.clone(), bound: elsewhere.to_string() };
    assert_eq!((retained.is_empty(), refused), (true, vec![(wanted, FetchRefusal::Mismatch(mismatch))]));
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
        assert!(matches!(answered, Err(PeerError::Unexpected | PeerError::Malformed(_))), "{answered:?}");
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
    let (_folder, base_id) = base_id();
    let child = ChildClient::bind(&base_id, RestartEpoch::FRESH).unwrap();
    assert!(
        matches!(child.stats().await, Err(PeerError::Gone(error)) if error.kind() == io::ErrorKind::NotFound)
    );
}
