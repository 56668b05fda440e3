//! Time from the agent's exec to Envoy's exec: the cost of the agent at the start of a pod. Nothing else runs meanwhile.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::solo::{Setup, Shm, Solo, Stage};
use pilot_tests::statistics::Durations;
use serde_json::{Value, json};

use super::plan::{HotRestartFlag, LifecyclePlan};

/// Time limit for a start.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Polling interval. The kernel shows an exec at once, and polling does not disturb the agent.
const LOOK: Duration = Duration::from_micros(200);

pub(crate) async fn measure(plan: &LifecyclePlan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    for flag in &plan.engines {
        measured.push((flag.name_of_agent(), of(plan, *flag).await));
    }
    measured
}

async fn of(plan: &LifecyclePlan, flag: HotRestartFlag) -> Result<Value> {
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let setup = Setup { shm: Shm::Shared, ..plan.setup(flag)? };
    let mut spread = Durations::default();
    for _ in 0..plan.starts {
        let dir = tempfile::tempdir()?;
        let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
        // A blocking loop, because time slices of the runtime would blur the result.
        while solo.generations()?.is_empty() {
            solo.check()?;
            ensure!(solo.spawned().elapsed() < TIMEOUT, "no Envoy within {TIMEOUT:?}:\n{}", solo.log());
            std::thread::sleep(LOOK);
        }
        spread.push(solo.spawned().elapsed());
        solo.ready().await?;
        solo.signal(nix::sys::signal::Signal::SIGTERM)?;
        solo.exit().await?;
    }
    Ok(json!({"exec_to_exec_ms": spread.summary()}))
}
