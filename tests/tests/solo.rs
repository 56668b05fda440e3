//! The harness of Envoy's lifecycle with the current agent: observations, leftovers, and load that only a killed Envoy loses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Class, FailureKind, Load, Traffic};
use pilot_tests::mesh::{END, PidNamespace};
use pilot_tests::solo::{Bare, Setup, Solo, Stage};
use pilot_tests::wait::eventually;

const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Waits until every load of it has been answered a few times.
async fn all_answered(traffic: &Traffic) -> Result<()> {
    eventually(END, "every load is answered", async || {
        for (name, report) in traffic.reports() {
            ensure!(report.answers.len() > 3, "{name}: {report:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_is_carried_over_both_families_and_each_answer_tells_the_revision() -> Result<()> {
    for ip in FAMILIES {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(ip).await?;
        let front = stage.front()?;
        let mut bare = Bare::start(dir.path(), &front, 7)?;
        bare.live().await?;
        let mut loads = front.mix()?;
        loads.push(("tls-http2", front.load_over_tls(Class::Http2)?));
        loads.push(("tunnel", front.load(Class::Tunnel)));
        let traffic = Traffic::start(loads);
        all_answered(&traffic).await?;
        for (name, report) in traffic.stop().await? {
            report.ensure_no_failures().context(name.clone())?;
            ensure!(report.ends.is_empty(), "{name}: {:?}", report.ends);
            let told = report.by_revision();
            let carries_headers = name != "tcp" && name != "tunnel";
            ensure!(told.contains_key(&7) == carries_headers, "{name}: {told:?}");
        }
        ensure!(front.revision().await? == 7);
        bare.signal(Signal::SIGTERM)?;
        ensure!(bare.exit().await?.success());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_somebody_else_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (stage, other) = (Stage::start(FAMILIES[0]).await?, Stage::start(FAMILIES[0]).await?);
    let front = stage.front()?;
    let mut bare = Bare::start(dir.path(), &front, 1)?;
    bare.live().await?;
    let deceived = Load { to: front.tls, ..other.front()?.load_over_tls(Class::New)? };
    let load = deceived.start();
    let refused = eventually(END, "a failure", async || {
        load.report().failures.first().map(|failure| failure.reason.clone()).context("none yet")
    });
    let reason = refused.await?;
    ensure!(reason.contains("TLS handshake"), "{reason}");
    ensure!(load.stop().await?.answers.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn held_connections_tell_how_their_server_ended_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(FAMILIES[0]).await?;
    let front = stage.front()?;
    let mut bare = Bare::start(dir.path(), &front, 1)?;
    bare.live().await?;
    let traffic = Traffic::start([("tunnel", front.load(Class::Tunnel)), ("idle", front.load(Class::Idle))]);
    eventually(END, "both are held", async || {
        ensure!(traffic.reports().values().all(|report| report.answers.len() >= 2), "not yet");
        Ok(())
    })
    .await?;
    bare.signal(Signal::SIGTERM)?;
    bare.exit().await?;
    eventually(END, "both have ended", async || {
        let reports = traffic.reports();
        ensure!(reports.values().all(|report| report.ends.len() == 2), "{reports:?}");
        Ok(())
    })
    .await?;
    for (name, report) in traffic.stop().await? {
        let refused = report.failures.iter().all(|failure| failure.kind == FailureKind::Refused);
        ensure!(refused, "{name}: {:?}", report.failures);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_alone_shows_its_envoy_and_leaves_nothing() -> Result<()> {
    for pid_namespace in [PidNamespace::Shared, PidNamespace::Own] {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(FAMILIES[0]).await?;
        let mut solo = Solo::start(dir.path(), &stage.front()?, &Setup { pid_namespace, ..Setup::new()? })?;
        solo.ready().await?;
        solo.serves(1).await?;
        let generations = solo.generations()?;
        ensure!(generations.len() == 1, "{generations:?}");
        let envoy = solo.newest()?;
        ensure!(envoy.epoch == 0, "{envoy:?}");
        ensure!(!solo.leftovers()?.is_empty(), "a running agent has files and processes");

        kill(envoy.pid, Signal::SIGKILL)?;
        let next = eventually(END, "another Envoy", async || {
            let next = solo.newest()?;
            ensure!(next.pid != envoy.pid, "it is the same one");
            Ok(next)
        });
        ensure!(next.await?.forked >= envoy.forked);
        solo.ready().await?;

        solo.signal(Signal::SIGTERM)?;
        let status = solo.exit().await?;
        ensure!(status.success(), "{status}\n{}", solo.log());
        eventually(Duration::from_secs(2), "nothing is left", async || {
            let left = solo.leftovers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
