//! The way to the desired state: validation, then a hand-over to the newest accepted revision.

use super::{
    AdminState, Allowed, Coupling, Effect, Generation, Revision, Running, StartMode, State, Supervisor,
    Timer, ValidationResult, handover::Handover,
};

impl Supervisor {
    /// Records the result of the validation in progress.
    pub(super) fn validated(&mut self, revision: Revision, result: ValidationResult) {
        if self.target.under_validation != Some(revision) {
            return;
        }
        self.target.under_validation = None;
        match result {
            ValidationResult::Accepted(coupling) => self.target.accepted = Some((revision, coupling)),
            ValidationResult::Rejected => self.target.rejected = Some(revision),
        }
    }

    /// Takes the next step to the desired state, if one is possible now.
    pub(super) fn advance_rollout(&mut self, effects: &mut Vec<Effect>) {
        if self.policy.handover.allowed == Allowed::No {
            return;
        }
        let desired = self.target.desired;
        let in_use = match self.state {
            State::Termination(_) | State::Exited => return,
            State::Starting { new, .. } => Some(new.revision),
            State::Running(_) | State::BackingOff { .. } => self.last_live,
        };
        if in_use != Some(desired)
            && self.target.coupling().is_none()
            && !self.target.is_rejected()
            && self.target.under_validation.is_none()
        {
            self.target.under_validation = Some(desired);
            effects.push(Effect::Validate(desired));
        }
        let State::Running(running @ Running { owner, handover: Handover::Idle, predecessor: None, .. }) =
            self.state
        else {
            return;
        };
        let Some((revision, coupling)) = self.next_revision(&running) else { return };
        if coupling == Coupling::Coupled && matches!(running.admin, AdminState::Silent | AdminState::Killed) {
            // It would not answer a successor.
            return;
        }
        self.launch = self.launch.next();
        let new = Generation { launch: self.launch, epoch: owner.epoch.next(), revision };
        self.state = State::Running(Running { handover: Handover::Starting { new, coupling }, ..running });
        effects.push(Effect::Spawn(new, StartMode::After(owner.launch, coupling)));
        effects.push(Effect::ArmTimer(Timer::Live, self.policy.handover.live_within));
    }

    /// Returns the revision of the next successor and its coupling.
    fn next_revision(&self, running: &Running) -> Option<(Revision, Coupling)> {
        let desired = self.target.desired;
        if desired != running.owner.revision && !self.target.is_rejected() {
            // A state that changes faster than it is validated would never run, so an older accepted one will do.
            let newest = self.target.accepted.filter(|&(accepted, _)| accepted > running.owner.revision);
            let excluded = [self.target.rejected, self.target.failed];
            return newest
                .filter(|&(accepted, _)| accepted == desired || !excluded.contains(&Some(accepted)));
        }
        (running.admin == AdminState::Lost).then_some((running.owner.revision, Coupling::Coupled))
    }
}
