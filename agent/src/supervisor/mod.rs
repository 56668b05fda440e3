//! The state machine of Envoy's lifecycle: start, hand-over, drain, signals, restart, and the end of the agent. Every rule
//! is a line of [`Supervisor::on_event`].
//!
//! ```text
//!            spawn           LIVE, own epoch              SIGTERM
//!   boot ──▶ Starting ─────▶ Running ────────────────────▶ Termination ──▶ Exited
//!              ▲   │         │ ▲   │                        ▲ ▲          ▲
//!              │   └─ crash ─┼─┼─┐ └── crash ─┐             │ │          │
//!   respawn due│             │ │ ▼            ▼             │ │          │
//!              └─────────────┼─┼─ BackingOff ───────────────┼─┘ SIGTERM  │
//!                            │ │      └─────────────────────┼────────────┘ no budget left
//!                   hand over│ │LIVE: the new one runs,     └ Termination: head start, drain inbound, drain all,
//!                            ▼ │the old one leaves              SIGTERM, SIGKILL; one deadline for all steps
//!                         Starting ── died, or not LIVE in time: nothing has changed, retry
//! ```
//!
//! Running has at most one Envoy besides the one that serves: its successor or its predecessor, never both. A hand-over to
//! the latest desired [`Revision`] begins when no other is in progress.
//!
//! Pure: it knows no clock (`now` is an argument), no pid, no file and no socket; it cannot wait and cannot fail. It returns
//! [`Effect`]s, which the driver performs in order.

mod drain;
mod event;
mod exit_status;
mod generation;
mod handover;
mod phase;
mod policy;
mod predecessor;
#[cfg(test)]
mod properties;
mod restart;
mod rollout;
mod running;
mod starting;
mod termination;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(crate) use self::{
    drain::{Activity, DrainPolicy, Minimum},
    event::{DrainScope, Effect, EnvoySignal, Event, PredecessorAdmin, StartMode, Timer, ValidationResult},
    exit_status::{ExitStatus, SpawnFailure},
    generation::{Epoch, Generation, Launch, Revision},
    handover::{Allowed, Coupling, HandoverPolicy},
    phase::{EnvoyRole, Phase, RolloutStatus, ServiceState, Stage},
    policy::Policy,
    restart::RestartPolicy,
};
use self::{
    handover::{Departure, Handover, Predecessor, Successor, TargetRevision},
    restart::{Budget, Respawn},
    running::{AdminState, Running},
    termination::{Outcome, Termination, TerminationStep},
};

/// State of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No Envoy serves; this one will.
    Starting {
        new: Generation,
        admin: AdminState,
        predecessor: Option<Predecessor>,
    },
    /// An Envoy serves.
    Running(Running),
    /// No Envoy serves, and the next start waits.
    BackingOff {
        wait: Wait,
        predecessor: Option<Predecessor>,
    },
    Termination(Termination),
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The back-off.
    Time,
    /// This Envoy was starting when its predecessor died; it is probed for LIVE.
    Probing(Generation),
    /// This Envoy was killed.
    Reaping(Generation),
}

/// The state machine.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    policy: Policy,
    state: State,
    budget: Budget,
    attempts: Budget,
    service: ServiceState,
    /// Last revision that was LIVE. Before there is one, an Envoy that exits has rejected its configuration and would do so
    /// again.
    last_live: Option<Revision>,
    target: TargetRevision,
    launch: Launch,
}

type Next = (State, Vec<Effect>);

// === impl Supervisor ===

impl Supervisor {
    /// Creates a supervisor and returns its first effects. The first Envoy is started without validation: it reports
    /// errors itself, 50 ms earlier.
    pub(crate) fn boot(policy: &Policy) -> (Self, Vec<Effect>) {
        let mut supervisor = Self {
            policy: *policy,
            state: State::BackingOff { wait: Wait::Time, predecessor: None },
            budget: Budget::full(policy.restart),
            attempts: Budget::full(policy.handover.retry),
            service: ServiceState::InService,
            last_live: None,
            target: TargetRevision::first(Revision::FIRST),
            launch: Launch::NONE,
        };
        let (state, effects) = supervisor.start(None);
        supervisor.state = state;
        (supervisor, effects)
    }

