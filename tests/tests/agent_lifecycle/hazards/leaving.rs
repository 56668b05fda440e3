//! One of the two is shot around the moment when the new one is LIVE.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Class, FailureKind, Load, Traffic};
use pilot_tests::mesh::END;
use pilot_tests::solo::{Engine, Generation, Solo};
use pilot_tests::wait::eventually;

use super::super::ENGINES;
use super::super::hot_restart::{alone, both, lost_nothing, play, setup, state, traffic, unmoved};
use super::{Silent, gone, send};

/// Envoy retries to reach a dead predecessor for ten seconds, and then aborts.
const ABORT: Duration = Duration::from_secs(16);

/// Returns a connection that stays open, so that its Envoy stays.
fn kept(solo: &Solo) -> Traffic {
    Traffic::start([("kept", Load { clients: 1, ..solo.front.load(Class::Tunnel) })])
}

/// Waits until the second of two is LIVE and the first one leaves; both of them.
async fn handed_over(solo: &Solo, revision: u32) -> Result<(Generation, Generation)> {
    solo.revise(revision)?;
    let pair = both(solo).await?;
    eventually(END, "the new one is LIVE, the old one drains", async || {
        let old = state(solo, "/generations/0/state").await?;
        let new = state(solo, "/generations/1/state").await?;
        ensure!(old == "draining" && new == "live", "{old} {new}");
        Ok(())
    })
    .await?;
    Ok(pair)
}

/// Waits until the connection is there.
async fn is_kept(kept: &Traffic) -> Result<()> {
    eventually(END, "a connection is kept", async || {
        ensure!(!kept.report().answers.is_empty());
        Ok(())
    })
    .await
}

/// An Envoy that dies loses at most one request of each client. With retained sockets no connection is refused.
async fn one_each(engine: Engine, traffic: Traffic) -> Result<()> {
    for (name, report) in traffic.stop().await? {
        let faults = report.failures_by_kind();
        let refused = faults.get(&FailureKind::Refused).copied().unwrap_or_default();
        let lost: usize = faults.values().sum();
        ensure!(engine == Engine::Native || refused == 0, "{name}: {faults:?}");
        ensure!(lost - refused <= 1, "{name}: {faults:?} {:?}", report.failures);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_one_that_is_shot_while_it_leaves_does_not_take_the_new_one_along() -> Result<()> {
    for engine in ENGINES {
        let mut setup = setup(engine, &[])?;
        setup.proxy.insert("parentShutdownDuration".into(), "30s".into());
        play(&setup, async |play| {
            let kept = kept(&play.solo);
            is_kept(&kept).await?;
            let (old, new) = handed_over(&play.solo, 2).await?;
            let traffic = traffic(&play.solo.front);
            send(&old, Signal::SIGKILL)?;
            gone(&old).await?;
            unmoved(&play.solo, ABORT).await?;
            ensure!(play.solo.newest()? == new, "not {new:?}");
            play.solo.ready().await?;
            // A successor is nothing the dead one has spoilt.
            play.solo.revise(3)?;
            play.solo.serves(3).await?;
            let one = play.solo.newest()?;
            ensure!(one.epoch == new.epoch + 1, "{new:?} {one:?}");
            // Its connection went with it.
            drop(kept);
            lost_nothing(traffic).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_one_that_is_shot_while_the_old_one_leaves_is_back_with_its_number() -> Result<()> {
    for engine in ENGINES {
        let mut setup = setup(engine, &[])?;
        setup.proxy.insert("parentShutdownDuration".into(), "30s".into());
        play(&setup, async |play| {
            let kept = kept(&play.solo);
            is_kept(&kept).await?;
            let (old, new) = handed_over(&play.solo, 2).await?;
            let traffic = traffic(&play.solo.front);
            send(&new, Signal::SIGKILL)?;
            gone(&new).await?;
            play.solo.serves(2).await?;
            let back = play.solo.newest()?;
            ensure!(back.pid != new.pid && back.epoch == new.epoch, "{new:?} {back:?}");
            play.solo.ready().await?;
            // The old Envoy still serves its connections.
            let report = kept.stop().await?.remove("kept").context("kept")?;
            ensure!(report.ends.is_empty() && report.failures.is_empty(), "{old:?}: {report:?}");
            one_each(engine, traffic).await
        })
        .await?;
    }
    Ok(())
}

/// The new one is stopped for that moment, so that it is not LIVE before.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_one_that_serves_is_shot_the_rising_one_serves_or_another_does() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[])?, async |play| {
            let first = play.solo.newest()?;
            let traffic = traffic(&play.solo.front);
            play.solo.revise(2)?;
            let (_, new) = both(&play.solo).await?;
            send(&new, Signal::SIGSTOP)?;
            send(&first, Signal::SIGKILL)?;
            gone(&first).await?;
            if engine == Engine::Native {
                // It would wait for the dead, and is not waited for.
                gone(&new).await?;
            } else {
                send(&new, Signal::SIGCONT)?;
            }
            let one = alone(&play.solo, 2).await?;
            ensure!((engine == Engine::Mediated) == (one.pid == new.pid), "{new:?} {one:?}");
            play.solo.ready().await?;
            one_each(engine, traffic).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_one_that_serves_is_shot_and_the_rising_one_is_never_live_the_last_good_state_serves()
-> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &["--hotRestartDeadline=3s"])?, async |play| {
            let (silent, first) = (Silent::start()?, play.solo.newest()?);
            silent.stall(&play.solo, 2)?;
            both(&play.solo).await?;
            send(&first, Signal::SIGKILL)?;
            gone(&first).await?;
            play.solo.serves(1).await?;
            play.solo.ready().await
        })
        .await?;
    }
    Ok(())
}
