//! Limits of one client, with their status and metric.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_tests::ads::{Delta, Sotw, sidecar};
use tonic::Code;

use super::control_plane::{ControlPlane, ControlPlaneOptions};

/// Returns code and message of the gRPC status in an error.
fn status(error: &anyhow::Error) -> Result<(Code, String)> {
    let status = error.chain().find_map(|cause| cause.downcast_ref::<tonic::Status>());
    let status = status.with_context(|| format!("no status: {error:#}"))?;
    Ok((status.code(), status.message().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_rate_limit_delays_and_then_rejects_streams() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions {
        environment: &[("PILOT_MAX_REQUESTS_PER_SECOND", "1")],
        ..ControlPlaneOptions::default()
    })
    .await?;
    // One stream at once, and one within the second that a stream may wait.
    let opened = join_all((0..20).map(|number| Sotw::open(plane.grpc, sidecar(&number.to_string())))).await;
    let refused: Vec<_> = opened.iter().filter_map(|opened| opened.as_ref().err()).collect();
    ensure!((1..=18).contains(&refused.len()), "{} of 20 were refused", refused.len());
    for error in &refused {
        ensure!(status(error)?.0 == Code::ResourceExhausted, "{error:#}");
    }
    plane
        .wait_for_metric(&format!("pilot_xds_refusals{{reason=\"streams_per_second\"}} {}", refused.len()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_limit_per_address_is_enforced() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions {
        environment: &[("PILOT_MAX_STREAMS_PER_ADDRESS", "2")],
        ..ControlPlaneOptions::default()
    })
    .await?;
    let _first = Sotw::open(plane.grpc, sidecar("a")).await?;
    let second = Sotw::open(plane.grpc, sidecar("b")).await?;
    let error = Sotw::open(plane.grpc, sidecar("c")).await.err().context("a third stream was opened")?;
    ensure!(status(&error)?.0 == Code::ResourceExhausted, "{error:#}");
    drop(second);
    let again =
        pilot_tests::wait::eventually(super::control_plane::TIMEOUT, "a stream can be opened", async || {
            Sotw::open(plane.grpc, sidecar("c")).await.map(drop)
        });
    again.await
}

#[tokio::test(flavor = "multi_thread")]
async fn request_over_a_limit_ends_its_stream_and_names_the_field() -> Result<()> {
    let environment = &[("PILOT_MAX_NAMES_PER_REQUEST", "10000")];
    let plane =
        ControlPlane::start(ControlPlaneOptions { environment, ..ControlPlaneOptions::default() }).await?;
    let many: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "n".repeat(5000);
    let huge = "n".repeat(5 << 20);
    for (names, code, expected, reason) in [
        (&many[..], Code::InvalidArgument, "resource_names: 10001 names, 10000 at most", "names"),
        (&[&long], Code::InvalidArgument, "resource_names: a name of 5000 bytes", "name_length"),
        (&[&huge], Code::ResourceExhausted, "limit", "message_size"),
    ] {
        let mut client = Sotw::open(plane.grpc, sidecar("greedy")).await?;
        client.subscribe(Endpoint, names).await?;
        let error = client.next().await.err().context("a response was sent")?;
        let (got, message) = status(&error)?;
        ensure!(got == code && message.contains(expected), "{expected}: {got:?} {message}");
        plane.wait_for_metric(&format!("pilot_xds_refusals{{reason=\"{reason}\"}} 1")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn request_rate_limit_ends_the_stream() -> Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let mut client = Delta::open(plane.grpc, sidecar("noisy")).await?;
    let asking = async {
        loop {
            if client.subscribe(Cluster, &["none"], &[]).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(super::control_plane::TIMEOUT, asking).await.context("the stream was not ended")?;
    let error = loop {
        match client.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let (code, message) = status(&error)?;
    ensure!(code == Code::ResourceExhausted && message.contains("requests in a second"), "{message}");
    plane.wait_for_metric("pilot_xds_refusals{reason=\"requests_per_second\"} 1").await
}
