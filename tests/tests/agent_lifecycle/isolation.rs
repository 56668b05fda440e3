//! Another user in the pod's network namespace: what ends a stock Envoy does nothing to ours.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Class, Load};
use pilot_tests::mesh::END;
use pilot_tests::net::loopback;
use pilot_tests::solo::{Bare, Generation, Setup, Solo, Stage};
use pilot_tests::wait::eventually;

use super::ENGINES;
use super::shutdown::patient;

const STRANGER: &str = env!("CARGO_BIN_EXE_other-user");

/// A user that owns nothing on this machine.
const UID: &str = "2000";

/// Requests that end Envoy or the agent, take it out of service, change it or show secrets.
const ADMIN: [(&str, &str); 8] = [
    ("POST", "/quitquitquit"),
    ("POST", "/drain_listeners"),
    ("POST", "/healthcheck/fail"),
    ("POST", "/reset_counters"),
    ("POST", "/logging?level=trace"),
    ("GET", "/config_dump"),
    ("GET", "/certs"),
    ("GET", "/"),
];
const AGENT: [&str; 4] = ["/quitquitquit", "/drain", "/restart", "/logging?level=default:debug"];

/// Returns the responses to an untrusted user, a line for each request.
fn stranger<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>> {
    let mut command = Command::new(STRANGER);
    let output = command.arg(UID).args(words).stdin(Stdio::null()).output().context("run the stranger")?;
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{error} (this test takes root)");
    Ok(out.lines().map(str::to_owned).collect())
}

fn asks(method: &str, address: &str, path: &str) -> Result<String> {
    stranger(["ask", method, address, path])?.pop().context("the stranger says nothing")
}

/// Every socket in a folder and below.
fn sockets(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(sockets(&entry.path())?);
        } else if entry.file_type()?.is_socket() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Returns the abstract socket names of a stock Envoy of this base id, for all epochs.
fn abstract_names(base_id: u32) -> Vec<String> {
    let of = |what| (0..3).map(move |epoch| format!("@envoy_domain_socket_{what}_{}", base_id * 10 + epoch));
    ["parent", "child", "udp_parent", "udp_child"].into_iter().flat_map(of).collect()
}

/// Returns a folder with access for all users, like `/etc/istio/proxy` in an image.
fn open_folder() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let mut folder = dir.path().to_owned();
    for name in ["etc", "istio", "proxy"] {
        folder.push(name);
        fs::create_dir(&folder)?;
    }
    for folder in [dir.path(), &dir.path().join("etc"), &dir.path().join("etc/istio"), &folder] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(dir)
}

fn attack(solo: &Solo, dir: &Path, envoys: &[Generation]) -> Result<()> {
    let paths = sockets(dir)?;
    // An admin and four of hot restart for each.
    ensure!(paths.len() >= 5 * envoys.len(), "{paths:?}");
    let mut names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.extend(envoys.iter().filter_map(|envoy| envoy.base_id).flat_map(abstract_names));
    let told = stranger(["send"].into_iter().chain(names.iter().map(String::as_str)))?;
    ensure!(told.len() == names.len(), "{told:?}");
    for line in &told {
        let expected = if line.starts_with('@') { "refused" } else { "denied" };
        ensure!(line.contains(expected), "{line}");
    }
    for path in paths.iter().filter(|path| path.display().to_string().contains("admin")) {
        let told = asks("GET", &path.display().to_string(), "/config_dump")?;
        ensure!(told.contains("denied"), "{}: {told}", path.display());
    }
    for (method, path) in ADMIN {
        let told = asks(method, &solo.admin.to_string(), path)?;
        ensure!(told == "403", "{method} {path} of the admin: {told}");
    }
    for path in AGENT {
        let told = asks("POST", &solo.status.to_string(), path)?;
        ensure!(told == "403", "POST {path} of the agent: {told}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_pod_can_harm_neither_envoy_nor_agent() -> Result<()> {
    for engine in ENGINES {
        let (dir, stage) = (open_folder()?, Stage::start(loopback(1)).await?);
        let mut solo =
            Solo::start(dir.path(), &stage.front()?, &Setup { engine: Some(engine), ..patient()? })?;
        solo.ready().await?;
        let load = Load { clients: 1, ..solo.front.load(Class::KeepAlive) }.start();
        // An Envoy that came by a hot restart has more sockets than the first one.
        solo.revise(2)?;
        solo.serves(2).await?;
        eventually(END * 4, "one generation is left", async || {
            ensure!(solo.generations()?.len() == 1, "{:?}", solo.generations()?);
            Ok(())
        })
        .await?;
        let before = solo.generations()?;
        attack(&solo, dir.path(), &before).with_context(|| engine.name())?;
        // A damaged process would have exited before the next hand-over is done.
        ensure!(solo.generations()? == before, "{}", solo.log());
        ensure!(solo.is_ready().await, "{}", solo.log());
        solo.revise(3)?;
        solo.serves(3).await?;
        let report = load.stop().await?;
        report.ensure_no_failures().with_context(|| engine.name())?;
        // Root may, so the paths are the right ones.
        solo.withdraw().await?;
        eventually(END, "it is out of service", async || {
            ensure!(!solo.is_ready().await, "it is ready");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_datagram_aborts_a_stock_envoy() -> Result<()> {
    let (dir, stage) = (tempfile::tempdir()?, Stage::start(loopback(1)).await?);
    // Abstract names are shared by the whole machine: use an unused one.
    let base_id = 1000 + std::process::id() % 1_000_000;
    let mut stock = Bare::stock(dir.path(), &stage.front()?, base_id)?;
    stock.live().await?;
    let names = abstract_names(base_id);
    let told = stranger(["send"].into_iter().chain(names.iter().map(String::as_str)))?;
    ensure!(told.iter().any(|line| line.ends_with(" sent")), "{told:?}");
    let status = stock.exit().await?;
    ensure!(status.signal() == Some(Signal::SIGABRT as i32), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_requests_show_and_end_a_stock_envoy() -> Result<()> {
    let (dir, stage) = (tempfile::tempdir()?, Stage::start(loopback(1)).await?);
    let mut stock = Bare::start(dir.path(), &stage.front()?, 1)?;
    stock.live().await?;
    let admin = stock.admin.to_string();
    for (method, path) in ADMIN.iter().rev() {
        let told = asks(method, &admin, path)?;
        ensure!(told == "200", "{method} {path}: {told}");
    }
    let status = stock.exit().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}
