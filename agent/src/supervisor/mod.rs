//! Decides what happens to Envoy: when it is started, handed over, drained, signalled, started again, and when
//! the agent itself ends. Every rule is a line of [`Supervisor::on_event`].
//!
//! ```text
//!            spawn           LIVE, own epoch              SIGTERM
//!   boot ──▶ Starting ─────▶ Running ────────────────────▶ Ending ──▶ Exited
//!              ▲   │         │ ▲   │                        ▲ ▲          ▲
//!              │   └─ crash ─┼─┼─┐ └── crash ─┐             │ │          │
//!   respawn due│             │ │ ▼            ▼             │ │          │
//!              └─────────────┼─┼─ BackingOff ───────────────┼─┘ SIGTERM  │
//!                            │ │      └─────────────────────┼────────────┘ no budget left
//!                   hand over│ │LIVE: the new one runs,     └ Ending: head start, drain inside, drain all,
//!                            ▼ │the old one leaves              SIGTERM, SIGKILL; one deadline for it all
//!                           Rising ── died, or not LIVE in time: nothing has changed, try later
//! ```
//!
//! Running has up to one Envoy besides the one that serves: either its successor on the way up or its
//! predecessor on the way out, never both. What is to run, [`Revision`], is pursued whenever nothing else is
//! under way, and only its latest value.
//!
//! It deliberately knows no clock (`now` comes in), no pid, no file and no socket; it cannot wait and
//! cannot fail. What it wants done it returns as [`Effect`]s, which the driver performs in order.

mod drain;
mod ending;
mod event;
mod generation;
mod hand_over;
mod phase;
#[cfg(test)]
mod properties;
mod restart;
mod running;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::{
    drain::{Activity, DrainPolicy, Minimum},
    event::{DrainScope, Effect, EnvoySignal, Event, Start, Timer, Verdict},
    generation::{Epoch, Generation, Launch, Revision},
    hand_over::{Allowed, Bond, HandOverPolicy},
    phase::{Offer, Phase, Pursuit, Role, Stage},
    restart::{First, RestartPolicy},
    status::{SpawnFailure, Status},
};
use self::{
    ending::{End, Ending, Step},
    hand_over::{Change, Heir, Leave, Old, Wish},
    restart::{Budget, Respawn},
    running::{Admin, Running},
};

/// Every duration that is a matter of taste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long Envoy may drain.
    pub drain: DrainPolicy,
    /// Whom `POST /drain` tells to leave, and SIGTERM first.
    pub withdraw: DrainScope,
    /// How long before the deadline of the drain the application's own connections hear of it at the latest.
    pub outside_within: Duration,
    /// How often and how fast Envoy is started again after a crash.
    pub restart: RestartPolicy,
    /// How a new Envoy takes over from a running one.
    pub hand_over: HandOverPolicy,
    /// Between SIGTERM and SIGKILL. Envoy needs 10 ms, and longer only when its log pipe is stuck.
    pub kill_grace: Duration,
    /// Between SIGKILL and giving up on a process that sleeps in the kernel.
    pub reap_grace: Duration,
    /// An Envoy whose admin is silent for this long is killed. Far above the seconds that a large
    /// configuration occupies Envoy's main thread.
    pub hung_after: Duration,
}

/// Envoy's life in the agent's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody serves; this one is to.
    Starting {
        new: Generation,
        admin: Admin,
        old: Option<Old>,
    },
    /// Somebody serves.
    Running(Running),
    /// Nobody serves, and the next one waits for its time, or for one that is being killed to be gone.
    BackingOff {
        wait: Wait,
        old: Option<Old>,
    },
    Ending(Ending),
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Time,
    Reaping(Generation),
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    budget: Budget,
    attempts: Budget,
    offer: Offer,
    /// What was LIVE last: before there is any, an Envoy that gives up has read what we gave it and will
    /// give up again.
    proven: Option<Revision>,
    wish: Wish,
    launch: Launch,
}

