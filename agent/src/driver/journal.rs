//! What the agent's log and metrics say of Envoy's life: one line per decision.

use std::{error::Error, fmt};

use tracing::{info, warn};

use crate::{
    status::{Counters, HotRestart},
    supervisor::{Event, Phase, Stage, Status, Timer, Verdict},
};

/// One event that changed the phase.
pub(super) fn log(event: Event, before: Phase, after: Phase) {
    let (from, to) = (before.stage.as_str(), after.stage.as_str());
    let epoch = |launch| {
        let known = before.generations().chain(after.generations()).find(|g| g.launch == launch);
        known.map_or(-1, |generation| i64::from(generation.epoch.get()))
    };
    match event {
        Event::Died(launch, status)
            if !matches!(status, Status::Exited(0)) && before.stage != Stage::Stopping =>
        {
            warn!(epoch = epoch(launch), %launch, %status, from, to, "Envoy died");
        }
        Event::Died(launch, status) => {
            info!(epoch = epoch(launch), %launch, %status, from, to, "Envoy ended");
        }
        Event::Live(launch) => info!(epoch = epoch(launch), %launch, from, to, "Envoy is LIVE"),
        Event::AdminSilent(launch) => {
            warn!(epoch = epoch(launch), %launch, from, to, "Envoy's admin has stopped answering");
        }
        Event::Validated(revision, Verdict::Refused) => {
            warn!(%revision, from, to, "Envoy refuses the new configuration; the one in use stays");
        }
        _ => info!(event = word(event), from, to, pursuit = after.pursuit.as_str(), "phase changed"),
    }
}

/// What became of a hand-over, if this was the end of one.
pub(super) fn count(event: Event, before: Phase, after: Phase, counters: &Counters) {
    let rising = before.rising.map(|rising| rising.launch);
    match event {
        Event::Live(launch) if rising == Some(launch) => counters.hot_restarted(HotRestart::Live),
        Event::Died(launch, _) | Event::SpawnFailed(launch, _) if rising == Some(launch) => {
            counters.hot_restarted(HotRestart::Died);
        }
        Event::Due(Timer::Live) if rising.is_some() => counters.hot_restarted(HotRestart::Late),
        Event::Validated(_, Verdict::Refused) => counters.hot_restarted(HotRestart::Refused),
        _ if rising.is_some() && after.rising.is_none() => counters.hot_restarted(HotRestart::Abandoned),
        _ => {}
    }
}

/// The word for an event, in the log and the lifecycle API.
pub(super) fn word(event: Event) -> &'static str {
    match event {
        Event::Live(_) => "live",
        Event::NotLive(..) => "not-live",
        Event::Died(..) => "died",
        Event::SpawnFailed(..) => "spawn-failed",
        Event::AdminSilent(_) => "admin-silent",
        Event::AdminBack(_) => "admin-back",
        Event::Desired(_) => "desired",
        Event::Validated(_, Verdict::Usable(_)) => "validated",
        Event::Validated(_, Verdict::Refused) => "refused",
        Event::Vacant(_) => "vacant",
        Event::Terminate => "terminate",
        Event::Quit => "quit",
        Event::Withdraw => "withdraw",
        Event::ReopenLogs => "reopen-logs",
        Event::Activity(..) => "activity",
        Event::Due(timer) => match timer {
            Timer::Respawn => "respawn-due",
            Timer::Retry => "retry-due",
            Timer::Live => "live-overdue",
            Timer::Leave => "leave-due",
            Timer::LeaveKill => "leave-overdue",
            Timer::Hung => "hung",
            Timer::PreDrain => "pre-drain-over",
            Timer::DrainAll => "drain-all-due",
            Timer::DrainDeadline => "drain-deadline",
            Timer::KillDue => "stop-overdue",
            Timer::ReapDue => "kill-overdue",
        },
    }
}

/// An error with its causes in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
