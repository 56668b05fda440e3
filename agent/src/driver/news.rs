//! What comes in about the desired state, and what goes out about the agent's life.

use std::{sync::Arc, time::Instant};

use tracing::{error, info, warn};

use super::{Driver, Ledger, Timers};
use crate::{
    desired::{ConfigHash, ConfigUpdate, ConfigWatcher, DesiredState},
    envoy_admin::{Census, Listener},
    lifecycle::{self, Lifecycle, Moment, Publisher, Refused, Shutdown, Transition},
    supervisor::{Event, Phase, Policy, Pursuit, Revision, Stage, Timer},
};

/// Refusals that are remembered.
const REFUSALS: usize = 8;

/// The next news of a follower; none from none, ever.
pub(super) async fn next(follower: &mut Option<ConfigWatcher>) -> Option<ConfigUpdate> {
    match follower {
        Some(follower) => follower.next().await,
        None => std::future::pending().await,
    }
}

/// How things stand before the first Envoy.
pub(super) fn first(policy: &Policy, desired: &DesiredState) -> Lifecycle {
    let of = policy.restart.budget;
    Lifecycle {
        restarts: lifecycle::Budget { left: of, of, refilled_at: None },
        config: lifecycle::Config { revision: 1, hash: desired.hash.to_string(), refused: vec![] },
        ..Lifecycle::begin(Stage::Starting.as_str())
    }
}

/// Tells the rest of the world.
#[derive(Debug)]
pub(super) struct Bulletin {
    publisher: Publisher,
    transitions: u64,
    refused: Vec<Refused>,
    shutdown: Option<Shutdown>,
    since: Moment,
    last_error: Option<String>,
    own_ports: Vec<u16>,
}

// === impl Bulletin ===

impl Bulletin {
    pub(super) fn new(publisher: Publisher, own_ports: Vec<u16>) -> Self {
        let since = Moment::now();
        Self {
            publisher,
            transitions: 0,
            refused: vec![],
            shutdown: None,
            since,
            last_error: None,
            own_ports,
        }
    }

    /// Something was wanted that cannot be.
    pub(super) fn refuse(&mut self, hash: String, reason: String) {
        self.refused.truncate(REFUSALS - 1);
        self.last_error = Some(reason.clone());
        self.refused.insert(0, Refused { hash, at: Moment::now(), reason });
    }

    /// A new Envoy came to nothing.
    pub(super) fn failed(&mut self, reason: String) {
        self.last_error = Some(reason);
    }

    /// What keeps a drain waiting.
    pub(super) fn busy(&mut self, census: &Census, listeners: &[Listener]) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.requests = census.activity.map(|_| census.requests);
            shutdown.connections = census.activity.map(|_| census.connections);
            shutdown.listeners = census.by_listener(listeners, &self.own_ports);
        }
    }

    pub(super) fn transition(&mut self, event: Event, before: Phase, after: Phase) {
        if before.stage != after.stage {
            self.since = Moment::now();
        }
        self.transitions += 1;
        self.publisher.tell(Transition {
            id: self.transitions,
            at: Moment::now(),
            event: super::journal::word(event).into(),
            from: before.stage.to_string(),
            to: after.stage.to_string(),
            epoch: after.owner.or(before.owner).map(|owner| owner.epoch.get()),
        });
    }

    pub(super) fn publish(
        &mut self,
        phase: Phase,
        ledger: &Ledger,
        wanted: Option<ConfigHash>,
        timers: &Timers,
    ) {
        let ending = matches!(phase.stage, Stage::PreDrain | Stage::Draining | Stage::Stopping);
        if ending && self.shutdown.is_none() {
            let deadline = timers.at(Timer::DrainDeadline).unwrap_or_else(Instant::now);
            let deadline = Moment::now().after(deadline.saturating_duration_since(Instant::now()));
            self.shutdown = Some(Shutdown { since: Moment::now(), deadline, ..Shutdown::default() });
        }
        if let Some(shutdown) = &mut self.shutdown {
            phase.stage.as_str().clone_into(&mut shutdown.phase);
        }
        if phase.pursuit == Pursuit::Settled {
            self.last_error = None;
        }
        let next_try = timers.at(Timer::Retry).map(|at| at.saturating_duration_since(Instant::now()));
        self.publisher.update(|state| {
            phase.stage.as_str().clone_into(&mut state.phase);
            state.since = self.since;
            state.generations = ledger.generations(phase);
            state.exits = ledger.exits();
            state.restarts.left = phase.restarts_left;
            phase.pursuit.as_str().clone_into(&mut state.hand_over.state);
            state.hand_over.attempts = phase.failed_tries;
            state.hand_over.last_error.clone_from(&self.last_error);
            state.hand_over.next_try_at = next_try.map(|after| Moment::now().after(after));
            state.shutdown.clone_from(&self.shutdown);
            state.config.revision = phase.desired.get().into();
            if let Some(wanted) = wanted {
                state.config.hash = wanted.to_string();
            }
            state.config.refused.clone_from(&self.refused);
        });
    }
}

// === impl Driver ===

impl Driver {
    /// What is wanted has changed, or cannot be read.
    pub(super) fn desire(&mut self, news: ConfigUpdate) {
        match news {
            ConfigUpdate::Changed(desired) => {
                for warning in desired.config.warnings.iter().chain(&desired.rendered.warnings) {
                    warn!("{warning}");
                }
                info!(hash = %desired.hash, "the configuration has changed");
                let running = self.revisions();
                let revision = self.plans.desire(desired, running.into_iter());
                self.desired(revision);
            }
            ConfigUpdate::Rejected(faults) => {
                for fault in faults.iter() {
                    error!("{fault}; the configuration in use stays");
                }
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                self.bulletin.refuse(String::new(), faults.join("; "));
            }
            ConfigUpdate::Recovered => info!("the configuration can be read again, and is the one in use"),
        }
        self.publish();
    }

    /// `POST /restart`, SIGHUP: a new Envoy though nothing has changed.
    pub(super) fn restart(&mut self) {
        if !self.engine.is_on() {
            warn!("hot restart is off: the Envoy that runs stays");
            return;
        }
        let Some(desired) = self.plans.latest().map(|plan| Arc::clone(&plan.desired)) else { return };
        info!("restart asked for");
        let running = self.revisions();
        let revision = self.plans.desire_again(desired, running.into_iter());
        self.desired(revision);
    }

    fn desired(&mut self, revision: anyhow::Result<Revision>) {
        match revision {
            Ok(revision) => self.pending.push_back(Event::Desired(revision)),
            Err(error) => error!("{error:#}; the configuration in use stays"),
        }
    }

    /// Of everything that lives or may be started again.
    pub(super) fn revisions(&self) -> Vec<Revision> {
        let phase = self.supervisor.phase();
        phase.generations().map(|generation| generation.revision).chain(phase.proven).collect()
    }
}
