//! Predecessors that are stopped for seconds at any moment of a native hand-over, while the configuration changes.
//!
//! An Envoy that sends to a predecessor whose socket is closed retries once a second and aborts after ten attempts; one
//! that waits for an answer of a predecessor has no limit at all. So the agent has to answer in time, whatever it
//! does besides.
//!
//! `PILOT_HAND_OVERS` sets the number of hand-overs, `PILOT_SEED` the seed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Class, Load, Traffic};
use pilot_tests::process::Seen;
use pilot_tests::solo::{Engine, Generation, Solo};
use pilot_tests::wait::eventually;
use tokio::time::sleep;

use super::super::hot_restart::{Play, play, setup, state};

/// Hand-overs in a usual test run.
const HAND_OVERS: u64 = 4;

/// No predecessor is stopped for longer, in milliseconds.
const LONGEST_STOP: u64 = 15_000;

/// A hand-over is over by then: the stop, some attempts to start a successor, and the time that a predecessor has.
const WITHIN: Duration = Duration::from_mins(1);

/// What happens in one hand-over.
#[derive(Clone, Copy, Debug)]
struct Pause {
    /// When the predecessor is stopped, after the change.
    stop_after: Duration,
    /// How long it is stopped.
    stopped: Duration,
    /// A connection keeps the predecessor busy.
    busy: bool,
    /// The configuration changes once more when the predecessor dies.
    change_at_death: bool,
}

// === impl Pause ===

impl Pause {
    fn nth(seed: u64, number: u64) -> Self {
        let mut state = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let mut random = |below: u64| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % below
        };
        // A third of the stops before the new Envoy is LIVE, the rest while the old one leaves.
        let latest = if random(3) == 0 { 400 } else { 6_000 };
        Self {
            stop_after: Duration::from_millis(random(latest)),
            stopped: Duration::from_millis(random(LONGEST_STOP)),
            busy: random(2) == 0,
            change_at_death: random(3) > 0,
        }
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

async fn stop_for_a_while(envoy: &Generation, pause: Pause) -> Result<()> {
    sleep(pause.stop_after).await;
    send(envoy, Signal::SIGSTOP)?;
    sleep(pause.stopped).await;
    send(envoy, Signal::SIGCONT)
}

/// Waits until a process has ended, and does not wait for its parent to notice.
async fn ended(envoy: &Generation) -> Result<()> {
    eventually(WITHIN, "the predecessor has ended", async || match Seen::read(envoy.pid) {
        Some(seen) if seen.state != 'Z' => anyhow::bail!("{seen:?}"),
        _ => Ok(()),
    })
    .await
}

/// Nobody was ended but predecessors, and successors that were not LIVE in time.
async fn none_has_crashed(solo: &Solo) -> Result<()> {
    let exits = state(solo, "/exits").await?;
    for exit in exits.as_array().into_iter().flatten() {
        let reason = exit["reason"].as_str().unwrap_or_default();
        ensure!(["handed_over", "stopped", "killed"].contains(&reason), "{exit}");
    }
    ensure!(!solo.log().contains("hot restart sendmsg() failed"), "an Envoy has aborted");
    Ok(())
}

async fn hand_over(play: &mut Play, revision: &mut u32, pause: Pause) -> Result<()> {
    let solo = &play.solo;
    let predecessor = solo.newest()?;
    let one = Load { clients: 1, ..solo.front.load(Class::Tunnel) };
    let busy = pause.busy.then(|| Traffic::start([("busy", one)]));
    *revision += 1;
    solo.revise(*revision)?;
    let change = async {
        if pause.change_at_death {
            ended(&predecessor).await?;
            *revision += 1;
            solo.revise(*revision)?;
        }
        anyhow::Ok(())
    };
    let (stopped, changed) = tokio::join!(stop_for_a_while(&predecessor, pause), change);
    stopped.and(changed)?;
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
    none_has_crashed(solo).await?;
    play.solo.check()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_stopped_at_any_moment_of_a_hand_over_does_not_abort_its_successor() -> Result<()> {
    let (hand_overs, seed) = (number("PILOT_HAND_OVERS", HAND_OVERS)?, number("PILOT_SEED", 1)?);
    let setup = setup(Engine::Native, &["--hotRestartDeadline=3s"])?;
    play(&setup, async |play| {
        let mut revision = 1;
        for nth in 1..=hand_overs {
            let (pause, began) = (Pause::nth(seed, nth), Instant::now());
            let outcome = hand_over(play, &mut revision, pause).await;
            println!("hand-over {nth}: {pause:?} took {:?}, revision {revision}", began.elapsed());
            outcome.with_context(|| format!("hand-over {nth} of seed {seed}: {pause:?}"))?;
        }
        Ok(())
    })
    .await
}
