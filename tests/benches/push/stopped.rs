//! A tenth of the clients stops reading at once, by SIGSTOP: the effect on the other clients, and the catch-up afterwards.

use anyhow::Result;
use nix::sys::signal::Signal;
use pilot_tests::fleet::{ClientRange, Fleet, Goal};
use serde_json::{Value, json};

use crate::cases::{LONG, fleet, pushes, storm, until};
use crate::plan::{FleetShape, PushCase, PushPlan, STEP_TIMEOUT};
use crate::row::Row;
use crate::server::{Change, Server, sizes};

/// Measures `full` for nine tenths of the clients while one tenth is stopped; `undisturbed_p99_ms` is the same without stopped clients.
pub(crate) async fn measure(plan: &PushPlan, shape: &FleetShape, goal: &Goal) -> Result<Row> {
    let dir = tempfile::tempdir()?;
    let mut server = Server::pilot(dir.path(), plan, shape, LONG).await?;
    let tenth = (shape.streams / 10).max(1);
    let mut others = fleet(&server, plan, shape, |setup| setup.streams -= tenth)?;
    let mut sleepers = fleet(&server, plan, shape, |setup| {
        (setup.first, setup.streams) = (setup.streams - tenth, tenth);
    })?;
    storm(&server, &mut others, shape).await?;
    storm(&server, &mut sleepers, shape).await?;

    // As many pushes as are measured afterwards, after one that warms up.
    sleepers.mark(goal.clone())?;
    pushes(&mut server, &mut others, Change::Everything, goal, 1).await?;
    let awake = pushes(&mut server, &mut others, Change::Everything, goal, plan.repeat).await?;
    sleepers.reached(ClientRange::ALL, STEP_TIMEOUT)?;
    let one = per_client(&mut others, shape.streams - tenth)?;

    sleepers.mark(goal.clone())?;
    sleepers.signal(Signal::SIGSTOP)?;
    let disturbed = pushes(&mut server, &mut others, Change::Everything, goal, plan.repeat).await;
    sleepers.signal(Signal::SIGCONT)?;
    let mut measurement = disturbed?;
    let resumed = pilot_tests::fleet::now();
    let reached = sleepers.reached(ClientRange::ALL, STEP_TIMEOUT)?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let most = sleepers.totals()?.most_bytes;
    let [.., last] = until(&reached, resumed);
    measurement.missing += reached.missing;
    let millis = |at: Option<std::time::Duration>| at.map(pilot_tests::statistics::millis);
    let [_, p99, _] = awake.until;
    measurement.more.extend([
        ("undisturbed_p99_ms", json!(millis(p99))),
        ("undisturbed_peak_mb", json!(crate::row::megabytes(awake.peak))),
        ("resumed_last_ms", json!(millis(last))),
        ("pushes_while_stopped", json!(plan.repeat)),
        ("pushes_after_resuming", share(most, one)),
    ]);
    Ok(Row::print(shape, PushCase::Stopped, server.name(), measurement))
}

/// Returns the bytes that one client receives by one push.
fn per_client(fleet: &mut Fleet, streams: u32) -> Result<u64> {
    Ok(sizes(&fleet.totals()?, streams).values().map(|(_, bytes)| bytes).sum())
}

/// Returns the quotient, or `null` for a divisor of zero.
#[expect(clippy::cast_precision_loss, reason = "2^52 bytes are out of reach")]
fn share(most: u64, one: u64) -> Value {
    if one == 0 { Value::Null } else { json!(pilot_tests::statistics::round(most as f64 / one as f64)) }
}
