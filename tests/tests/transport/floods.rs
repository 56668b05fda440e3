//! Floods below gRPC: whoever makes one is cut or waits, and everybody else is served as ever.

use anyhow::{Result, ensure};
use pilot_proto::ResourceType::Cluster;
use pilot_tests::ads::{Sotw, sidecar};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::control_plane::{PATIENCE, Plane, Setup};
use super::raw::{
    CONTINUATION, END_HEADERS, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, call, frame, header,
};

/// `ENHANCE_YOUR_CALM`
const CALM: u32 = 11;

/// Sends it all, unless the server has enough before or stops reading; says whether it was cut.
async fn flood(client: &mut Raw, bytes: &[u8]) -> bool {
    let written = timeout(std::time::Duration::from_secs(2), client.stream.write_all(bytes)).await;
    matches!(written, Ok(Err(_)))
}

/// Runs a flood beside somebody who is served before, while and after it.
async fn beside_a_bystander(bytes: impl AsyncFnOnce(&mut Raw) -> Result<()>) -> Result<Plane> {
    let plane = Plane::start(Setup::default()).await?;
    let mut bystander = Sotw::open(plane.grpc, sidecar("bystander")).await?;
    bystander.subscribe(Cluster, &[]).await?;
    let first = bystander.next().await?;
    bystander.ack(&first, &[]).await?;
    let before = plane.memory()?;

    let mut client = Raw::connect(plane.grpc, 1 << 20).await?;
    bytes(&mut client).await?;
    plane.change("late")?;
    let second = bystander.next().await?;
    ensure!(second.resources.len() > first.resources.len(), "{second:?}");
    let after = plane.memory()?;
    ensure!(after < before + 64, "it grew from {before} to {after} MiB");
    Ok(plane)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_reset_end_their_connection() -> Result<()> {
    let plane = beside_a_bystander(async |client| {
        let pair = |number: u32| {
            let stream = number * 2 + 1;
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            [frame(HEADERS, END_HEADERS, stream, &call()), reset].concat()
        };
        let bytes: Vec<u8> = (0..20_000).flat_map(pair).collect();
        let cut = flood(client, &bytes).await;
        let seen = client.rest().await?;
        let calm = seen.iter().any(|frame| frame.reason() == Some(CALM));
        ensure!(cut || calm, "it was let through: {:?}", seen.last());
        Ok(())
    })
    .await?;
    plane.counts("pilot_grpc_connections_closed{reason=\"fault\"} 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_an_end_end_their_connection() -> Result<()> {
    beside_a_bystander(async |client| {
        let first = frame(HEADERS, 0, 1, &call());
        let more = frame(CONTINUATION, 0, 1, &header("x-flood", &"y".repeat(100)).repeat(100));
        let cut = flood(client, &[first, more.repeat(5000)].concat()).await;
        let seen = client.rest().await?;
        ensure!(cut || seen.iter().any(|frame| frame.kind == GOAWAY), "it was let through: {seen:?}");
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_long_are_refused() -> Result<()> {
    beside_a_bystander(async |client| {
        let headers = [call(), header("x-long", &"y".repeat(100)).repeat(200)].concat();
        let (first, rest) = headers.split_at(16_000);
        client.send(HEADERS, 0, 1, first).await?;
        client.send(CONTINUATION, END_HEADERS, 1, rest).await?;
        // 431, or the stream's reset.
        let answer = client.until(HEADERS).await;
        ensure!(answer.is_ok_and(|frames| frames.last().is_some_and(Frame::is_end)), "it was taken");
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_and_settings_cost_nobody_else_anything() -> Result<()> {
    for bytes in [frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, &[])] {
        beside_a_bystander(async |client| {
            // Nobody reads the answers: at some point the server waits for us, or has had enough.
            flood(client, &bytes.repeat(1_000_000)).await;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_hundred_streams_and_no_more() -> Result<()> {
    let plane = Plane::start(Setup::default()).await?;
    let mut client = Raw::connect(plane.grpc, 1 << 20).await?;
    for number in 0..101 {
        client.ask(number * 2 + 1, &[]).await?;
    }
    let refused = timeout(PATIENCE, client.until(RST_STREAM)).await??;
    ensure!(refused.last().is_some_and(|frame| frame.stream == 201), "{:?}", refused.last());
    Ok(())
}
