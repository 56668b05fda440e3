//! Log lines and metrics of the supervisor's transitions, one line per decision.

use tracing::{info, warn};

use crate::{
    status::{Counters, HotRestartOutcome},
    supervisor::{Event, ExitStatus, Phase, Stage, Timer, ValidationResult},
};

/// Logs an event that has changed the phase.
pub(super) fn log(event: Event, before: Phase, after: Phase) {
    let (from, to) = (before.stage.as_str(), after.stage.as_str());
    let epoch = |launch| {
        let generation = before.generations().chain(after.generations()).find(|g| g.launch == launch);
        generation.map_or(-1, |generation| i64::from(generation.epoch.get()))
    };
    match event {
        Event::Died(launch, status)
            if !matches!(status, ExitStatus::Exited(0)) && before.stage != Stage::Stopping =>
        {
            warn!(epoch = epoch(launch), %launch, %status, from, to, "Envoy died");
        }
        Event::Died(launch, status) => {
            info!(epoch = epoch(launch), %launch, %status, from, to, "Envoy ended");
        }
        Event::Live(launch) => info!(epoch = epoch(launch), %launch, from, to, "Envoy is LIVE"),
        Event::AdminUnresponsive(launch) => {
            warn!(epoch = epoch(launch), %launch, from, to, "Envoy's admin has stopped answering");
        }
        Event::Validated(revision, ValidationResult::Rejected) => {
            warn!(%revision, from, to, "Envoy refuses the new configuration; the one in use stays");
        }
        _ => info!(event = event_name(event), from, to, pursuit = after.rollout.as_str(), "phase changed"),
    }
}

/// Counts the outcome of a hand-over, if the event ends one.
pub(super) fn count(event: Event, before: Phase, after: Phase, counters: &Counters) {
    let successor = before.successor.map(|successor| successor.launch);
    match event {
        Event::Live(launch) if successor == Some(launch) => counters.hot_restarted(HotRestartOutcome::Live),
        Event::Died(launch, _) | Event::SpawnFailed(launch, _) if successor == Some(launch) => {
            counters.hot_restarted(HotRestartOutcome::Died);
        }
        Event::TimerExpired(Timer::Live) if successor.is_some() => {
            counters.hot_restarted(HotRestartOutcome::Late);
        }
        Event::Validated(_, ValidationResult::Rejected) => counters.hot_restarted(HotRestartOutcome::Refused),
        _ if successor.is_some() && after.successor.is_none() => {
            counters.hot_restarted(HotRestartOutcome::Abandoned);
        }
        _ => {}
    }
}

/// Name of an event in the log and the lifecycle API.
pub(super) fn event_name(event: Event) -> &'static str {
    match event {
        Event::Live(_) => "live",
        Event::NotLive(..) => "not-live",
        Event::Died(..) => "died",
        Event::SpawnFailed(..) => "spawn-failed",
        Event::AdminUnresponsive(_) => "admin-silent",
        Event::AdminRecovered(_) => "admin-back",
        Event::Desired(_) => "desired",
        Event::Validated(_, ValidationResult::Accepted(_)) => "validated",
        Event::Validated(_, ValidationResult::Rejected) => "refused",
        Event::Idle(_) => "vacant",
        Event::Terminate => "terminate",
        Event::Quit => "quit",
        Event::Withdraw => "withdraw",
        Event::ReopenLogs => "reopen-logs",
        Event::Activity(..) => "activity",
        Event::TimerExpired(timer) => match timer {
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
