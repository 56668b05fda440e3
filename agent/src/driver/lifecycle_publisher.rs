//! Publishes the agent's lifecycle: current state and transitions.

use std::time::Instant;

use super::{instances::InstanceTable, timers::Timers, transition_log};
use crate::{
    desired::{ConfigHash, ConfigUpdate, ConfigWatcher, DesiredState},
    envoy_admin::{ActivityStats, Listener},
    lifecycle::{self, Lifecycle, Publisher, RejectedConfig, ShutdownStatus, Timestamp, Transition},
    supervisor::{Event, Phase, Policy, RolloutStatus, Stage, Timer},
};

/// Number of rejected configurations that are kept.
const REJECTIONS: usize = 8;

/// Waits for the next update of the configuration; forever if nothing is followed.
pub(super) async fn next(config_watcher: &mut Option<ConfigWatcher>) -> Option<ConfigUpdate> {
    match config_watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

/// The state before the first Envoy.
pub(super) fn first(policy: &Policy, desired: &DesiredState) -> Lifecycle {
    let of = policy.restart.budget;
    Lifecycle {
        restarts: lifecycle::RestartBudget { left: of, of, refilled_at: None },
        config: lifecycle::ConfigStatus { revision: 1, hash: desired.hash.to_string(), refused: vec![] },
        ..Lifecycle::begin(Stage::Starting.as_str())
    }
}

/// Sender of lifecycle state.
#[derive(Debug)]
pub(super) struct LifecyclePublisher {
    publisher: Publisher,
    transitions: u64,
    rejected: Vec<RejectedConfig>,
    shutdown: Option<ShutdownStatus>,
    /// Start of the current stage.
    since: Timestamp,
    last_error: Option<String>,
    /// Ports of listeners that do not carry traffic.
    own_ports: Vec<u16>,
}

// === impl LifecyclePublisher ===

impl LifecyclePublisher {
    pub(super) fn new(publisher: Publisher, own_ports: Vec<u16>) -> Self {
        Self {
            publisher,
            transitions: 0,
            rejected: vec![],
            shutdown: None,
            since: Timestamp::now(),
            last_error: None,
            own_ports,
        }
    }

    /// Records configuration that cannot be used.
    pub(super) fn config_rejected(&mut self, hash: String, reason: String) {
        self.rejected.truncate(REJECTIONS - 1);
        self.last_error = Some(reason.clone());
        self.rejected.insert(0, RejectedConfig { hash, at: Timestamp::now(), reason });
    }

    /// Records the failure of a hand-over.
    pub(super) fn handover_failed(&mut self, reason: String) {
        self.last_error = Some(reason);
    }

    /// Records the requests and connections that a drain waits for.
    pub(super) fn drain_activity(&mut self, activity_stats: &ActivityStats, listeners: &[Listener]) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.requests = activity_stats.activity.map(|_| activity_stats.requests);
            shutdown.connections = activity_stats.activity.map(|_| activity_stats.connections);
            shutdown.listeners = activity_stats.by_listener(listeners, &self.own_ports);
        }
    }

    pub(super) fn transition(&mut self, event: Event, before: Phase, after: Phase) {
        if before.stage != after.stage {
            self.since = Timestamp::now();
        }
        self.transitions += 1;
        self.publisher.send(Transition {
            id: self.transitions,
            at: Timestamp::now(),
            event: transition_log::event_name(event).into(),
            from: before.stage.to_string(),
            to: after.stage.to_string(),
            epoch: after.owner.or(before.owner).map(|owner| owner.epoch.get()),
        });
    }

    pub(super) fn publish(
        &mut self,
        phase: Phase,
        instances: &InstanceTable,
        desired: Option<ConfigHash>,
        timers: &Timers,
    ) {
        let terminating = matches!(phase.stage, Stage::PreDrain | Stage::Draining | Stage::Stopping);
        if terminating && self.shutdown.is_none() {
            let deadline = timers.at(Timer::DrainDeadline).unwrap_or_else(Instant::now);
            let deadline = Timestamp::now().after(deadline.saturating_duration_since(Instant::now()));
            self.shutdown =
                Some(ShutdownStatus { since: Timestamp::now(), deadline, ..ShutdownStatus::default() });
        }
        if let Some(shutdown) = &mut self.shutdown {
            phase.stage.as_str().clone_into(&mut shutdown.phase);
        }
        if phase.rollout == RolloutStatus::Settled {
            self.last_error = None;
        }
        let next_attempt = timers.at(Timer::Retry).map(|at| at.saturating_duration_since(Instant::now()));
        self.publisher.update(|state| {
            phase.stage.as_str().clone_into(&mut state.phase);
            state.since = self.since;
            state.generations = instances.generations(phase);
            state.exits = instances.exits();
            state.restarts.left = phase.restarts_left;
            phase.rollout.as_str().clone_into(&mut state.hand_over.state);
            state.hand_over.attempts = phase.failed_attempts;
            state.hand_over.last_error.clone_from(&self.last_error);
            state.hand_over.next_try_at = next_attempt.map(|after| Timestamp::now().after(after));
            state.shutdown.clone_from(&self.shutdown);
            state.config.revision = phase.desired.get().into();
            if let Some(desired) = desired {
                state.config.hash = desired.to_string();
            }
            state.config.refused.clone_from(&self.rejected);
        });
    }
}
