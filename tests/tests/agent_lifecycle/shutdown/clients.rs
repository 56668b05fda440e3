//! Shutdown as seen by clients of both directions and by probes.

use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::mesh::END;
use pilot_tests::net::{free_port, get, local};
use pilot_tests::solo::{Setup, Solo, Stage};
use pilot_tests::wait::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Sidecar, faster_than, hold, patient, put, under_way};

/// Returns `true` if a response of this listener asks the client to close.
async fn says_close(to: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    stream.write_all(b"GET /revision HTTP/1.1\r\nhost: web.example\r\n\r\n").await?;
    let (mut head, mut piece) = (String::new(), [0; 512]);
    while !head.contains("\r\n\r\n") {
        let read = stream.read(&mut piece).await.context("read")?;
        ensure!(read > 0, "half an answer: {head:?}");
        head.push_str(&String::from_utf8_lossy(piece.get(..read).unwrap_or_default()).to_ascii_lowercase());
    }
    ensure!(head.starts_with("http/1.1 200 "), "{head}");
    Ok(head.contains("\r\nconnection: close\r\n"))
}

/// One more listener, like the first of the bootstrap but for the application's own requests.
fn add_outbound(bootstrap: &mut Value, at: SocketAddr) -> Result<()> {
    let listeners = bootstrap.pointer_mut("/static_resources/listeners").and_then(Value::as_array_mut);
    let listeners = listeners.context("a bootstrap has listeners")?;
    let mut outbound = listeners.first().context("it has one")?.clone();
    put(&mut outbound, "name", "outbound")?;
    put(&mut outbound, "traffic_direction", "OUTBOUND")?;
    let address = json!({"socket_address": {"address": at.ip(), "port_value": at.port()}});
    put(&mut outbound, "address", address)?;
    listeners.push(outbound);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_keeps_its_own_connections_until_the_inside_is_done() -> Result<()> {
    let outbound = local(free_port()?);
    let mut sidecar = Sidecar::start_with(&patient()?, |bootstrap| add_outbound(bootstrap, outbound)).await?;
    sidecar.solo.ready().await?;
    let (solo, inbound) = (&sidecar.solo, sidecar.solo.front.http);
    ensure!((says_close(inbound).await?, says_close(outbound).await?) == (false, false));
    let held = hold(solo).await?;
    solo.signal(Signal::SIGTERM)?;
    eventually(END, "clients of the application are told", async || {
        ensure!(says_close(inbound).await?, "they are not");
        Ok(())
    })
    .await?;
    for _ in 0..20 {
        ensure!(!says_close(outbound).await?, "the application is told, too");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(held);
    let status = sidecar.solo.exit().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_is_told_before_the_deadline_though_the_inside_is_never_done() -> Result<()> {
    let outbound = local(free_port()?);
    let mut setup = patient()?;
    setup.proxy.insert("terminationDrainDuration".into(), "4s".into());
    let mut sidecar = Sidecar::start_with(&setup, |bootstrap| add_outbound(bootstrap, outbound)).await?;
    sidecar.solo.ready().await?;
    let _held = hold(&sidecar.solo).await?;
    sidecar.solo.signal(Signal::SIGTERM)?;
    let (mut spared, mut told) = (0, 0);
    let status = loop {
        match says_close(outbound).await {
            Ok(true) => told += 1,
            Ok(false) => spared += 1,
            Err(_) => {}
        }
        if let Some(status) = sidecar.solo.ended()? {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    ensure!(spared > 0 && told > 0, "{spared} answers without, {told} with the word");
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_why_it_is_off_after_drain_and_after_sigterm() -> Result<()> {
    let sidecar = Sidecar::ready(&patient()?).await?;
    let solo = &sidecar.solo;
    let _held = hold(solo).await?;
    let says = async |reason: &str| {
        let (status, body) = get(solo.status, "/healthz/ready").await?;
        ensure!((status, body.trim()) == (503, reason), "{status} {body}");
        Ok(())
    };
    solo.withdraw().await?;
    eventually(END, "withdrawn", async || says("taken out of service by /drain").await).await?;
    // It is out of service and serves on, for as long as it may.
    ensure!(solo.front.revision().await? == 1);
    solo.signal(Signal::SIGTERM)?;
    eventually(END, "terminating", async || says("terminating").await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_request_over_ipv6_and_ends_after_it() -> Result<()> {
    let (dir, stage) = (tempfile::tempdir()?, Stage::start(Ipv6Addr::LOCALHOST.into()).await?);
    let mut solo = Solo::start(dir.path(), &stage.front()?, &patient()?)?;
    solo.ready().await?;
    let request = under_way(&solo, "/delay/3000").await?;
    solo.signal(Signal::SIGTERM)?;
    solo.reaches("draining").await?;
    request.await?.context("the request that was under way")?;
    let status = solo.exit().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_drain_load_balancers_get_a_head_start_in_which_clients_hear_nothing() -> Result<()> {
    let mut setup = patient()?;
    setup.flags.extend(["--preDrainDelay".into(), "2s".into()]);
    let mut sidecar = Sidecar::ready(&setup).await?;
    let _held = hold(&sidecar.solo).await?;
    let asked = Instant::now();
    sidecar.solo.signal(Signal::SIGTERM)?;
    sidecar.solo.reaches("pre-drain").await?;
    ensure!(!sidecar.solo.is_ready().await, "readiness is still on");
    let told = loop {
        let told = says_close(sidecar.solo.front.http).await?;
        if told {
            break asked.elapsed();
        }
        ensure!(asked.elapsed() < END, "nobody is ever told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    ensure!(told >= Duration::from_secs(2), "told after {told:?}");
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_sidecar_does_not_wait_for_load_balancers_again() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.environment.push(("MINIMUM_DRAIN_DURATION".into(), "4s".into()));
    setup.proxy.insert("terminationDrainDuration".into(), "100s".into());
    // Not less than the minimum, if that were counted from the signal.
    faster_than(Duration::from_secs(4), async || {
        let mut sidecar = Sidecar::ready(&setup).await?;
        sidecar.solo.withdraw().await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let (took, code) = sidecar.terminate().await?;
        ensure!(code == 0, "{code}");
        Ok(took)
    })
    .await
}
