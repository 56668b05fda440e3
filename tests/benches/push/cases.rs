//! The cases: what is done to a server, and which figures come of it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pilot_tests::fleet::{Codec, Cost, Fleet, Goal, Kind, Memory, Meter, Order, Reached, Setup, Which};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::plan::{Beside, Case, PATIENCE, Plan, Shape};
use crate::row::{Figures, Row};
use crate::stopped;
use crate::subject::{Change, Sizes, Subject, sizes};

/// For full pushes: long enough for both writes, the second of which is of a large file, to be one push.
pub(crate) const LONG: Duration = Duration::from_millis(500);

/// For single changes: the debounce is not what is measured.
const SHORT: Duration = Duration::from_millis(1);

/// After this a server that was told everything has nothing left to do.
const REST: Duration = Duration::from_millis(300);

/// After this a stream is idle.
const IDLE: Duration = Duration::from_secs(2);

/// Endpoints that move in a second of churn.
const CHURN: u32 = 100;

/// Measures every case of a shape, and its floor.
pub(crate) async fn measure(plan: &Plan, shape: &Shape) -> Result<Vec<Row>> {
    let asked = |cases: &[Case]| shape.cases.iter().any(|case| cases.contains(case));
    let mut rows = Vec::new();
    let mut sent: [Sizes; 3] = Default::default();
    // The floor needs to know what a stream is sent.
    let mut first = Sizes::new();
    let dir = tempfile::tempdir()?;
    if asked(&[Case::Storm, Case::Full, Case::Stopped]) || plan.beside == Beside::Floor {
        let mut subject = Subject::pilot(dir.path(), plan, shape, LONG).await?;
        let mut fleet = fleet(&subject, plan, shape, |_| ())?;
        let figures = storm(&subject, &mut fleet, shape).await?;
        first = sizes(&fleet.totals()?, shape.streams);
        if asked(&[Case::Storm]) {
            rows.push(Row::print(shape, Case::Storm, subject.who(), figures));
        }
        if asked(&[Case::Full]) {
            let goal = everything(&first);
            let figures = pushes(&mut subject, &mut fleet, Change::Everything, &goal, plan.repeat).await?;
            rows.push(Row::print(shape, Case::Full, subject.who(), figures));
            sent[2] = sizes(&fleet.totals()?, shape.streams);
        }
    }
    if asked(&[Case::Endpoint, Case::Churn, Case::Reconnect, Case::Return]) {
        let dir = tempfile::tempdir()?;
        let mut subject = Subject::pilot(dir.path(), plan, shape, SHORT).await?;
        rows.extend(small(&mut subject, plan, shape, &mut sent[0]).await?);
    }
    if asked(&[Case::Route]) {
        let dir = tempfile::tempdir()?;
        let mut subject = Subject::pilot(dir.path(), plan, shape, SHORT).await?;
        let mut fleet = fleet(&subject, plan, shape, |setup| setup.kinds = Kind::ALL.to_vec())?;
        storm(&subject, &mut fleet, shape).await?;
        let goal = Goal::of(Kind::Rds, 1);
        let figures = pushes(&mut subject, &mut fleet, Change::Route, &goal, plan.repeat).await?;
        rows.push(Row::print(shape, Case::Route, subject.who(), figures));
        sent[1] = sizes(&fleet.totals()?, shape.streams);
    }
    if asked(&[Case::Stopped]) {
        rows.push(stopped::measure(plan, shape, &everything(&first)).await?);
    }
    if plan.beside == Beside::Floor {
        rows.extend(floor(dir.path(), plan, shape, &first, sent).await?);
    }
    Ok(rows)
}

/// As many resources as a client was sent at first: all of them anew.
fn everything(first: &Sizes) -> Goal {
    // Clusters that lead nowhere do not change with the mesh: BlackHoleCluster, PassthroughCluster.
    let endpoints = first.get(&Kind::Eds).map_or(1, |(resources, _)| *resources);
    Goal::Resources([(Kind::Cds, endpoints), (Kind::Eds, endpoints)].into())
}

/// Single changes, and streams that come again.
async fn small(subject: &mut Subject, plan: &Plan, shape: &Shape, sent: &mut Sizes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let some = (shape.streams / 50).max(1);
    let mut clients = fleet(subject, plan, shape, |setup| setup.keep = some)?;
    storm(subject, &mut clients, shape).await?;
    for case in &shape.cases {
        let figures = match case {
            Case::Endpoint => {
                let figures = endpoint(subject, &mut clients, plan).await?;
                *sent = sizes(&clients.totals()?, shape.streams);
                figures
            }
            Case::Churn => churn(subject, &mut clients, plan, shape).await?,
            Case::Reconnect => reconnect(subject, &mut clients).await?,
            _ => continue,
        };
        rows.push(Row::print(shape, *case, subject.who(), figures));
    }
    drop(clients);
    if shape.cases.contains(&Case::Return) && shape.codec == Codec::Delta {
        let mut clients = fleet(subject, plan, shape, |setup| setup.keep = 1)?;
        storm(subject, &mut clients, shape).await?;
        let figures = come_back(subject, &mut clients).await?;
        rows.push(Row::print(shape, Case::Return, subject.who(), figures));
    }
    Ok(rows)
}

