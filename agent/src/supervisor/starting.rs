//! No Envoy serves: choice of the revision to start, back-off, and when to give up.

use std::time::{Duration, Instant};

use super::{
    AdminState, Effect, Epoch, ExitStatus, Generation, Next, Predecessor, Respawn, Revision, Running,
    ServiceState, SpawnFailure, StartMode, State, Supervisor, Termination, Timer, Wait, exit_or_continue,
};

impl Supervisor {
    /// Starts an Envoy while none serves. If a predecessor still runs, it has the epoch of the Envoy that has died, otherwise
    /// the first.
    pub(super) fn start(&mut self, predecessor: Option<Predecessor>) -> Next {
        self.launch = self.launch.next();
        let predecessor = predecessor.map(Predecessor::for_another);
        let (epoch, start) = match predecessor {
            Some(predecessor) => (
                predecessor.generation.epoch.next(),
                StartMode::After(predecessor.generation.launch, predecessor.coupling),
            ),
            None => (Epoch::FIRST, StartMode::Cold),
        };
        let new = Generation { launch: self.launch, epoch, revision: self.startable() };
        let mut effects = vec![Effect::Spawn(new, start)];
        if self.is_unproven(new) {
            effects.push(Effect::ArmTimer(Timer::Live, self.policy.handover.live_within));
        }
        (State::Starting { new, admin: AdminState::Answers, predecessor }, effects)
    }

    /// Returns the revision to start after a crash: the last one that was LIVE, or after repeated crashes the desired one, if
    /// it is accepted and has not failed.
    fn startable(&self) -> Revision {
        let desired_may_work =
            self.target.coupling().is_some() && !self.target.is_rejected() && self.attempts.spent() == 0;
        match self.last_live {
            Some(last_live) if !desired_may_work || self.budget.spent() <= 1 => last_live,
            _ => self.target.desired,
        }
    }

    /// Returns `true` if another revision was LIVE.
    pub(super) fn is_unproven(&self, new: Generation) -> bool {
        self.last_live.is_some_and(|last_live| last_live != new.revision)
    }

    /// Counts a failed start after a crash as an attempt of the desired state.
    pub(super) fn note_failed_start(&mut self, new: Generation) {
        if self.is_unproven(new)
            && new.revision == self.target.desired
            && self.attempts.spend(Duration::ZERO) == Respawn::Never
        {
            self.target.rejected = Some(new.revision);
        }
    }

    /// The Envoy is LIVE and serves.
    pub(super) fn live(&mut self, owner: Generation, predecessor: Option<Predecessor>, now: Instant) -> Next {
        self.last_live = Some(owner.revision);
        let effects = self.drain_if_withdrawn(owner);
        (State::Running(Running::new(owner, predecessor, now)), effects)
    }

    /// A withdrawn sidecar stays withdrawn after a change of the Envoy that serves.
    pub(super) fn drain_if_withdrawn(&self, owner: Generation) -> Vec<Effect> {
        match self.service {
            ServiceState::InService => vec![],
            ServiceState::Withdrawn { .. } => vec![Effect::Drain(owner.launch, self.policy.withdraw)],
        }
    }

    /// The Envoy has died; decides between a restart and the end.
    pub(super) fn crashed(
        &mut self,
        status: ExitStatus,
        lived: Duration,
        predecessor: Option<Predecessor>,
        now: Instant,
    ) -> Next {
        match (status, self.last_live) {
            // Envoy was requested to exit: jobs end their sidecar by `POST /quitquitquit` on its admin.
            (ExitStatus::Exited(0), _) => self.give_up(0, predecessor, now),
            // Rejected configuration, an address in use: a restart would not help.
            (ExitStatus::Exited(code), None) => self.give_up(code, predecessor, now),
            _ => self.back_off(status.code(), lived, predecessor, now),
        }
    }

    pub(super) fn unstartable(
        &mut self,
        failure: SpawnFailure,
        predecessor: Option<Predecessor>,
        now: Instant,
    ) -> Next {
        match (failure, self.last_live) {
            (SpawnFailure::NotFound | SpawnFailure::NotExecutable, None) => {
                self.give_up(failure.code(), predecessor, now)
            }
            // The binary has run before, so it is being replaced.
            _ => self.back_off(failure.code(), Duration::ZERO, predecessor, now),
        }
    }

    pub(super) fn back_off(
        &mut self,
        code: u8,
        lived: Duration,
        predecessor: Option<Predecessor>,
        now: Instant,
    ) -> Next {
        match self.budget.spend(lived) {
            Respawn::Now => self.start(predecessor),
            Respawn::After(delay) => {
                let wait = Wait::Time;
                (State::BackingOff { wait, predecessor }, vec![Effect::ArmTimer(Timer::Respawn, delay)])
            }
            Respawn::Never => self.give_up(code, predecessor, now),
        }
    }

    /// Ends the agent with this code, after a predecessor that still runs.
    fn give_up(&self, code: u8, predecessor: Option<Predecessor>, now: Instant) -> Next {
        exit_or_continue(Termination::new(None, predecessor, now).with_code(code).stop(&self.policy))
    }
}
