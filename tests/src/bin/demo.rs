//! `cargo demo`: the main job, end to end, on this machine, with a real Envoy. Prints one line for each step.
//!
//! The exit code is 0 only if every step succeeded. `cargo demo -- --keep` leaves everything running and prints commands to try.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::Report;
use pilot_tests::manifest::Folder;
use pilot_tests::mesh::{Discovery, Mesh, Options, PidNamespace, Sidecar};
use pilot_tests::process::{exit_description, process_tree};
use pilot_tests::programs::programs;
use pilot_tests::two_services::{MixedLoad, TwoServices};
use pilot_tests::wait::eventually;
use pilot_tests::{envoy, process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Time limit for traffic to follow a write, including the debounce.
const MOVED: Duration = Duration::from_secs(10);

/// Duration of the load before and after a change.
const FLOW: Duration = Duration::from_secs(1);

/// Delay until load balancers learn that an endpoint leaves.
const NOTICE: Duration = Duration::from_millis(300);

/// Time limit for steps that usually take a moment.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    Stop,
    KeepRunning,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let finish = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => Finish::Stop,
        ["--keep"] => Finish::KeepRunning,
        _ => {
            eprintln!("usage: cargo demo [-- --keep]");
            return ExitCode::from(64);
        }
    };
    match demo(finish).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("  FAILED  {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the result of a step.
fn print_step(step: &str, what: &str) {
    let mut lines = what.lines();
    println!("{step:>10}  {}", lines.next().unwrap_or_default());
    for line in lines {
        println!("{:>10}  {line}", "");
    }
}

async fn demo(finish: Finish) -> Result<()> {
    let envoy = envoy::envoy()?;
    print_step("envoy", &format!("{} at {}", envoy::version(envoy)?, envoy.display()));
    let built = Instant::now();
    let programs = programs()?;
    print_step(
        "build",
        &format!(
            "{} and {} in {:.1?}",
            programs.agent.display(),
            programs.discovery.display(),
            built.elapsed()
        ),
    );

    let dir = tempfile::tempdir()?;
    let held = match finish {
        Finish::KeepRunning => steps(finish, dir.path()).await,
        Finish::Stop => tokio::select! {
            held = steps(finish, dir.path()) => held,
            ended = interrupted() => ended.and_then(|()| bail!("interrupted")),
        },
    };
    if held.is_err() {
        let kept = dir.keep();
        print_step("logs", &format!("{0}/discovery.log and {0}/agent.log", kept.display()));
    }
    held
}

async fn steps(finish: Finish, dir: &std::path::Path) -> Result<()> {
    let services = TwoServices::start(&["a", "b", "c"]).await?;
    let folder = Folder::create(dir.join("config"))?;
    folder.write(Mesh::FILE, &services.objects(&["a", "b"])?)?;
    print_step(
        "yaml",
        &format!(
            "services web (HTTP) and db (TCP) on endpoints a and b: {}",
            folder.file(Mesh::FILE).display()
        ),
    );

    let started = Instant::now();
    let discovery = Discovery::start(dir, &folder).await?;
    print_step("discovery", &format!("ready after {:.0?}, ADS at {}", started.elapsed(), discovery.grpc));

    let started = Instant::now();
    let options = Options { pid_namespace: PidNamespace::Own, ..Options::new()? };
    let mut sidecar = Sidecar::start(dir, discovery.grpc, &options)?;
    sidecar.ready().await?;
    print_step(
        "agent",
        &format!("ready after {:.0?}, its process tree:\n{}", started.elapsed(), tree_of(&sidecar)?),
    );

    let load = services.load();
    tokio::time::sleep(FLOW).await;
    let report = load.report();
    print_step("requests", &format!("{} (HTTP/1.1 kept and new connections, HTTP/2, TCP)", counted(&report)));
    report.ensure_no_failures()?;
    let both = |report: &Report| ["a", "b"].iter().all(|name| report.by_endpoint().contains_key(name));
    ensure!(load.reports().iter().all(both), "a kind of request did not reach both endpoints");

    move_traffic(&services, &folder, &load).await?;
    accepted(&discovery, &sidecar).await?;
    hand_over(&load, &sidecar).await?;
    if finish == Finish::KeepRunning {
        lossless(&load.stop().await?)?;
        return keep(&services, &folder, &discovery, &sidecar).await;
    }
    stop(&services, &load, &mut sidecar).await?;
    lossless(&load.stop().await?)
}

fn lossless(report: &Report) -> Result<()> {
    let (failed, answered) = (report.failures.len(), report.answers.len());
    print_step("failed", &format!("{failed} of {} requests over the whole run", failed + answered));
    report.ensure_no_failures()
}

/// Returns the process tree. The agent must be PID 1 of its namespace, and Envoy its child.
fn tree_of(sidecar: &Sidecar) -> Result<String> {
    let agent = process::ProcessInfo::read(sidecar.agent()?).context("the agent is gone")?;
    ensure!(
        agent.pid_in_namespace == 1,
        "pilot-agent is process {} of its namespace, not 1",
        agent.pid_in_namespace
    );
    sidecar.envoy()?;
    process_tree(agent.pid)
}

async fn move_traffic(services: &TwoServices, folder: &Folder, load: &MixedLoad) -> Result<()> {
    folder.write(Mesh::FILE, &services.objects(&["a", "c"])?)?;
    let written = Instant::now();
    let waited = eventually(TIMEOUT, "every kind of request moves from b to c", async || {
        ensure!(load.reports().iter().all(|report| report.first("c", written).is_some()), "c did not answer");
        Ok(())
    });
    waited.await?;
    tokio::time::sleep(FLOW).await;
    let reports = load.reports();
    let after = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.saturating_duration_since(written));
    let first = reports.iter().map(|report| after(report.first("c", written))).max().unwrap_or_default();
    let last = reports.iter().map(|report| after(report.last("b"))).max().unwrap_or_default();
    let moved = first.max(last);
    print_step(
        "yaml edit",
        &format!(
            "b -> c: traffic moved {moved:.0?} after the write (c answers all after {first:.0?}, b the last time after {last:.0?})"
        ),
    );
    ensure!(moved < MOVED, "traffic took {moved:.0?} to move, more than {MOVED:?}");
    Ok(())
}