type Next = (State, Vec<Effect>);

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor and its first effects: Envoy is started at once, unvalidated: it will say itself what is
    /// wrong, 50 ms sooner.
    pub fn boot(policy: Policy) -> (Self, Vec<Effect>) {
        let mut supervisor = Self {
            policy,
            state: State::BackingOff { wait: Wait::Time, old: None },
            budget: Budget::full(policy.restart),
            attempts: Budget::full(policy.hand_over.retry),
            offer: Offer::Offered,
            proven: None,
            wish: Wish::first(Revision::FIRST),
            launch: Launch::NONE,
        };
        let (state, effects) = supervisor.start(None);
        supervisor.state = state;
        (supervisor, effects)
    }

    /// What is to be done now that this happened.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        use {Event as E, State as S};
        let (next, mut effects) = match (self.state, event) {
            // The way up.
            (S::Starting { new, old, .. }, E::Live(live)) if live == new.launch => self.live(new, old, now),
            (S::BackingOff { wait: Wait::Time, old }, E::Due(Timer::Respawn)) => self.start(old),
            (
                S::BackingOff { wait: Wait::Reaping(doomed), old },
                E::Died(gone, _) | E::SpawnFailed(gone, _),
            ) if gone == doomed.launch => self.start(old),

            // Envoy ends without being asked to.
            (S::Starting { new, old, .. }, E::SpawnFailed(failed, why)) if failed == new.launch => {
                self.unstartable(why, old, now)
            }
            (S::Starting { new, old, .. }, E::Died(died, status)) if died == new.launch => {
                self.crashed(status, Duration::ZERO, old, now)
            }

            // Envoy answers nobody. One that never answered is still starting, and no one's business.
            (S::Starting { new, admin: Admin::Answers, old }, E::AdminSilent(silent))
                if silent == new.launch =>
            {
                (S::Starting { new, admin: Admin::Silent, old }, vec![self.hung()])
            }
            (S::Starting { new, old, .. }, E::AdminBack(back)) if back == new.launch => {
                (S::Starting { new, admin: Admin::Answers, old }, vec![])
            }
            // What never was LIVE may never be, and something else was: that one next.
            (S::Starting { new, .. }, E::Due(Timer::Live)) if self.is_a_venture(new.revision) => {
                self.attempts.spend(Duration::ZERO);
                (self.state, vec![Effect::Signal(new.launch, EnvoySignal::Kill)])
            }
            (S::Starting { new, admin: Admin::Silent, .. }, E::Due(Timer::Hung)) => {
                (self.state, vec![Effect::Signal(new.launch, EnvoySignal::Kill), self.hung()])
            }

            // The one before it finishes what it has, whoever has taken over from it meanwhile.
            (S::Starting { new, admin, old: Some(old) }, event) if old.concerns(event) => {
                let (old, effects) = self.leaving(old, event, Heir::Rising, now);
                (S::Starting { new, admin, old }, effects)
            }
            (S::BackingOff { wait, old: Some(old) }, event) if old.concerns(event) => {
                let (old, effects) = self.leaving(old, event, Heir::None, now);
                (S::BackingOff { wait, old }, effects)
            }

            // The way down. What is not LIVE serves nobody and has nothing to drain; its predecessor has.
            (S::Starting { new, old: None, .. }, E::Terminate | E::Quit) => {
                ended(Ending::new(Some(new), None, now).stop(&self.policy))
            }
            (S::Starting { new, old, .. }, E::Terminate) => {
                self.end(Ending::new(None, old, now).with_doomed(new), now)
            }
            (S::BackingOff { wait: Wait::Reaping(doomed), old }, E::Terminate) => {
                self.end(Ending::new(None, old, now).with_doomed(doomed), now)
            }
            (S::BackingOff { old, .. }, E::Terminate) => self.end(Ending::new(None, old, now), now),
            (S::Starting { new, old, .. }, E::Quit) => {
                ended(Ending::new(Some(new), old, now).stop(&self.policy))
            }
            (S::BackingOff { wait: Wait::Reaping(doomed), old }, E::Quit) => {
                ended(Ending::new(None, old, now).with_doomed(doomed).stop(&self.policy))
            }
            (S::BackingOff { old, .. }, E::Quit) => ended(Ending::new(None, old, now).stop(&self.policy)),
            (S::Ending(ending), event) => self.ending(ending, event, now),

            // Out of service, still serving. An Envoy not yet LIVE is withdrawn once it is.
            (S::Starting { .. } | S::BackingOff { .. }, E::Withdraw) => {
                self.withdraw(now);
                (self.state, vec![])
            }

            // What is to run.
            (_, E::Desired(revision)) => {
                self.wish.desired = revision;
                self.attempts = Budget::full(self.policy.hand_over.retry);
                (self.state.without_waiting(), vec![])
            }
            (_, E::Validated(revision, verdict)) => {
                self.validated(revision, verdict);
                (self.state, vec![])
            }

            (S::Running(running), event) => self.running(running, event, now),

            // Late news of an Envoy we let go, a timer nobody awaits any more, one signal too many.
            (S::Starting { .. } | S::BackingOff { .. } | S::Exited, _) => (self.state, vec![]),
        };
        self.state = next;
        self.pursue(&mut effects);
        effects
    }

    /// What the rest of the agent may know.
    pub fn phase(&self) -> Phase {
        let (stage, owner, rising, old) = match self.state {
            State::Starting { new, old, .. } => (Stage::Starting, Some(new), None, old),
            State::Running(Running { one, admin, change, old, .. }) => {
                let stage = if admin == Admin::Silent { Stage::Silent } else { Stage::Running };
                let rising = match change {
                    Change::Rising { new, .. } => Some(new),
                    _ => None,
                };
                (stage, Some(one), rising, old)
            }
            State::BackingOff { old, .. } => (Stage::BackingOff, None, None, old),
            State::Ending(Ending { owner, old, step, .. }) => {
                let stage = match step {
                    Step::HeadStart => Stage::PreDrain,
                    Step::Draining { .. } => Stage::Draining,
                    Step::Stopping(_) => Stage::Stopping,
                };
                (stage, owner, None, old)
            }
            State::Exited => (Stage::Exited, None, None, None),
        };
        Phase {
            launches: self.launch.get(),
            owner,
            rising,
            leaving: old.map(|old| (old.generation, old.bond)),
            stage,
            offer: self.offer,
            desired: self.wish.desired,
            proven: self.proven,
            pursuit: self.pursuit(),
            restarts_left: self.budget.left(),
        }
    }

    fn pursuit(&self) -> Pursuit {
        match self.state {
            State::Running(Running { change: Change::Rising { .. }, .. }) => Pursuit::HandingOver,
            State::Running(Running { one, .. }) if one.revision == self.wish.desired => Pursuit::Settled,
            _ if self.wish.is_refused() => Pursuit::GivenUp,
            _ if self.wish.under_validation.is_some() => Pursuit::Validating,
            State::Running(_) => Pursuit::Waiting,
            _ => Pursuit::Settled,
        }
    }

    /// A start without anybody LIVE to take over from. Above an old one that still lives it has the number of
    /// the one that has died; above nobody it is a first one.
    fn start(&mut self, old: Option<Old>) -> Next {
        self.launch = self.launch.next();
        let (epoch, start) = match old {
            Some(old) => (old.generation.epoch.next(), Start::After(old.generation.launch, old.bond)),
            None => (Epoch::FIRST, Start::Cold),
        };
        let new = Generation { launch: self.launch, epoch, revision: self.startable() };
        let mut effects = vec![Effect::Spawn(new, start)];
        if self.is_a_venture(new.revision) {
            effects.push(Effect::Arm(Timer::Live, self.policy.hand_over.live_within));
        }
        (State::Starting { new, admin: Admin::Answers, old }, effects)
    }

    /// What a start in an emergency uses: what is wanted if Envoy would take it and has not failed with it, else
    /// what was good last.
    fn startable(&self) -> Revision {
        let promising = self.wish.bond().is_some() && !self.wish.is_refused() && self.attempts.is_full();
        self.proven.filter(|_| !promising).unwrap_or(self.wish.desired)
    }

    /// Whether this was never LIVE while something else was.
    fn is_a_venture(&self, revision: Revision) -> bool {
        self.proven.is_some_and(|proven| proven != revision)
    }

    fn live(&mut self, one: Generation, old: Option<Old>, now: Instant) -> Next {
        self.proven = Some(one.revision);
        let effects = self.offer(one);
        (State::Running(Running::new(one, old, now)), effects)
    }

    /// A sidecar that was withdrawn stays withdrawn, whichever Envoy serves.
    fn offer(&self, one: Generation) -> Vec<Effect> {
        match self.offer {
            Offer::Offered => vec![],
            Offer::Withdrawn { .. } => vec![Effect::Drain(one.launch, self.policy.withdraw)],
        }
    }

    fn crashed(&mut self, status: Status, lived: Duration, old: Option<Old>, now: Instant) -> Next {
        match (status, self.proven) {
            // Somebody asked Envoy itself to leave (`POST /quitquitquit` on its admin is how jobs end
            // their sidecar): then we have nothing left to do either.
            (Status::Exited(0), _) => self.give_up(0, old, now),
            // Configuration it refuses, an address in use: what it cannot read now it cannot read later.
            (Status::Exited(code), None) => self.give_up(code, old, now),
            _ => self.back_off(status.code(), lived, old, now),
        }
    }

    fn unstartable(&mut self, why: SpawnFailure, old: Option<Old>, now: Instant) -> Next {
        match (why, self.proven) {
            (SpawnFailure::NotFound | SpawnFailure::NotExecutable, None) => {
                self.give_up(why.code(), old, now)
            }
            // A binary that has run before is being replaced.
            _ => self.back_off(why.code(), Duration::ZERO, old, now),
        }
    }

    fn back_off(&mut self, code: u8, lived: Duration, old: Option<Old>, now: Instant) -> Next {
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

    /// One that will not be needed is killed: told to leave, it would take its predecessor along.
    fn end(&self, ending: Ending, now: Instant) -> Next {
        let since = match self.offer {
            Offer::Offered => now,
            Offer::Withdrawn { since } => since,
        };
        let doomed = ending.doomed.map(|doomed| Effect::Signal(doomed.launch, EnvoySignal::Kill));
        let (end, effects) = Ending { since, ..ending }.begin(&self.policy, now);
        ended((end, doomed.into_iter().chain(effects).collect()))
    }

    fn ending(&self, ending: Ending, event: Event, now: Instant) -> Next {
        use {EnvoySignal as Sig, Event as E};
        let policy = &self.policy;
        let is_owner = |launch| ending.owner.is_some_and(|owner| owner.launch == launch);
        ended(match (ending.step, event) {
            (Step::HeadStart, E::Due(Timer::PreDrain)) => ending.drain(policy, now),
            (Step::Draining { .. }, E::Due(Timer::DrainAll)) => ending.drain_all(),
            (Step::Draining { .. }, E::Activity(of, activity)) if is_owner(of) => {
                ending.observe(activity, policy, now)
            }
            (
                Step::HeadStart | Step::Draining { .. },
                E::Due(Timer::DrainDeadline) | E::Terminate | E::Quit,
            ) => ending.stop(policy),
            (Step::HeadStart | Step::Draining { .. }, E::Vacant(vacant))
                if ending.old.is_some_and(|old| old.generation.launch == vacant) =>
            {
                ending.vacant(policy)
            }
            (Step::Stopping(Sig::Terminate), E::Due(Timer::KillDue) | E::Terminate) => ending.kill(policy),
            // Not even SIGKILL has ended them: they sleep in the kernel, and end when it lets them.
            (Step::Stopping(Sig::Kill), E::Due(Timer::ReapDue)) => (End::Now(Status::KILLED.code()), vec![]),
            (_, E::Died(died, status)) => ending.died(died, status, policy, now),
            (_, E::SpawnFailed(failed, _)) => ending.died(failed, Status::Exited(0), policy, now),
            (Step::HeadStart | Step::Draining { .. }, E::ReopenLogs) => {
                let owner = ending.owner.map(|owner| Effect::Signal(owner.launch, Sig::ReopenLogs));
                (End::NotYet(ending), owner.into_iter().collect())
            }
            _ => (End::NotYet(ending), vec![]),
        })
    }

    /// Nobody is asked twice: `None` when already withdrawn.
    fn withdraw(&mut self, now: Instant) -> Option<DrainScope> {
        match self.offer {
            Offer::Withdrawn { .. } => None,
            Offer::Offered => {
                self.offer = Offer::Withdrawn { since: now };
                Some(self.policy.withdraw)
            }
        }
    }

    fn hung(&self) -> Effect {
        Effect::Arm(Timer::Hung, self.policy.hung_after)
    }
}

/// How far the end is, as a state.
fn ended((end, mut effects): (End, Vec<Effect>)) -> Next {
    match end {
        End::NotYet(ending) => (State::Ending(ending), effects),
        End::Now(code) => {
            effects.push(Effect::Exit(code));
            (State::Exited, effects)
        }
    }
}

// === impl State ===

impl State {
    /// A failure of what was wanted before is no reason to wait with what is wanted now.
    fn without_waiting(self) -> Self {
        match self {
            Self::Running(running @ Running { change: Change::Waiting, .. }) => {
                Self::Running(Running { change: Change::Settled, ..running })
            }
            other => other,
        }
    }
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            drain: DrainPolicy::default(),
            withdraw: DrainScope::Inbound,
            outside_within: Duration::from_secs(1),
            restart: RestartPolicy::default(),
            hand_over: HandOverPolicy::default(),
            kill_grace: Duration::from_secs(2),
            reap_grace: Duration::from_secs(1),
            hung_after: Duration::from_secs(30),
        }
    }
}