    /// Handles an event and returns the effects.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        use {Event as E, State as S};
        let (next, mut effects) = match (self.state, event) {
            // Start.
            (S::Starting { new, admin, predecessor }, E::Live(live))
                if live == new.launch && admin != AdminState::Killed =>
            {
                self.live(new, predecessor, now)
            }
            (S::BackingOff { wait: Wait::Time, predecessor }, E::TimerExpired(Timer::Respawn)) => {
                self.start(predecessor)
            }
            (
                S::BackingOff { wait: Wait::Probing(new) | Wait::Reaping(new), predecessor },
                E::Died(gone, _) | E::SpawnFailed(gone, _),
            ) if gone == new.launch => self.start(predecessor),

            // A successor of a dead coupled predecessor serves if it is LIVE; else it may wait for the dead one forever.
            (S::BackingOff { wait: Wait::Probing(new), predecessor }, E::Live(live))
                if live == new.launch =>
            {
                self.live(new, predecessor, now)
            }
            (S::BackingOff { wait: Wait::Probing(new), predecessor }, E::NotLive(probed, _))
                if probed == new.launch =>
            {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::BackingOff { wait: Wait::Reaping(new), predecessor }, vec![kill])
            }
            (S::Starting { new, admin, predecessor: Some(predecessor) }, E::Died(gone, _))
                if gone == predecessor.generation.launch && predecessor.is_coupled() =>
            {
                match admin {
                    AdminState::Killed => {
                        (S::BackingOff { wait: Wait::Reaping(new), predecessor: None }, vec![])
                    }
                    _ => orphaned(new, predecessor.generation),
                }
            }

            // Crash.
            (S::Starting { new, predecessor, .. }, E::SpawnFailed(failed, why)) if failed == new.launch => {
                self.note_failed_start(new);
                self.unstartable(why, predecessor, now)
            }
            (S::Starting { new, predecessor, .. }, E::Died(died, status)) if died == new.launch => {
                self.note_failed_start(new);
                self.crashed(status, Duration::ZERO, predecessor, now)
            }

            // Silence. An Envoy that never answered is still starting; ignore it.
            (S::Starting { new, admin: AdminState::Answers, predecessor }, E::AdminUnresponsive(silent))
                if silent == new.launch =>
            {
                (S::Starting { new, admin: AdminState::Silent, predecessor }, vec![self.hung()])
            }
            (S::Starting { new, admin, predecessor }, E::AdminRecovered(back))
                if back == new.launch && admin != AdminState::Killed =>
            {
                (S::Starting { new, admin: AdminState::Answers, predecessor }, vec![])
            }
            (
                S::Starting { new, admin: AdminState::Silent | AdminState::Killed, predecessor },
                E::TimerExpired(Timer::Hung),
            ) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::Starting { new, admin: AdminState::Killed, predecessor }, vec![kill, self.hung()])
            }

            // A revision that was LIVE before is waited for; any other has a limit.
            (S::Starting { new, predecessor, .. }, E::TimerExpired(Timer::Live)) if self.is_unproven(new) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::Starting { new, admin: AdminState::Killed, predecessor }, vec![kill])
            }

            // The predecessor.
            (S::Starting { new, admin, predecessor: Some(predecessor) }, event)
                if predecessor.concerns(event) =>
            {
                let (predecessor, effects) =
                    self.on_predecessor_event(predecessor, event, Successor::Starting);
                (S::Starting { new, admin, predecessor }, effects)
            }
            (S::BackingOff { wait, predecessor: Some(predecessor) }, event)
                if predecessor.concerns(event) =>
            {
                let (predecessor, effects) = self.on_predecessor_event(predecessor, event, Successor::None);
                (S::BackingOff { wait, predecessor }, effects)
            }

            // The end. An Envoy that is not LIVE has nothing to drain; its predecessor has.
            (S::Starting { new, predecessor: None, .. }, E::Terminate | E::Quit) => {
                exit_or_continue(Termination::new(Some(new), None, now).stop(&self.policy))
            }
            (S::Starting { new, predecessor, .. }, E::Terminate) => {
                self.end(Termination::new(None, predecessor, now).with_aborted(new), now)
            }
            (S::BackingOff { wait, predecessor }, E::Terminate) => self.end(
                Termination { aborted: wait.aborted(), ..Termination::new(None, predecessor, now) },
                now,
            ),
            (S::Starting { new, predecessor, .. }, E::Quit) => exit_or_continue(
                Termination::new(None, predecessor, now).with_aborted(new).stop(&self.policy),
            ),
            (S::BackingOff { wait, predecessor }, E::Quit) => exit_or_continue(
                Termination { aborted: wait.aborted(), ..Termination::new(None, predecessor, now) }
                    .stop(&self.policy),
            ),
            (S::Termination(termination), event) => {
                exit_or_continue(termination.on_event(event, &self.policy, now))
            }

            // Withdrawal from service. An Envoy that is not LIVE yet is withdrawn once it is.
            (S::Starting { .. } | S::BackingOff { .. }, E::Withdraw) => {
                self.withdraw(now);
                (self.state, vec![])
            }

            // The desired state.
            (_, E::Desired(revision)) => {
                self.target.desired = revision;
                self.attempts = Budget::full(self.policy.handover.retry);
                (self.state.without_waiting(), vec![])
            }
            (_, E::Validated(revision, verdict)) => {
                self.validated(revision, verdict);
                (self.state, vec![])
            }

            (S::Running(running), event) => self.running(running, event, now),

            // Late events of former Envoys, timers that no longer apply, further signals.
            (S::Starting { .. } | S::BackingOff { .. } | S::Exited, _) => (self.state, vec![]),
        };
        self.state = next;
        self.advance_rollout(&mut effects);
        effects
    }

    /// Returns the state that is published.
    pub(crate) fn phase(&self) -> Phase {
        let (stage, owner, successor, predecessor) = match self.state {
            State::Starting { new, predecessor, .. } => (Stage::Starting, Some(new), None, predecessor),
            State::Running(Running { owner, admin, handover, predecessor, .. }) => {
                let stage = match admin {
                    AdminState::Silent | AdminState::Killed => Stage::Silent,
                    AdminState::Answers | AdminState::Lost => Stage::Running,
                };
                let successor = match handover {
                    Handover::Starting { new, .. } | Handover::FinalProbe { new, .. } => Some(new),
                    _ => None,
                };
                (stage, Some(owner), successor, predecessor)
            }
            State::BackingOff { wait: Wait::Probing(new), predecessor } => {
                (Stage::BackingOff, None, Some(new), predecessor)
            }
            State::BackingOff { predecessor, .. } => (Stage::BackingOff, None, None, predecessor),
            State::Termination(Termination { owner, predecessor, step, .. }) => {
                let stage = match step {
                    TerminationStep::PreDrain => Stage::PreDrain,
                    TerminationStep::Draining { .. } => Stage::Draining,
                    TerminationStep::Stopping(_) => Stage::Stopping,
                };
                (stage, owner, None, predecessor)
            }
            State::Exited => (Stage::Exited, None, None, None),
        };
        Phase {
            launches: self.launch.get(),
            owner,
            successor,
            predecessor: predecessor.map(|predecessor| (predecessor.generation, predecessor.coupling)),
            stage,
            service: self.service,
            desired: self.target.desired,
            last_live: self.last_live,
            rollout: self.rollout(),
            failed_attempts: self.attempts.spent(),
            restarts_left: self.budget.left(),
        }
    }

    fn rollout(&self) -> RolloutStatus {
        match self.state {
            State::Running(Running {
                handover: Handover::Starting { .. } | Handover::FinalProbe { .. },
                ..
            }) => RolloutStatus::HandingOver,
            State::Running(Running { owner, .. }) if owner.revision == self.target.desired => {
                RolloutStatus::Settled
            }
            _ if self.target.is_rejected() => RolloutStatus::GivenUp,
            _ if self.target.under_validation.is_some() => RolloutStatus::Validating,
            State::Running(_) => RolloutStatus::Waiting,
            _ => RolloutStatus::Settled,
        }
    }

    /// Begins the end. An Envoy that is not LIVE is killed: after SIGTERM it would end its predecessor.
    fn end(&self, termination: Termination, now: Instant) -> Next {
        let since = match self.service {
            ServiceState::InService => now,
            ServiceState::Withdrawn { since } => since,
        };
        let aborted = termination.aborted.map(|aborted| Effect::Signal(aborted.launch, EnvoySignal::Kill));
        let (end, effects) = Termination { since, ..termination }.begin(&self.policy, now);
        exit_or_continue((end, aborted.into_iter().chain(effects).collect()))
    }

    /// Withdraws the sidecar from service and returns the listeners to drain; `None` if it was withdrawn before.
    fn withdraw(&mut self, now: Instant) -> Option<DrainScope> {
        match self.service {
            ServiceState::Withdrawn { .. } => None,
            ServiceState::InService => {
                self.service = ServiceState::Withdrawn { since: now };
                Some(self.policy.withdraw)
            }
        }
    }

    /// Arms the timer for an Envoy that stays silent.
    fn hung(&self) -> Effect {
        Effect::ArmTimer(Timer::Hung, self.policy.hung_after)
    }
}

