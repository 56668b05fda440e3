//! Hot restarts under load, one revision after the other: failed requests, and the time from the spawn of the new Envoy until it
//! is LIVE and until it answers. Comparisons are an Envoy that starts on ports of its own under the same load, and Envoy's own
//! restarter.
//!
//! Tunnels and idle connections must end at the bound of a handover; they are counted apart.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use pilot_tests::load::{Class, Traffic};
use pilot_tests::mesh::START;
use pilot_tests::solo::{Bare, Front, Generation, Setup, Solo, Stage};
use pilot_tests::statistics::{Durations, millis};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::{HotRestartFlag, LifecyclePlan};
use super::report_json;
use super::restarter::Restarter;

/// Envoy's drain time in every handover.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Limit for the end of the old Envoy: longer than two of the longest answers of the load. One is in flight at the handover, and
/// only the next answer on its connection has `connection: close`.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(1);

/// Times of several handovers.
#[derive(Default)]
struct Times {
    trigger_to_spawn: Durations,
    spawn_to_live: Durations,
    spawn_to_answer: Durations,
    to_alone: Durations,
}

/// Sets handovers as short as the load allows.
pub(crate) fn brief_hand_over(setup: &mut Setup) {
    setup.proxy.insert("drainDuration".to_owned(), format!("{}s", DRAIN.as_secs()).into());
    setup.proxy.insert("parentShutdownDuration".to_owned(), format!("{}s", BOUND.as_secs()).into());
}

pub(crate) async fn measure(plan: &LifecyclePlan) -> Vec<(String, Result<Value>)> {
    let mut measured = vec![("bare start".to_owned(), bare(plan).await)];
    let theirs = match &plan.restarter {
        Some(script) => restarter(plan, script).await,
        None => Ok(json!({"figures": null, "reason": "ENVOY_HOT_RESTARTER does not name the script"})),
    };
    measured.push(("hot-restarter.py".to_owned(), theirs));
    for flag in &plan.engines {
        measured.push((flag.name_of_agent(), agent(plan, *flag).await));
    }
    measured
}

async fn agent(plan: &LifecyclePlan, flag: HotRestartFlag) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let mut setup = plan.setup(flag)?;
    brief_hand_over(&mut setup);
    let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
    solo.ready().await?;
    let (traffic, mut times) = (start(&solo.front).await?, Times::default());
    for revision in 2..plan.restarts + 2 {
        let handed = hand_over(&solo, revision, &mut times).await;
        handed.map_err(|error| report_json::with_log(&error, &solo))?;
        solo.check()?;
    }
    Ok(report_json::with(report_json::summary(&traffic.stop().await?), times.summary(plan.restarts)))
}

/// Measures from a changed bootstrap to the end of the Envoy with the old one.
async fn hand_over(solo: &Solo, revision: u32, times: &mut Times) -> Result<()> {
    let old = solo.newest()?.pid;
    let trigger = Instant::now();
    solo.revise(revision)?;
    let (pid, spawned) = spawned(old, || solo.generations(), trigger).await?;
    times.trigger_to_spawn.push(spawned - trigger);
    answer(&solo.front, revision, trigger).await?;
    times.spawn_to_answer.push(spawned.elapsed());
    alone(times, trigger, || solo.generations()).await?;
    if let Some(live) = live_after(&solo.lifecycle().await?, pid) {
        times.spawn_to_live.push(live);
    }
    Ok(())
}

async fn restarter(plan: &LifecyclePlan, script: &Path) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let front = stage.front()?;
    let mut peer = Restarter::start(dir.path(), &front, script).await?;
    let (traffic, mut times) = (start(&front).await?, Times::default());
    for revision in 2..plan.restarts + 2 {
        let old = peer.generations()?.pop().context("no Envoy")?.pid;
        let trigger = Instant::now();
        peer.revise(revision)?;
        let spawned = spawned(old, || peer.generations(), trigger).await?.1;
        times.trigger_to_spawn.push(spawned - trigger);
        answer(&front, revision, trigger).await?;
        times.spawn_to_answer.push(spawned.elapsed());
        peer.live(revision - 1).await?;
        times.spawn_to_live.push(spawned.elapsed());
        alone(&mut times, trigger, || peer.generations()).await?;
    }
    let figures = report_json::summary(&traffic.stop().await?);
    peer.stop().await?;
    Ok(report_json::with(figures, times.summary(plan.restarts)))
}

