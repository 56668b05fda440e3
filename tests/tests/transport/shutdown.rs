//! GOAWAY first, then the end of the streams, then the cut.

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

use super::control_plane::{PATIENCE, Plane, Setup};
use super::raw::{DATA, Frame, GOAWAY, HEADERS, Raw};

const WINDOW: u32 = 1 << 20;

/// Served with clusters once.
async fn served(plane: &Plane) -> Result<Raw> {
    let mut client = Raw::connect(plane.grpc, WINDOW).await?;
    client.ask(1, &[Cluster]).await?;
    client.until(DATA).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_age_are_told_to_leave_at_moments_of_their_own() -> Result<()> {
    let plane =
        Plane::start(Setup { flags: &["--keepaliveMaxServerConnectionAge", "2s"], ..Setup::default() })
            .await?;
    let clients = (0..20).map(async |_| {
        let begin = Instant::now();
        let mut client = served(&plane).await?;
        let before = client.until(GOAWAY).await?;
        let told = begin.elapsed();
        ensure!(!before.iter().any(Frame::is_end), "the stream ended before GOAWAY: {before:?}");
        let after = client.rest().await?;
        ensure!(after.iter().any(Frame::is_end), "the stream has no end: {after:?}");
        Ok(told)
    });
    let mut told = try_join_all(clients).await?;
    told.sort_unstable();
    let (first, last) = (told[0], told[19]);
    // No upper bound: this machine may be busy.
    ensure!(first >= Duration::from_millis(1800), "{first:?} is before its age");
    ensure!(last > first + Duration::from_millis(50), "all at once: {told:?}");
    plane.counts("pilot_grpc_connections_closed{reason=\"age\"} 20").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_cut_at_the_end_of_the_grace() -> Result<()> {
    let age = ["--keepaliveMaxServerConnectionAge", "1s", "--keepaliveMaxServerConnectionAgeGrace", "1s"];
    let plane = Plane::start(Setup { flags: &age, ..Setup::default() }).await?;
    let mut client = Raw::connect(plane.grpc, 0).await?;
    client.ask(1, &[Cluster]).await?;
    client.until(GOAWAY).await?;
    let rest = client.rest().await?;
    ensure!(!rest.iter().any(Frame::is_end), "what it did not read has an end: {rest:?}");
    let gone = eventually(PATIENCE, "it is gone", async || {
        ensure!(plane.process.log().contains("connection cut"), "{}", plane.process.log());
        ensure!(plane.streams().await? == 0, "its stream lives on");
        Ok(())
    });
    gone.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_read_in_time_ends_its_stream() -> Result<()> {
    let plane =
        Plane::start(Setup { environment: &[("PILOT_XDS_SEND_TIMEOUT", "500ms")], ..Setup::default() })
            .await?;
    let mut client = Raw::connect(plane.grpc, 0).await?;
    // Clusters lie in HTTP/2; endpoints wait for their turn.
    client.ask(1, &[Cluster, Endpoint]).await?;
    plane.counts("pilot_xds_write_timeout 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_asks_is_cut() -> Result<()> {
    let plane = Plane::start(Setup::default()).await?;
    let mut greeted = Raw::connect(plane.grpc, WINDOW).await?;
    // It reads, and answers nothing: not even the server's settings, which would be a fault before its own.
    let mut mute = TcpStream::connect(plane.grpc).await?;
    let mut asks = served(&plane).await?;
    greeted.rest().await?;
    timeout(PATIENCE, mute.read_to_end(&mut Vec::new())).await.context("it is not cut")??;
    plane.counts("pilot_grpc_connections_closed{reason=\"first_request_timeout\"} 2").await?;
    plane.change("late")?;
    // The response before was not acknowledged, so nothing is due: a ping shows that it lives.
    asks.send(super::raw::PING, 0, 0, &[7; 8]).await?;
    let pong = asks.until(super::raw::PING).await?;
    ensure!(pong.last().is_some_and(|pong| pong.payload == [7; 8]), "{pong:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_two_hundred_streams_leave_one_after_the_other() -> Result<()> {
    const STREAMS: usize = 200;
    let mut plane = Plane::start(Setup { flags: &["--shutdownDuration", "4s"], ..Setup::default() }).await?;
    let clients = try_join_all((0..STREAMS).map(|_| served(&plane))).await?;
    plane.process.signal(Signal::SIGTERM)?;
    let unready = eventually(PATIENCE, "it is not ready", async || {
        let (status, _) = get(plane.http, "/ready").await?;
        ensure!(status == 503, "{status}");
        Ok(())
    });
    unready.await?;
    let closed = eventually(PATIENCE, "it accepts nobody any more", async || {
        ensure!(TcpStream::connect(plane.grpc).await.is_err(), "it still accepts");
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
    // 28 windows: 7 each when it is even.
    ensure!(most <= STREAMS / 5, "{most} of {STREAMS} left within {window:?}");
    ensure!(ends[STREAMS - 1] > ends[0] + Duration::from_secs(1), "they left at once");
    let status = plane.process.exit(END).await?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    ensure!(!plane.process.log().contains("cutting"), "{}", plane.process.log());
    Ok(())
}