/// The predecessor of this Envoy has died before the agent knew it to be LIVE.
fn orphaned(new: Generation, dead: Generation) -> Next {
    let probe = Effect::Probe { launch: new.launch, predecessor: dead.launch, after: Duration::ZERO };
    (
        State::BackingOff { wait: Wait::Probing(new), predecessor: None },
        vec![Effect::EmulateParent(dead), probe],
    )
}

/// Converts the progress of the end to a state.
fn exit_or_continue((end, mut effects): (Outcome, Vec<Effect>)) -> Next {
    match end {
        Outcome::Continue(termination) => (State::Termination(termination), effects),
        Outcome::Exit(code) => {
            effects.push(Effect::Exit(code));
            (State::Exited, effects)
        }
    }
}

// === impl Wait ===

impl Wait {
    /// Returns the Envoy that is not LIVE, if there is one.
    fn aborted(self) -> Option<Generation> {
        match self {
            Self::Time => None,
            Self::Probing(new) | Self::Reaping(new) => Some(new),
        }
    }
}

// === impl State ===

impl State {
    /// Ends the back-off: a failure of an earlier desired state does not delay the current one.
    fn without_waiting(self) -> Self {
        match self {
            Self::Running(running @ Running { handover: Handover::BackingOff, .. }) => {
                Self::Running(Running { handover: Handover::Idle, ..running })
            }
            other => other,
        }
    }
}
