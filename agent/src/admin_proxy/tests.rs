//! The whole proxy on loopback, before a test admin endpoint with fixed responses.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::{envoy_admin::AdminAddress, peer::TrustedUids};

/// Long enough for a busy machine, short enough for a test that hangs.
const SOON: Duration = Duration::from_secs(20);

/// A proxy before an admin on a Unix socket.
struct Scene {
    address: SocketAddr,
    target: watch::Sender<Option<EnvoyAdmin>>,
    /// The heads of the requests that have reached the admin.
    seen: mpsc::UnboundedReceiver<String>,
    folder: tempfile::TempDir,
}

/// Starts an admin endpoint that sends this response on each connection and closes it.
async fn scene(answer: &'static [u8], peer_policy: PeerPolicy) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let (see, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = admin.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            see.send(String::from_utf8_lossy(&head[..read]).into_owned()).unwrap();
            stream.write_all(answer).await.unwrap_or_default();
        }
    });
    let (target, targets) = watch::channel(Some(EnvoyAdmin::at(AdminAddress::Unix(path))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(AdminProxy::new(targets, peer_policy).run(listener));
    Scene { address, target, seen, folder }
}

fn everybody() -> PeerPolicy {
    PeerPolicy::new(TrustedUids::Any)
}

/// Sends a request on a new connection and reads until the other end closes.
async fn say(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A client that is closed before its request was read gets a reset after the response.
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end in time").unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

fn last_request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost:15000\r\nconnection: close\r\n{headers}\r\n")
}

const STATS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-content-type-options: nosniff\r\n\
    content-length: 6\r\n\r\na: 1\n\n";

#[tokio::test]
async fn what_is_allowed_is_passed_on_and_nothing_of_the_caller_but_what_he_wants() {
    let mut scene = scene(STATS, everybody()).await;
    let headers = "accept: text/html\r\ncookie: secret\r\nx-forwarded-for: 1.2.3.4\r\ncontent-length: 3\r\n";
    let answer =
        say(scene.address, &(last_request("GET", "/stats?filter=a&usedonly", headers) + "abc")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\na: 1\n\n"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    let seen = scene.seen.recv().await.unwrap();
    assert_eq!(seen, "GET /stats?filter=a&usedonly HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n\r\n");
}

#[tokio::test]
async fn what_is_not_allowed_never_reaches_envoy() {
    let mut scene = scene(STATS, everybody()).await;
    for (request, status) in [
        (last_request("POST", "/quitquitquit", ""), "403"),
        (last_request("GET", "/stats/../quitquitquit", ""), "403"),
        (last_request("POST", "/heapprofiler?enable=y", ""), "403"),
        (last_request("GET", "/logging?level=debug", ""), "405"),
        (last_request("GET", "/stats", "sec-fetch-site: cross-site\r\n"), "403"),
        (last_request("POST", "/logging?level=trace", "origin: https://elsewhere.example\r\n"), "403"),
        ("GET /config_dump HTTP/1.1\r\nhost: rebound.example\r\nconnection: close\r\n\r\n".into(), "403"),
        (
            "GET http://rebound.example/stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                .into(),
            "403",
        ),
    ] {
        let answer = say(scene.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{answer}");
        assert!(answer.contains("pilot-agent: "), "{request}{answer}");
    }
    assert!(scene.seen.try_recv().is_err());
}

#[tokio::test]
async fn strangers_are_told_who_may() {
    // An empty table.
    let sockets = tempfile::tempdir().unwrap();
    std::fs::write(sockets.path().join("tcp"), "sl\n").unwrap();
    let mut scene = scene(STATS, PeerPolicy::for_test(TrustedUids::default(), 1337, sockets.path())).await;
    let answer = say(scene.address, &last_request("GET", "/stats", "")).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("--trustedUids"), "{answer}");

    // Held connections of untrusted users do not exhaust the limit, although they are more.
    let mut crowd = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        crowd.push(TcpStream::connect(scene.address).await.unwrap());
    }
    let row = |port: u16, uid: u32| {
        format!(" 0: 0100007F:{port:04X} 0100007F:{:04X} 01 0:0 0:0 0 {uid} 0 7\n", scene.address.port())
    };
    let friend = tokio::net::TcpSocket::new_v4().unwrap();
    friend.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = friend.local_addr().unwrap().port();
    std::fs::write(sockets.path().join("tcp"), format!("sl\n{}", row(port, 1337))).unwrap();
    let mut friend = friend.connect(scene.address).await.unwrap();
    friend.write_all(last_request("GET", "/stats", "").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, friend.read_to_string(&mut answer)).await.expect("not kept out").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(scene.seen.recv().await.is_some());
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_question() {
    let scene = scene(STATS, everybody()).await;
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /stats HTTP/1.1\r\nhost: [::1]\r\n\r\n").await.unwrap();
        let mut answer = vec![];
        while !answer.ends_with(b"a: 1\n\n") {
            let mut more = [0; 512];
            let read = timeout(SOON, stream.read(&mut more)).await.expect("an answer in time").unwrap();
            assert_ne!(read, 0, "hung up: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&more[..read]);
        }
    }
}

#[tokio::test]
async fn the_newest_envoy_is_asked_and_its_absence_is_an_answer() {
    let mut scene = scene(STATS, everybody()).await;
    let old = scene.target.send_replace(None);
    let answer = say(scene.address, &last_request("GET", "/ready", "")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no Envoy is running"), "{answer}");

    let gone = scene.folder.path().join("gone.sock");
    scene.target.send_replace(Some(EnvoyAdmin::at(AdminAddress::Unix(gone))));
    let answer = say(scene.address, &last_request("GET", "/ready", "")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connect to Envoy's admin: "), "{answer}");

    scene.target.send_replace(old);
    let answer = say(scene.address, &last_request("GET", "/ready", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(scene.seen.recv().await.is_some());
}

#[tokio::test]
async fn an_answer_cut_short_is_cut_short_for_the_caller_too() {
    let scene = scene(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", everybody()).await;
    let answer = say(scene.address, &last_request("GET", "/config_dump", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("half"), "{answer}");
    let scene = self::scene(b"220 smtp\r\n", everybody()).await;
    let answer = say(scene.address, &last_request("GET", "/config_dump", "")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

/// A response of a hundred megabytes to a client that does not read: only buffers are held in between.
#[tokio::test]
async fn a_long_answer_waits_for_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let (count, mut written) = watch::channel(0_usize);
    tokio::spawn(async move {
        let (mut stream, _) = admin.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n").await.unwrap();
        let piece = vec![b'x'; 65536];
        for _ in 0..1600 {
            stream.write_all(&piece).await.unwrap();
            count.send_modify(|written| *written += 65536);
        }
    });
    let (_target, targets) = watch::channel(Some(EnvoyAdmin::at(AdminAddress::Unix(path))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(AdminProxy::new(targets, everybody()).run(listener));
    stream.write_all(last_request("GET", "/config_dump", "").as_bytes()).await.unwrap();
    timeout(SOON, written.wait_for(|written| *written > 0)).await.unwrap().unwrap();
    // Stands still once every buffer is full.
    while timeout(Duration::from_millis(300), written.changed()).await.is_ok() {}
    let stuck = *written.borrow();
    assert!(stuck < 32 << 20, "{stuck} bytes are somewhere in between");
    let mut read = 0_usize;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(more @ 1..) = timeout(SOON, stream.read(&mut buffer)).await.unwrap() {
        read += more;
    }
    assert!(read > 104_857_600, "{read}");
}
