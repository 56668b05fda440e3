//! State after the exit: every line of Envoy's log, and no file, socket or segment.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Class, Load};
use pilot_tests::mesh::END;
use pilot_tests::solo::{Setup, Shm, Solo, Stage};
use pilot_tests::wait::eventually;

use super::super::ENGINES;
use super::{LOCALHOST, Sidecar, log_access, patient};

/// Returns the segments of these Envoys in the machine's `/dev/shm`.
fn segments_of(base_ids: &[u32]) -> Result<Vec<String>> {
    let names = fs::read_dir("/dev/shm")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| base_ids.iter().any(|id| name.contains(&id.to_string()))).collect())
}

fn base_ids(solo: &Solo) -> Result<Vec<u32>> {
    Ok(solo.generations()?.iter().filter_map(|generation| generation.base_id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_envoys_is_out_before_the_agent_ends() -> Result<()> {
    let mut setup = patient()?;
    setup.flags.extend(["--proxyLogLevel".into(), "info".into()]);
    let mut sidecar = Sidecar::start_with(&setup, |bootstrap| log_access(bootstrap, "/dev/stdout")).await?;
    sidecar.solo.ready().await?;
    let load = Load { clients: 4, ..sidecar.solo.front.load(Class::KeepAlive) }.start();
    eventually(END, "some hundred answers", async || {
        ensure!(load.report().answers.len() > 300, "{}", load.report().answers.len());
        Ok(())
    })
    .await?;
    let report = load.stop().await?;
    report.ensure_no_failures()?;
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}");
    let log = sidecar.solo.log();
    let lines = log.lines().filter(|line| line.contains("access / 200")).count();
    ensure!(lines == report.answers.len(), "{lines} lines of {} requests", report.answers.len());
    ensure!(log.contains("exiting"), "Envoy's last words are lost:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_left_is_cleaned_up_by_the_next_and_what_is_others_stays() -> Result<()> {
    for engine in ENGINES {
        let (dir, stage) = (tempfile::tempdir()?, Stage::start(LOCALHOST).await?);
        let (front, others) = (stage.front()?, dir.path().join("etc/istio/proxy"));
        let setup = Setup { engine: Some(engine), shm: Shm::Shared, ..patient()? };
        let mut first = Solo::start(dir.path(), &front, &setup)?;
        first.ready().await?;
        first.revise(2)?;
        first.serves(2).await?;
        let dead = base_ids(&first)?;
        ensure!(!segments_of(&dead)?.is_empty(), "an Envoy that runs has shared memory");
        first.signal(Signal::SIGKILL)?;
        first.exit().await?;
        eventually(END, "no process is left", async || {
            let left = first.leftovers()?;
            ensure!(!left.iter().any(|line| line.starts_with("process")), "{left:?}");
            Ok(())
        })
        .await?;
        let left = ours(&first, &others)?;
        ensure!(!left.is_empty(), "nobody was there to clean up: {left:?}");
        // A user's own files in the same folders.
        fs::write(others.join("envoy-rev0.yaml"), "mine")?;
        fs::write(others.join("XDS-token"), "mine")?;
        let _mine = UnixDatagram::bind(others.join("mine.sock"))?;
        let foreign = format!("/dev/shm/envoy_shared_memory_pilot_test_{}", std::process::id());
        fs::write(&foreign, "")?;

        let mut second = Solo::start(dir.path(), &front, &setup)?;
        second.ready().await?;
        let fresh = base_ids(&second)?;
        let gone: Vec<u32> = dead.into_iter().filter(|id| !fresh.contains(id)).collect();
        ensure!(segments_of(&gone)?.is_empty(), "{:?}", segments_of(&gone)?);
        let mine = [others.join("envoy-rev0.yaml"), others.join("XDS-token"), others.join("mine.sock")];
        ensure!(mine.iter().all(|path| path.exists()), "a user's file is gone");
        ensure!(Path::new(&foreign).exists(), "somebody else's segment is gone");
        second.signal(Signal::SIGTERM)?;
        ensure!(second.exit().await?.success());
        fs::remove_file(&foreign)?;
        let left = ours(&second, &others)?;
        ensure!(left.is_empty(), "{}: {left:?}", engine.name());
        ensure!(segments_of(&fresh)?.is_empty(), "{:?}", segments_of(&fresh)?);
        ensure!(mine.iter().all(|path| path.exists()), "a user's file is gone");
    }
    Ok(())
}

/// Bootstraps and sockets of the agent's; what the test put there itself is not meant.
fn ours(solo: &Solo, folder: &Path) -> Result<Vec<String>> {
    let own = ["envoy-rev0.yaml", "mine.sock"].map(|name| folder.join(name).display().to_string());
    let left = solo.leftovers().context("leftovers")?;
    Ok(left.into_iter().filter(|line| !own.contains(line) && !line.starts_with("/dev/shm")).collect())
}
