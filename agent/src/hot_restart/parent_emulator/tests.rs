use std::{collections::VecDeque, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use nix::sys::stat::fstat;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::*;
use crate::hot_restart::{ListenAddress, RuntimeDir, retained_listeners::ListenSockets, wire::Empty};

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000)
}

/// An Envoy of epoch 1, and the agent that plays its parent.
struct Pair {
    _folder: TempDir,
    base_id: BaseIdLease,
    child: Endpoint,
    happened: mpsc::UnboundedReceiver<ParentEvent>,
    serving: JoinHandle<io::Result<()>>,
}

impl Pair {
    fn new(retained: RetainedListeners) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime_dir = RuntimeDir::open(&folder.path().join("run"), folder.path()).unwrap();
        let base_id = runtime_dir.reserve_base_id().unwrap();
        let child = Endpoint::bind(&base_id.socket(SocketRole::Child, RestartEpoch::UNDER_AGENT)).unwrap();
        let (report, happened) = mpsc::unbounded_channel();
        let stand_in = ParentEmulator::bind(&base_id, RestartEpoch::FRESH, start()).unwrap();
        let (_, retained) = watch::channel(retained);
        let serving = tokio::spawn(stand_in.serve(retained, move |happened| report.send(happened).unwrap()));
        Self { _folder: folder, base_id, child, happened, serving }
    }

    async fn says(&mut self, bytes: &[u8]) -> ParentEvent {
        let parent = self.base_id.socket(SocketRole::Parent, RestartEpoch::FRESH);
        self.child.send(&parent, bytes, None).await.unwrap();
        let happened = timeout(Duration::from_secs(5), self.happened.recv());
        happened.await.expect("something happens").unwrap()
    }

    async fn asks(&mut self, request: Request) -> ParentEvent {
        self.says(&Message::request(request).framed()).await
    }

    /// The reply is sent before the event is reported.
    async fn answer(&self) -> Option<(Message, VecDeque<OwnedFd>)> {
        let Datagram { bytes, descriptors, .. } =
            timeout(Duration::ZERO, self.child.receive()).await.ok()?.unwrap();
        match MessageAssembler::up_to(MAX_REQUEST).push(&bytes) {
            Progress::Message(message) => Some((message, descriptors.into())),
            other => panic!("{other:?}"),
        }
    }
}

fn wants(address: &str, worker_index: u32, network_namespace: &str) -> Request {
    let (address, network_namespace) = (address.into(), network_namespace.into());
    Request::PassListenSocket(PassListenSocket { address, worker_index, network_namespace })
}

