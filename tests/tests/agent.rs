//! The agent as the first process of a container: what it starts, reaps, forwards and refuses.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::envoy::envoy;
use pilot_tests::mesh::{END, Mesh, Options, PidNamespace};
use pilot_tests::net::free_port;
use pilot_tests::process::{Process, ProcessInfo, children, exit_description};
use pilot_tests::programs::programs;
use pilot_tests::two_services::TwoServices;
use pilot_tests::wait::eventually;

/// Creates an Envoy that leaves orphans: two processes that outlive their parent.
fn envoy_with_orphans(dir: &Path) -> Result<std::path::PathBuf> {
    let path = dir.join("envoy-with-orphans");
    let real = envoy()?.display();
    fs::write(&path, format!("#!/bin/sh\n(sleep 0.2 &)\n(sleep 0.4 &)\nexec {real} \"$@\"\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn as_pid_1_it_reaps_orphans_and_leaves_on_sigterm() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let scene = TwoServices::start(&["a"]).await?;
        let dir = tempfile::tempdir()?;
        let options = Options {
            pid_namespace: PidNamespace::Own,
            envoy: envoy_with_orphans(dir.path())?,
            ..Options::new()?
        };
        let mut mesh = Mesh::start(&scene.objects(&["a"])?, &options).await?;
        let agent = mesh.sidecar.agent()?;
        let seen = ProcessInfo::read(agent).context("the agent is gone")?;
        ensure!(seen.pid_in_namespace == 1, "the agent's id in its namespace is {}", seen.pid_in_namespace);
        let envoy = mesh.sidecar.envoy()?;

        let reaped = eventually(END, "orphans are reaped", async || {
            let left = children(agent)?;
            ensure!(left.iter().all(|child| child.pid == envoy.pid), "still there: {left:?}");
            Ok(())
        });
        reaped.await?;
        mesh.ensure_healthy().await?;

        mesh.sidecar.signal(signal)?;
        let status = mesh.sidecar.exit().await?;
        ensure!(
            status.code() == Some(0),
            "after {signal} the agent ended with {}:\n{}",
            exit_description(status),
            mesh.sidecar.log()
        );
        ensure!(ProcessInfo::read(envoy.pid).is_none(), "Envoy outlived the agent");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_loses_nothing() -> Result<()> {
    let scene = TwoServices::start(&["a", "b"]).await?;
    let options = Options { pid_namespace: PidNamespace::Own, ..Options::new()? };
    let mut mesh = Mesh::start(&scene.objects(&["a", "b"])?, &options).await?;
    let load = scene.load();
    tokio::time::sleep(Duration::from_millis(500)).await;

    mesh.sidecar.signal(Signal::SIGTERM)?;
    let not_ready = eventually(END, "readiness is off", async || {
        ensure!(!mesh.sidecar.is_ready().await, "it says that it is ready");
        Ok(())
    });
    not_ready.await?;
    // From here on clients that watch readiness send requests elsewhere.
    load.bypass_sidecar(&scene);
    let status = mesh.sidecar.exit().await?;
    ensure!(status.code() == Some(0), "the agent ended with {}", exit_description(status));
    let report = load.stop().await?;
    println!("{:?}", report.by_endpoint());
    report.ensure_no_failures()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_killed_comes_back() -> Result<()> {
    let scene = TwoServices::start(&["a"]).await?;
    let options = Options { pid_namespace: PidNamespace::Own, ..Options::new()? };
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &options).await?;
    let first = mesh.sidecar.envoy()?;
    nix::sys::signal::kill(first.pid, Signal::SIGKILL)?;
    let back = eventually(END, "another Envoy runs", async || {
        let now = mesh.sidecar.envoy()?;
        ensure!(now.pid != first.pid, "it is the same one");
        Ok(())
    });
    back.await?;
    mesh.sidecar.ready().await?;
    mesh.ensure_healthy().await
}

/// Invalid configuration; the agent must refuse to start.
struct Refused {
    what: &'static str,
    arguments: &'static [&'static str],
    proxy_config: String,
    told: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_in_one_clear_line() -> Result<()> {
    let good = |more: &str| -> Result<String> {
        Ok(format!(
            "{{discoveryAddress: \"127.0.0.1:{}\", controlPlaneAuthPolicy: NONE, binaryPath: {}, proxyAdminPort: {}{more}}}",
            free_port()?,
            envoy()?.display(),
            free_port()?,
        ))
    };
    let taken = TcpListener::bind("0.0.0.0:0")?.local_addr()?.port();
    let occupied = TcpListener::bind(("0.0.0.0", taken))?;
    let proxy: &[&str] = &["proxy", "sidecar"];
    let cases = [
        Refused {
            what: "broken YAML",
            arguments: proxy,
            proxy_config: "{a: [".into(),
            told: "PROXY_CONFIG".into(),
        },
        Refused {
            what: "a duration that is none",
            arguments: proxy,
            proxy_config: good(", terminationDrainDuration: soon")?,
            told: "terminationDrainDuration".into(),
        },
        Refused {
            what: "a missing binary",
            arguments: proxy,
            proxy_config: good(", statusPort: 0")?
                .replace(&envoy()?.display().to_string(), "/nonexistent/envoy"),
            told: "/nonexistent/envoy".into(),
        },
        Refused {
            what: "an unknown flag",
            arguments: &["proxy", "sidecar", "--no-such-flag"],
            proxy_config: good("")?,
            told: "--no-such-flag".into(),
        },
        Refused {
            what: "a port in use",
            arguments: proxy,
            proxy_config: good(&format!(", statusPort: {taken}"))?,
            told: taken.to_string(),
        },
    ];
    for case in cases {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(&programs()?.agent);
        command.args(case.arguments).current_dir(dir.path()).env("PROXY_CONFIG", &case.proxy_config);
        command.env("INSTANCE_IP", "127.0.0.1").env("POD_NAME", "client").env("POD_NAMESPACE", "default");
        command.env("ENVOY_STATUS_PORT", free_port()?.to_string());
        command.env("ENVOY_PROMETHEUS_PORT", free_port()?.to_string());
        let mut agent = Process::spawn("agent", &mut command, dir.path())?;
        let status = agent.exit(END).await.with_context(|| format!("{}:\n{}", case.what, agent.log()))?;
        let log = agent.log();
        ensure!(
            status.code().is_some_and(|code| code != 0),
            "{}: {}\n{log}",
            case.what,
            exit_description(status)
        );
        let lines: Vec<&str> =
            log.lines().filter(|line| line.contains("rror") || line.contains(&case.told)).collect();
        ensure!(lines.len() == 1, "{}: not one line but {lines:#?}\n{log}", case.what);
        ensure!(
            lines.iter().all(|line| line.contains(&case.told)),
            "{}: {lines:?} does not name {}",
            case.what,
            case.told
        );
    }
    drop(occupied);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_validates_the_bootstrap() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(&programs()?.agent);
    command.arg("bootstrap").current_dir(dir.path());
    command.env("PROXY_CONFIG", "{discoveryAddress: \"127.0.0.1:15010\", concurrency: 2}");
    command.env("INSTANCE_IP", "127.0.0.1").env("POD_NAME", "client").env("POD_NAMESPACE", "default");
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bootstrap = dir.path().join("bootstrap.json");
    fs::write(&bootstrap, &output.stdout)?;
    let output = Command::new(envoy()?)
        .args(["--mode", "validate", "-c"])
        .arg(&bootstrap)
        .current_dir(&dir)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
