//! Readiness of the sidecar, with the reason if it is not ready.
//!
//! Ready means: Envoy is LIVE with its own epoch, its workers run, and clusters and listeners have arrived. Arrived configuration
//! stays, so Envoy is queried only until then; a restarted Envoy is queried again.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    envoy_admin::{AdminError, ConfigUpdates, EnvoyAdmin},
    supervisor::{Phase, ServiceState, Stage},
};

/// Configuration that Envoy receives from the control plane, according to the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Clusters and listeners, as every bootstrap of ours does.
    ClustersAndListeners,
    /// A bootstrap of the user's own has its clusters in itself.
    Listeners,
    /// Or its listeners.
    Clusters,
    /// None: a bootstrap of the user's own that is complete by itself.
    Nothing,
}

/// Reason why the sidecar is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unready {
    Starting,
    NoConfig(ConfigUpdates),
    NoWorkers,
    Silent,
    Crashed,
    Withdrawn,
    Terminating,
}

/// State of the readiness checks.
#[derive(Debug)]
pub(super) struct ReadinessTracker {
    /// Configuration according to the bootstrap of the serving Envoy.
    expected: watch::Receiver<Expected>,
    /// Launch whose configuration has arrived. Launches count from one.
    complete: AtomicU32,
    last: Mutex<Option<Unready>>,
}

// === impl Expected ===

impl Expected {
    /// Returns `true` if it has arrived.
    pub(crate) fn is_met(self, ConfigUpdates { clusters, listeners, .. }: ConfigUpdates) -> bool {
        let (clusters, listeners) = (clusters.accepted > 0, listeners.accepted > 0);
        match self {
            Self::ClustersAndListeners => clusters && listeners,
            Self::Listeners => listeners,
            Self::Clusters => clusters,
            Self::Nothing => true,
        }
    }
}

// === impl ReadinessTracker ===

impl ReadinessTracker {
    pub(super) fn new(expected: watch::Receiver<Expected>) -> Self {
        Self { expected, complete: AtomicU32::new(0), last: Mutex::default() }
    }

    pub(super) async fn of(&self, phase: Phase, admin: Option<&EnvoyAdmin>) -> Result<(), Unready> {
        in_phase(phase)?;
        let launch = phase.owner.map_or(0, |owner| owner.launch.get());
        if launch > 0 && self.complete.load(Ordering::Relaxed) == launch {
            return Ok(());
        }
        let updates = match admin.ok_or(AdminError::Absent) {
            Ok(admin) => admin.config_updates().await,
            Err(absent) => Err(absent),
        };
        let updates = match updates {
            Ok(updates) => updates,
            Err(_) if phase.stage == Stage::Starting => return Err(Unready::Starting),
            Err(_) => return Err(Unready::Silent),
        };
        complete(phase.stage, *self.expected.borrow(), updates)?;
        self.complete.store(launch, Ordering::Relaxed);
        Ok(())
    }

    /// Returns `true` if this reason is of another kind than the last one.
    pub(super) fn is_news(&self, unready: &Unready) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(*unready) != Some(*unready)
    }
}

/// Decides by the phase alone; a starting Envoy needs further queries.
fn in_phase(phase: Phase) -> Result<(), Unready> {
    match (phase.stage, phase.service) {
        (Stage::PreDrain | Stage::Draining | Stage::Stopping | Stage::Exited, _) => Err(Unready::Terminating),
        (_, ServiceState::Withdrawn { .. }) => Err(Unready::Withdrawn),
        (Stage::Silent, ServiceState::InService) => Err(Unready::Silent),
        (Stage::BackingOff, ServiceState::InService) => Err(Unready::Crashed),
        (Stage::Starting | Stage::Running, ServiceState::InService) => Ok(()),
    }
}