async fn floor(dir: &Path, plan: &Plan, shape: &Shape, first: &Sizes, sent: [Sizes; 3]) -> Result<Vec<Row>> {
    let mut subject = Subject::floor(dir, shape, first, sent).await?;
    let mut fleet = fleet(&subject, plan, shape, |_| ())?;
    let mut rows = Vec::new();
    let figures = storm(&subject, &mut fleet, shape).await?;
    rows.push(Row::print(shape, Case::Storm, subject.who(), figures));
    for case in &shape.cases {
        let figures = match case {
            Case::Full => {
                pushes(&mut subject, &mut fleet, Change::Everything, &everything(first), plan.repeat).await?
            }
            Case::Endpoint => endpoint(&mut subject, &mut fleet, plan).await?,
            Case::Route => {
                pushes(&mut subject, &mut fleet, Change::Route, &Goal::of(Kind::Eds, 1), plan.repeat).await?
            }
            Case::Reconnect => reconnect(&subject, &mut fleet).await?,
            Case::Storm | Case::Churn | Case::Return | Case::Stopped => continue,
        };
        rows.push(Row::print(shape, *case, subject.who(), figures));
    }
    Ok(rows)
}

/// A fleet of this shape at this server.
pub(crate) fn fleet(
    subject: &Subject,
    plan: &Plan,
    shape: &Shape,
    more: impl FnOnce(&mut Setup),
) -> Result<Fleet> {
    let mut setup = Setup::new(subject.address(), shape.streams, shape.codec);
    setup.scopes = shape.scopes;
    setup.max_frame = plan.max_frame;
    setup.ca = subject.ca().cloned();
    more(&mut setup);
    Fleet::spawn(Path::new(env!("CARGO_BIN_EXE_fleet")), &setup)
}

/// Everybody connects at once.
pub(crate) async fn storm(subject: &Subject, fleet: &mut Fleet, shape: &Shape) -> Result<Figures> {
    let meter = subject.meter();
    let before = meter.read()?;
    fleet.mark(Goal::Configured)?;
    let mut figures = measured(subject, fleet, Fleet::connect).await?;
    sleep(IDLE).await;
    let idle = meter.read()?.resident.saturating_sub(before.resident) / u64::from(shape.streams.max(1));
    figures.more.push(("idle_kb_per_stream", json!(idle >> 10)));
    figures.more.push(("resident_before_mb", json!(crate::row::megabytes(before.resident))));
    Ok(figures)
}

/// The same change so often, each time of something else; medians of the times, means of the rest.
pub(crate) async fn pushes(
    subject: &mut Subject,
    fleet: &mut Fleet,
    change: Change,
    goal: &Goal,
    repeat: u32,
) -> Result<Figures> {
    let mut all: Vec<Figures> = Vec::new();
    for _ in 0..repeat {
        fleet.mark(goal.clone())?;
        let meter = subject.meter();
        meter.reset_peak()?;
        let before = meter.read()?;
        let clients = Meter::new(fleet.pid()).read()?;
        let written = subject.change(change)?;
        let reached = fleet.reached(Which::EVERYBODY, PATIENCE)?;
        sleep(REST).await;
        let after = meter.read()?;
        let totals = fleet.totals()?;
        let figures = Figures {
            until: until(&reached, subject.began(written).unwrap_or(written)),
            written: until(&reached, written),
            cpu: after.cpu.saturating_sub(before.cpu),
            peak: after.peak,
            bytes: totals.bytes.values().sum(),
            missing: reached.missing,
            more: vec![
                ("responses", json!(totals.responses)),
                ("pushes", json!(subject.pushes(written.saturating_sub(20_000)))),
                ("clients_cpu_s", spent(fleet, clients)?),
            ],
        };
        let missing = figures.missing;
        all.push(figures);
        if missing > 0 {
            break;
        }
    }
    let last = all.last().cloned().context("nothing was pushed")?;
    let middle = |of: fn(&Figures) -> [Option<Duration>; 3]| {
        [0, 1, 2].map(|place| {
            let mut times: Vec<Duration> =
                all.iter().filter_map(|figures| *of(figures).get(place)?).collect();
            times.sort();
            times.get(times.len() / 2).copied()
        })
    };
    let mean =
        all.iter().map(|figures| figures.cpu).sum::<Duration>() / u32::try_from(all.len()).unwrap_or(1);
    let peak = all.iter().map(|figures| figures.peak).max().unwrap_or_default();
    Ok(Figures {
        until: middle(|one| one.until),
        written: middle(|one| one.written),
        cpu: mean,
        peak,
        ..last
    })
}

/// One endpoint of one service. Small enough for a clock tick to matter, so there are many.
async fn endpoint(subject: &mut Subject, fleet: &mut Fleet, plan: &Plan) -> Result<Figures> {
    pushes(subject, fleet, Change::Endpoint, &Goal::of(Kind::Eds, 1), plan.repeat * 3).await
}

