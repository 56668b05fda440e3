//! What the rest of the agent may know of Envoy's life: published by the driver, read by the status
//! server, the metrics and the observers.

use std::{fmt, time::Instant};

use super::{Bond, Generation, Launch, Revision};

/// One moment of Envoy's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// How many Envoys have been started.
    pub launches: u32,
    /// The Envoy that serves, or is to be the first that does.
    pub owner: Option<Generation>,
    /// The one that is about to take over from it.
    pub rising: Option<Generation>,
    /// The one it has taken over from, and how.
    pub leaving: Option<(Generation, Bond)>,
    /// Where in its life the owner is.
    pub stage: Stage,
    /// Whether we want new work for it.
    pub offer: Offer,
    /// What it is to be.
    pub desired: Revision,
    /// What was LIVE last, and is started again after a crash if nothing better is known.
    pub proven: Option<Revision>,
    /// How things stand with the desired state.
    pub pursuit: Pursuit,
    /// Hand-overs to it that have failed.
    pub failed_tries: u32,
    /// Restarts after a crash that are left.
    pub restarts_left: u32,
}

/// Where in its life Envoy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Started, not LIVE yet.
    Starting,
    /// LIVE.
    Running,
    /// Was LIVE, and its admin no longer answers.
    Silent,
    /// Dead; the next one waits for its turn.
    BackingOff,
    /// Terminating, and serving as if nothing were, until load balancers have heard of it.
    PreDrain,
    /// Finishing what it has.
    Draining,
    /// Told to go.
    Stopping,
    /// Gone, and so are we.
    Exited,
}

/// Whether this sidecar is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is.
    Offered,
    /// It was taken out by `POST /drain`.
    Withdrawn {
        /// Since when load balancers can know.
        since: Instant,
    },
}

/// How things stand with the desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pursuit {
    /// It runs, or is the next to be started.
    Settled,
    /// It is being validated.
    Validating,
    /// It waits for the last hand-over to end, or for its next try.
    Waiting,
    /// A new Envoy is about to take over.
    HandingOver,
    /// Envoy refuses it, or has failed with it too often. What ran before runs on.
    GivenUp,
}

/// What an Envoy is to the agent right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// On its way to LIVE.
    Rising,
    /// The one that serves.
    Serving,
    /// The one that serves, for the last time.
    Draining,
    /// Has handed over, and finishes what it has.
    Leaving(Bond),
    /// Nothing any more.
    Gone,
}

// === impl Phase ===

impl Phase {
    /// The role of this Envoy.
    pub fn role(&self, launch: Launch) -> Role {
        let is = |generation: Option<Generation>| generation.is_some_and(|g| g.launch == launch);
        match self.leaving {
            Some((old, bond)) if old.launch == launch => return Role::Leaving(bond),
            _ => {}
        }
        match self.stage {
            Stage::Starting if is(self.owner) => Role::Rising,
            Stage::Running | Stage::Silent | Stage::PreDrain if is(self.owner) => Role::Serving,
            Stage::Draining if is(self.owner) => Role::Draining,
            _ if is(self.rising) => Role::Rising,
            _ => Role::Gone,
        }
    }

    /// A first Envoy in this stage, for tests beside the supervisor.
    #[cfg(test)]
    pub(crate) fn of(stage: Stage, offer: Offer) -> Self {
        let revision = Revision::FIRST;
        let owner = Generation { launch: Launch::FIRST, epoch: super::Epoch::FIRST, revision };
        Self {
            launches: 1,
            owner: Some(owner),
            rising: None,
            leaving: None,
            stage,
            offer,
            desired: revision,
            proven: None,
            pursuit: Pursuit::Settled,
            failed_tries: 0,
            restarts_left: 10,
        }
    }

    /// Every Envoy there is.
    pub fn generations(&self) -> impl Iterator<Item = Generation> {
        [self.leaving.map(|(old, _)| old), self.owner, self.rising].into_iter().flatten()
    }
}

// === impl Stage ===

impl Stage {
    /// All of them, in the order of life.
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::Running,
        Self::Silent,
        Self::BackingOff,
        Self::PreDrain,
        Self::Draining,
        Self::Stopping,
        Self::Exited,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
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

// === impl Pursuit ===

impl Pursuit {
    /// The word for logs and the lifecycle API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Validating => "validating",
            Self::Waiting => "waiting",
            Self::HandingOver => "handing-over",
            Self::GivenUp => "given-up",
        }
    }
}
