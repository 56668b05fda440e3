//! Predecessors that are stopped for seconds at any moment of a native hand-over, while the configuration changes.
//!
//! An Envoy that sends to the closed socket of its predecessor retries once a second and aborts after ten attempts; one that
//! waits for an answer of a predecessor has no limit at all. So the agent has to answer in time, whatever else it does.
//!
//! `PILOT_HAND_OVERS` sets the number of hand-overs, `PILOT_SEED` the seed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Class, Load, Traffic};
use pilot_tests::process::ProcessInfo;
use pilot_tests::solo::{Engine, Generation, Solo};
use pilot_tests::wait::eventually;
use tokio::time::sleep;

use super::super::hot_restart::{play, setup, state};

/// Hand-overs in a usual test run.
const HAND_OVERS: u64 = 4;

/// No predecessor is stopped for longer, in milliseconds.
const LONGEST_STOP: u64 = 15_000;

/// Range of the time for which an agent is stopped, in milliseconds: long enough that a successor reaches a dead predecessor.
/// Envoy aborts after ten seconds.
const AGENT_STOP: (u64, u64) = (4_000, 8_500);

/// More than the five seconds between two requests for statistics.
const PARENT_SHUTDOWN: &str = "7s";

/// A hand-over is over by then: the stop, some attempts to start a successor, and the time that a predecessor has.
const WITHIN: Duration = Duration::from_mins(1);

/// Disturbance of one hand-over.
#[derive(Clone, Copy, Debug)]
struct Disturbance {
    what: Disturbed,
    /// A connection keeps the predecessor busy.
    busy: bool,
    /// The configuration changes once more when the predecessor dies.
    change_at_death: bool,
}

#[derive(Clone, Copy, Debug)]
enum Disturbed {
    /// The predecessor is stopped so long after the change, and for so long.
    Predecessor(Duration, Duration),
    /// So long after the successor serves the predecessor dies, and the agent, which is stopped for so long, does not
    /// notice.
    Agent(Duration, Duration),
}

// === impl Disturbance ===

impl Disturbance {
    fn nth(seed: u64, number: u64) -> Self {
        let mut state = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let mut random = |below: u64| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % below
        };
        let mut millis = |below| Duration::from_millis(random(below));
        let [early, late, agent] = [
            // Before the new Envoy is LIVE, or while the old one leaves.
            Disturbed::Predecessor(millis(400), millis(LONGEST_STOP)),
            Disturbed::Predecessor(millis(7_000), millis(LONGEST_STOP)),
            Disturbed::Agent(
                millis(4_000),
                millis(AGENT_STOP.1 - AGENT_STOP.0) + Duration::from_millis(AGENT_STOP.0),
            ),
        ];
        let [what, busy, change_at_death] = [random(3), random(2), random(3)];
        let what = usize::try_from(what).unwrap_or_default();
        let what = [early, late, agent].into_iter().nth(what).unwrap_or(early);
        // One without connections is gone before it can be killed.
        let busy = busy == 0 || matches!(what, Disturbed::Agent(..));
        Self { what, busy, change_at_death: change_at_death > 0 }
    }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

/// Sends a signal to a process that may have ended.
fn send(envoy: &Generation, signal: Signal) -> Result<()> {
    match kill(envoy.pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("send {signal} to {envoy:?}")),
    }
}

async fn disturb(solo: &Solo, predecessor: &Generation, (what, revision): (Disturbed, u32)) -> Result<()> {
    match what {
        Disturbed::Predecessor(after, stopped) => {
            sleep(after).await;
            send(predecessor, Signal::SIGSTOP)?;
            sleep(stopped).await;
            send(predecessor, Signal::SIGCONT)
        }
        Disturbed::Agent(after, stopped) => {
            solo.serves(revision).await?;
            sleep(after).await;
            solo.signal(Signal::SIGSTOP)?;
            send(predecessor, Signal::SIGKILL)?;
            sleep(stopped).await;
            solo.signal(Signal::SIGCONT)
        }
    }
}

/// Waits until a process has ended, and does not wait for its parent to notice.
async fn ended(envoy: &Generation) -> Result<()> {
    eventually(WITHIN, "the predecessor has ended", async || match ProcessInfo::read(envoy.pid) {
        Some(seen) if seen.state != 'Z' => anyhow::bail!("{seen:?}"),
        _ => Ok(()),
    })
    .await
}

/// No Envoy has ended but predecessors, and successors that were not LIVE in time.
async fn none_has_crashed(solo: &Solo, predecessors: &[i32]) -> Result<()> {
    let exits = state(solo, "/exits").await?;
    for exit in exits.as_array().into_iter().flatten() {
        let (reason, signal) = (exit["reason"].as_str().unwrap_or_default(), exit["signal"].as_u64());
        let killed = predecessors.iter().any(|pid| exit["pid"] == *pid) && signal == Some(9);
        ensure!(killed || ["handed_over", "stopped", "killed"].contains(&reason), "{exit}");
    }
    ensure!(!solo.log().contains("hot restart sendmsg() failed"), "an Envoy has aborted");
    Ok(())
}

async fn hand_over(solo: &Solo, revision: &mut u32, disturbance: Disturbance) -> Result<Generation> {
    let predecessor = solo.newest()?;
    let one = Load { clients: 1, ..solo.front.load(Class::Tunnel) };
    let busy = disturbance.busy.then(|| Traffic::start([("busy", one)]));
    *revision += 1;
    solo.revise(*revision)?;
    let what = (disturbance.what, *revision);
    let change = async {
        if disturbance.change_at_death {
            ended(&predecessor).await?;
            *revision += 1;
            solo.revise(*revision)?;
        }
        anyhow::Ok(())
    };
    let (disturbed, changed) = tokio::join!(disturb(solo, &predecessor, what), change);
    disturbed.and(changed)?;
    let one = eventually(WITHIN, "the last revision is alone", async || {
        let generations = solo.generations()?;
        let [one] = generations.as_slice() else { anyhow::bail!("{generations:?}") };
        let now = solo.front.revision().await?;
        ensure!(now == *revision, "revision {now}");
        Ok(one.clone())
    });
    let one = one.await?;
    // A cold start has the first epoch again.
    ensure!(one.epoch > predecessor.epoch, "{predecessor:?} {one:?}");
    drop(busy);
    Ok(predecessor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_stopped_at_any_moment_of_a_hand_over_does_not_abort_its_successor() -> Result<()> {
    let (hand_overs, seed) = (number("PILOT_HAND_OVERS", HAND_OVERS)?, number("PILOT_SEED", 1)?);
    let mut setup = setup(Engine::Native, &["--hotRestartDeadline=3s"])?;
    setup.proxy.insert("parentShutdownDuration".into(), PARENT_SHUTDOWN.into());
    play(&setup, async |play| {
        let (mut revision, mut predecessors) = (1, Vec::new());
        for nth in 1..=hand_overs {
            let (disturbance, began) = (Disturbance::nth(seed, nth), Instant::now());
            let outcome = hand_over(&play.solo, &mut revision, disturbance).await;
            println!("hand-over {nth}: {disturbance:?} took {:?}, revision {revision}", began.elapsed());
            let context = || format!("hand-over {nth} of seed {seed}: {disturbance:?}");
            predecessors.push(outcome.with_context(context)?.pid.as_raw());
            none_has_crashed(&play.solo, &predecessors).await.with_context(context)?;
            play.solo.check()?;
        }
        Ok(())
    })
    .await
}
