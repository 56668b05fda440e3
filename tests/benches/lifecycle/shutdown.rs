//! SIGTERM under load, with a load balancer that moves new connections a moment later: failed requests, and the time from the
//! last request to the exit. The comparison is Istio's fixed sequence: drain, five seconds of sleep, SIGKILL.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::load::{Report, Traffic};
use pilot_tests::mesh::END;
use pilot_tests::net::post_ok;
use pilot_tests::solo::{Bare, Front, Solo, Stage};
use pilot_tests::statistics::Durations;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::{HotRestartFlag, LifecyclePlan};
use super::report_json;

/// Duration of the load before the end: every class is in flight then.
const FLOW: Duration = Duration::from_secs(2);

/// Delay until the load balancer moves new connections.
const NEWS: Duration = Duration::from_millis(500);

/// Istio's `terminationDrainDuration`.
const ISTIO: Duration = Duration::from_secs(5);

/// Duration of the load afterwards, so that clients with a connection notice its end.
const AFTER: Duration = Duration::from_millis(500);

const LOOK: Duration = Duration::from_millis(1);

/// Revision of the Envoy that takes over; the other one has revision 1.
const OTHER: u32 = 1000;

/// Results of several shutdowns.
#[derive(Default)]
struct ShutdownResults {
    reports: BTreeMap<String, Report>,
    after_last: Durations,
    after_signal: Durations,
    codes: Vec<Option<i32>>,
}

pub(crate) async fn measure(plan: &LifecyclePlan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    for flag in &plan.engines {
        measured.push((flag.name_of_agent(), agent(plan, *flag).await));
    }
    measured.push(("Istio's fixed sequence".to_owned(), istio(plan).await));
    measured
}

async fn agent(plan: &LifecyclePlan, flag: HotRestartFlag) -> Result<Value> {
    let mut sum = ShutdownResults::default();
    for _ in 0..plan.stops {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let (front, other) = (stage.front()?, stage.front()?);
        let _other = live(dir.path(), &other, OTHER).await?;
        let mut setup = plan.setup(flag)?;
        // More than needed: the time of the voluntary exit is measured.
        setup.proxy.insert("terminationDrainDuration".to_owned(), "15s".into());
        let mut solo = Solo::start(dir.path(), &front, &setup)?;
        solo.ready().await?;
        let traffic = flow(&front).await?;
        let started = Instant::now();
        solo.signal(Signal::SIGTERM)?;
        sleep(NEWS).await;
        traffic.connect_to(|name| Some(of(&other, name)));
        let status = loop {
            if let Some(status) = solo.ended()? {
                break status;
            }
            ensure!(started.elapsed() < END, "the agent does not end:\n{}", solo.log());
            sleep(LOOK).await;
        };
        sum.add(traffic, started, status.code()).await?;
    }
    Ok(sum.summary())
}

async fn istio(plan: &LifecyclePlan) -> Result<Value> {
    let mut sum = ShutdownResults::default();
    for _ in 0..plan.stops {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let (front, other) = (stage.front()?, stage.front()?);
        let _other = live(dir.path(), &other, OTHER).await?;
        let mut envoy = live(dir.path(), &front, 1).await?;
        let traffic = flow(&front).await?;
        let started = Instant::now();
        post_ok(envoy.admin, "/drain_listeners?graceful").await?;
        sleep(NEWS).await;
        traffic.connect_to(|name| Some(of(&other, name)));
        sleep(ISTIO.saturating_sub(started.elapsed())).await;
        envoy.signal(Signal::SIGKILL)?;
        while envoy.ended()?.is_none() {
            sleep(LOOK).await;
        }
        sum.add(traffic, started, None).await?;
    }
    Ok(sum.summary())
}

async fn live(dir: &Path, front: &Front, revision: u32) -> Result<Bare> {
    let mut envoy = Bare::start(dir, front, revision)?;
    envoy.live().await?;
    Ok(envoy)
}

async fn flow(front: &Front) -> Result<Traffic> {
    let traffic = Traffic::start(front.mix()?);
    sleep(FLOW).await;
    for (name, report) in traffic.reports() {
        report.ensure_no_failures().with_context(|| format!("{name}, before the shutdown"))?;
    }
    Ok(traffic)
}

/// Returns the target of the load with this name.
fn of(front: &Front, name: &str) -> SocketAddr {
    match name {
        "tcp" => front.tcp,
        name if name.starts_with("tls") => front.tls,
        _ => front.http,
    }
}

// === impl ShutdownResults ===

impl ShutdownResults {
    /// Adds one shutdown that has just ended.
    async fn add(&mut self, traffic: Traffic, started: Instant, code: Option<i32>) -> Result<()> {
        let gone = Instant::now();
        sleep(AFTER).await;
        let reports = traffic.stop().await?;
        // An answer that was read after the end of the process had been sent before.
        let last =
            reports.values().filter_map(|report| report.last_of_revision(1)).max().context("no answers")?;
        self.after_last.push(gone.saturating_duration_since(last));
        self.after_signal.push(gone - started);
        self.codes.push(code);
        report_json::add(&mut self.reports, reports);
        Ok(())
    }

    fn summary(&self) -> Value {
        let times = json!({
            "stops": self.codes.len(),
            "exit_after_last_request_ms": self.after_last.summary(),
            "exit_after_signal_ms": self.after_signal.summary(),
            "exit_codes_other_than_0": self.codes.iter().flatten().filter(|code| **code != 0).count(),
        });
        report_json::with(report_json::summary(&self.reports), times)
    }
}
