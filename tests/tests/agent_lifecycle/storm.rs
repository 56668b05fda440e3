//! Everything at once: configuration that changes five times a second, and Envoys of any generation that are killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Class, Failure, FailureKind, Load, Report, Traffic};
use pilot_tests::mesh::{END, START};
use pilot_tests::solo::{Engine, Front};
use pilot_tests::wait::eventually;
use tokio::time::{sleep, sleep_until};

use super::shutdown::{Sidecar, patient};

const CHANGES: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(200);

/// One in so many changes comes with a kill.
const KILLS: u32 = 8;

/// Time in which a client notices the death of its server.
const NOTICE: Duration = Duration::from_secs(1);

const LOOK: Duration = Duration::from_millis(10);

/// From the kill of an Envoy until one serves again, itself or another one.
#[derive(Clone, Copy, Debug)]
struct Gap {
    killed: Instant,
    served: Instant,
}

// === impl Gap ===

impl Gap {
    /// Returns `true` if the killed Envoy may have lost the request.
    fn explains(&self, failure: &Failure) -> bool {
        self.killed <= failure.at && failure.at <= self.served + NOTICE
    }
}

/// Numbers that look random and are the same each time.
fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 32)
}

async fn serves_again(front: Front, killed: Instant) -> Result<Gap> {
    loop {
        match front.revision().await {
            Ok(_) => return Ok(Gap { killed, served: Instant::now() }),
            Err(error) if killed.elapsed() > START => return Err(error).context("nobody serves again"),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Changes and kills; the gaps there were.
async fn rage(sidecar: &Sidecar, seed: u64) -> Result<Vec<Gap>> {
    let (began, solo) = (tokio::time::Instant::now(), &sidecar.solo);
    let mut gaps = Vec::new();
    for change in 1..=CHANGES {
        solo.revise(1 + change)?;
        if change % KILLS == 0 {
            let generations = solo.generations()?;
            let chosen = usize::try_from(random(seed + u64::from(change)) % 2)?
                .min(generations.len().saturating_sub(1));
            if let Some(chosen) = generations.get(chosen) {
                println!("change {change}: {} of {}", chosen.epoch, generations.len());
                let killed = Instant::now();
                match kill(chosen.pid, Signal::SIGKILL) {
                    // It has just ended by itself.
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(error).context("kill an Envoy"),
                }
                gaps.push(tokio::spawn(serves_again(solo.front.clone(), killed)));
            }
        }
        sleep_until(began + BETWEEN * change).await;
    }
    let mut found = Vec::new();
    for gap in gaps {
        found.push(gap.await??);
    }
    Ok(found)
}

/// Only with an Envoy that was killed is anything lost.
fn lost_only_with_the_killed(name: &str, report: &Report, gaps: &[Gap]) -> Result<()> {
    let unexplained = report.failures.iter().filter(|failure| !gaps.iter().any(|gap| gap.explains(failure)));
    let unexplained: Vec<_> = unexplained.map(|failure| (&failure.reason, failure.at.elapsed())).collect();
    ensure!(unexplained.is_empty(), "{name}: {unexplained:?}");
    ensure!(report.answers.len() > 100, "{name}: {} answers", report.answers.len());
    Ok(())
}

async fn storm(engine: Engine) -> Result<()> {
    let mut setup = patient()?;
    setup.engine = Some(engine);
    setup.proxy.insert("parentShutdownDuration".into(), "2s".into());
    let mut sidecar = Sidecar::ready(&setup).await?;
    let mix =
        [("keep-alive", Class::KeepAlive), ("new", Class::New), ("http2", Class::Http2), ("tcp", Class::Tcp)];
    let gentle = |class| Load { think: Duration::from_millis(10), ..sidecar.solo.front.load(class) };
    let traffic = Traffic::start(mix.map(|(name, class)| (name, gentle(class))));
    let gaps = rage(&sidecar, 7).await.with_context(|| sidecar.solo.log())?;
    eventually(END * 3, "the last configuration runs", async || {
        let revision = sidecar.solo.front.revision().await?;
        ensure!(revision == 1 + CHANGES, "revision {revision} does");
        let generations = sidecar.solo.generations()?;
        ensure!(generations.len() == 1, "{generations:?}");
        Ok(())
    })
    .await
    .with_context(|| sidecar.solo.log())?;
    sleep(Duration::from_millis(500)).await;
    let reports = traffic.stop().await?;
    println!("{gaps:?}");
    for (name, report) in &reports {
        println!("{name}: {} answers, {:?}", report.answers.len(), report.failures_by_kind());
        lost_only_with_the_killed(name, report, &gaps).with_context(|| sidecar.solo.log())?;
        // Connections to retained sockets wait a moment longer, and are served.
        let refused = report.failures_by_kind().get(&FailureKind::Refused).copied().unwrap_or(0);
        ensure!(
            engine != Engine::Mediated || refused == 0,
            "{name}: {refused} refused\n{}",
            sidecar.solo.log()
        );
    }
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}");
    sidecar.solo.nothing_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_with_held_sockets_nobody_is_refused_and_the_last_configuration_runs() -> Result<()> {
    storm(Engine::Mediated).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_storm_of_native_hand_overs_only_the_killed_lose_and_the_last_configuration_runs() -> Result<()>
{
    storm(Engine::Native).await
}
