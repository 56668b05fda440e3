//! kill -9 of Envoy under load: refused connections, and the time until a new connection is answered. The comparison is an
//! Envoy that is restarted by a loop.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::Traffic;
use pilot_tests::mesh::START;
use pilot_tests::solo::{Bare, Front, Solo, Stage};
use pilot_tests::statistics::Durations;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::{HotRestartFlag, LifecyclePlan};
use super::report_json;

/// Duration of the load before the next kill: longer than the longest answer, so that each kill meets every class.
const FLOW: Duration = Duration::from_secs(2);

const LOOK: Duration = Duration::from_millis(1);

pub(crate) async fn measure(plan: &LifecyclePlan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    let bare = bare(plan).await;
    let floor = bare.as_ref().map(|(_, spread)| spread.clone()).unwrap_or_default();
    measured.push(("bare respawn".to_owned(), bare.map(|(figures, _)| figures)));
    for flag in &plan.engines {
        measured.push((flag.name_of_agent(), agent(plan, *flag, &floor).await));
    }
    measured
}

/// Measures a fresh agent for each kill, because the restart back-off after several crashes would count otherwise.
async fn agent(plan: &LifecyclePlan, flag: HotRestartFlag, floor: &Durations) -> Result<Value> {
    let (mut reports, mut serving) = (BTreeMap::new(), Durations::default());
    for _ in 0..plan.kills {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let mut solo = Solo::start(dir.path(), &stage.front()?, &plan.setup(flag)?)?;
        solo.ready().await?;
        let traffic = Traffic::start(solo.front.mix()?);
        sleep(FLOW).await;
        serving.push(kill_one(&solo).await.map_err(|error| report_json::with_log(&error, &solo))?);
        solo.ready().await?;
        sleep(FLOW).await;
        report_json::add(&mut reports, traffic.stop().await?);
    }
    let times = json!({
        "kills": plan.kills,
        "kill_to_serving_ms": serving.summary(),
        "ratio_to_bare": serving.ratio(floor),
    });
    Ok(report_json::with(report_json::summary(&reports), times))
}

async fn kill_one(solo: &Solo) -> Result<Duration> {
    let envoy = solo.newest()?;
    let killed = Instant::now();
    kill(envoy.pid, Signal::SIGKILL).context("kill Envoy")?;
    // Its last answers may still be in flight.
    while solo.generations()?.iter().any(|generation| generation.pid == envoy.pid) {
        ensure!(killed.elapsed() < START, "Envoy outlived kill -9");
        sleep(LOOK).await;
    }
    answered(&solo.front, killed).await
}

async fn bare(plan: &LifecyclePlan) -> Result<(Value, Durations)> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let front = stage.front()?;
    let mut envoy = start(dir.path(), &front)?;
    envoy.live().await?;
    let traffic = Traffic::start(front.mix()?);
    let mut serving = Durations::default();
    for _ in 0..plan.kills {
        sleep(FLOW).await;
        let killed = Instant::now();
        envoy.signal(Signal::SIGKILL)?;
        while envoy.ended()?.is_none() {
            sleep(LOOK).await;
        }
        envoy = start(dir.path(), &front)?;
        serving.push(answered(&front, killed).await?);
        envoy.live().await?;
    }
    let figures = report_json::summary(&traffic.stop().await?);
    let times = json!({"kills": plan.kills, "kill_to_serving_ms": serving.summary()});
    Ok((report_json::with(figures, times), serving))
}

fn start(dir: &Path, front: &Front) -> Result<Bare> {
    Bare::start(dir, front, 1)
}

/// Returns the time after `since` at which a new connection was answered, including its time in a backlog.
async fn answered(front: &Front, since: Instant) -> Result<Duration> {
    while let Err(error) = front.revision().await {
        ensure!(since.elapsed() < START, "no answer on a new connection: {error:#}");
        sleep(LOOK).await;
    }
    Ok(since.elapsed())
}
