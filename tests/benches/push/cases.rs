//! The cases: changes to a server, and the measurements of each.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pilot_tests::fleet::{
    ClientRange, Codec, Fleet, FleetConfig, Goal, GoalTimes, Kind, Order, ResourceUsage, ResumeState,
    UsageMeter,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::plan::{Comparison, FleetShape, PushCase, PushPlan, STEP_TIMEOUT};
use crate::row::{Measurement, Row};
use crate::server::{Change, Server, Sizes, sizes};
use crate::stopped;

/// Debounce for full pushes: long enough for both writes, the second of which is of a large file, to be one push.
pub(crate) const LONG: Duration = Duration::from_millis(500);

/// Debounce for single changes, so that it does not count in the measurement.
const SHORT: Duration = Duration::from_millis(1);

/// Pause after which a server has no work left.
const REST: Duration = Duration::from_millis(300);

/// Pause after which a stream is idle.
const IDLE: Duration = Duration::from_secs(2);

/// Number of endpoints that move in a second of churn.
const CHURN: u32 = 100;

/// Measures every case of a shape, and its floor.
pub(crate) async fn measure(plan: &PushPlan, shape: &FleetShape) -> Result<Vec<Row>> {
    let has_any = |cases: &[PushCase]| shape.cases.iter().any(|case| cases.contains(case));
    let mut rows = Vec::new();
    let mut sent: [Sizes; 3] = Default::default();
    // The floor sends as much as pilot-discovery did, so this is measured first.
    let mut first = Sizes::new();
    let dir = tempfile::tempdir()?;
    if has_any(&[PushCase::Storm, PushCase::Full, PushCase::Stopped]) || plan.comparison == Comparison::Floor
    {
        let mut server = Server::pilot(dir.path(), plan, shape, LONG).await?;
        let mut fleet = fleet(&server, plan, shape, |_| ())?;
        let measurement = storm(&server, &mut fleet, shape).await?;
        first = sizes(&fleet.totals()?, shape.streams);
        if has_any(&[PushCase::Storm]) {
            rows.push(Row::print(shape, PushCase::Storm, server.name(), measurement));
        }
        if has_any(&[PushCase::Full]) {
            let goal = everything(&first);
            let measurement = pushes(&mut server, &mut fleet, Change::Everything, &goal, plan.repeat).await?;
            rows.push(Row::print(shape, PushCase::Full, server.name(), measurement));
            sent[2] = sizes(&fleet.totals()?, shape.streams);
        }
    }
    if has_any(&[PushCase::Endpoint, PushCase::Churn, PushCase::Reconnect, PushCase::Return]) {
        let dir = tempfile::tempdir()?;
        let mut server = Server::pilot(dir.path(), plan, shape, SHORT).await?;
        rows.extend(small(&mut server, plan, shape, &mut sent[0]).await?);
    }
    if has_any(&[PushCase::Route]) {
        let dir = tempfile::tempdir()?;
        let mut server = Server::pilot(dir.path(), plan, shape, SHORT).await?;
        let mut fleet = fleet(&server, plan, shape, |setup| setup.kinds = Kind::ALL.to_vec())?;
        storm(&server, &mut fleet, shape).await?;
        let goal = Goal::of(Kind::Rds, 1);
        let measurement = pushes(&mut server, &mut fleet, Change::Route, &goal, plan.repeat).await?;
        rows.push(Row::print(shape, PushCase::Route, server.name(), measurement));
        sent[1] = sizes(&fleet.totals()?, shape.streams);
    }
    if has_any(&[PushCase::Stopped]) {
        rows.push(stopped::measure(plan, shape, &everything(&first)).await?);
    }
    if plan.comparison == Comparison::Floor {
        rows.extend(floor(dir.path(), plan, shape, &first, sent).await?);
    }
    Ok(rows)
}

