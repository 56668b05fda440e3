//! Crashes and hangs of Envoy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::{Class, FailureKind, Load, Traffic};
use pilot_tests::mesh::END;
use pilot_tests::net::{get, get_ok};
use pilot_tests::process::{ProcessInfo, exit_description};
use pilot_tests::solo::{Engine, Generation, Setup, Solo};
use pilot_tests::wait::eventually;
use serde_json::Value;
use tokio::time::sleep;

use super::ENGINES;
use super::hot_restart::{play, setup, state};

/// Ten restarts after 0, 0.2, 0.4, ... 25.6 and 30 s, up to a fifth more each, on a busy machine.
const LOOP: Duration = Duration::from_mins(3);

/// Last line of a broken Envoy.
const LAST_WORDS: &str = "the disk has eaten my configuration";

/// An Envoy that dies of SIGKILL as soon as it is started once `broken` is there.
fn fragile(folder: &Path, real: &Path) -> Result<(PathBuf, PathBuf)> {
    let (path, broken) = (folder.join("fragile-envoy"), folder.join("broken"));
    let (marker, real) = (broken.display(), real.display());
    let script = format!(
        "#!/bin/sh\n[ -e {marker} ] && {{ echo '{LAST_WORDS}' >&2; kill -9 $$; }}\nexec {real} \"$@\"\n"
    );
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok((path, broken))
}

