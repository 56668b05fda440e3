//! The agent's exec to Envoy's: what the agent costs a pod's start. Nothing else runs meanwhile.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::solo::{Setup, Shm, Solo, Stage};
use pilot_tests::statistics::Durations;
use serde_json::{Value, json};

use super::plan::{Plan, Told};

/// A start that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel shows an exec at once, and looking costs the agent nothing that it would notice.
const LOOK: Duration = Duration::from_micros(200);

pub(crate) async fn measure(plan: &Plan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    for told in &plan.engines {
        measured.push((told.who(), of(plan, *told).await));
    }
    measured
}

async fn of(plan: &Plan, told: Told) -> Result<Value> {
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let setup = Setup { shm: Shm::Shared, ..plan.setup(told)? };
    let mut spread = Durations::default();
    for _ in 0..plan.starts {
        let dir = tempfile::tempdir()?;
        let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
        // Time slices of the runtime would blur it: we look ourselves.
        while solo.generations()?.is_empty() {
            solo.check()?;
            ensure!(solo.spawned().elapsed() < PATIENCE, "no Envoy within {PATIENCE:?}:\n{}", solo.log());
            std::thread::sleep(LOOK);
        }
        spread.push(solo.spawned().elapsed());
        solo.ready().await?;
        solo.signal(nix::sys::signal::Signal::SIGTERM)?;
        solo.exit().await?;
    }
    Ok(json!({"exec_to_exec_ms": spread.summary()}))
}
