//! A hand-over from one Envoy to another: its kinds, its limits, and its progress.

use std::time::{Duration, Instant};

use super::{Effect, Event, Generation, RestartPolicy, Revision, Timer, restart::FirstAttempt};

/// Coupling of a predecessor and its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coupling {
    /// They use Envoy's own protocol. The predecessor loses its admin and ends when its successor requests it; its death
    /// blocks or aborts a successor that is not answered by the agent. A successor that dies before it is LIVE leaves a
    /// mark in shared memory that stops every later one.
    Coupled,
    /// Each can end without any effect on the other.
    Independent,
}

/// Limits of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandoverPolicy {
    /// Switch for all hand-overs.
    pub(crate) allowed: Allowed,
    /// Time in which the new Envoy must be LIVE. One that is late waits for its control plane or for other data that does not
    /// come. The old Envoy serves meanwhile, so the limit can be long.
    pub(crate) live_within: Duration,
    /// Time after which raw TCP connections and long requests on the old Envoy are ended.
    pub(crate) leave_within: Duration,
    /// Retries after a failure; the budget applies to one desired state.
    pub(crate) retry: RestartPolicy,
}

/// Switch for the replacement of a running Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A new Envoy is started beside it.
    Yes,
    /// A new Envoy is started only after a crash.
    No,
}

/// Progress of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handover {
    /// There is none.
    Idle,
    /// The last one has failed, and the next attempt waits.
    BackingOff,
    /// The new Envoy has been started.
    Starting { new: Generation, coupling: Coupling },
    /// The new Envoy has been started, and the agent is to end. The new Envoy is probed until this time; if it is LIVE, it is
    /// the one to be drained.
    FinalProbe { new: Generation, coupling: Coupling, until: Instant },
    /// The new Envoy was killed and has not been reaped.
    Aborting { new: Generation, coupling: Coupling },
}

/// An Envoy that has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub(super) generation: Generation,
    pub(super) coupling: Coupling,
    pub(super) departure: Departure,
}

/// Progress of a predecessor's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// It finishes its connections.
    Running,
    /// It was sent SIGTERM or SIGKILL.
    Signalled,
}

/// State of the successor of a predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Successor {
    /// It has died.
    None,
    /// It requests sockets, or will.
    Starting,
    /// It serves.
    Live,
}

/// The desired state and what is known about desired states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TargetRevision {
    pub(super) desired: Revision,
    /// Last revision that Envoy accepted, and the coupling of a hand-over to it.
    pub(super) accepted: Option<(Revision, Coupling)>,
    /// Last revision that must not be tried.
    pub(super) rejected: Option<Revision>,
    /// Last revision with which a new Envoy did not become LIVE.
    pub(super) failed: Option<Revision>,
    /// Revision that is being validated.
    pub(super) under_validation: Option<Revision>,
}

// === impl HandoverPolicy ===

impl Default for HandoverPolicy {
    /// One minute is Istio 1.4's `parentShutdownDuration`.
    fn default() -> Self {
        Self {
            allowed: Allowed::Yes,
            live_within: Duration::from_mins(1),
            leave_within: Duration::from_mins(1),
            retry: RestartPolicy { first: FirstAttempt::Delayed, ..RestartPolicy::default() },
        }
    }
}

// === impl TargetRevision ===

impl TargetRevision {
    pub(super) fn first(desired: Revision) -> Self {
        Self { desired, accepted: None, rejected: None, failed: None, under_validation: None }
    }

    /// Returns `true` if the desired state was rejected or has failed too often.
    pub(super) fn is_rejected(&self) -> bool {
        self.rejected == Some(self.desired)
    }

    /// Returns the coupling of a hand-over to the desired state, once it is validated.
    pub(super) fn coupling(&self) -> Option<Coupling> {
        self.accepted.filter(|&(accepted, _)| accepted == self.desired).map(|(_, coupling)| coupling)
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Returns `true` if the event concerns its end.
    pub(super) fn concerns(&self, event: Event) -> bool {
        match event {
            Event::Idle(launch) | Event::Died(launch, _) => launch == self.generation.launch,
            Event::TimerExpired(timer) => matches!(timer, Timer::Leave | Timer::LeaveKill),
            _ => false,
        }
    }

    /// Returns `true` if its successor sends it requests.
    pub(super) fn is_coupled(&self) -> bool {
        self.coupling == Coupling::Coupled
    }

    /// Effects of its death while its successor is LIVE.
    pub(super) fn on_death(&self) -> Vec<Effect> {
        if !self.is_coupled() {
            return vec![];
        }
        vec![Effect::EmulateParent(self.generation), Effect::AnswerPendingStats(self.generation)]
    }

    /// Returns the predecessor of a further Envoy. One that was signalled answers no successor.
    pub(super) fn for_another(self) -> Self {
        match self.departure {
            Departure::Running => self,
            Departure::Signalled => Self { coupling: Coupling::Independent, ..self },
        }
    }
}