/// Measures a start beside an Envoy that carries the load.
async fn bare(plan: &LifecyclePlan) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let (busy, idle) = (stage.front()?, stage.front()?);
    let mut carries = Bare::start(dir.path(), &busy, 1)?;
    carries.live().await?;
    let (traffic, mut live, mut answers) = (start(&busy).await?, Durations::default(), Durations::default());
    for _ in 0..plan.starts {
        let mut envoy = Bare::start(dir.path(), &idle, 2)?;
        live.push(envoy.live().await?);
        answer(&idle, 2, envoy.spawned()).await?;
        answers.push(envoy.spawned().elapsed());
    }
    traffic.stop().await?.values().try_for_each(pilot_tests::load::Report::ensure_no_failures)?;
    Ok(
        json!({"starts": plan.starts, "spawn_to_live_ms": live.summary(), "spawn_to_answer_ms": answers.summary()}),
    )
}

/// Starts the mixed load and long-lived connections, and waits for the first answers.
async fn start(front: &Front) -> Result<Traffic> {
    let mut loads = front.mix()?;
    loads.extend([("tunnel", front.load(Class::Tunnel)), ("idle", front.load(Class::Idle))]);
    let traffic = Traffic::start(loads);
    let since = Instant::now();
    while !traffic.reports().values().all(|report| report.answers.len() > 1) {
        ensure!(since.elapsed() < START, "the load has no answers");
        sleep(LOOK).await;
    }
    Ok(traffic)
}

/// Returns the Envoy after `old` and the time at which it was first visible.
async fn spawned(
    old: Pid,
    generations: impl Fn() -> Result<Vec<Generation>>,
    trigger: Instant,
) -> Result<(Pid, Instant)> {
    loop {
        if let Some(new) = generations()?.pop().filter(|new| new.pid != old) {
            return Ok((new.pid, Instant::now()));
        }
        ensure!(trigger.elapsed() < START, "no other Envoy was started");
        sleep(LOOK).await;
    }
}

async fn answer(front: &Front, revision: u32, since: Instant) -> Result<()> {
    while !front.revision().await.is_ok_and(|now| now == revision) {
        ensure!(since.elapsed() < START, "revision {revision} does not answer");
        sleep(LOOK).await;
    }
    Ok(())
}

async fn alone(
    times: &mut Times,
    trigger: Instant,
    generations: impl Fn() -> Result<Vec<Generation>>,
) -> Result<()> {
    while generations()?.len() > 1 {
        ensure!(trigger.elapsed() < START, "the old generation does not end");
        sleep(LOOK).await;
    }
    times.to_alone.push(trigger.elapsed());
    Ok(())
}

/// Returns the agent's record of this Envoy; only the agent can reach every admin.
fn live_after(lifecycle: &Value, pid: Pid) -> Option<Duration> {
    let mut generations = lifecycle.get("generations")?.as_array()?.iter();
    let mine = generations.find(|one| one.get("pid").and_then(Value::as_i64) == Some(pid.as_raw().into()))?;
    Duration::try_from_secs_f64(mine.get("live_after_ms")?.as_f64()? / 1000.0).ok()
}

// === impl Times ===

impl Times {
    fn summary(&self, restarts: u32) -> Value {
        json!({
            "restarts": restarts,
            "bound_ms": millis(BOUND),
            "trigger_to_spawn_ms": self.trigger_to_spawn.summary(),
            "spawn_to_live_ms": self.spawn_to_live.summary(),
            "spawn_to_answer_ms": self.spawn_to_answer.summary(),
            "trigger_to_one_generation_ms": self.to_alone.summary(),
        })
    }
}
