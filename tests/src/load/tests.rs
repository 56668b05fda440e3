use std::net::Ipv6Addr;

use anyhow::ensure;
use tokio::net::TcpListener;

use super::*;
use crate::net::{free_port, local};
use crate::upstream::Upstream;
use crate::wait::eventually;

async fn answered(running: &Running, endpoint: &str, times: usize) {
    eventually(TIMEOUT, "answers", async || {
        let report = running.report();
        report.ensure_no_failures()?;
        ensure!(report.by_endpoint().get(endpoint).is_some_and(|n| *n >= times), "not yet");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn load_classes_reuse_connections_or_open_new_ones() {
    for (class, kept) in [
        (Class::KeepAlive, true),
        (Class::Http2, true),
        (Class::New, false),
        (Class::Tcp, false),
        (Class::Tunnel, true),
    ] {
        // One address family each; the rest is the same for both.
        let port = free_port().unwrap();
        let to = if kept { (Ipv6Addr::LOCALHOST, port).into() } else { local(port) };
        let upstream = match class {
            Class::Tcp | Class::Tunnel => Upstream::tcp("a", to).await.unwrap(),
            _ => Upstream::http("a", to).await.unwrap(),
        };
        let running = Load::new(class, to, "a.example").start();
        answered(&running, "a", 20).await;
        let report = running.stop().await.unwrap();
        let expected = if kept { 2 } else { u64::try_from(report.answers.len()).unwrap() };
        assert_eq!((class, upstream.connections()), (class, expected));
    }
}

#[tokio::test]
async fn moved_load_loses_no_requests_of_a_server_that_stops_gracefully() {
    for class in [Class::KeepAlive, Class::Http2, Class::New] {
        let (old, new) = (local(free_port().unwrap()), local(free_port().unwrap()));
        let (a, _b) = (Upstream::http("a", old).await.unwrap(), Upstream::http("b", new).await.unwrap());
        let running = Load::new(class, old, "a.example").start();
        answered(&running, "a", 10).await;
        running.move_to(new);
        answered(&running, "b", 10).await;
        a.stop(TIMEOUT).await.unwrap();
        let report = running.stop().await.unwrap();
        assert!(report.last("a") < report.first("b", report.last("a").unwrap()), "{class:?}");
        report.ensure_no_failures().unwrap();
    }
}

#[tokio::test]
async fn failed_requests_are_reported_with_their_reason() {
    let to = local(free_port().unwrap());
    let running = Load::new(Class::New, to, "a.example").start();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let report = running.stop().await.unwrap();
    let error = report.ensure_no_failures().unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");
    assert!(Report::default().ensure_no_failures().is_err(), "a report without requests passes");
}

#[tokio::test]
async fn stream_requests_take_1500_ms_and_idle_clients_send_one_request() {
    let to = local(free_port().unwrap());
    let upstream = Upstream::http("a", to).await.unwrap();
    let stream = Load::new(Class::Stream, to, "a.example").start();
    let idle = Load::new(Class::Idle, to, "a.example").start();
    answered(&stream, "a", 2).await;
    let (stream, idle) = (stream.stop().await.unwrap(), idle.stop().await.unwrap());
    assert!(stream.answers.iter().all(|answer| answer.took >= Duration::from_millis(1500)), "{stream:?}");
    assert!(stream.longest() < Some(TIMEOUT));
    assert_eq!((idle.answers.len(), idle.ends.len()), (2, 0), "{idle:?}");
    assert_eq!(upstream.connections(), 4);
}

#[tokio::test]
async fn the_end_of_an_idle_connection_is_not_a_failure_but_a_refused_one_is() {
    for class in [Class::Tunnel, Class::Idle] {
        let to = local(free_port().unwrap());
        let upstream = match class {
            Class::Tunnel => Upstream::tcp("a", to).await.unwrap(),
            _ => Upstream::http("a", to).await.unwrap(),
        };
        // The server would answer a line written during its shutdown with a RST.
        let running = Load { think: TIMEOUT, ..Load::new(class, to, "a.example") }.start();
        answered(&running, "a", 2).await;
        upstream.stop(TIMEOUT).await.unwrap();
        let ended = eventually(TIMEOUT, "ends and failures", async || {
            let report = running.report();
            ensure!(report.ends.len() == 2 && report.failures.len() >= 2, "{report:?}");
            Ok(report)
        });
        let report = ended.await.unwrap();
        let quiet = |end: &ConnectionEnd| (end.how, end.client) == (FailureKind::Closed, ClientState::Idle);
        assert!(report.ends.iter().all(quiet), "{class:?} {report:?}");
        assert!(report.failures.iter().all(|failure| failure.kind == FailureKind::Refused), "{report:?}");
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn failure_kinds_are_distinguished() {
    /// Reaction of the server after its first read.
    #[derive(Clone, Copy)]
    enum Then {
        Close,
        Reset,
        Answer(&'static str),
    }
    let check = async |then: Then, expected: FailureKind| {
        let listener = TcpListener::bind(local(0)).await.unwrap();
        let to = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await.unwrap();
                match then {
                    Then::Close => {}
                    Then::Reset => stream.set_zero_linger().unwrap(),
                    Then::Answer(text) => {
                        tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.unwrap();
                    }
                }
            }
        });
        let running = Load { clients: 1, ..Load::new(Class::New, to, "a.example") }.start();
        let failed = eventually(TIMEOUT, "a failure", async || {
            let report = running.report();
            report.failures.first().map(|failure| failure.kind).context("none yet")
        });
        assert_eq!(failed.await.unwrap(), expected);
        running.stop().await.unwrap();
        server.abort();
    };
    check(Then::Close, FailureKind::Closed).await;
    check(Then::Reset, FailureKind::Reset).await;
    check(Then::Answer("HTTP/1.1 503 Sorry\r\ncontent-length: 0\r\n\r\n"), FailureKind::Status).await;
    check(Then::Answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), FailureKind::Closed).await;
}
