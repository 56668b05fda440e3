//! A new Envoy takes over from a running one.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use pilot_tests::load::Traffic;
use pilot_tests::mesh::END;
use pilot_tests::solo::{Setup, Solo, Stage};
use pilot_tests::wait::eventually;

use super::ENGINES;

/// Waits until one Envoy is left, and it has this revision.
async fn alone(solo: &Solo, revision: u32) -> Result<()> {
    solo.serves(revision).await?;
    eventually(END, "one generation is left", async || {
        let generations = solo.generations()?;
        ensure!(generations.len() == 1, "{generations:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bootstrap_takes_over_under_load_and_nobody_loses_a_request() -> Result<()> {
    for engine in ENGINES {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let mut setup = Setup::with_engine(engine)?;
        setup.flags.push("--log_output_level=default:debug".into());
        setup.proxy.insert("parentShutdownDuration".into(), "4s".into());
        let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
        solo.ready().await?;
        let traffic = Traffic::start(solo.front.mix()?);
        for revision in 2..8 {
            solo.revise(revision)?;
            alone(&solo, revision).await.with_context(|| solo.log())?;
            solo.check()?;
        }
        println!("{}", solo.log());
        for (name, report) in traffic.stop().await? {
            report.faultless().with_context(|| format!("{}: {name}", engine.name()))?;
        }
    }
    Ok(())
}
