//! One revision after the other under load, each by a hot restart: who loses a request, and how long from the new Envoy's spawn
//! until it is LIVE and until it answers. Beside it an Envoy that starts on ports of its own under the same load, and Envoy's
//! own restarter.
//!
//! Tunnels and idle connections have to end at a hand-over's bound; they are counted apart.

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

use super::figures;
use super::peer::Restarter;
use super::plan::{Plan, Told};

/// Envoy's drain time in every hand-over.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// When the old generation ends at the latest: longer than two of the longest answers of the load. One is under way at the
/// hand-over, and only the next one on its connection is told to close it.
pub(crate) const BOUND: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_millis(1);

/// Times of several hand-overs.
#[derive(Default)]
struct Times {
    trigger_to_spawn: Durations,
    spawn_to_live: Durations,
    spawn_to_answer: Durations,
    to_alone: Durations,
}

/// Hand-overs as brief as the load allows.
pub(crate) fn brief_hand_over(setup: &mut Setup) {
    setup.proxy.insert("drainDuration".to_owned(), format!("{}s", DRAIN.as_secs()).into());
    setup.proxy.insert("parentShutdownDuration".to_owned(), format!("{}s", BOUND.as_secs()).into());
}

pub(crate) async fn measure(plan: &Plan) -> Vec<(String, Result<Value>)> {
    let mut measured = vec![("bare start".to_owned(), bare(plan).await)];
    let theirs = match &plan.restarter {
        Some(script) => restarter(plan, script).await,
        None => Ok(json!({"figures": null, "reason": "ENVOY_HOT_RESTARTER does not name the script"})),
    };
    measured.push(("hot-restarter.py".to_owned(), theirs));
    for told in &plan.engines {
        measured.push((told.who(), agent(plan, *told).await));
    }
    measured
}

async fn agent(plan: &Plan, told: Told) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let mut setup = plan.setup(told)?;
    brief_hand_over(&mut setup);
    let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
    solo.ready().await?;
    let (traffic, mut times) = (start(&solo.front).await?, Times::default());
    for revision in 2..plan.restarts + 2 {
        let handed = hand_over(&solo, revision, &mut times).await;
        handed.map_err(|error| figures::with_log(&error, &solo))?;
        solo.check()?;
    }
    Ok(figures::with(figures::told(&traffic.stop().await?), times.told(plan.restarts)))
}

/// From a changed bootstrap to the end of the Envoy that had the old one.
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

async fn restarter(plan: &Plan, script: &Path) -> Result<Value> {
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
    let figures = figures::told(&traffic.stop().await?);
    peer.stop().await?;
    Ok(figures::with(figures, times.told(plan.restarts)))
}

/// Starts beside one that carries the load.
async fn bare(plan: &Plan) -> Result<Value> {
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

/// The mix, and connections that are held; all of it flows.
async fn start(front: &Front) -> Result<Traffic> {
    let mut loads = front.mix()?;
    loads.extend([("tunnel", front.load(Class::Tunnel)), ("idle", front.load(Class::Idle))]);
    let traffic = Traffic::start(loads);
    let since = Instant::now();
    while !traffic.reports().values().all(|report| report.answers.len() > 1) {
        ensure!(since.elapsed() < START, "the load does not flow");
        sleep(LOOK).await;
    }
    Ok(traffic)
}

/// The Envoy after `old`, and when it was seen first.
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

/// What the agent says of this Envoy; it alone sees every admin.
fn live_after(lifecycle: &Value, pid: Pid) -> Option<Duration> {
    let mut generations = lifecycle.get("generations")?.as_array()?.iter();
    let mine = generations.find(|one| one.get("pid").and_then(Value::as_i64) == Some(pid.as_raw().into()))?;
    Duration::try_from_secs_f64(mine.get("live_after_ms")?.as_f64()? / 1000.0).ok()
}

// === impl Times ===

impl Times {
    fn told(&self, restarts: u32) -> Value {
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
