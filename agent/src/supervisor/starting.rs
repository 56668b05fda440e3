//! While nobody serves: who is started, as what, and when to stop trying.

use std::time::{Duration, Instant};

use super::{
    Admin, Effect, Ending, Epoch, Generation, Next, Offer, Old, Respawn, Revision, Running, SpawnFailure,
    Start, State, Status, Supervisor, Timer, Wait, ended,
};

impl Supervisor {
    /// A start without anybody LIVE to take over from. Above an old one that still lives it has the number of
    /// the one that has died; above nobody it is a first one.
    pub(super) fn start(&mut self, old: Option<Old>) -> Next {
        self.launch = self.launch.next();
        let old = old.map(Old::for_another);
        let (epoch, start) = match old {
            Some(old) => (old.generation.epoch.next(), Start::After(old.generation.launch, old.bond)),
            None => (Epoch::FIRST, Start::Cold),
        };
        let new = Generation { launch: self.launch, epoch, revision: self.startable() };
        let mut effects = vec![Effect::Spawn(new, start)];
        if self.is_unproven(new) {
            effects.push(Effect::Arm(Timer::Live, self.policy.hand_over.live_within));
        }
        (State::Starting { new, admin: Admin::Answers, old }, effects)
    }

    /// What a start in an emergency uses: what was good last; and if that crashes again and again, what is wanted,
    /// if Envoy takes it and has not failed with it yet: it may be the cure.
    fn startable(&self) -> Revision {
        let hopeful = self.wish.bond().is_some() && !self.wish.is_refused() && self.attempts.spent() == 0;
        match self.proven {
            Some(proven) if !hopeful || self.budget.spent() <= 1 => proven,
            _ => self.wish.desired,
        }
    }

    /// Whether there is something better to start than this.
    pub(super) fn is_unproven(&self, new: Generation) -> bool {
        self.proven.is_some_and(|proven| proven != new.revision)
    }

    /// A start in an emergency counts as a try of what is wanted.
    pub(super) fn note_failed_start(&mut self, new: Generation) {
        if self.is_unproven(new)
            && new.revision == self.wish.desired
            && self.attempts.spend(Duration::ZERO) == Respawn::Never
        {
            self.wish.refused = Some(new.revision);
        }
    }

    pub(super) fn live(&mut self, one: Generation, old: Option<Old>, now: Instant) -> Next {
        self.proven = Some(one.revision);
        let effects = self.offer(one);
        (State::Running(Running::new(one, old, now)), effects)
    }

    /// A sidecar that was withdrawn stays withdrawn, whichever Envoy serves.
    pub(super) fn offer(&self, one: Generation) -> Vec<Effect> {
        match self.offer {
            Offer::Offered => vec![],
            Offer::Withdrawn { .. } => vec![Effect::Drain(one.launch, self.policy.withdraw)],
        }
    }

    pub(super) fn crashed(
        &mut self,
        status: Status,
        lived: Duration,
        old: Option<Old>,
        now: Instant,
    ) -> Next {
        match (status, self.proven) {
            // Somebody asked Envoy itself to leave (`POST /quitquitquit` on its admin is how jobs end
            // their sidecar): then we have nothing left to do either.
            (Status::Exited(0), _) => self.give_up(0, old, now),
            // Configuration it refuses, an address in use: what it cannot read now it cannot read later.
            (Status::Exited(code), None) => self.give_up(code, old, now),
            _ => self.back_off(status.code(), lived, old, now),
        }
    }

    pub(super) fn unstartable(&mut self, why: SpawnFailure, old: Option<Old>, now: Instant) -> Next {
        match (why, self.proven) {
            (SpawnFailure::NotFound | SpawnFailure::NotExecutable, None) => {
                self.give_up(why.code(), old, now)
            }
            // A binary that has run before is being replaced.
            _ => self.back_off(why.code(), Duration::ZERO, old, now),
        }
    }

    pub(super) fn back_off(&mut self, code: u8, lived: Duration, old: Option<Old>, now: Instant) -> Next {
        match self.budget.spend(lived) {
            Respawn::Now => self.start(old),
            Respawn::After(delay) => {
                let wait = Wait::Time;
                (State::BackingOff { wait, old }, vec![Effect::Arm(Timer::Respawn, delay)])
            }
            Respawn::Never => self.give_up(code, old, now),
        }
    }

    /// The agent ends with this code; an old Envoy that still finishes something ends first.
    fn give_up(&self, code: u8, old: Option<Old>, now: Instant) -> Next {
        ended(Ending::new(None, old, now).with_code(code).stop(&self.policy))
    }
}
