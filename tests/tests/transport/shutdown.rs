//! Graceful end of connections: GOAWAY first, then the end of the streams, then the connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_tests::mesh::END;
use pilot_tests::net::get;
use pilot_tests::wait::eventually;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::control_plane::{ControlPlane, ControlPlaneOptions, TIMEOUT};
use super::raw::{DATA, Frame, GOAWAY, HEADERS, RawHttp2Client};

const WINDOW: u32 = 1 << 20;

/// Connects and waits for a CDS response.
async fn connected_client(plane: &ControlPlane) -> Result<RawHttp2Client> {
    let mut client = RawHttp2Client::connect(plane.grpc, WINDOW).await?;
    client.ask(1, &[Cluster]).await?;
    client.until(DATA).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn goaway_at_maximum_connection_age_has_jitter() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions {
        flags: &["--keepaliveMaxServerConnectionAge", "2s"],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let clients = (0..20).map(async |_| {
        let begin = Instant::now();
        let mut client = connected_client(&plane).await?;
        let before = client.until(GOAWAY).await?;
        let time = begin.elapsed();
        ensure!(!before.iter().any(Frame::is_end), "the stream ended before GOAWAY: {before:?}");
        let after = client.rest().await?;
        ensure!(after.iter().any(Frame::is_end), "the stream has no end: {after:?}");
        Ok(time)
    });
    let mut times = try_join_all(clients).await?;
    times.sort_unstable();
    let (first, last) = (times[0], times[19]);
    // There is no upper bound, because the machine may be busy.
    ensure!(first >= Duration::from_millis(1800), "{first:?} is less than the maximum age");
    ensure!(last > first + Duration::from_millis(50), "GOAWAY without jitter: {times:?}");
    plane.wait_for_metric("pilot_grpc_connections_closed{reason=\"age\"} 20").await
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_connection_is_closed_after_the_grace_period() -> Result<()> {
    let age = ["--keepaliveMaxServerConnectionAge", "1s", "--keepaliveMaxServerConnectionAgeGrace", "1s"];
    let plane =
        ControlPlane::start(ControlPlaneOptions { flags: &age, ..ControlPlaneOptions::default() }).await?;
    let mut client = RawHttp2Client::connect(plane.grpc, 0).await?;
    client.ask(1, &[Cluster]).await?;
    client.until(GOAWAY).await?;
    let rest = client.rest().await?;
    ensure!(!rest.iter().any(Frame::is_end), "the unread stream has an end: {rest:?}");
    let gone = eventually(TIMEOUT, "the connection is closed", async || {
        ensure!(plane.process.log().contains("connection closed"), "{}", plane.process.log());
        ensure!(plane.streams().await? == 0, "the stream is still counted");
        Ok(())
    });
    gone.await
}

#[tokio::test(flavor = "multi_thread")]
async fn send_timeout_ends_the_stream() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions {
        environment: &[("PILOT_XDS_SEND_TIMEOUT", "500ms")],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let mut client = RawHttp2Client::connect(plane.grpc, 0).await?;
    // CDS is buffered in HTTP/2; EDS waits to be sent.
    client.ask(1, &[Cluster, Endpoint]).await?;
    plane.wait_for_metric("pilot_xds_write_timeout 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn first_request_timeout_closes_connections_without_a_request() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let mut greeted = RawHttp2Client::connect(plane.grpc, WINDOW).await?;
    // This client reads, and sends nothing, not even an ACK of the server's settings, which would be another error.
    let mut mute = TcpStream::connect(plane.grpc).await?;
    let mut asks = connected_client(&plane).await?;
    greeted.rest().await?;
    timeout(TIMEOUT, mute.read_to_end(&mut Vec::new())).await.context("the connection is not closed")??;
    plane.wait_for_metric("pilot_grpc_connections_closed{reason=\"first_request_timeout\"} 2").await?;
    plane.change("late")?;
    // The previous response was not acknowledged, so no response is due: a ping shows that the connection is open.
    asks.send(super::raw::PING, 0, 0, &[7; 8]).await?;
    let pong = asks.until(super::raw::PING).await?;
    ensure!(pong.last().is_some_and(|pong| pong.payload == [7; 8]), "{pong:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_two_hundred_streams_gradually() -> Result<()> {
    const STREAMS: usize = 200;
    let mut plane = ControlPlane::start(ControlPlaneOptions {
        flags: &["--shutdownDuration", "4s"],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let clients = try_join_all((0..STREAMS).map(|_| connected_client(&plane))).await?;
    plane.process.signal(Signal::SIGTERM)?;
    let unready = eventually(TIMEOUT, "/ready returns 503", async || {
        let (status, _) = get(plane.http, "/ready").await?;
        ensure!(status == 503, "{status}");
        Ok(())
    });
    unready.await?;
    let closed = eventually(TIMEOUT, "connections are rejected", async || {
        ensure!(TcpStream::connect(plane.grpc).await.is_err(), "a connection was accepted");
        Ok(())
    });
    closed.await?;

    let tasks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let before = client.until(GOAWAY).await?;
            ensure!(!before.iter().any(Frame::is_end), "the stream ended before GOAWAY");
            while let Some(frame) = client.next().await? {
                if frame.is_end() && frame.kind == HEADERS {
                    return Ok(Instant::now());
                }
            }
            anyhow::bail!("the connection ended before its stream")
        })
    });
    let mut ends = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        ends.push(task.await.context("a client panicked")??);
    }
    ends.sort_unstable();
    let window = Duration::from_millis(100);
    let crowd =
        ends.iter().map(|from| ends.iter().filter(|end| (*from..*from + window).contains(*end)).count());
    let most = crowd.max().unwrap_or_default();
    // 28 windows: 7 streams each if evenly distributed.
    ensure!(most <= STREAMS / 5, "{most} of {STREAMS} streams ended within {window:?}");
    ensure!(ends[STREAMS - 1] > ends[0] + Duration::from_secs(1), "all streams ended at once");
    let status = plane.process.exit(END).await?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    ensure!(!plane.process.log().contains("cutting"), "{}", plane.process.log());
    Ok(())
}
