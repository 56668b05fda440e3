//! The agent as the container's first process: reaping, forwarded signals, and orphans.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use pilot_tests::load::Traffic;
use pilot_tests::mesh::{END, PidNamespace, START};
use pilot_tests::net::{get_ok, loopback};
use pilot_tests::process::children;
use pilot_tests::programs::programs;
use pilot_tests::solo::{Engine, Setup, Shm, Solo, Stage};
use pilot_tests::wait::eventually;

use super::ENGINES;
use super::shutdown::{Sidecar, hold, log_access, patient, waits_for_ever};

/// Orphans of one flood: some seconds' worth of a thousand each.
const FLOOD: u32 = 3000;

/// Returns the number of reaped orphans.
async fn reaped(solo: &Solo) -> Result<u32> {
    let metrics = get_ok(solo.status, "/metrics").await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("istio_agent_orphans_reaped_total "));
    Ok(line.context("no count of orphans")?.trim().parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_orphans_is_reaped_and_harms_nobody() -> Result<()> {
    // Each turn leaves a process without a parent; two shells alternate.
    let turns = FLOOD / 2;
    let flood = format!("i=0; while [ $i -lt {turns} ]; do (: &); i=$((i+1)); done");
    let script = format!(
        "echo ready; while [ ! -e go ]; do sleep 0.05; done; ({flood}) & {flood}; wait; touch over; exec sleep 600"
    );
    let mut setup = Setup { pid_namespace: PidNamespace::Own, ..patient()? };
    setup.command = ["sh", "-c", &script].map(str::to_owned).to_vec();
    let sidecar = Sidecar::ready(&setup).await?;
    let solo = &sidecar.solo;
    eventually(START, "the command runs", async || {
        ensure!(solo.log().lines().any(|line| line == "ready"), "it does not");
        Ok(())
    })
    .await?;
    let (envoy, before) = (solo.newest()?, reaped(solo).await?);
    let traffic = Traffic::start(solo.front.mix()?.into_iter().take(2));
    let began = Instant::now();
    fs::write(sidecar.dir.path().join("go"), "")?;
    eventually(END * 3, "the flood is over", async || {
        ensure!(sidecar.dir.path().join("over").exists(), "{} reaped", reaped(solo).await?);
        Ok(())
    })
    .await?;
    println!("{:.0} orphans/s", f64::from(FLOOD) / began.elapsed().as_secs_f64());
    eventually(END, "all are reaped", async || {
        ensure!(reaped(solo).await? - before >= FLOOD, "{}", reaped(solo).await?);
        let dead = children(solo.agent()?)?.into_iter().filter(|child| child.state == 'Z').count();
        ensure!(dead == 0, "{dead} zombies");
        Ok(())
    })
    .await?;
    ensure!(solo.newest()? == envoy, "Envoy is another one");
    for (name, report) in traffic.stop().await? {
        report.ensure_no_failures().context(name)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_envoy_outlives_an_agent_that_was_killed() -> Result<()> {
    for engine in [Engine::Off, Engine::Mediated, Engine::Native] {
        let mut sidecar = Sidecar::ready(&Setup { engine: Some(engine), ..patient()? }).await?;
        let held = hold(&sidecar.solo).await?;
        let solo = &mut sidecar.solo;
        let mut envoys = solo.generations()?;
        if engine != Engine::Off {
            // A second generation on its way up is an Envoy too.
            let mut next = solo.front.bootstrap(2, solo.admin);
            waits_for_ever(&mut next)?;
            solo.rewrite(&next)?;
            envoys = eventually(START, "a second Envoy", async || {
                let envoys = solo.generations()?;
                ensure!(envoys.len() == 2, "{envoys:?}");
                Ok(envoys)
            })
            .await?;
        }
        solo.signal(Signal::SIGKILL)?;
        solo.exit().await?;
        eventually(END, "no Envoy is left", async || {
            for envoy in &envoys {
                let line = fs::read(format!("/proc/{}/cmdline", envoy.pid)).unwrap_or_default();
                ensure!(line.is_empty(), "{}: {envoy:?} is", engine.name());
            }
            let left = solo.leftovers()?;
            ensure!(!left.iter().any(|line| line.starts_with("process")), "{left:?}");
            Ok(())
        })
        .await?;
        drop(held);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_in_one_pod_restart_their_envoys_and_never_each_others() -> Result<()> {
    for engine in ENGINES {
        let mut setup = Setup { engine: Some(engine), shm: Shm::Shared, ..patient()? };
        setup.proxy.insert("parentShutdownDuration".into(), "3s".into());
        let (dirs, mut solos, mut stages) = ((tempfile::tempdir()?, tempfile::tempdir()?), vec![], vec![]);
        for (dir, last) in [(&dirs.0, 1), (&dirs.1, 2)] {
            let stage = Stage::start(loopback(last)).await?;
            solos.push(Solo::start(dir.path(), &stage.front()?, &setup)?);
            stages.push(stage);
        }
        for solo in &mut solos {
            solo.ready().await?;
        }
        let loads = solos
            .iter()
            .zip(["one", "two"])
            .map(|(solo, name)| (name, solo.front.load(pilot_tests::load::Class::New)));
        let traffic = Traffic::start(loads);
        for revision in 2..4 {
            for solo in &solos {
                solo.revise(revision)?;
            }
            for solo in &solos {
                solo.serves(revision).await?;
                eventually(END, "one generation is left", async || {
                    ensure!(solo.generations()?.len() == 1, "{:?}", solo.generations()?);
                    Ok(())
                })
                .await?;
            }
        }
        // The end of one is nothing to the other.
        let mut first = solos.remove(0);
        let other = solos[0].newest()?;
        let reports = traffic.stop().await?;
        first.signal(Signal::SIGTERM)?;
        ensure!(first.exit().await?.success());
        ensure!(solos[0].is_ready().await && solos[0].newest()? == other, "{}", solos[0].log());
        for (name, report) in reports {
            report.ensure_no_failures().with_context(|| format!("{}: {name}", engine.name()))?;
        }
    }
    Ok(())
}

/// A shell that prepares for the agent and becomes it.
fn wrapped(dir: &Path, preparation: &str) -> Result<PathBuf> {
    let wrapper = dir.join("wrapper");
    let agent = programs()?.agent.display().to_string();
    fs::write(&wrapper, format!("#!/bin/sh\n{preparation}\nexec {agent} \"$@\"\n"))?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_may_open_as_many_files_as_the_hard_limit_allows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let agent = wrapped(dir.path(), "ulimit -S -n 512; ulimit -H -n 4096")?;
    let sidecar = Sidecar::ready(&Setup { agent: Some(agent), ..patient()? }).await?;
    let limits = |pid: Pid| -> Result<Vec<String>> {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        Ok(line.context("no limit of open files")?.split_whitespace().take(2).map(str::to_owned).collect())
    };
    let seen = limits(sidecar.solo.newest()?.pid)?;
    ensure!(seen == ["4096", "4096"], "soft and hard: {seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_whose_parent_ignored_signals_hears_them_and_a_ctrl_c_is_for_the_agent_alone() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    // Ignored signals are inherited over exec.
    let agent = wrapped(dir.path(), "trap '' TERM USR1 HUP PIPE")?;
    let mut sidecar = Sidecar::ready(&Setup { agent: Some(agent), ..patient()? }).await?;
    let envoy = sidecar.solo.newest()?.pid;
    ensure!(getpgid(Some(envoy))? == envoy, "Envoy shares a process group");
    let status = fs::read_to_string(format!("/proc/{envoy}/status"))?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).context("no SigIgn")?;
    let bits = [Signal::SIGTERM, Signal::SIGUSR1].map(|signal| 1_u64 << (signal as i32 - 1));
    let ignored = u64::from_str_radix(ignored.trim(), 16)?;
    ensure!(bits.iter().all(|bit| ignored & bit == 0), "Envoy ignores {ignored:x}");
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigusr1_makes_envoy_open_its_access_log_anew() -> Result<()> {
    let setup = patient()?;
    let path = tempfile::tempdir()?;
    let (file, rotated) = (path.path().join("access.log"), path.path().join("access.log.1"));
    let name = file.display().to_string();
    let sidecar = Sidecar::start_with(&setup, |bootstrap| log_access(bootstrap, &name)).await;
    let mut sidecar = sidecar?;
    sidecar.solo.ready().await?;
    sidecar.solo.front.revision().await?;
    fs::rename(&file, &rotated)?;
    sidecar.solo.signal(Signal::SIGUSR1)?;
    eventually(END * 2, "a new access log", async || {
        sidecar.solo.front.revision().await?;
        ensure!(fs::read_to_string(&file)?.contains("access /revision 200"), "nothing is in it");
        Ok(())
    })
    .await?;
    // The signal ended no process.
    ensure!(sidecar.solo.is_ready().await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigquit_tells_the_state_of_everything_and_changes_nothing() -> Result<()> {
    let sidecar = Sidecar::ready(&patient()?).await?;
    let envoy = sidecar.solo.newest()?;
    sidecar.solo.signal(Signal::SIGQUIT)?;
    eventually(END, "the state is in the log", async || {
        let log = sidecar.solo.log();
        let dump = log.lines().find(|line| line.contains("SIGQUIT")).context("no dump")?;
        for part in ["Supervisor", "Running", &envoy.pid.to_string()] {
            ensure!(dump.contains(part), "{part:?} is not in {dump}");
        }
        Ok(())
    })
    .await?;
    ensure!(sidecar.solo.is_ready().await && sidecar.solo.newest()? == envoy);
    kill(sidecar.solo.agent()?, Signal::SIGTERM)?;
    Ok(())
}