fn complete(stage: Stage, expected: Expected, updates: ConfigUpdates) -> Result<(), Unready> {
    match stage {
        _ if !expected.is_met(updates) => Err(Unready::NoConfig(updates)),
        Stage::Starting => Err(Unready::Starting),
        _ if updates.workers_started == 0 => Err(Unready::NoWorkers),
        _ => Ok(()),
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("Envoy is starting"),
            Self::NoConfig(ConfigUpdates { clusters, listeners, .. }) => {
                let (got, refused) =
                    (clusters.accepted + listeners.accepted, clusters.rejected + listeners.rejected);
                f.write_str(match (got, refused) {
                    (0, 0) => "no configuration from the control plane yet (is it running, and reachable?)",
                    (_, 0) => "configuration from the control plane is not complete yet",
                    _ => "Envoy refused configuration from the control plane",
                })?;
                write!(
                    f,
                    ": clusters {} accepted, {} rejected; listeners {} accepted, {} rejected",
                    clusters.accepted, clusters.rejected, listeners.accepted, listeners.rejected
                )
            }
            Self::NoWorkers => f.write_str("Envoy's workers have not started"),
            Self::Silent => f.write_str("Envoy's admin does not answer"),
            Self::Crashed => f.write_str("Envoy has crashed and waits to be started again"),
            Self::Withdrawn => f.write_str("taken out of service by /drain"),
            Self::Terminating => f.write_str("terminating"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn updates(clusters: (u64, u64), listeners: (u64, u64), workers_started: u64) -> ConfigUpdates {
        let mut updates = ConfigUpdates { workers_started, ..ConfigUpdates::default() };
        (updates.clusters.accepted, updates.clusters.rejected) = clusters;
        (updates.listeners.accepted, updates.listeners.rejected) = listeners;
        updates
    }

    #[test]
    fn only_an_envoy_on_its_way_or_there_can_be_ready() {
        let check = |stage, service, expected| {
            let phase = Phase::of(stage, service);
            assert_eq!(in_phase(phase).err(), expected, "{phase:?}");
        };
        let withdrawn = ServiceState::Withdrawn { since: Instant::now() };
        check(Stage::Starting, ServiceState::InService, None);
        check(Stage::Running, ServiceState::InService, None);
        check(Stage::Running, withdrawn, Some(Unready::Withdrawn));
        check(Stage::Silent, ServiceState::InService, Some(Unready::Silent));
        check(Stage::BackingOff, ServiceState::InService, Some(Unready::Crashed));
        check(Stage::Draining, ServiceState::InService, Some(Unready::Terminating));
        check(Stage::Draining, withdrawn, Some(Unready::Terminating));
        check(Stage::Stopping, ServiceState::InService, Some(Unready::Terminating));
    }

    #[test]
    fn ready_takes_clusters_and_listeners_and_workers() {
        use Expected::{ClustersAndListeners as Both, Nothing};
        let check = |stage, expected, updates, reason: &str| {
            let seen = complete(stage, expected, updates);
            let seen = seen.map_or_else(|unready| unready.to_string(), |()| "ready".into());
            assert_eq!(seen, reason, "{stage} {expected:?} {updates:?}");
        };
        check(Stage::Running, Both, updates((1, 0), (1, 0), 1), "ready");
        check(Stage::Running, Both, updates((1, 3), (1, 2), 1), "ready");
        check(Stage::Running, Both, updates((1, 0), (1, 0), 0), "Envoy's workers have not started");
        check(Stage::Starting, Both, updates((1, 0), (1, 0), 1), "Envoy is starting");
        check(
            Stage::Starting,
            Both,
            updates((0, 0), (0, 0), 0),
            "no configuration from the control plane yet (is it running, and reachable?): \
             clusters 0 accepted, 0 rejected; listeners 0 accepted, 0 rejected",
        );
        check(
            Stage::Starting,
            Both,
            updates((1, 0), (0, 0), 0),
            "configuration from the control plane is not complete yet: \
             clusters 1 accepted, 0 rejected; listeners 0 accepted, 0 rejected",
        );
        check(
            Stage::Running,
            Both,
            updates((1, 0), (0, 2), 1),
            "Envoy refused configuration from the control plane: \
             clusters 1 accepted, 0 rejected; listeners 0 accepted, 2 rejected",
        );
        check(Stage::Running, Nothing, updates((0, 0), (0, 0), 1), "ready");
        check(Stage::Running, Nothing, updates((0, 0), (0, 0), 0), "Envoy's workers have not started");
    }

    #[test]
    fn a_reason_is_news_once() {
        let readiness = ReadinessTracker::new(watch::channel(Expected::Nothing).1);
        let seen: Vec<_> = [Unready::Starting, Unready::Starting, Unready::Crashed, Unready::Starting]
            .iter()
            .map(|unready| readiness.is_news(unready))
            .collect();
        assert_eq!(seen, [true, false, true, true]);
    }
}