/// So many endpoints a second, each of another service; from the write of each to each of the clients that keep.
async fn churn(subject: &mut Subject, fleet: &mut Fleet, plan: &Plan, shape: &Shape) -> Result<Figures> {
    let Subject::Pilot { mesh, .. } = &mut *subject else { anyhow::bail!("the floor has no endpoints") };
    let count = (u32::try_from(plan.churn.as_secs()).unwrap_or(u32::MAX)).saturating_mul(CHURN);
    let count = count.min(mesh.seen() - mesh.seen() / 50);
    fleet.mark(Goal::of(Kind::Eds, count.into()))?;
    let mut written: Vec<(String, u64)> = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN);
    let meter = subject.meter();
    meter.reset_peak()?;
    let before = meter.read()?;
    for index in 0..count {
        ticks.tick().await;
        let Subject::Pilot { mesh, .. } = &mut *subject else { break };
        let at = pilot_tests::fleet::now();
        mesh.change_endpoint(index)?;
        written.push((mesh.cluster(index)?, at));
    }
    let reached = fleet.reached(Which::EVERYBODY, PATIENCE)?;
    sleep(REST).await;
    let after = meter.read()?;
    let mut late = Reached::default();
    for client in (0..shape.streams).step_by((shape.streams / 50).max(1) as usize) {
        let holdings = fleet.holdings(client)?;
        let held = holdings.get(&Kind::Eds).context("a client without endpoints")?;
        for (name, at) in &written {
            match held.get(name).map(|(_, came)| came.saturating_sub(*at)) {
                Some(took) if took < PATIENCE.as_micros().try_into().unwrap_or(u64::MAX) => {
                    late.at.push(took);
                }
                _ => late.missing += 1,
            }
        }
    }
    late.at.sort_unstable();
    let totals = fleet.totals()?;
    let since = written.first().map_or(0, |(_, at)| *at);
    Ok(Figures {
        until: [None; 3],
        written: until(&late, 0),
        cpu: after.cpu.saturating_sub(before.cpu),
        peak: after.peak,
        bytes: totals.bytes.values().sum(),
        missing: reached.missing,
        more: vec![
            ("changes", json!(count)),
            ("pushes", json!(subject.pushes(since))),
            ("responses", json!(totals.responses)),
        ],
    })
}

/// Everybody is cut and comes again with nothing.
async fn reconnect(subject: &Subject, fleet: &mut Fleet) -> Result<Figures> {
    fleet.at(&Order::Disconnect { which: Which::EVERYBODY })?;
    sleep(REST).await;
    fleet.mark(Goal::Configured)?;
    measured(subject, fleet, Fleet::connect).await
}

/// Everybody is cut and comes again with versions; meanwhile one endpoint moves, and nothing else is news.
async fn come_back(subject: &mut Subject, fleet: &mut Fleet) -> Result<Figures> {
    fleet.at(&Order::Disconnect { which: Which::EVERYBODY })?;
    sleep(REST).await;
    subject.change(Change::Endpoint)?;
    sleep(REST).await;
    fleet.mark(Goal::of(Kind::Eds, 1))?;
    let again = Order::Connect { which: Which::EVERYBODY, memory: Memory::Versions };
    let mut figures = measured(subject, fleet, |fleet| fleet.at(&again)).await?;
    figures.more.push(("resources", json!(fleet.totals()?.resources)));
    Ok(figures)
}

/// Something that begins when it is ordered.
async fn measured(
    subject: &Subject,
    fleet: &mut Fleet,
    begin: impl FnOnce(&mut Fleet) -> Result<u64>,
) -> Result<Figures> {
    let meter = subject.meter();
    meter.reset_peak()?;
    let before = meter.read()?;
    // The answer comes when everybody has been told to begin.
    let (earlier, clients) = (pilot_tests::fleet::now(), Meter::new(fleet.pid()).read()?);
    begin(fleet)?;
    let reached = fleet.reached(Which::EVERYBODY, PATIENCE)?;
    sleep(REST).await;
    let after = meter.read()?;
    let totals = fleet.totals()?;
    Ok(Figures {
        until: until(&reached, earlier),
        written: [None; 3],
        cpu: after.cpu.saturating_sub(before.cpu),
        peak: after.peak,
        bytes: totals.bytes.values().sum(),
        missing: reached.missing,
        more: vec![
            ("lost", json!(totals.lost)),
            ("last_loss", json!(totals.last_loss)),
            ("clients_cpu_s", spent(fleet, clients)?),
        ],
    })
}

/// Processor time of the clients since: whether it was them who were slow.
fn spent(fleet: &Fleet, since: Cost) -> Result<Value> {
    let spent = Meter::new(fleet.pid()).read()?.cpu.saturating_sub(since.cpu);
    Ok(json!(spent.as_secs_f64()))
}

/// Half of them, 99 in 100, all.
pub(crate) fn until(reached: &Reached, since: u64) -> [Option<Duration>; 3] {
    [0.5, 0.99, 1.0].map(|part| reached.after(since, part))
}
