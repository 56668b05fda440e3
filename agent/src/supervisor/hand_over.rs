//! One Envoy taking over from another: in which ways it can be done, how long it may take, and how far it is.

use std::time::{Duration, Instant};

use super::{Effect, Event, Generation, RestartPolicy, Revision, Timer, restart::First};

/// What ties an old Envoy and its successor to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// Envoy's own protocol between the two: the old one has lost its admin, ends when its successor says so,
    /// and takes its successor along if it dies before. A successor that dies before it is LIVE leaves a mark
    /// that no later one gets past.
    Tied,
    /// Nothing: each can end without the other noticing.
    Loose,
}

/// Whether and how fast desired states are handed over to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOverPolicy {
    /// Whether at all.
    pub allowed: Allowed,
    /// A new Envoy that is not LIVE by then will not be: its control plane is away, or it waits for something
    /// that nobody sends. The old one serves meanwhile, so there is no hurry.
    pub live_within: Duration,
    /// Raw TCP connections and long requests on the old Envoy end here.
    pub leave_within: Duration,
    /// After a failure. The budget is that of one desired state.
    pub retry: RestartPolicy,
}

/// Whether a running Envoy may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// By another that is started beside it.
    Yes,
    /// Only a crash brings a new one.
    No,
}

/// How far a hand-over is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There is none.
    Settled,
    /// The last one failed, and the next has to wait.
    Waiting,
    /// The new Envoy is on its way.
    Rising { new: Generation, bond: Bond },
    /// The new Envoy is on its way, and the agent is to end. The new Envoy is probed once more until this time: one
    /// that is LIVE is the one to be drained.
    LastProbe { new: Generation, bond: Bond, until: Instant },
    /// It was killed, and has not been reaped.
    Aborting { new: Generation, bond: Bond },
}

/// An Envoy that has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Old {
    pub(super) generation: Generation,
    pub(super) bond: Bond,
    pub(super) leave: Leave,
}

/// How far an old Envoy's leave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Busy,
    Told,
}

/// Who has taken over from an old Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heir {
    /// Nobody that is still alive.
    None,
    /// One that asks it for sockets, or soon will.
    Rising,
    /// One that serves.
    Live,
}

/// What is known of desired states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) desired: Revision,
    /// The last one that Envoy would take, and how.
    pub(super) usable: Option<(Revision, Bond)>,
    /// The last one that is not to be tried.
    pub(super) refused: Option<Revision>,
    /// The last one that a new Envoy was not LIVE with.
    pub(super) failed: Option<Revision>,
    /// The one being validated.
    pub(super) under_validation: Option<Revision>,
}

// === impl HandOverPolicy ===

impl Default for HandOverPolicy {
    /// A minute is Istio 1.4's `parentShutdownDuration`.
    fn default() -> Self {
        Self {
            allowed: Allowed::Yes,
            live_within: Duration::from_mins(1),
            leave_within: Duration::from_mins(1),
            retry: RestartPolicy { first: First::Delayed, ..RestartPolicy::default() },
        }
    }
}

// === impl Wish ===

impl Wish {
    pub(super) fn first(desired: Revision) -> Self {
        Self { desired, usable: None, refused: None, failed: None, under_validation: None }
    }

    /// Whether the desired state is known to be no use.
    pub(super) fn is_refused(&self) -> bool {
        self.refused == Some(self.desired)
    }

    /// How the desired state can be taken over to, once that is known.
    pub(super) fn bond(&self) -> Option<Bond> {
        self.usable.filter(|&(usable, _)| usable == self.desired).map(|(_, bond)| bond)
    }
}

// === impl Old ===

impl Old {
    /// Whether this is about its leave.
    pub(super) fn concerns(&self, event: Event) -> bool {
        match event {
            Event::Vacant(launch) | Event::Died(launch, _) => launch == self.generation.launch,
            Event::Due(timer) => matches!(timer, Timer::Leave | Timer::LeaveKill),
            _ => false,
        }
    }

    /// Whether its successor talks to it, or will.
    pub(super) fn is_tied(&self) -> bool {
        self.bond == Bond::Tied
    }

    /// The effects of its end, if it has a successor that is LIVE.
    pub(super) fn replaced(&self) -> Vec<Effect> {
        if !self.is_tied() {
            return vec![];
        }
        vec![Effect::EmulateParent(self.generation), Effect::AnswerPendingStats(self.generation)]
    }

    /// What a new Envoy is started as while this one lives. One that was told to leave answers no successor.
    pub(super) fn for_another(self) -> Self {
        match self.leave {
            Leave::Busy => self,
            Leave::Told => Self { bond: Bond::Loose, ..self },
        }
    }
}
