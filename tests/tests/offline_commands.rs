//! `pilot-discovery simulate` and `diff`: files in, printed result and exit code out.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service};
use pilot_tests::programs::programs;
use serde_json::{Value, json};
use tempfile::TempDir;

const REVIEWS: &str = "outbound|9080||reviews.default.svc.cluster.local";

/// A mesh of `reviews` with two endpoints, and two pods that may call it.
struct Mesh {
    dir: TempDir,
    folder: Folder,
}

impl Mesh {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        let ports = [Port::new("http", 9080, 9080)];
        let at = ["10.1.0.2".parse()?, "10.1.0.3".parse()?];
        let files = [service("reviews", "10.0.0.2", &ports), endpoint_slice("reviews", &ports, &at)];
        folder.write("reviews.yaml", &files)?;
        folder.write("pods.yaml", &[pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.4")])?;
        Ok(Self { dir, folder })
    }

    fn simulate(&self, arguments: &[&str]) -> Result<Output> {
        run("simulate", &[&["--configDir", text(self.folder.path())?], arguments].concat(), self.dir.path())
    }

    fn diff(&self, after: &Self, arguments: &[&str]) -> Result<Output> {
        let folders = ["--before", text(self.folder.path())?, "--after", text(after.folder.path())?];
        run("diff", &[&folders, arguments].concat(), self.dir.path())
    }
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    })
}

fn run(command: &str, arguments: &[&str], dir: &Path) -> Result<Output> {
    let program = &programs()?.discovery;
    Command::new(program)
        .arg(command)
        .args(arguments)
        .current_dir(dir)
        .output()
        .context("run pilot-discovery")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}

fn expect_exit_code(output: &Output, code: i32) -> Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}: {stdout}{stderr}", output.status);
    Ok(stdout)
}

#[test]
fn simulate_prints_a_call_step_by_step() -> Result<()> {
    let mesh = Mesh::new()?;
    let call = ["--from", "web-1.default", "--", "GET", "http://reviews:9080/x", "-H", "k: v"];
    let stdout = expect_exit_code(&mesh.simulate(&call)?, 0)?;
    let mut rest = stdout.as_str();
    for step in [
        "web-1.default sends GET reviews:9080/x, k: v to 10.0.0.2:9080 (reviews.default.svc.cluster.local)",
        "virtualOutbound hands 10.0.0.2:9080 over",
        "0.0.0.0_9080 takes it",
        "by Service/default/reviews",
        "reviews.default.svc.cluster.local:9080 answers for reviews:9080",
        "matches by prefix",
        "10.1.0.2:9080, 10.1.0.3:9080",
        "reached: 0.0.0.0_9080",
    ] {
        rest = rest
            .split_once(step)
            .with_context(|| format!("{step:?} is missing or out of order: {stdout}"))?
            .1;
    }

    let stdout = expect_exit_code(
        &mesh.simulate(&["--from", "web-1.default", "http://reviews:9080/x", "-o", "json"])?,
        0,
    )?;
    let report: Value = serde_json::from_str(&stdout)?;
    ensure!(report["reached"] == true && report["to"] == "10.0.0.2:9080", "{report}");
    ensure!(report["clusters"][0]["cluster"] == REVIEWS, "{report}");
    ensure!(report["clusters"][0]["endpoints"][1]["address"] == "10.1.0.3:9080", "{report}");
    Ok(())
}

