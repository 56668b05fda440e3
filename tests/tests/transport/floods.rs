//! Floods below gRPC: the connection is closed or throttled, and other clients are served as before.

use anyhow::{Result, ensure};
use pilot_proto::ResourceType::Cluster;
use pilot_tests::ads::{Sotw, sidecar};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::control_plane::{ControlPlane, ControlPlaneOptions, TIMEOUT};
use super::raw::{
    CONTINUATION, END_HEADERS, Frame, GOAWAY, HEADERS, PING, RST_STREAM, RawHttp2Client, SETTINGS, call,
    frame, header,
};

/// `ENHANCE_YOUR_CALM`
const CALM: u32 = 11;

/// Sends bytes until the server closes the connection or stops reading. Returns true if the connection was closed.
async fn flood(client: &mut RawHttp2Client, bytes: &[u8]) -> bool {
    let written = timeout(std::time::Duration::from_secs(2), client.stream.write_all(bytes)).await;
    matches!(written, Ok(Err(_)))
}

/// Runs a flood while another client is served before, during and after it.
async fn run_with_another_client(
    bytes: impl AsyncFnOnce(&mut RawHttp2Client) -> Result<()>,
) -> Result<ControlPlane> {
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let mut other = Sotw::open(plane.grpc, sidecar("other")).await?;
    other.subscribe(Cluster, &[]).await?;
    let first = other.next().await?;
    other.ack(&first, &[]).await?;
    let before = plane.memory()?;

    let mut client = RawHttp2Client::connect(plane.grpc, 1 << 20).await?;
    bytes(&mut client).await?;
    plane.change("late")?;
    let second = other.next().await?;
    ensure!(second.resources.len() > first.resources.len(), "{second:?}");
    let after = plane.memory()?;
    ensure!(after < before + 64, "memory grew from {before} to {after} MiB");
    Ok(plane)
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_closes_the_connection() -> Result<()> {
    let plane = run_with_another_client(async |client| {
        let pair = |number: u32| {
            let stream = number * 2 + 1;
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS, stream, &call()), reset].concat()
        };
        let bytes: Vec<u8> = (0..20_000).flat_map(pair).collect();
        let cut = flood(client, &bytes).await;
        let frames = client.rest().await?;
        let calm = frames.iter().any(|frame| frame.reason() == Some(CALM));
        ensure!(cut || calm, "the flood was accepted: {:?}", frames.last());
        Ok(())
    })
    .await?;
    plane.wait_for_metric("pilot_grpc_connections_closed{reason=\"fault\"} 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn continuation_flood_closes_the_connection() -> Result<()> {
    run_with_another_client(async |client| {
        let first = frame(HEADERS, 0, 1, &call());
        let more = frame(CONTINUATION, 0, 1, &header("x-flood", &"y".repeat(100)).repeat(100));
        let cut = flood(client, &[first, more.repeat(5000)].concat()).await;
        let frames = client.rest().await?;
        ensure!(cut || frames.iter().any(|frame| frame.kind == GOAWAY), "the flood was accepted: {frames:?}");
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_headers_are_rejected() -> Result<()> {
    run_with_another_client(async |client| {
        let headers = [call(), header("x-long", &"y".repeat(100)).repeat(200)].concat();
        let (first, rest) = headers.split_at(16_000);
        client.send(HEADERS, 0, 1, first).await?;
        client.send(CONTINUATION, END_HEADERS, 1, rest).await?;
        // Status 431 or RST_STREAM.
        let answer = client.until(HEADERS).await;
        ensure!(
            answer.is_ok_and(|frames| frames.last().is_some_and(Frame::is_end)),
            "the request was accepted"
        );
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_and_settings_floods_do_not_affect_other_clients() -> Result<()> {
    for bytes in [frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, &[])] {
        run_with_another_client(async |client| {
            // The answers are not read: at some point the server stops reading or closes the connection.
            flood(client, &bytes.repeat(1_000_000)).await;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_accepts_a_hundred_concurrent_streams() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let mut client = RawHttp2Client::connect(plane.grpc, 1 << 20).await?;
    for number in 0..101 {
        client.ask(number * 2 + 1, &[]).await?;
    }
    let refused = timeout(TIMEOUT, client.until(RST_STREAM)).await??;
    ensure!(refused.last().is_some_and(|frame| frame.stream == 201), "{:?}", refused.last());
    Ok(())
}