async fn accepted(discovery: &Discovery, sidecar: &Sidecar) -> Result<()> {
    sidecar.ensure_no_rejection().await?;
    discovery.ensure_no_rejection().await?;
    let updates = sidecar.stats("(cds|lds).update_success$").await?;
    print_step("accepted", &format!("no update_rejected in Envoy's counters; {updates:?}"));
    Ok(())
}

/// Performs a hot restart under load, as after a change of Envoy's bootstrap or binary.
async fn hand_over(load: &MixedLoad, sidecar: &Sidecar) -> Result<()> {
    let before = load.report().failures.len();
    let started = Instant::now();
    sidecar.restart().await?;
    let alone = started.elapsed();
    let failed = load.report().failures.len() - before;
    print_step(
        "restart",
        &format!(
            "hot, under load: the new Envoy is alone after {alone:.1?}, {failed} requests failed:\n{}",
            tree_of(sidecar)?
        ),
    );
    ensure!(failed == 0, "a hot restart lost {failed} requests");
    Ok(())
}

async fn stop(services: &TwoServices, load: &MixedLoad, sidecar: &mut Sidecar) -> Result<()> {
    let started = Instant::now();
    sidecar.signal(Signal::SIGTERM)?;
    let waited = eventually(TIMEOUT, "readiness is off", async || {
        ensure!(!sidecar.is_ready().await, "the agent says that it is ready");
        Ok(())
    });
    waited.await?;
    let off = started.elapsed();
    // Load balancers learn of it later.
    tokio::time::sleep(NOTICE).await;
    load.bypass_sidecar(services);
    let moved = started.elapsed();
    let status = sidecar.exit().await?;
    print_step(
        "stop",
        &format!(
            "SIGTERM under load: not ready after {off:.0?}, clients go elsewhere after {moved:.0?}; {} {:.0?} later",
            exit_description(status),
            started.elapsed().saturating_sub(moved)
        ),
    );
    ensure!(status.code() == Some(0), "the agent ended with {}", exit_description(status));
    Ok(())
}

async fn keep(
    services: &TwoServices,
    folder: &Folder,
    discovery: &Discovery,
    sidecar: &Sidecar,
) -> Result<()> {
    let tries = [
        format!("curl -H 'host: web' http://{}/         a request through the sidecar", services.web()),
        format!("edit {}         and ask again", folder.file(Mesh::FILE).display()),
        format!("curl http://{}/healthz/ready         the agent", sidecar.status),
        format!("curl http://{}/clusters         Envoy's admin", sidecar.admin),
        format!("curl http://{}/debug/syncz         the control plane", discovery.http),
        format!("curl http://{}/metrics", discovery.monitoring),
    ];
    print_step("kept", &format!("running until Ctrl-C; try\n{}", tries.join("\n")));
    interrupted().await
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Not a thread of the runtime: a runtime waits for those when it ends.
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // There is no receiver when the demo has ended by itself.
            sender.send(()).ok();
        }
    });
    receiver.await.context("wait for signals")
}

fn counted(report: &Report) -> String {
    let counts: Vec<String> =
        report.by_endpoint().iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("{} requests answered: {}", report.answers.len(), counts.join(", "))
}
