//! SIGTERM in every state there is, with clients that leave as a load balancer makes them: new connections go to another
//! sidecar as soon as readiness is off, and kept ones are used for as long as they are let.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Load, Traffic};
use pilot_tests::mesh::{END, START};
use pilot_tests::solo::{Bare, Engine, Front, Setup};
use pilot_tests::wait::eventually;

use super::super::ENGINES;
use super::{Sidecar, patient, under_way, waits_for_ever};

/// Enough to see a gap of some hundredths of a second, and little enough for tests beside each other.
const THINK: Duration = Duration::from_millis(20);

/// A sidecar under load, and another one to go to.
struct Service {
    sidecar: Sidecar,
    other: Front,
    _elsewhere: Bare,
    traffic: Traffic,
}

fn patient_with(engine: Engine) -> Result<Setup> {
    let mut setup = patient()?;
    setup.engine = Some(engine);
    Ok(setup)
}

/// The sockets of Envoys' admins: the last thing that one makes before it waits for its control plane.
fn admins(sidecar: &Sidecar) -> Result<Vec<String>> {
    let folder = std::fs::read_dir(sidecar.dir.path().join("etc/istio/proxy/run"))?;
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("admin-")).collect())
}

// === impl Service ===

impl Service {
    async fn start(setup: &Setup) -> Result<Self> {
        let sidecar = Sidecar::ready(setup).await?;
        let other = sidecar.stage.front()?;
        let mut elsewhere = Bare::start(sidecar.dir.path(), &other, 99)?;
        elsewhere.live().await?;
        let loads = sidecar.solo.front.mix()?.into_iter();
        let traffic = Traffic::start(loads.map(|(name, load)| (name, Load { think: THINK, ..load })));
        let service = Self { sidecar, other, _elsewhere: elsewhere, traffic };
        service.flows().await?;
        Ok(service)
    }

    /// Waits until every load has been answered some more.
    async fn flows(&self) -> Result<()> {
        let before = self.traffic.reports();
        let flows = eventually(END, "every load is answered", async || {
            for (name, report) in self.traffic.reports() {
                let before = before.get(&name).map_or(0, |report| report.answers.len());
                ensure!(report.answers.len() > before + 2, "{name} is not");
            }
            Ok(())
        });
        flows.await
    }

    /// Terminates the agent, moves clients that watch readiness, and waits for the exit.
    async fn leave(&mut self) -> Result<()> {
        self.sidecar.solo.signal(Signal::SIGTERM)?;
        eventually(END, "readiness is off", async || {
            ensure!(!self.sidecar.solo.is_ready().await, "it is on");
            Ok(())
        })
        .await?;
        self.send_away();
        let status = self.sidecar.solo.exit().await?;
        ensure!(status.success(), "{status}\n{}", self.sidecar.solo.log());
        self.flows().await?;
        // The other one works in the same folder.
        let left = self.sidecar.solo.leftovers()?;
        ensure!(left.iter().all(|line| line.starts_with("process") && line.contains("envoy")), "{left:?}");
        ensure!(left.len() == 1, "{left:?}");
        Ok(())
    }

    fn send_away(&self) {
        self.traffic.connect_to(|name| {
            Some(match name {
                "tcp" => self.other.tcp,
                "tls" | "tls-new" => self.other.tls,
                _ => self.other.http,
            })
        });
    }

    async fn nobody_lost_anything(self) -> Result<()> {
        for (name, report) in self.traffic.stop().await? {
            report.ensure_no_failures().with_context(|| format!("{name}\n{}", self.sidecar.solo.log()))?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_runs_sigterm_loses_no_request() -> Result<()> {
    let mut service = Service::start(&patient()?).await?;
    service.leave().await?;
    service.nobody_lost_anything().await
}

async fn end_during_a_hand_over(engine: Engine) -> Result<()> {
    let mut setup = patient_with(engine)?;
    setup.proxy.insert("terminationDrainDuration".into(), "10s".into());
    let mut service = Service::start(&setup).await?;
    let solo = &service.sidecar.solo;
    let mut next = solo.front.bootstrap(2, solo.admin);
    waits_for_ever(&mut next)?;
    solo.rewrite(&next)?;
    eventually(START, "a second Envoy is about to take over", async || {
        ensure!(solo.generations()?.len() == 2, "{:?}", solo.lifecycle().await?);
        // By then it has requested the sockets, and a native Envoy has closed the admin endpoint of its predecessor.
        let admins = admins(&service.sidecar)?;
        ensure!(admins.len() == 2, "{admins:?}");
        Ok(())
    })
    .await
    .with_context(|| solo.log())?;
    service.leave().await?;
    service.nobody_lost_anything().await
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_mediated_hand_over_sigterm_loses_no_request() -> Result<()> {
    end_during_a_hand_over(Engine::Mediated).await
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_native_hand_over_sigterm_loses_no_request() -> Result<()> {
    end_during_a_hand_over(Engine::Native).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_old_envoy_still_serves_sigterm_loses_no_request_of_either() -> Result<()> {
    for engine in ENGINES {
        let mut service = Service::start(&patient_with(engine)?).await?;
        let slow = Sidecar::ready(&patient_with(engine)?).await?;
        let request = under_way(&slow.solo, "/delay/8000").await?;
        for solo in [&service.sidecar.solo, &slow.solo] {
            solo.revise(2)?;
            eventually(END, "the second Envoy is known to be LIVE", async || {
                let life = solo.lifecycle().await?;
                let newest = life["generations"].as_array().and_then(|all| all.last());
                let newest = newest.context("no Envoy")?;
                ensure!(newest["epoch"] == 1 && newest["live_after_ms"].is_u64(), "{life}");
                Ok(())
            })
            .await?;
        }
        ensure!(slow.solo.generations()?.len() == 2, "{:?}", slow.solo.generations()?);
        let Sidecar { mut solo, .. } = slow;
        solo.signal(Signal::SIGTERM)?;
        service.leave().await.with_context(|| engine.name())?;
        service.nobody_lost_anything().await.with_context(|| engine.name())?;
        let answered = request.await?;
        answered.with_context(|| format!("{}: the old one's request\n{}", engine.name(), solo.log()))?;
        let status = solo.exit().await?;
        ensure!(status.success(), "{}: {status}\n{}", engine.name(), solo.log());
        solo.nothing_left().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_to_start_envoy_again_sigterm_ends_it_at_once() -> Result<()> {
    for engine in ENGINES {
        let mut sidecar = Sidecar::ready(&patient_with(engine)?).await?;
        // Each crash makes the wait twice as long; the fifth time there is one that can be seen.
        for _ in 0..5 {
            let envoy = sidecar.solo.newest()?;
            kill(envoy.pid, Signal::SIGKILL)?;
            eventually(START, "the next Envoy, or a wait for it", async || {
                let life = sidecar.solo.lifecycle().await?;
                let waits = life["phase"] == "backing-off";
                ensure!(waits || sidecar.solo.newest().is_ok_and(|next| next.pid != envoy.pid), "{life}");
                Ok(())
            })
            .await?;
            if sidecar.solo.lifecycle().await?["restarts"]["left"].as_u64().is_some_and(|left| left < 6) {
                break;
            }
            eventually(START, "it runs", async || {
                ensure!(sidecar.solo.is_ready().await, "not ready");
                Ok(())
            })
            .await?;
        }
        sidecar.solo.reaches("backing-off").await?;
        let (_, code) = sidecar.terminate().await?;
        ensure!(code == 0, "{}: {code}\n{}", engine.name(), sidecar.solo.log());
        sidecar.solo.nothing_left().await?;
    }
    Ok(())
}
