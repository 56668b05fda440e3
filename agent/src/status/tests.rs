//! Access rules and responses; only the last test uses a socket.

use std::{path::Path, sync::Mutex, time::Instant};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::*;
use crate::{
    config::level::LogFormat,
    lifecycle::{Publisher, Transition},
    peer::TrustedUids,
    supervisor::{ServiceState, Stage},
};

const POD: &str = "127.0.0.1:40000";
const DUAL_STACK_POD: &str = "[::ffff:127.0.0.1]:40000";
const NEIGHBOUR: &str = "10.1.2.3:40000";

/// User of a request from within the pod, in the test's socket table.
const ASKER: u32 = 2000;

fn ends(peer: &str) -> ConnectionAddresses {
    let peer: SocketAddr = peer.parse().unwrap();
    let local = if peer.ip().to_canonical().is_ipv4() { "127.0.0.1:15020" } else { "[::1]:15020" };
    ConnectionAddresses { peer, local: local.parse().unwrap() }
}

/// Sockets of the asker in every family, on port 40000.
fn sockets() -> tempfile::TempDir {
    let row =
        |peer: &str, local: &str| format!("sl\n 0: {peer}:9C40 {local}:3AAC 01 0:0 0:0 0 {ASKER} 0 77\n");
    let folder = tempfile::tempdir().unwrap();
    let v6 = "00000000000000000000000001000000";
    std::fs::write(folder.path().join("tcp"), row("0100007F", "0100007F")).unwrap();
    std::fs::write(folder.path().join("tcp6"), row(v6, v6)).unwrap();
    folder
}

struct Scene {
    server: StatusServer,
    orders: mpsc::Receiver<ControlRequest>,
    publisher: Publisher,
    levels: Arc<Mutex<Vec<String>>>,
}

/// A server beside an Envoy without an admin endpoint: nothing listens on port 1.
fn scene(stage: Stage, peer_policy: PeerPolicy) -> Scene {
    let phase = Phase::of(stage, ServiceState::InService);
    let (ask, orders) = mpsc::channel(1);
    let admin = EnvoyAdmin::at("127.0.0.1:1".parse::<SocketAddr>().unwrap());
    let (publisher, lifecycle) =
        lifecycle::channel(Lifecycle { phase: stage.as_str().into(), ..Lifecycle::default() });
    let levels = Arc::new(Mutex::new(Vec::new()));
    let set = Arc::clone(&levels);
    let server = StatusServer::new(StatusInputs {
        phases: watch::channel(phase).1,
        admin: watch::channel(Some(admin)).1,
        expected: watch::channel(Expected::ClustersAndListeners).1,
        lifecycle,
        restarts: HotRestartSupport::Hot,
        orders: ask,
        levels: Some(Box::new(move |levels| {
            set.lock().unwrap().push(levels.into());
            Ok(())
        })),
        peer_policy,
        counters: Arc::new(Counters::since(Instant::now())),
        sink: Sink::start(LogFormat::Text).unwrap(),
    });
    Scene { server, orders, publisher, levels }
}