/// Kills an Envoy and waits until it is reaped.
async fn kill_it(envoy: &Generation) -> Result<()> {
    kill(envoy.pid, Signal::SIGKILL)?;
    eventually(END, "it is reaped", async || {
        ensure!(ProcessInfo::read(envoy.pid).is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// Waits for an Envoy that is not this one and serves.
async fn next_after(solo: &Solo, dead: &Generation) -> Result<Generation> {
    eventually(END, "another Envoy serves", async || {
        let next = solo.newest()?;
        ensure!(next.pid != dead.pid, "it is the same one");
        solo.front.revision().await?;
        Ok(next)
    })
    .await
}

async fn restarts_left(solo: &Solo) -> Result<u64> {
    state(solo, "/restarts/left").await?.as_u64().context("restarts.left")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_restart_policy_never_a_killed_envoy_ends_the_agent_with_137_and_a_report() -> Result<()> {
    for engine in ENGINES {
        let place = tempfile::tempdir()?;
        let report = place.path().join("termination-log");
        fs::write(&report, "")?;
        let mut setup = setup(engine, &["--restartPolicy=never"])?;
        setup.environment.push(("TERMINATION_MESSAGE_PATH".into(), report.display().to_string()));
        play(&setup, async |play| {
            kill_it(&play.solo.newest()?).await?;
            let status = play.solo.exit().await?;
            ensure!(status.code() == Some(137), "{}", exit_description(status));
            let text = fs::read_to_string(&report)?;
            for part in ["signal 9", "epoch 0", "SIGKILL"] {
                ensure!(text.contains(part), "{part:?} is not in {text:?}");
            }
            let left = play.solo.leftovers()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_backs_off_and_ends_with_envoys_status_and_last_words() -> Result<()> {
    let place = tempfile::tempdir()?;
    let report = place.path().join("termination-log");
    fs::write(&report, "")?;
    let mut setup = setup(Engine::Auto, &[])?;
    let (envoy, broken) = fragile(place.path(), &setup.envoy)?;
    setup.envoy = envoy;
    setup.environment.push(("TERMINATION_MESSAGE_PATH".into(), report.display().to_string()));
    play(&setup, async |play| {
        let full = restarts_left(&play.solo).await?;
        fs::write(&broken, "")?;
        kill_it(&play.solo.newest()?).await?;
        let mut left = full;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = play.solo.ended()? {
                break status;
            }
            ensure!(begun.elapsed() < LOOP, "it goes on after {left} restarts are left");
            // The agent's own server stays up: only its end may refuse us.
            match (restarts_left(&play.solo).await, get(play.solo.status, "/healthz/ready").await) {
                (Ok(now), Ok((status, reason))) => {
                    ensure!(now <= left && status != 200, "{now} of {left} restarts left, {status} {reason}");
                    left = now;
                }
                (Err(error), _) | (_, Err(error)) => {
                    let over = eventually(END, "the agent ends", async || play.solo.ended()?.context("no"));
                    over.await.with_context(|| format!("{error:#}"))?;
                }
            }
            sleep(Duration::from_millis(50)).await;
        };
        ensure!(status.code() == Some(137), "{}", exit_description(status));
        let log = play.solo.log();
        // The first start, and every restart there was.
        let starts = log.lines().filter(|line| line.contains("started Envoy")).count() as u64;
        ensure!(starts == full + 1 && left <= 1, "{starts} starts with {full} restarts, {left} left");
        let text = fs::read_to_string(&report)?;
        for part in ["signal 9", LAST_WORDS] {
            ensure!(text.contains(part), "{part:?} is not in {text:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_restart_is_immediate_the_next_one_waits_and_each_costs_budget() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[])?, async |play| {
            let first = play.solo.newest()?;
            let full = restarts_left(&play.solo).await?;
            kill_it(&first).await?;
            let second = next_after(&play.solo, &first).await?;
            ensure!(!play.solo.log().contains("to=backing-off"), "it waited the first time");
            kill_it(&second).await?;
            let third = next_after(&play.solo, &second).await?;
            ensure!(play.solo.log().contains("to=backing-off"), "it did not wait the second time");
            ensure!((second.epoch, third.epoch) == (0, 0), "{second:?} {third:?}");
            ensure!(restarts_left(&play.solo).await? == full - 2);
            play.solo.ready().await?;
            let exits = state(&play.solo, "/exits").await?;
            let crash = |exit: &Value| exit["reason"] == "crashed" && exit["signal"] == 9;
            let all = exits.as_array().context("exits")?;
            ensure!(all.len() == 2 && all.iter().all(crash), "{exits}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_probe_after_envoys_death_says_503_and_why() -> Result<()> {
    for engine in ENGINES {
        let place = tempfile::tempdir()?;
        let mut setup = setup(engine, &[])?;
        let (envoy, broken) = fragile(place.path(), &setup.envoy)?;
        setup.envoy = envoy;
        play(&setup, async |play| {
            fs::write(&broken, "")?;
            kill_it(&play.solo.newest()?).await?;
            // The very first one: nothing is waited for.
            let (status, reason) = get(play.solo.status, "/healthz/ready").await?;
            ensure!(status == 503, "{status} {reason}");
            ensure!(reason.contains("crashed") || reason.contains("starting"), "{reason}");
            eventually(END, "the probe names the crash", async || {
                let (status, reason) = get(play.solo.status, "/healthz/ready").await?;
                ensure!(status == 503 && reason.contains("Envoy has crashed"), "{status} {reason}");
                Ok(())
            })
            .await?;
            let metrics = get_ok(play.solo.status, "/stats/prometheus").await?;
            ensure!(metrics.contains("istio_agent_"), "{metrics}");
            fs::remove_file(&broken)?;
            play.solo.ready().await?;
            play.solo.serves(1).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_envoy_is_found_taken_out_of_service_and_replaced() -> Result<()> {
    play(&setup(Engine::Auto, &[])?, async |play| {
        let hung = play.solo.newest()?;
        kill(hung.pid, Signal::SIGSTOP)?;
        eventually(END, "the probe names the silence", async || {
            let (status, reason) = get(play.solo.status, "/healthz/ready").await?;
            ensure!(status == 503 && reason.contains("does not answer"), "{status} {reason}");
            Ok(())
        })
        .await?;
        // After half a minute of silence.
        eventually(END * 4, "another Envoy", async || {
            ensure!(play.solo.newest()?.pid != hung.pid, "it is the same one");
            Ok(())
        })
        .await?;
        play.solo.ready().await?;
        play.solo.serves(1).await?;
        let exit = state(&play.solo, "/exits/0").await?;
        ensure!(exit["reason"] == "killed" && exit["signal"] == 9, "{exit}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_envoy_refuses_no_connection_while_the_agent_holds_its_sockets() -> Result<()> {
    const KILLS: usize = 4;
    const CLIENTS: usize = 2;
    play(&setup(Engine::Mediated, &[])?, async |play| {
        held(&play.solo).await?;
        let front = &play.solo.front;
        let busy = |load: Load| Load { clients: CLIENTS, ..load };
        let traffic = Traffic::start([
            ("new", busy(front.load(Class::New))),
            ("tls", busy(front.load_over_tls(Class::New)?)),
            ("tcp", busy(front.load(Class::Tcp))),
        ]);
        for killed in 0..KILLS {
            let one = play.solo.newest()?;
            kill_it(&one).await?;
            next_after(&play.solo, &one).await?;
            let ready = eventually(END, "ready again", async || {
                ensure!(play.solo.is_ready().await, "not yet");
                Ok(())
            });
            ready.await.with_context(|| format!("kill {killed}"))?;
        }
        for (name, report) in traffic.stop().await? {
            let faults = report.failures_by_kind();
            ensure!(!faults.contains_key(&FailureKind::Refused), "{name}: {faults:?}");
            // Only what the dead one had accepted and not answered: one request of each client at most.
            let lost: usize = faults.values().sum();
            ensure!(lost <= KILLS * CLIENTS, "{name}: {faults:?} {:?}", report.failures);
            ensure!(report.answers.len() > lost, "{name}: nobody was answered");
        }
        Ok(())
    })
    .await
}

/// Waits until the agent has what its Envoy listens on.
async fn held(solo: &Solo) -> Result<()> {
    eventually(END, "the agent holds sockets", async || {
        if solo.log().contains("retaining listening sockets") {
            return Ok(());
        }
        bail!("it does not say so")
    })
    .await
}

/// A missing Envoy binary ends the agent with the exit code of shells.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_envoy_ends_the_agent_with_127() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stage = pilot_tests::solo::Stage::start(std::net::Ipv4Addr::LOCALHOST.into()).await?;
    let setup = Setup { envoy: dir.path().join("none"), ..Setup::new()? };
    let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
    let status = solo.exit().await?;
    ensure!(status.code() == Some(127), "{}\n{}", exit_description(status), solo.log());
    Ok(())
}