#[test]
fn simulate_exits_with_1_if_the_call_reaches_nothing() -> Result<()> {
    let mesh = Mesh::new()?;
    mesh.folder.write("reviews.yaml", &[service("reviews", "10.0.0.2", &[Port::new("http", 9080, 9080)])])?;
    let stdout = expect_exit_code(&mesh.simulate(&["--from", "web-1.default", "http://reviews:9080/"])?, 1)?;
    ensure!(stdout.contains("has no endpoints") && stdout.contains("not reached: "), "{stdout}");

    let config = mesh.dir.path().join("mesh.yaml");
    fs::write(&config, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")?;
    let call = ["--meshConfig", text(&config)?, "--from", "web-1.default", "http://nobody:9080/"];
    let stdout = expect_exit_code(&mesh.simulate(&call)?, 1)?;
    ensure!(stdout.ends_with("not reached: 0.0.0.0_9080 [block_all] 502\n"), "{stdout}");
    Ok(())
}

#[test]
fn simulate_accepts_a_workload_given_by_flags() -> Result<()> {
    let mesh = Mesh::new()?;
    let stranger = mesh.simulate(&["--from", "nobody.shop", "http://reviews.default:9080/"])?;
    expect_exit_code(&stranger, 2)?;
    let why = String::from_utf8_lossy(&stranger.stderr);
    ensure!(why.contains("declared: web-1.default, web-2.default"), "{why}");
    let made = ["--from", "nobody.shop", "--labels", "app=x", "http://reviews.default:9080/"];
    let stdout = expect_exit_code(&mesh.simulate(&made)?, 0)?;
    ensure!(stdout.contains(REVIEWS), "{stdout}");
    let inbound = ["--from", "nobody.shop", "--ip", "10.1.0.2", "--inbound", "http://any:9080/"];
    let stdout = expect_exit_code(&mesh.simulate(&inbound)?, 0)?;
    ensure!(stdout.contains("inbound|9080||"), "{stdout}");
    Ok(())
}

#[test]
fn diff_prints_changes_by_proxy_resource_and_path() -> Result<()> {
    let (before, after) = (Mesh::new()?, Mesh::new()?);
    let stdout = expect_exit_code(&before.diff(&after, &[])?, 0)?;
    ensure!(stdout == "2 proxies: nothing changes\n", "{stdout}");

    let ports = [Port::new("http", 9080, 9080)];
    let late = service("late", "10.0.0.9", &[Port::new("tcp", 7000, 7000)]);
    let fewer = endpoint_slice("reviews", &ports, &["10.1.0.2".parse()?]);
    after.folder.write("reviews.yaml", &[service("reviews", "10.0.0.2", &ports), fewer, late])?;
    let stdout = expect_exit_code(&before.diff(&after, &[])?, 1)?;
    for line in [
        "2 proxies: web-1.default web-2.default\n",
        "  + cds outbound|7000||late.default.svc.cluster.local\n",
        "  + lds 10.0.0.9_7000\n",
        "  ~ eds outbound|9080||reviews.default.svc.cluster.local\n",
        "      endpoints[0].load_balancing_weight: 2 -> 1\n",
    ] {
        ensure!(stdout.contains(line), "no {line:?} in {stdout}");
    }
    // In the other direction, for one proxy, as JSON.
    let stdout = expect_exit_code(&after.diff(&before, &["--proxy", "web-2.default", "-o", "json"])?, 1)?;
    let report: Value = serde_json::from_str(&stdout)?;
    ensure!(
        report["groups"][0]["proxies"] == json!(["web-2.default"]) && report["unchanged"] == 0,
        "{report}"
    );
    let gone = json!({"type": "lds", "name": "10.0.0.9_7000", "what": "removed", "changes": []});
    ensure!(report["groups"][0]["resources"].as_array().is_some_and(|all| all.contains(&gone)), "{report}");

    // For a proxy that exists on one side only, every resource is a difference.
    after.folder.write("pods.yaml", &[pod("web-1", "10.1.0.1")])?;
    let stdout = expect_exit_code(&before.diff(&after, &["--proxy", "web-2.default"])?, 1)?;
    ensure!(stdout.contains(&format!("  - cds {REVIEWS}\n")), "{stdout}");
    Ok(())
}

#[test]
fn diff_and_simulate_exit_with_2_on_invalid_input() -> Result<()> {
    let mesh = Mesh::new()?;
    let missing =
        run("diff", &["--before", "/nowhere", "--after", text(mesh.folder.path())?], mesh.dir.path())?;
    expect_exit_code(&missing, 2)?;
    ensure!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere"), "{missing:?}");
    expect_exit_code(&mesh.diff(&mesh, &["--proxy", "nobody.default"])?, 2)?;
    expect_exit_code(&mesh.simulate(&["--from", "web-1.default", "reviews"])?, 2)?;
    Ok(())
}