/// Returns the goal of as many resources as a client received at first: all of them again.
fn everything(first: &Sizes) -> Goal {
    // Clusters without endpoints do not change with the mesh: BlackHoleCluster, PassthroughCluster.
    let endpoints = first.get(&Kind::Eds).map_or(1, |(resources, _)| *resources);
    Goal::Resources([(Kind::Cds, endpoints), (Kind::Eds, endpoints)].into())
}

/// Measures single changes and reconnects.
async fn small(
    server: &mut Server,
    plan: &PushPlan,
    shape: &FleetShape,
    sent: &mut Sizes,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let some = (shape.streams / 50).max(1);
    let mut clients = fleet(server, plan, shape, |setup| setup.keep = some)?;
    storm(server, &mut clients, shape).await?;
    for case in &shape.cases {
        let measurement = match case {
            PushCase::Endpoint => {
                let measurement = endpoint(server, &mut clients, plan).await?;
                *sent = sizes(&clients.totals()?, shape.streams);
                measurement
            }
            PushCase::Churn => churn(server, &mut clients, plan, shape).await?,
            PushCase::Reconnect => reconnect(server, &mut clients).await?,
            _ => continue,
        };
        rows.push(Row::print(shape, *case, server.name(), measurement));
    }
    drop(clients);
    if shape.cases.contains(&PushCase::Return) && shape.codec == Codec::Delta {
        let mut clients = fleet(server, plan, shape, |setup| setup.keep = 1)?;
        storm(server, &mut clients, shape).await?;
        let measurement = come_back(server, &mut clients).await?;
        rows.push(Row::print(shape, PushCase::Return, server.name(), measurement));
    }
    Ok(rows)
}

async fn floor(
    dir: &Path,
    plan: &PushPlan,
    shape: &FleetShape,
    first: &Sizes,
    sent: [Sizes; 3],
) -> Result<Vec<Row>> {
    let mut server = Server::floor(dir, shape, first, sent).await?;
    let mut fleet = fleet(&server, plan, shape, |_| ())?;
    let mut rows = Vec::new();
    let measurement = storm(&server, &mut fleet, shape).await?;
    rows.push(Row::print(shape, PushCase::Storm, server.name(), measurement));
    for case in &shape.cases {
        let measurement = match case {
            PushCase::Full => {
                pushes(&mut server, &mut fleet, Change::Everything, &everything(first), plan.repeat).await?
            }
            PushCase::Endpoint => endpoint(&mut server, &mut fleet, plan).await?,
            PushCase::Route => {
                pushes(&mut server, &mut fleet, Change::Route, &Goal::of(Kind::Eds, 1), plan.repeat).await?
            }
            PushCase::Reconnect => reconnect(&server, &mut fleet).await?,
            PushCase::Storm | PushCase::Churn | PushCase::Return | PushCase::Stopped => continue,
        };
        rows.push(Row::print(shape, *case, server.name(), measurement));
    }
    Ok(rows)
}

/// Starts a fleet of this shape against this server.
pub(crate) fn fleet(
    server: &Server,
    plan: &PushPlan,
    shape: &FleetShape,
    more: impl FnOnce(&mut FleetConfig),
) -> Result<Fleet> {
    let mut setup = FleetConfig::new(server.address(), shape.streams, shape.codec);
    setup.scopes = shape.scopes;
    setup.max_frame = plan.max_frame;
    setup.ca = server.ca().cloned();
    more(&mut setup);
    Fleet::spawn(Path::new(env!("CARGO_BIN_EXE_fleet")), &setup)
}

/// Measures all clients connecting at once.
pub(crate) async fn storm(server: &Server, fleet: &mut Fleet, shape: &FleetShape) -> Result<Measurement> {
    let meter = server.meter();
    let before = meter.read()?;
    fleet.mark(Goal::Configured)?;
    let mut measurement = measured(server, fleet, Fleet::connect).await?;
    sleep(IDLE).await;
    let idle = meter.read()?.resident.saturating_sub(before.resident) / u64::from(shape.streams.max(1));
    measurement.more.push(("idle_kb_per_stream", json!(idle >> 10)));
    measurement.more.push(("resident_before_mb", json!(crate::row::megabytes(before.resident))));
    Ok(measurement)
}

