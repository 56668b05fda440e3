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
mod policy;
#[cfg(test)]
mod properties;
mod restart;
mod running;
mod starting;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::{
    drain::{Activity, DrainPolicy, Minimum},
    event::{DrainScope, Effect, EnvoySignal, Event, PredecessorAdmin, Start, Timer, Verdict},
    generation::{Epoch, Generation, Launch, Revision},
    hand_over::{Allowed, Bond, HandOverPolicy},
    phase::{Offer, Phase, Pursuit, Role, Stage},
    policy::Policy,
    restart::{First, RestartPolicy},
    status::{SpawnFailure, Status},
};
use self::{
    ending::{End, Ending, Step},
    hand_over::{Change, Heir, Leave, Old, Wish},
    restart::{Budget, Respawn},
    running::{Admin, Running},
};

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
    /// The predecessor of this one has died; it is asked whether it was LIVE by then.
    Probing(Generation),
    /// This one was killed.
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
            (S::Starting { new, admin, old }, E::Live(live))
                if live == new.launch && admin != Admin::Killed =>
            {
                self.live(new, old, now)
            }
            (S::BackingOff { wait: Wait::Time, old }, E::Due(Timer::Respawn)) => self.start(old),
            (
                S::BackingOff { wait: Wait::Probing(new) | Wait::Reaping(new), old },
                E::Died(gone, _) | E::SpawnFailed(gone, _),
            ) if gone == new.launch => self.start(old),

            // An orphan of a tied hand-over serves if it was LIVE; else it may wait for the dead for ever.
            (S::BackingOff { wait: Wait::Probing(new), old }, E::Live(live)) if live == new.launch => {
                self.live(new, old, now)
            }
            (S::BackingOff { wait: Wait::Probing(new), old }, E::NotLive(probed, _))
                if probed == new.launch =>
            {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::BackingOff { wait: Wait::Reaping(new), old }, vec![kill])
            }
            (S::Starting { new, admin, old: Some(old) }, E::Died(gone, _))
                if gone == old.generation.launch && old.is_tied() =>
            {
                match admin {
                    Admin::Killed => (S::BackingOff { wait: Wait::Reaping(new), old: None }, vec![]),
                    _ => orphaned(new, old.generation),
                }
            }

            // Envoy ends without being asked to.
            (S::Starting { new, old, .. }, E::SpawnFailed(failed, why)) if failed == new.launch => {
                self.note_failed_start(new);
                self.unstartable(why, old, now)
            }
            (S::Starting { new, old, .. }, E::Died(died, status)) if died == new.launch => {
                self.note_failed_start(new);
                self.crashed(status, Duration::ZERO, old, now)
            }

            // Envoy answers nobody. One that never answered is still starting, and no one's business.
            (S::Starting { new, admin: Admin::Answers, old }, E::AdminSilent(silent))
                if silent == new.launch =>
            {
                (S::Starting { new, admin: Admin::Silent, old }, vec![self.hung()])
            }
            (S::Starting { new, admin, old }, E::AdminBack(back))
                if back == new.launch && admin != Admin::Killed =>
            {
                (S::Starting { new, admin: Admin::Answers, old }, vec![])
            }
            (S::Starting { new, admin: Admin::Silent | Admin::Killed, old }, E::Due(Timer::Hung)) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::Starting { new, admin: Admin::Killed, old }, vec![kill, self.hung()])
            }

            // What was LIVE before can be again; what never was has its time, and no more.
            (S::Starting { new, old, .. }, E::Due(Timer::Live)) if self.is_unproven(new) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                (S::Starting { new, admin: Admin::Killed, old }, vec![kill])
            }

            // The one before it finishes what it has, whoever has taken over from it meanwhile.
            (S::Starting { new, admin, old: Some(old) }, event) if old.concerns(event) => {
                let (old, effects) = self.leaving(old, event, Heir::Rising);
                (S::Starting { new, admin, old }, effects)
            }
            (S::BackingOff { wait, old: Some(old) }, event) if old.concerns(event) => {
                let (old, effects) = self.leaving(old, event, Heir::None);
                (S::BackingOff { wait, old }, effects)
            }

            // The way down. What is not LIVE serves nobody and has nothing to drain; its predecessor has.
            (S::Starting { new, old: None, .. }, E::Terminate | E::Quit) => {
                ended(Ending::new(Some(new), None, now).stop(&self.policy))
            }
            (S::Starting { new, old, .. }, E::Terminate) => {
                self.end(Ending::new(None, old, now).with_doomed(new), now)
            }
            (S::BackingOff { wait, old }, E::Terminate) => {
                self.end(Ending { doomed: wait.doomed(), ..Ending::new(None, old, now) }, now)
            }
            (S::Starting { new, old, .. }, E::Quit) => {
                ended(Ending::new(None, old, now).with_doomed(new).stop(&self.policy))
            }
            (S::BackingOff { wait, old }, E::Quit) => {
                ended(Ending { doomed: wait.doomed(), ..Ending::new(None, old, now) }.stop(&self.policy))
            }
            (S::Ending(ending), event) => ended(ending.on_event(event, &self.policy, now)),

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
                let stage = match admin {
                    Admin::Silent | Admin::Killed => Stage::Silent,
                    Admin::Answers | Admin::Lost => Stage::Running,
                };
                let rising = match change {
                    Change::Rising { new, .. } | Change::LastProbe { new, .. } => Some(new),
                    _ => None,
                };
                (stage, Some(one), rising, old)
            }
            State::BackingOff { wait: Wait::Probing(new), old } => (Stage::BackingOff, None, Some(new), old),
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
            failed_tries: self.attempts.spent(),
            restarts_left: self.budget.left(),
        }
    }

    fn pursuit(&self) -> Pursuit {
        match self.state {
            State::Running(Running { change: Change::Rising { .. } | Change::LastProbe { .. }, .. }) => {
                Pursuit::HandingOver
            }
            State::Running(Running { one, .. }) if one.revision == self.wish.desired => Pursuit::Settled,
            _ if self.wish.is_refused() => Pursuit::GivenUp,
            _ if self.wish.under_validation.is_some() => Pursuit::Validating,
            State::Running(_) => Pursuit::Waiting,
            _ => Pursuit::Settled,
        }
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

/// The predecessor of this one has died before the agent knew it to be LIVE.
fn orphaned(new: Generation, dead: Generation) -> Next {
    let probe = Effect::Probe { launch: new.launch, predecessor: dead.launch, after: Duration::ZERO };
    (State::BackingOff { wait: Wait::Probing(new), old: None }, vec![Effect::EmulateParent(dead), probe])
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

// === impl Wait ===

impl Wait {
    /// The one that is not LIVE, if there is one.
    fn doomed(self) -> Option<Generation> {
        match self {
            Self::Time => None,
            Self::Probing(new) | Self::Reaping(new) => Some(new),
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