#[tokio::test]
async fn a_child_is_answered_as_by_a_parent() {
    let mut pair = Pair::new(RetainedListeners::default());
    let check = async |pair: &mut Pair, request, happened, reply: Option<Reply>| {
        assert_eq!(pair.asks(request).await, happened);
        assert_eq!(pair.answer().await.map(|(message, _)| message), reply.map(Message::reply));
    };
    let admin = AdminShutDown { original_start_time_unix_seconds: 1_000, enable_reuse_port_default: true };
    let request = Request::ShutdownAdmin(Empty {});
    check(&mut pair, request, ParentEvent::AdminShutDown, Some(Reply::ShutdownAdmin(admin))).await;
    let request = Request::Stats(Empty {});
    check(&mut pair, request, ParentEvent::StatsRequested, Some(Reply::Stats(Stats::default()))).await;
    check(&mut pair, Request::DrainListeners(Empty {}), ParentEvent::Drain, None).await;
    check(&mut pair, Request::TestConnection(Empty {}), ParentEvent::Tested, None).await;
    check(&mut pair, Request::Terminate(Empty {}), ParentEvent::Terminated, None).await;
    pair.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_held_is_passed_on_and_nothing_else() {
    let socket: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    let inode = fstat(&socket).unwrap().st_ino;
    let listener = TcpListener::from(socket.try_clone().unwrap());
    let address = ListenAddress::Tcp(listener.local_addr().unwrap()).to_string();
    let mut retained = RetainedListeners::default();
    retained.insert(address.parse().unwrap(), ListenSockets::PerWorker(vec![Arc::new(socket)])).unwrap();
    let mut pair = Pair::new(retained);

    for (wanted, worker, namespace, answer) in [
        (address.as_str(), 0, "", SocketAnswer::Passed),
        (&address, 1, "", SocketAnswer::NotRetained),
        (&address, 0, "/run/netns/other", SocketAnswer::NotRetained),
        (&address.replace("tcp", "udp"), 0, "", SocketAnswer::NotRetained),
        ("no address", 0, "", SocketAnswer::NotRetained),
    ] {
        let expected = ParentEvent::SocketRequested { address: wanted.into(), worker, answer };
        assert_eq!(pair.asks(wants(wanted, worker, namespace)).await, expected);
        let (message, sockets) = pair.answer().await.unwrap();
        assert_eq!(message, Message::reply(Reply::PassListenSocket(PassedSocket { fd: -1 })));
        let passed: Vec<_> = sockets.iter().map(|socket| fstat(socket).unwrap().st_ino).collect();
        assert_eq!(passed, if answer == SocketAnswer::Passed { vec![inode] } else { vec![] }, "{wanted}");
    }
}

#[tokio::test]
async fn what_a_parent_does_not_understand_does_it_no_harm() {
    let mut pair = Pair::new(RetainedListeners::default());
    let reply = Message::reply(Reply::Stats(Stats::default())).framed();
    for (bytes, expected) in [
        (reply.as_slice(), ParentEvent::Unknown),
        // Of a later protocol.
        (b"\0\0\0\0\0\0\0\x05\n\x03\xa2\x06\0", ParentEvent::Unknown),
        (b"\0\0\0\0\0\0\0\0", ParentEvent::Unknown),
    ] {
        assert_eq!(pair.says(bytes).await, expected);
        assert_eq!(pair.answer().await.unwrap().0, Message::not_recognized());
    }
    assert_eq!(pair.says(b"junk").await, ParentEvent::Malformed(MalformedMessage::NoLength(4)));
    assert!(matches!(pair.says(&[0xff; 100]).await, ParentEvent::Malformed(MalformedMessage::TooLong(_))));
    assert!(pair.answer().await.is_none());
    assert_eq!(pair.asks(Request::DrainListeners(Empty {})).await, ParentEvent::Drain);
}

#[tokio::test]
async fn a_child_that_dies_meanwhile_is_told_of() {
    let mut pair = Pair::new(RetainedListeners::default());
    let another = pair.base_id.socket(SocketRole::Child, RestartEpoch(2));
    pair.child = Endpoint::bind(&another).unwrap();
    let happened = pair.asks(Request::Stats(Empty {})).await;
    assert_eq!(happened, ParentEvent::Unanswered(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn the_name_of_a_dead_parent_is_taken_over() {
    let mut pair = Pair::new(RetainedListeners::default());
    pair.serving.abort();
    let name = pair.base_id.socket(SocketRole::Parent, RestartEpoch::FRESH);
    assert!((&mut pair.serving).await.unwrap_err().is_cancelled());
    // Its socket name outlives it: a child's request is refused, and repeated.
    let framed = Message::request(Request::Stats(Empty {})).framed();
    let refused = pair.child.send(&name, &framed, None).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    let stand_in = ParentEmulator::bind(&pair.base_id, RestartEpoch::FRESH, start()).unwrap();
    assert_eq!(std::fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o600);
    let (report, happened) = mpsc::unbounded_channel();
    let (_, retained) = watch::channel(RetainedListeners::default());
    pair.serving = tokio::spawn(stand_in.serve(retained, move |happened| report.send(happened).unwrap()));
    pair.happened = happened;
    assert_eq!(pair.asks(Request::Stats(Empty {})).await, ParentEvent::StatsRequested);
}