/// Measures repeated changes of one kind, each of another object; medians of the times, means of the rest.
pub(crate) async fn pushes(
    server: &mut Server,
    fleet: &mut Fleet,
    change: Change,
    goal: &Goal,
    repeat: u32,
) -> Result<Measurement> {
    let mut all: Vec<Measurement> = Vec::new();
    for _ in 0..repeat {
        fleet.mark(goal.clone())?;
        let meter = server.meter();
        meter.reset_peak()?;
        let before = meter.read()?;
        let clients = UsageMeter::new(fleet.pid()).read()?;
        let written = server.change(change)?;
        let reached = fleet.reached(ClientRange::ALL, STEP_TIMEOUT)?;
        sleep(REST).await;
        let after = meter.read()?;
        let totals = fleet.totals()?;
        let measurement = Measurement {
            until: until(&reached, server.began(written).unwrap_or(written)),
            written: until(&reached, written),
            cpu: after.cpu.saturating_sub(before.cpu),
            peak: after.peak,
            bytes: totals.bytes.values().sum(),
            missing: reached.missing,
            more: vec![
                ("responses", json!(totals.responses)),
                ("pushes", json!(server.pushes(written.saturating_sub(20_000)))),
                ("clients_cpu_s", cpu_time_since(fleet, clients)?),
            ],
        };
        let missing = measurement.missing;
        all.push(measurement);
        if missing > 0 {
            break;
        }
    }
    let last = all.last().cloned().context("nothing was pushed")?;
    let middle = |of: fn(&Measurement) -> [Option<Duration>; 3]| {
        [0, 1, 2].map(|place| {
            let mut times: Vec<Duration> =
                all.iter().filter_map(|measurement| *of(measurement).get(place)?).collect();
            times.sort();
            times.get(times.len() / 2).copied()
        })
    };
    let mean = all.iter().map(|measurement| measurement.cpu).sum::<Duration>()
        / u32::try_from(all.len()).unwrap_or(1);
    let peak = all.iter().map(|measurement| measurement.peak).max().unwrap_or_default();
    Ok(Measurement {
        until: middle(|one| one.until),
        written: middle(|one| one.written),
        cpu: mean,
        peak,
        ..last
    })
}

/// Measures one endpoint of one service. The repetitions compensate for the coarse clock of CPU time.
async fn endpoint(server: &mut Server, fleet: &mut Fleet, plan: &PushPlan) -> Result<Measurement> {
    pushes(server, fleet, Change::Endpoint, &Goal::of(Kind::Eds, 1), plan.repeat * 3).await
}

/// Measures a steady rate of endpoint changes, from the write of each to its arrival at each client that keeps versions.
async fn churn(
    server: &mut Server,
    fleet: &mut Fleet,
    plan: &PushPlan,
    shape: &FleetShape,
) -> Result<Measurement> {
    let Server::Discovery { mesh, .. } = &mut *server else { anyhow::bail!("the floor has no endpoints") };
    let count = (u32::try_from(plan.churn.as_secs()).unwrap_or(u32::MAX)).saturating_mul(CHURN);
    let count = count.min(mesh.visible_services() - mesh.visible_services() / 50);
    fleet.mark(Goal::of(Kind::Eds, count.into()))?;
    let mut written: Vec<(String, u64)> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN);
    let meter = server.meter();
    meter.reset_peak()?;
    let before = meter.read()?;
    for index in 0..count {
        ticks.tick().await;
        let Server::Discovery { mesh, .. } = &mut *server else { break };
        let at = pilot_tests::fleet::now();
        mesh.change_endpoint(index)?;
        written.push((mesh.cluster(index)?, at));
    }
    let reached = fleet.reached(ClientRange::ALL, STEP_TIMEOUT)?;
    sleep(REST).await;
    let after = meter.read()?;
    let mut late = GoalTimes::default();
    for client in (0..shape.streams).step_by((shape.streams / 50).max(1) as usize) {
        let holdings = fleet.holdings(client)?;
        let held = holdings.get(&Kind::Eds).context("a client without endpoints")?;
        for (name, at) in &written {
            match held.get(name).map(|(_, came)| came.saturating_sub(*at)) {
                Some(took) if took < STEP_TIMEOUT.as_micros().try_into().unwrap_or(u64::MAX) => {
                    late.at.push(took);
                }
                _ => late.missing += 1,
            }
        }
    }
    late.at.sort_unstable();
    let totals = fleet.totals()?;
    let since = written.first().map_or(0, |(_, at)| *at);
    Ok(Measurement {
        until: [None; 3],
        written: until(&late, 0),
        cpu: after.cpu.saturating_sub(before.cpu),
        peak: after.peak,
        bytes: totals.bytes.values().sum(),
        missing: reached.missing,
        more: vec![
            ("changes", json!(count)),
            ("pushes", json!(server.pushes(since))),
            ("responses", json!(totals.responses)),
        ],
    })
}

