//! The new Envoy fails, hangs, or is shot before it is LIVE: the old one serves, and the new one's number is used again.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Class, Load, Traffic};
use pilot_tests::mesh::END;
use pilot_tests::net::free_port;
use pilot_tests::solo::{Engine, Generation};
use pilot_tests::wait::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::super::ENGINES;
use super::super::configuration::refused;
use super::super::hot_restart::{alone, both, lost_nothing, play, setup, traffic, unmoved};
use super::{Silent, Wait, exit_of, gone, send};

/// Short, and above what a busy machine takes for a good start.
const DEADLINE: &str = "--hotRestartDeadline=3s";

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_never_live_is_killed_and_its_number_is_used_again() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[DEADLINE])?, async |play| {
            let (silent, traffic) = (Silent::start()?, traffic(&play.solo.front));
            let first = play.solo.newest()?;
            silent.stall(&play.solo, 2)?;
            let (old, stuck) = both(&play.solo).await?;
            gone(&stuck).await?;
            // Never SIGTERM: in native, that would end the old one as well.
            let exit = exit_of(&play.solo, &stuck).await?;
            ensure!(exit["reason"] == "killed" && exit["signal"] == 9, "{exit}");
            let (_, again) = both(&play.solo).await?;
            ensure!(old == first && (stuck.epoch, again.epoch) == (1, 1), "{old:?} {stuck:?} {again:?}");
            ensure!(play.solo.front.revision().await? == 1, "the old one does not serve");

            play.solo.revise(3)?;
            let one = alone(&play.solo, 3).await?;
            ensure!(one.epoch == 1, "{one:?}");
            play.solo.ready().await?;
            lost_nothing(traffic).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_shot_before_it_is_live_changes_nothing_whenever_that_is() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[])?, async |play| {
            let (silent, traffic) = (Silent::start()?, traffic(&play.solo.front));
            let first = play.solo.newest()?;
            for (revision, millis) in (2..).zip([0, 20, 40, 80, 300]) {
                silent.stall(&play.solo, revision)?;
                let (old, new) = both(&play.solo).await?;
                sleep(Duration::from_millis(millis)).await;
                send(&new, Signal::SIGKILL)?;
                gone(&new).await?;
                ensure!(old == first && new.epoch == 1, "{millis} ms: {old:?} {new:?}");
                ensure!(play.solo.front.revision().await? == 1, "the old one does not serve");
                // Another is tried, and the next change does not wait for it.
                let (_, another) = both(&play.solo).await?;
                ensure!(another.pid != new.pid);
                play.solo.revise(1)?;
                send(&another, Signal::SIGKILL)?;
                gone(&another).await?;
            }
            play.solo.revise(9)?;
            let one = alone(&play.solo, 9).await?;
            ensure!(one.epoch == 1, "{one:?}");
            lost_nothing(traffic).await
        })
        .await?;
    }
    Ok(())
}

/// Envoy does not look for that when it validates.
#[tokio::test(flavor = "multi_thread")]
async fn one_whose_port_is_in_use_fails_until_the_port_is_free() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[])?, async |play| {
            let traffic = traffic(&play.solo.front);
            let (first, port) = (play.solo.newest()?, free_port()?);
            let occupied = std::net::TcpListener::bind(("127.0.0.1", port))?;
            let mut bootstrap = play.solo.front.bootstrap(2, play.solo.admin);
            let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().context("listeners")?;
            let mut another = listeners.first().context("a listener")?.clone();
            another["name"] = json!("another");
            another["address"]["socket_address"]["port_value"] = json!(port);
            listeners.push(another);
            play.solo.rewrite(&bootstrap)?;

            let (old, new) = both(&play.solo).await?;
            gone(&new).await?;
            let exit = exit_of(&play.solo, &new).await?;
            ensure!(exit["reason"] == "failed" && exit["code"] == 1, "{exit}");
            ensure!(old == first && play.solo.front.revision().await? == 1, "{old:?}");
            // The same state is tried again by itself, under the same number.
            drop(occupied);
            let one = alone(&play.solo, 2).await?;
            ensure!((new.epoch, one.epoch) == (1, 1), "{new:?} {one:?}");
            play.solo.ready().await?;
            lost_nothing(traffic).await
        })
        .await?;
    }
    Ok(())
}

