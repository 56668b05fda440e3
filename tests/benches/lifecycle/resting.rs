//! Cost of an idle agent: memory over minutes and restarts, and CPU without load.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};
use pilot_tests::load::{Class, Traffic};
use pilot_tests::solo::{Solo, Stage};
use pilot_tests::statistics::{round, slope};
use serde_json::{Value, json};
use tokio::time::{sleep, sleep_until};

use super::hot_restart::{BOUND, brief_hand_over};
use super::plan::{HotRestartFlag, LifecyclePlan};

pub(crate) async fn measure(plan: &LifecyclePlan) -> Vec<(String, Result<Value>)> {
    let mut measured = Vec::new();
    for flag in &plan.engines {
        measured.push((flag.name_of_agent(), of(plan, *flag).await));
    }
    measured
}

async fn of(plan: &LifecyclePlan, flag: HotRestartFlag) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let stage = Stage::start(Ipv4Addr::LOCALHOST.into()).await?;
    let mut setup = plan.setup(flag)?;
    brief_hand_over(&mut setup);
    let mut solo = Solo::start(dir.path(), &stage.front()?, &setup)?;
    solo.ready().await?;
    let agent = solo.agent()?;
    let traffic = Traffic::start([("keep-alive", solo.front.load(Class::KeepAlive))]);

    let start = Instant::now();
    let step = plan.rest / plan.restarts.max(1);
    let (mut samples, mut restarts, mut refusal) = (vec![(Duration::ZERO, pss(agent)?)], 0, None);
    for at in 1..=plan.restarts {
        match solo.restart().await {
            Ok(()) => restarts += 1,
            Err(error) => refusal = Some(format!("{error:#}")),
        }
        sleep_until((start + step * at).into()).await;
        samples.push((start.elapsed(), pss(agent)?));
    }
    solo.check()?;
    let reports = traffic.stop().await?;
    // The second to last Envoy may still drain.
    sleep(BOUND).await;
    let (before, watched) = (cpu(agent)?, Instant::now());
    sleep(plan.idle).await;
    let share = cpu(agent)?.saturating_sub(before).as_secs_f64() / watched.elapsed().as_secs_f64();
    let pss_kib = |sample: Option<&(Duration, u32)>| sample.map(|(_, kib)| *kib);
    Ok(json!({
        "minutes": round(plan.rest.as_secs_f64() / 60.0),
        "restarts_accepted": restarts,
        "refusal": refusal,
        "last_epoch": solo.newest()?.epoch,
        "failed": reports.values().map(|report| report.failures.len()).sum::<usize>(),
        "pss_kib": {
            "first": pss_kib(samples.first()),
            "max": samples.iter().map(|(_, kib)| *kib).max(),
            "last": pss_kib(samples.last()),
        },
        "slope_kib_per_minute": slope(&settled(&samples)).map(round),
        "threads": threads(agent)?,
        "idle_seconds": plan.idle.as_secs(),
        "idle_cpu_percent": (share * 100_000.0).round() / 1000.0,
    }))
}

/// Returns the growth in KiB over minutes, without the first fifth, in which every allocator grows.
fn settled(samples: &[(Duration, u32)]) -> Vec<(f64, f64)> {
    let settled = samples.get(samples.len() / 5..).unwrap_or_default();
    settled.iter().map(|(at, kib)| (at.as_secs_f64() / 60.0, f64::from(*kib))).collect()
}

/// Returns the proportional set size (PSS) in KiB.
fn pss(pid: Pid) -> Result<u32> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn threads(pid: Pid) -> Result<u32> {
    field(&format!("/proc/{pid}/status"), "Threads:")
}

fn field(path: &str, name: &str) -> Result<u32> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("{path} has no {name}"))
}

/// Returns the CPU time so far, user and system: fields 14 and 15 of `/proc/<pid>/stat`.
fn cpu(pid: Pid) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    let second = sysconf(SysconfVar::CLK_TCK)?.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / second))
}