/// Measures all clients reconnecting without state.
async fn reconnect(server: &Server, fleet: &mut Fleet) -> Result<Measurement> {
    fleet.at(&Order::Disconnect { which: ClientRange::ALL })?;
    sleep(REST).await;
    fleet.mark(Goal::Configured)?;
    measured(server, fleet, Fleet::connect).await
}

/// Measures all clients reconnecting with versions after one endpoint moved.
async fn come_back(server: &mut Server, fleet: &mut Fleet) -> Result<Measurement> {
    fleet.at(&Order::Disconnect { which: ClientRange::ALL })?;
    sleep(REST).await;
    server.change(Change::Endpoint)?;
    sleep(REST).await;
    fleet.mark(Goal::of(Kind::Eds, 1))?;
    let again = Order::Connect { which: ClientRange::ALL, memory: ResumeState::Versions };
    let mut measurement = measured(server, fleet, |fleet| fleet.at(&again)).await?;
    measurement.more.push(("resources", json!(fleet.totals()?.resources)));
    Ok(measurement)
}

/// Measures an order that starts at once.
async fn measured(
    server: &Server,
    fleet: &mut Fleet,
    begin: impl FnOnce(&mut Fleet) -> Result<u64>,
) -> Result<Measurement> {
    let meter = server.meter();
    meter.reset_peak()?;
    let before = meter.read()?;
    // The answer comes after the order was executed for all clients.
    let (earlier, clients) = (pilot_tests::fleet::now(), UsageMeter::new(fleet.pid()).read()?);
    begin(fleet)?;
    let reached = fleet.reached(ClientRange::ALL, STEP_TIMEOUT)?;
    sleep(REST).await;
    let after = meter.read()?;
    let totals = fleet.totals()?;
    Ok(Measurement {
        until: until(&reached, earlier),
        written: [None; 3],
        cpu: after.cpu.saturating_sub(before.cpu),
        peak: after.peak,
        bytes: totals.bytes.values().sum(),
        missing: reached.missing,
        more: vec![
            ("lost", json!(totals.lost)),
            ("last_loss", json!(totals.last_loss)),
            ("clients_cpu_s", cpu_time_since(fleet, clients)?),
        ],
    })
}

/// Returns the CPU time of the clients, to show whether they were the bottleneck.
fn cpu_time_since(fleet: &Fleet, since: ResourceUsage) -> Result<Value> {
    let cpu = UsageMeter::new(fleet.pid()).read()?.cpu.saturating_sub(since.cpu);
    Ok(json!(cpu.as_secs_f64()))
}

/// Returns the times at which half of the clients, 99 in 100 and the last one had reached the goal.
pub(crate) fn until(reached: &GoalTimes, since: u64) -> [Option<Duration>; 3] {
    [0.5, 0.99, 1.0].map(|part| reached.after(since, part))
}
