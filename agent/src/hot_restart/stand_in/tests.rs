use std::{collections::VecDeque, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use nix::sys::stat::fstat;
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::*;
use crate::hot_restart::{Address, Place, Sockets, wire::Empty};

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000)
}

/// An Envoy of epoch 1, and the agent that plays its parent.
struct Pair {
    _folder: TempDir,
    lineage: Lineage,
    child: Endpoint,
    happened: mpsc::UnboundedReceiver<Happened>,
    serving: JoinHandle<io::Result<()>>,
}

impl Pair {
    fn new(held: Held) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::open(&folder.path().join("run"), folder.path()).unwrap();
        let lineage = place.lineage().unwrap();
        let child = Endpoint::bind(&lineage.socket(Role::Child, RestartEpoch::UNDER_AGENT)).unwrap();
        let (report, happened) = mpsc::unbounded_channel();
        let stand_in = StandIn::bind(&lineage, RestartEpoch::FRESH, start()).unwrap();
        let (_, held) = watch::channel(held);
        let serving = tokio::spawn(stand_in.serve(held, move |happened| report.send(happened).unwrap()));
        Self { _folder: folder, lineage, child, happened, serving }
    }

    async fn says(&mut self, bytes: &[u8]) -> Happened {
        let parent = self.lineage.socket(Role::Parent, RestartEpoch::FRESH);
        self.child.send(&parent, bytes, None).await.unwrap();
        let happened = timeout(Duration::from_secs(5), self.happened.recv());
        happened.await.expect("something happens").unwrap()
    }

    async fn asks(&mut self, request: Request) -> Happened {
        self.says(&Message::request(request).framed()).await
    }

    /// An answer is sent before what happened is told.
    async fn answer(&self) -> Option<(Message, VecDeque<OwnedFd>)> {
        let Datagram { bytes, descriptors, .. } =
            timeout(Duration::ZERO, self.child.receive()).await.ok()?.unwrap();
        match Collector::up_to(LONGEST_REQUEST).push(&bytes) {
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
    let mut pair = Pair::new(Held::default());
    let check = async |pair: &mut Pair, request, happened, reply: Option<Reply>| {
        assert_eq!(pair.asks(request).await, happened);
        assert_eq!(pair.answer().await.map(|(message, _)| message), reply.map(Message::reply));
    };
    let admin = AdminShutDown { original_start_time_unix_seconds: 1_000, enable_reuse_port_default: true };
    let request = Request::ShutdownAdmin(Empty {});
    check(&mut pair, request, Happened::AdminShutDown, Some(Reply::ShutdownAdmin(admin))).await;
    let request = Request::Stats(Empty {});
    check(&mut pair, request, Happened::StatsAsked, Some(Reply::Stats(Stats::default()))).await;
    check(&mut pair, Request::DrainListeners(Empty {}), Happened::Drain, None).await;
    check(&mut pair, Request::TestConnection(Empty {}), Happened::Tested, None).await;
    check(&mut pair, Request::Terminate(Empty {}), Happened::Terminated, None).await;
    pair.serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_held_is_passed_on_and_nothing_else() {
    let socket: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    let inode = fstat(&socket).unwrap().st_ino;
    let listener = TcpListener::from(socket.try_clone().unwrap());
    let address = Address::Tcp(listener.local_addr().unwrap()).to_string();
    let mut held = Held::default();
    held.hold(address.parse().unwrap(), Sockets::PerWorker(vec![Arc::new(socket)])).unwrap();
    let mut pair = Pair::new(held);

    for (wanted, worker, namespace, answer) in [
        (address.as_str(), 0, "", Answer::Passed),
        (&address, 1, "", Answer::NotHeld),
        (&address, 0, "/run/netns/other", Answer::NotHeld),
        (&address.replace("tcp", "udp"), 0, "", Answer::NotHeld),
        ("no address", 0, "", Answer::NotHeld),
    ] {
        let expected = Happened::Asked { address: wanted.into(), worker, answer };
        assert_eq!(pair.asks(wants(wanted, worker, namespace)).await, expected);
        let (message, sockets) = pair.answer().await.unwrap();
        assert_eq!(message, Message::reply(Reply::PassListenSocket(PassedSocket { fd: -1 })));
        let passed: Vec<_> = sockets.iter().map(|socket| fstat(socket).unwrap().st_ino).collect();
        assert_eq!(passed, if answer == Answer::Passed { vec![inode] } else { vec![] }, "{wanted}");
    }
}

#[tokio::test]
async fn what_a_parent_does_not_understand_does_it_no_harm() {
    let mut pair = Pair::new(Held::default());
    let reply = Message::reply(Reply::Stats(Stats::default())).framed();
    for (bytes, expected) in [
        (reply.as_slice(), Happened::Unknown),
        // Of a later protocol.
        (b"\0\0\0\0\0\0\0\x05\n\x03\xa2\x06\0", Happened::Unknown),
        (b"\0\0\0\0\0\0\0\0", Happened::Unknown),
    ] {
        assert_eq!(pair.says(bytes).await, expected);
        assert_eq!(pair.answer().await.unwrap().0, Message::not_recognized());
    }
    assert_eq!(pair.says(b"junk").await, Happened::Garbled(Garbled::NoLength(4)));
    assert!(matches!(pair.says(&[0xff; 100]).await, Happened::Garbled(Garbled::TooLong(_))));
    assert!(pair.answer().await.is_none());
    assert_eq!(pair.asks(Request::DrainListeners(Empty {})).await, Happened::Drain);
}

#[tokio::test]
async fn a_child_that_dies_meanwhile_is_told_of() {
    let mut pair = Pair::new(Held::default());
    let another = pair.lineage.socket(Role::Child, RestartEpoch(2));
    pair.child = Endpoint::bind(&another).unwrap();
    let happened = pair.asks(Request::Stats(Empty {})).await;
    assert_eq!(happened, Happened::Unanswered(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn the_name_of_a_dead_parent_is_taken_over() {
    let mut pair = Pair::new(Held::default());
    pair.serving.abort();
    let name = pair.lineage.socket(Role::Parent, RestartEpoch::FRESH);
    assert!((&mut pair.serving).await.unwrap_err().is_cancelled());
    // Its name outlives it: a child that asks now is refused, and tries again.
    let framed = Message::request(Request::Stats(Empty {})).framed();
    let refused = pair.child.send(&name, &framed, None).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    let stand_in = StandIn::bind(&pair.lineage, RestartEpoch::FRESH, start()).unwrap();
    assert_eq!(std::fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o600);
    let (report, happened) = mpsc::unbounded_channel();
    let (_, held) = watch::channel(Held::default());
    pair.serving = tokio::spawn(stand_in.serve(held, move |happened| report.send(happened).unwrap()));
    pair.happened = happened;
    assert_eq!(pair.asks(Request::Stats(Empty {})).await, Happened::StatsAsked);
}
