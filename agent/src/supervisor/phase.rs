//! The published state of the supervisor, for the status server, the metrics and the observers.

use std::{fmt, time::Instant};

use super::{Coupling, Generation, Launch, Revision};

/// State of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Number of Envoys started.
    pub(crate) launches: u32,
    /// The Envoy that serves, or starts while none serves.
    pub(crate) owner: Option<Generation>,
    /// Its successor, which starts.
    pub(crate) successor: Option<Generation>,
    /// Its predecessor and their coupling.
    pub(crate) predecessor: Option<(Generation, Coupling)>,
    /// Stage of the owner.
    pub(crate) stage: Stage,
    /// Service state of the sidecar.
    pub(crate) service: ServiceState,
    /// The desired revision.
    pub(crate) desired: Revision,
    /// Last revision that was LIVE; it is started after a crash.
    pub(crate) last_live: Option<Revision>,
    /// Progress to the desired revision.
    pub(crate) rollout: RolloutStatus,
    /// Number of failed hand-overs to it.
    pub(crate) failed_attempts: u32,
    /// Restarts left after a crash.
    pub(crate) restarts_left: u32,
}

/// Stage of Envoy's lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Started and not LIVE.
    Starting,
    /// LIVE.
    Running,
    /// LIVE before; its admin no longer answers.
    Silent,
    /// Dead; the next start waits.
    BackingOff,
    /// Terminating, and serving until load balancers have reacted.
    PreDrain,
    /// Draining.
    Draining,
    /// Signalled.
    Stopping,
    /// Exited, as is the agent.
    Exited,
}

/// Service state of the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceState {
    /// In service.
    InService,
    /// Withdrawn by `POST /drain`.
    Withdrawn {
        /// Time of the withdrawal.
        since: Instant,
    },
}

/// Progress to the desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RolloutStatus {
    /// The configuration runs, or is started next.
    Settled,
    /// The configuration is being validated.
    Validating,
    /// It waits for the end of the last hand-over, or for the next attempt.
    Waiting,
    /// A new Envoy starts.
    HandingOver,
    /// Envoy rejects it or has failed with it too often. The previous state stays in use.
    GivenUp,
}

/// Role of an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnvoyRole {
    /// Starting, not LIVE.
    Starting,
    /// Serving.
    Serving,
    /// Serving and draining.
    Draining,
    /// Has handed over and finishes its connections.
    Leaving(Coupling),
    /// Ended or ending.
    Gone,
}

// === impl Phase ===

impl Phase {
    /// Returns the role of an Envoy.
    pub(crate) fn role(&self, launch: Launch) -> EnvoyRole {
        let is = |generation: Option<Generation>| generation.is_some_and(|g| g.launch == launch);
        match self.predecessor {
            Some((predecessor, coupling)) if predecessor.launch == launch => {
                return EnvoyRole::Leaving(coupling);
            }
            _ => {}
        }
        match self.stage {
            Stage::Starting if is(self.owner) => EnvoyRole::Starting,
            Stage::Running | Stage::Silent | Stage::PreDrain if is(self.owner) => EnvoyRole::Serving,
            Stage::Draining if is(self.owner) => EnvoyRole::Draining,
            _ if is(self.successor) => EnvoyRole::Starting,
            _ => EnvoyRole::Gone,
        }
    }

    /// A first Envoy in this stage, for tests.
    #[cfg(test)]
    pub(crate) fn of(stage: Stage, service: ServiceState) -> Self {
        let revision = Revision::FIRST;
        let owner = Generation { launch: Launch::FIRST, epoch: super::Epoch::FIRST, revision };
        Self {
            launches: 1,
            owner: Some(owner),
            successor: None,
            predecessor: None,
            stage,
            service,
            desired: revision,
            last_live: None,
            rollout: RolloutStatus::Settled,
            failed_attempts: 0,
            restarts_left: 10,
        }
    }

    /// Returns every Envoy.
    pub(crate) fn generations(&self) -> impl Iterator<Item = Generation> {
        [self.predecessor.map(|(predecessor, _)| predecessor), self.owner, self.successor]
            .into_iter()
            .flatten()
    }
}

// === impl Stage ===

impl Stage {
    /// All stages in order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Starting,
        Self::Running,
        Self::Silent,
        Self::BackingOff,
        Self::PreDrain,
        Self::Draining,
        Self::Stopping,
        Self::Exited,
    ];

    /// Name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::BackingOff => "backing-off",
            Self::PreDrain => "pre-drain",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl RolloutStatus ===

impl RolloutStatus {
    /// Name in logs and the lifecycle API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Validating => "validating",
            Self::Waiting => "waiting",
            Self::HandingOver => "handing-over",
            Self::GivenUp => "given-up",
        }
    }
}
