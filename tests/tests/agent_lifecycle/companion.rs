//! The agent beside a job: a command that it starts, or a running process. Its exit ends the agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::mesh::{END, START};
use pilot_tests::net::{get, loopback};
use pilot_tests::process::Process;
use pilot_tests::solo::{Setup, Solo, Stage};
use pilot_tests::wait::eventually;

use super::shutdown::{Sidecar, patient, under_way, waits_for_ever};

/// A client for commands: one request, and 0 if it was answered 200.
const APP: &str = env!("CARGO_BIN_EXE_app");

fn with_command(command: &[&str]) -> Result<Setup> {
    Ok(Setup { command: command.iter().map(|word| (*word).to_owned()).collect(), ..patient()? })
}

/// Starts a shell's script beside Envoy; `$FRONT` is where Envoy serves.
async fn beside_front(script: &str) -> Result<Sidecar> {
    let (dir, stage) = (tempfile::tempdir()?, Stage::start(loopback(1)).await?);
    let front = stage.front()?;
    let mut setup = with_command(&["sh", "-c", script])?;
    setup.environment.push(("FRONT".into(), front.http.to_string()));
    let solo = Solo::start(dir.path(), &front, &setup)?;
    Ok(Sidecar { solo, stage, dir })
}

/// Runs a shell's script beside Envoy to its end; the agent's exit code.
async fn run(script: &str) -> Result<i32> {
    let mut sidecar = Sidecar::start(&with_command(&["sh", "-c", script])?).await?;
    let status = sidecar.solo.exit().await?;
    sidecar.solo.nothing_left().await?;
    status.code().with_context(|| format!("{status}\n{}", sidecar.solo.log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_ends_with_the_commands_exit_code() -> Result<()> {
    for (script, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let code = run(script).await.context(script)?;
        ensure!(code == expected, "{script}: {code}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_starts_when_the_proxy_serves_and_not_before() -> Result<()> {
    let script = format!("exec {APP} ask web.example $FRONT");
    let Sidecar { mut solo, stage: _stage, dir: _dir } = beside_front(&script).await?;
    let status = solo.exit().await?;
    ensure!(status.success(), "{status}\n{}", solo.log());
    ensure!(solo.log().contains("web GET / web.example"), "{}", solo.log());

    let mut never = Sidecar::start_with(&with_command(&["touch", "started"])?, waits_for_ever).await?;
    never.solo.reaches("starting").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(!never.dir.path().join("started").exists(), "it has started before Envoy");
    // A command that was not started is not waited for.
    let (_, code) = never.terminate().await?;
    ensure!(code == 0, "{code}");
    ensure!(!never.dir.path().join("started").exists(), "it has started at the end");
    never.solo.nothing_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_goes_to_the_command_and_the_proxy_serves_until_it_has_ended() -> Result<()> {
    let script = format!(
        "trap 'sleep 1; {APP} ask web.example $FRONT && exit 5' TERM; echo up; while :; do sleep 0.1; done"
    );
    let Sidecar { mut solo, stage: _stage, dir: _dir } = beside_front(&script).await?;
    solo.ready().await?;
    eventually(START, "the command runs", async || {
        ensure!(solo.log().lines().any(|line| line == "up"), "it does not");
        Ok(())
    })
    .await?;
    solo.signal(Signal::SIGTERM)?;
    eventually(END, "readiness is off", async || {
        let (status, _) = get(solo.status, "/healthz/ready").await?;
        ensure!(status == 503, "{status}");
        Ok(())
    })
    .await?;
    let status = solo.exit().await?;
    ensure!(status.code() == Some(5), "{status}\n{}", solo.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_finished_after_the_command() -> Result<()> {
    let script = "while [ ! -e go ]; do sleep 0.05; done; exit 3";
    let mut sidecar = Sidecar::ready(&with_command(&["sh", "-c", script])?).await?;
    let request = under_way(&sidecar.solo, "/delay/3000").await?;
    fs::write(sidecar.dir.path().join("go"), "")?;
    sidecar.solo.reaches("draining").await?;
    request.await?.context("the request that was under way")?;
    let status = sidecar.solo.exit().await?;
    ensure!(status.code() == Some(3), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_run_is_told_as_a_shell_tells_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plain = folder.path().join("plain");
    fs::write(&plain, "no program")?;
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644))?;
    let plain = plain.display().to_string();
    for (command, expected) in
        [("/nowhere/at-all", 127), ("no-such-command-here", 127), (plain.as_str(), 126)]
    {
        let mut sidecar = Sidecar::start(&with_command(&[command])?).await?;
        let status = sidecar.solo.exit().await?;
        ensure!(status.code() == Some(expected), "{command}: {status}\n{}", sidecar.solo.log());
        sidecar.solo.nothing_left().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_watched_process_is_the_agents_with_its_exit_code() -> Result<()> {
    for (end, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)] {
        let folder = tempfile::tempdir()?;
        let script = format!("while [ ! -e go ]; do sleep 0.05; done; {end}");
        let mut watched = Process::spawn(
            "watched",
            Command::new("sh").args(["-c", &script]).current_dir(&folder),
            folder.path(),
        )?;
        let mut setup = patient()?;
        setup.flags.extend(["--exitWith".into(), watched.pid().to_string()]);
        let mut sidecar = Sidecar::ready(&setup).await?;
        let request = under_way(&sidecar.solo, "/delay/2000").await?;
        fs::write(folder.path().join("go"), "")?;
        watched.exit(END).await?;
        request.await?.context("the request that was under way")?;
        let status = sidecar.solo.exit().await?;
        ensure!(status.code() == Some(expected), "{end}: {status}\n{}", sidecar.solo.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_not_there_cannot_be_watched() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut gone = Process::spawn("gone", &mut Command::new("true"), folder.path())?;
    gone.exit(END).await?;
    let mut setup = patient()?;
    setup.flags.extend(["--exitWith".into(), gone.pid().to_string()]);
    let mut sidecar = Sidecar::start(&setup).await?;
    let status = sidecar.solo.exit().await?;
    ensure!(status.code().is_some_and(|code| code != 0), "{status}");
    let log = sidecar.solo.log();
    ensure!(log.contains("--exitWith"), "{log}");
    ensure!(!log.contains("started Envoy"), "{log}");
    Ok(())
}
