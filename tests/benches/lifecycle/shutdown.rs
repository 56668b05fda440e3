//! SIGTERM under load, with a load balancer that moves new connections a moment later: who loses a request, and how long after
//! the last request the program is gone. Beside it Istio's fixed sequence: drain, five seconds' sleep, SIGKILL.

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

use super::figures;
use super::plan::{Plan, Told};

/// Load before the end: every class is under way then.
const FLOW: Duration = Duration::from_secs(2);

/// What the load balancer takes to hear of it.
const NEWS: Duration = Duration::from_millis(500);

/// Istio's `terminationDrainDuration`.
const ISTIO: Duration = Duration::from_secs(5);

/// Load goes on afterwards: whoever still had a connection finds out.
const AFTER: Duration = Duration::from_millis(500);

const LOOK: Duration = Duration::from_millis(1);

/// The one that ends answers with 1, the one that takes over with this.
const OTHER: u32 = 1000;

/// What came of several ends.
#[derive(Default)]
struct Sum {
    reports: BTreeMap<String, Report>,
    after_last: Durations,
    after_signal: Durations,
    codes: Vec<Option<i32>>,
}

pub(crate) async fn measure(plan: &Plan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    for told in &plan.engines {
        measured.push((told.who(), agent(plan, *told).await));
    }
    measured.push(("Istio's fixed sequence".to_owned(), istio(plan).await));
    measured
}

async fn agent(plan: &Plan, told: Told) -> Result<Value> {
    let mut sum = Sum::default();
    for _ in 0..plan.stops {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let (front, other) = (stage.front()?, stage.front()?);
        let _other = live(dir.path(), &other, OTHER).await?;
        let mut setup = plan.setup(told)?;
        // More than it needs: what is measured is when it leaves by itself.
        setup.proxy.insert("terminationDrainDuration".to_owned(), "15s".into());
        let mut solo = Solo::start(dir.path(), &front, &setup)?;
        solo.ready().await?;
        let traffic = flow(&front).await?;
        let asked = Instant::now();
        solo.signal(Signal::SIGTERM)?;
        sleep(NEWS).await;
        traffic.connect_to(|name| Some(of(&other, name)));
        let status = loop {
            if let Some(status) = solo.ended()? {
                break status;
            }
            ensure!(asked.elapsed() < END, "the agent does not end:\n{}", solo.log());
            sleep(LOOK).await;
        };
        sum.add(traffic, asked, status.code()).await?;
    }
    Ok(sum.told())
}

async fn istio(plan: &Plan) -> Result<Value> {
    let mut sum = Sum::default();
    for _ in 0..plan.stops {
        let dir = tempfile::tempdir()?;
        let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
        let (front, other) = (stage.front()?, stage.front()?);
        let _other = live(dir.path(), &other, OTHER).await?;
        let mut envoy = live(dir.path(), &front, 1).await?;
        let traffic = flow(&front).await?;
        let asked = Instant::now();
        post_ok(envoy.admin, "/drain_listeners?graceful").await?;
        sleep(NEWS).await;
        traffic.connect_to(|name| Some(of(&other, name)));
        sleep(ISTIO.saturating_sub(asked.elapsed())).await;
        envoy.signal(Signal::SIGKILL)?;
        while envoy.ended()?.is_none() {
            sleep(LOOK).await;
        }
        sum.add(traffic, asked, None).await?;
    }
    Ok(sum.told())
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
        report.ensure_no_failures().with_context(|| format!("{name}, before anything ends"))?;
    }
    Ok(traffic)
}

/// Where load of this name goes.
fn of(front: &Front, name: &str) -> SocketAddr {
    match name {
        "tcp" => front.tcp,
        name if name.starts_with("tls") => front.tls,
        _ => front.http,
    }
}

// === impl Sum ===

impl Sum {
    /// Adds one end that is just over.
    async fn add(&mut self, traffic: Traffic, asked: Instant, code: Option<i32>) -> Result<()> {
        let gone = Instant::now();
        sleep(AFTER).await;
        let reports = traffic.stop().await?;
        // An answer that was read after the process was gone had left it before.
        let last = reports
            .values()
            .filter_map(|report| report.last_of_revision(1))
            .max()
            .context("no answer at all")?;
        self.after_last.push(gone.saturating_duration_since(last));
        self.after_signal.push(gone - asked);
        self.codes.push(code);
        figures::add(&mut self.reports, reports);
        Ok(())
    }

    fn told(&self) -> Value {
        let times = json!({
            "stops": self.codes.len(),
            "exit_after_last_request_ms": self.after_last.summary(),
            "exit_after_signal_ms": self.after_signal.summary(),
            "exit_codes_other_than_0": self.codes.iter().flatten().filter(|code| **code != 0).count(),
        });
        figures::with(figures::told(&self.reports), times)
    }
}