/// The policy of an agent that runs as root and trusts this list.
fn peer_policy(trusted: &str, sockets: &Path) -> PeerPolicy {
    PeerPolicy::for_test(trusted.parse().unwrap(), 0, sockets)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn post(path: &str) -> Request<()> {
    Request::post(path).body(()).unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(path).body(()).unwrap()
}

async fn ask(server: &StatusServer, request: &Request<()>, peer: &str) -> (u16, String) {
    let response = server.answer(request, ends(peer), &Arc::default()).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Checks the response to one request, and the message to the driver.
fn check(
    stage: Stage,
    trusted: &str,
    request: &Request<()>,
    peer: &str,
    expected: (u16, &str),
) -> Option<ControlRequest> {
    let sockets = sockets();
    let mut scene = scene(stage, peer_policy(trusted, sockets.path()));
    let (status, body) = block_on(ask(&scene.server, request, peer));
    assert_eq!(status, expected.0, "{request:?} from {peer}: {body}");
    assert!(body.contains(expected.1), "{request:?} from {peer}: {body}");
    scene.orders.try_recv().ok()
}

const ORDERS: [(&str, ControlRequest); 3] = [
    ("/quitquitquit", ControlRequest::Quit),
    ("/drain", ControlRequest::Withdraw),
    ("/restart", ControlRequest::Restart),
];

#[test]
fn only_the_trusted_in_the_pod_give_orders_and_only_by_post() {
    let check = |request: &Request<()>, trusted, peer, expected| {
        check(Stage::Running, trusted, request, peer, expected)
    };
    for (path, order) in ORDERS {
        for peer in [POD, DUAL_STACK_POD, "[::1]:40000"] {
            assert_eq!(check(&post(path), "2000", peer, (200, "OK")), Some(order), "{path} {peer}");
            assert_eq!(check(&post(path), "any", peer, (200, "OK")), Some(order), "{path} {peer}");
            assert_eq!(check(&post(path), "2001", peer, (403, "--trustedUids=2000")), None, "{path} {peer}");
        }
        assert_eq!(check(&get(path), "any", POD, (405, "only POST")), None);
        assert_eq!(check(&post(path), "any", NEIGHBOUR, (403, "pod itself")), None);
    }
}

#[test]
fn a_page_in_a_browser_gives_no_orders() {
    let paths = ORDERS.map(|(path, _)| path);
    for path in paths.into_iter().chain(["/logging?level=debug"]) {
        for (header, value, why) in [
            ("host", "rebound.example", "localhost"),
            ("sec-fetch-site", "cross-site", "other sites"),
            ("origin", "null", "other sites"),
        ] {
            let request = Request::post(path).header(header, value).body(()).unwrap();
            assert_eq!(check(Stage::Running, "any", &request, POD, (403, why)), None, "{path} {header}");
        }
    }
}

#[test]
fn readiness_is_anybodys_and_says_why_not() {
    let check = |stage, reason| check(stage, "", &get("/healthz/ready"), NEIGHBOUR, (503, reason));
    check(Stage::Starting, "Envoy is starting");
    check(Stage::Running, "admin does not answer");
    check(Stage::BackingOff, "crashed");
    check(Stage::Draining, "terminating");
}

#[test]
fn our_own_metrics_are_there_when_envoys_are_not() {
    for path in ["/metrics", "/stats/prometheus?usedonly"] {
        let failed = "istio_agent_scrape_failures_total{type=\"envoy\"} 1";
        check(Stage::BackingOff, "", &get(path), NEIGHBOUR, (200, failed));
    }
}

#[test]
fn the_life_is_for_the_pod_with_readiness_as_it_is_now() {
    let sockets = sockets();
    let scene = scene(Stage::Draining, peer_policy("", sockets.path()));
    let (status, body) = block_on(ask(&scene.server, &get("/lifecycle"), POD));
    let seen: Lifecycle = serde_json::from_str(&body).unwrap();
    assert_eq!((status, seen.phase.as_str()), (200, "draining"));
    let reason = Some("terminating".to_owned());
    assert_eq!(seen.readiness, lifecycle::ReadinessStatus { ready: false, reason });
    for path in ["/lifecycle", "/lifecycle/events"] {
        assert_eq!(block_on(ask(&scene.server, &get(path), NEIGHBOUR)).0, 403, "{path}");
    }
}

#[test]
fn our_own_levels_are_set_and_envoys_only_if_there_is_one() {
    let sockets = sockets();
    let scene = scene(Stage::Running, peer_policy("any", sockets.path()));
    let set = |query: &str| block_on(ask(&scene.server, &post(&format!("/logging?{query}")), POD));
    assert_eq!(set("level=default:debug").0, 200);
    assert_eq!(set("level=loud").0, 400);
    assert_eq!(set("").0, 400);
    let (status, body) = set("envoy=debug");
    assert!(status == 503 && body.contains("connect to Envoy's admin"), "{status} {body}");
    assert_eq!(*scene.levels.lock().unwrap(), ["default:debug"]);
}

#[test]
fn there_is_nothing_else() {
    check(Stage::Running, "any", &get("/"), POD, (404, "no / here"));
}

#[test]
fn a_queue_that_is_full_refuses() {
    let sockets = sockets();
    let scene = scene(Stage::Running, peer_policy("any", sockets.path()));
    block_on(async {
        assert_eq!(ask(&scene.server, &post("/drain"), POD).await.0, 200);
        assert_eq!(ask(&scene.server, &post("/drain"), POD).await.0, 503);
    });
}

/// Lines of a real connection to a real server.
async fn listen_to(address: SocketAddr) -> impl AsyncBufReadExt + Unpin {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /lifecycle/events HTTP/1.0\r\n\r\n").await.unwrap();
    BufReader::new(stream)
}

/// Reads up to a line with this content.
async fn until(reader: &mut (impl AsyncBufReadExt + Unpin), wanted: &str) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        let read = timeout(Duration::from_secs(20), reader.read_line(&mut line)).await;
        assert_ne!(read.expect("a line in time").unwrap(), 0, "the end came before {wanted}");
        if line.contains(wanted) {
            return line;
        }
    }
}

#[tokio::test]
async fn events_begin_with_how_things_stand_and_tell_what_changes() {
    let Scene { server, publisher, .. } = scene(Stage::Running, PeerPolicy::new(TrustedUids::default()));
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.run(listener));

    let mut events = listen_to(address).await;
    until(&mut events, "event: lifecycle").await;
    let line = until(&mut events, "data: ").await;
    let first: Lifecycle = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(first.phase, "running");
    assert_eq!(first.readiness.reason.as_deref(), Some("Envoy's admin does not answer"));

    let told = Transition { id: 7, to: "draining".into(), ..Transition::default() };
    publisher.send(told.clone());
    until(&mut events, "event: transition").await;
    until(&mut events, "id: 7").await;
    let line = until(&mut events, "data: ").await;
    assert_eq!(serde_json::from_str::<Transition>(line.strip_prefix("data: ").unwrap()).unwrap(), told);

    // More events than a client can have read.
    for id in 0..1000 {
        publisher.send(Transition { id, ..Transition::default() });
    }
    until(&mut events, "event: missed").await;
    let mut rest = String::new();
    timeout(Duration::from_secs(20), events.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(!rest.contains("event: transition"), "hung up on after what was missed: {rest}");
}

#[tokio::test]
async fn so_many_listen_and_no_more() {
    let Scene { server, publisher: _publisher, .. } =
        scene(Stage::Running, PeerPolicy::new(TrustedUids::default()));
    let open = async |server: &StatusServer| {
        server.answer(&get("/lifecycle/events"), ends(POD), &Arc::default()).await
    };
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(open(&server).await);
    }
    assert!(readers.iter().all(|reader| reader.status() == StatusCode::OK));
    assert_eq!(open(&server).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    readers.pop();
    assert_eq!(open(&server).await.status(), StatusCode::OK);
}