/// In native, a child that had read it would have left its mark in shared memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_envoy_cannot_read_starts_nobody() -> Result<()> {
    for engine in ENGINES {
        play(&setup(engine, &[])?, async |play| {
            let first = play.solo.newest()?;
            let mut bootstrap = play.solo.front.bootstrap(2, play.solo.admin);
            bootstrap["static_resources"] = json!("nothing");
            play.solo.rewrite(&bootstrap)?;
            refused(&play.solo, &["static_resources"]).await?;
            ensure!(play.solo.generations()? == [first], "somebody was started");
            play.solo.revise(3)?;
            let one = alone(&play.solo, 3).await?;
            ensure!(one.epoch == 1, "{one:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// In native mode, a terminated successor terminates its predecessor too: no Envoy is left.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_tells_to_leave_takes_nobody_along_in_mediated_mode() -> Result<()> {
    play(&setup(Engine::Mediated, &[])?, async |play| {
        let (silent, traffic) = (Silent::start()?, traffic(&play.solo.front));
        let first = play.solo.newest()?;
        silent.stall(&play.solo, 2)?;
        let (_, new) = both(&play.solo).await?;
        settled_in(&new).await?;
        send(&new, Signal::SIGTERM)?;
        gone(&new).await?;
        play.solo.revise(3)?;
        ensure!(play.solo.generations()?.first() == Some(&first), "the old one is gone");
        let one = alone(&play.solo, 3).await?;
        ensure!(one.epoch == 1, "{one:?}");
        lost_nothing(traffic).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_double_death_of_native_the_last_good_state_serves_again() -> Result<()> {
    play(&setup(Engine::Native, &[DEADLINE])?, async |play| {
        let silent = Silent::start()?;
        let first = play.solo.newest()?;
        silent.stall(&play.solo, 2)?;
        let (_, new) = both(&play.solo).await?;
        settled_in(&new).await?;
        send(&new, Signal::SIGTERM)?;
        gone(&new).await?;
        gone(&first).await?;
        play.solo.serves(1).await?;
        play.solo.revise(3)?;
        alone(&play.solo, 3).await?;
        play.solo.ready().await
    })
    .await
}

/// Waits until an Envoy handles signals, and so is past its first steps.
async fn settled_in(envoy: &Generation) -> Result<()> {
    const TERM: u64 = 1 << 14;
    eventually(END, "Envoy handles SIGTERM", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.pid))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).context("SigCgt")?;
        ensure!(u64::from_str_radix(caught.trim(), 16)? & TERM != 0, "not yet: {caught}");
        Ok(())
    })
    .await
}

/// In native mode the new Envoy waits without a limit for its stopped predecessor, which later answers a dead successor. So no
/// other Envoy is started before the predecessor has responded to the agent.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_one_that_is_stopped_delays_everything_and_loses_nothing() -> Result<()> {
    for resumed in [Resumed::AtOnce, Resumed::AfterMoreTries] {
        play(&setup(Engine::Native, &["--hotRestartDeadline=2s"])?, async |play| {
            let first = play.solo.newest()?;
            let mut before = TcpStream::connect(play.solo.front.tcp).await?;
            before.write_all(b"hello\n").await?;
            heard(&mut before).await?;
            send(&first, Signal::SIGSTOP)?;
            play.solo.revise(2)?;
            let (_, new) = both(&play.solo).await?;
            before.write_all(b"hello\n").await?;
            let mut meanwhile = TcpStream::connect(play.solo.front.tcp).await?;
            meanwhile.write_all(b"hello\n").await?;
            gone(&new).await?;
            let exit = exit_of(&play.solo, &new).await?;
            ensure!(exit["reason"] == "killed", "{exit}");
            if resumed == Resumed::AfterMoreTries {
                eventually(END, "the hand-over is tried again", async || {
                    let life = play.solo.lifecycle().await?;
                    ensure!(life["hand_over"]["attempts"].as_u64() >= Some(3), "{life}");
                    Ok(())
                })
                .await?;
                let alive = play.solo.generations()?;
                ensure!(
                    alive.len() == 1,
                    "one was started for a predecessor that does not answer: {alive:?}"
                );
            }
            send(&first, Signal::SIGCONT)?;
            for stream in [&mut before, &mut meanwhile] {
                heard(stream).await?;
            }
            let one = alone(&play.solo, 2).await?;
            ensure!(one.epoch == 1, "{one:?}");
            let exit = exit_of(&play.solo, &first).await?;
            ensure!(exit["reason"] == "handed_over", "{exit}");
            play.solo.ready().await
        })
        .await?;
    }
    Ok(())
}

/// Time at which a stopped Envoy continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resumed {
    /// After the death of the waiting successor, before another attempt.
    AtOnce,
    /// After more attempts.
    AfterMoreTries,
}

async fn heard(stream: &mut TcpStream) -> Result<()> {
    let mut line = [0; 64];
    let read = tokio::time::timeout(END, stream.read(&mut line)).await.context("no echo")??;
    let line = String::from_utf8_lossy(line.get(..read).unwrap_or_default()).into_owned();
    ensure!(line.ends_with("hello\n"), "{line:?}");
    Ok(())
}

/// After `initial_fetch_timeout` Envoy is LIVE without a listener. A hand-over to it would be an outage.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_live_without_its_listeners_takes_over_from_nobody() -> Result<()> {
    for wanted in [&["cds_config", "lds_config"][..], &["lds_config"]] {
        play(&setup(Engine::Mediated, &["--hotRestartDeadline=6s"])?, async |play| {
            let (silent, traffic) = (Silent::start()?, traffic(&play.solo.front));
            let first = play.solo.newest()?;
            let of = (&play.solo.front, 2, play.solo.admin);
            let mut bootstrap = silent.asked_for(wanted, Wait::OneSecond, of)?;
            bootstrap["static_resources"]["listeners"] = json!([]);
            play.solo.rewrite(&bootstrap)?;
            let (_, new) = both(&play.solo).await?;
            gone(&new).await?;
            let exit = exit_of(&play.solo, &new).await?;
            ensure!(exit["reason"] == "killed", "{exit}");
            ensure!(play.solo.generations()?.first() == Some(&first), "the old one is gone");
            play.solo.revise(3)?;
            let one = alone(&play.solo, 3).await?;
            ensure!(one.epoch == 1, "{one:?}");
            lost_nothing(traffic).await
        })
        .await
        .with_context(|| format!("{wanted:?}"))?;
    }
    Ok(())
}

/// Envoy is signalled when the thread that started it exits. Idle threads of a pool live for ten seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_outlives_every_thread_that_comes_and_goes() -> Result<()> {
    for engine in [Engine::Mediated, Engine::Off] {
        play(&setup(engine, &[])?, async |play| {
            let busy = Load { clients: 1, ..Load::new(Class::New, play.solo.status, "agent") };
            let path = "/healthz/ready".to_owned();
            let traffic = Traffic::start([("status", Load { path, ..busy })]);
            unmoved(&play.solo, Duration::from_secs(16)).await?;
            drop(traffic.stop().await?);
            play.solo.serves(1).await
        })
        .await?;
    }
    Ok(())
}
