//! Decides what happens to Envoy: when it is started, drained, signalled, started again, and when the
//! agent itself ends. Every rule is a line of [`Supervisor::on_event`].
//!
//! ```text
//!            spawn           LIVE, own epoch          SIGTERM              quiet or deadline
//!   boot ──▶ Starting ─────▶ Running ───────────────▶ Draining ──────────▶ Stopping ──▶ Exited
//!              ▲   │           │                         │ Envoy ends         ▲ ▲          ▲
//!              │   └─ crash ─┬─┘ crash                   └────────────────────┼─┼──────────┤
//!   respawn due└─ BackingOff ◀┘                                  SIGTERM ─────┘ └ SIGTERM  │
//!                     └── SIGTERM, or nothing left of the restart budget ──────────────────┘
//! ```
//!
//! It deliberately knows no clock (`now` comes in), no pid, no file and no socket; it cannot wait and
//! cannot fail. What it wants done it returns as [`Effect`]s, which the driver performs in order.

mod drain;
mod epoch;
mod event;
mod phase;
mod restart;
mod status;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::{
    drain::{Activity, DrainPolicy},
    epoch::Epoch,
    event::{DrainScope, Effect, EnvoySignal, Event, Timer},
    phase::{Offer, Phase, Stage},
    restart::RestartPolicy,
    status::{SpawnFailure, Status},
};
use self::{
    drain::{Drain, Traffic},
    restart::{Budget, Respawn},
};

/// Every duration that is a matter of taste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long Envoy may drain.
    pub drain: DrainPolicy,
    /// Whom `POST /drain` tells to leave.
    pub withdraw: DrainScope,
    /// How often and how fast Envoy is started again.
    pub restart: RestartPolicy,
    /// Between SIGTERM and SIGKILL. Envoy needs 10 ms, and longer only when its log pipe is stuck.
    pub kill_grace: Duration,
    /// Between SIGKILL and giving up on a process that sleeps in the kernel.
    pub reap_grace: Duration,
    /// An Envoy whose admin is silent for this long is killed. Far above the seconds that a large
    /// configuration occupies Envoy's main thread.
    pub hung_after: Duration,
}

/// Envoy's life in the agent's eyes. Hot restart is to stand between two `Running`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting { epoch: Epoch, admin: Admin },
    Running { epoch: Epoch, since: Instant, admin: Admin },
    BackingOff,
    Draining { epoch: Epoch, drain: Drain },
    Stopping { epoch: Epoch, sent: EnvoySignal },
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Answers,
    Silent,
}

/// Whether any Envoy of ours has ever been LIVE: before that, an Envoy that gives up has read what we
/// gave it and will give up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proven {
    NotYet,
    Yes,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Supervisor {
    policy: Policy,
    state: State,
    budget: Budget,
    offer: Offer,
    proven: Proven,
    launch: u32,
}

// === impl Supervisor ===

impl Supervisor {
    /// A supervisor and its first effects: Envoy is started at once.
    pub fn boot(policy: Policy) -> (Self, Vec<Effect>) {
        let mut supervisor = Self {
            policy,
            state: State::BackingOff,
            budget: Budget::full(policy.restart),
            offer: Offer::Offered,
            proven: Proven::NotYet,
            launch: 0,
        };
        let (state, effects) = supervisor.start();
        supervisor.state = state;
        (supervisor, effects)
    }

    /// What is to be done now that this happened.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        use {Effect as F, EnvoySignal as Sig, Event as E, State as S};
        let (next, effects) = match (self.state, event) {
            // The way up.
            (S::Starting { epoch, .. }, E::Live(live)) if live == epoch => self.live(epoch, now),
            (S::BackingOff, E::Due(Timer::Respawn)) => self.start(),

            // Envoy ends without being asked to.
            (S::Starting { epoch, .. }, E::SpawnFailed(failed, why)) if failed == epoch => {
                self.unstartable(why)
            }
            (S::Starting { epoch, .. }, E::Died(died, status)) if died == epoch => {
                self.crashed(status, Duration::ZERO)
            }
            (S::Running { epoch, since, .. }, E::Died(died, status)) if died == epoch => {
                self.crashed(status, now.saturating_duration_since(since))
            }

            // Envoy answers nobody. One that never answered is still starting, and no one's business.
            (S::Starting { epoch, admin: Admin::Answers }, E::AdminSilent) => {
                (S::Starting { epoch, admin: Admin::Silent }, vec![self.hung()])
            }
            (S::Running { epoch, since, admin: Admin::Answers }, E::AdminSilent) => {
                (S::Running { epoch, since, admin: Admin::Silent }, vec![self.hung()])
            }
            (S::Starting { epoch, .. }, E::AdminBack) => {
                (S::Starting { epoch, admin: Admin::Answers }, vec![])
            }
            (S::Running { epoch, since, .. }, E::AdminBack) => {
                (S::Running { epoch, since, admin: Admin::Answers }, vec![])
            }
            (
                S::Starting { epoch, admin: Admin::Silent } | S::Running { epoch, admin: Admin::Silent, .. },
                E::Due(Timer::Hung),
            ) => (self.state, vec![F::Signal(epoch, Sig::Kill), self.hung()]),

            // The way down. What is not LIVE serves nobody and has nothing to drain.
            (S::Running { epoch, .. }, E::Terminate) => self.drain(epoch, now),
            (S::Starting { epoch, .. }, E::Terminate | E::Quit)
            | (S::Running { epoch, .. }, E::Quit)
            | (S::Draining { epoch, .. }, E::Due(Timer::DrainDeadline) | E::Terminate | E::Quit) => {
                self.stop(epoch)
            }
            (S::BackingOff, E::Terminate | E::Quit) => exit(0),
            (S::Draining { epoch, mut drain }, E::Activity(activity)) => {
                match drain.observe(activity, self.policy.drain, now) {
                    Traffic::Flows => (S::Draining { epoch, drain }, vec![]),
                    Traffic::Ceased => self.stop(epoch),
                }
            }
            (S::Draining { epoch, .. }, E::Died(died, status)) if died == epoch => exit(status.code()),
            (S::Stopping { epoch, sent: Sig::Terminate }, E::Due(Timer::KillDue) | E::Terminate) => {
                self.kill(epoch)
            }
            (S::Stopping { epoch, sent }, E::Died(died, status)) if died == epoch => {
                exit(status.code_after(sent))
            }
            (S::Stopping { epoch, .. }, E::SpawnFailed(failed, _)) if failed == epoch => exit(0),
            (S::Stopping { sent: Sig::Kill, .. }, E::Due(Timer::ReapDue)) => exit(Status::KILLED.code()),

            // Out of service, still serving. An Envoy not yet LIVE is withdrawn once it is.
            (S::Running { .. }, E::Withdraw) => (self.state, self.withdraw(now).into_iter().collect()),
            (S::Starting { .. } | S::BackingOff, E::Withdraw) => {
                self.withdraw(now);
                (self.state, vec![])
            }

            // Before it is LIVE, Envoy may have no handler yet, and SIGUSR1 would end it.
            (S::Running { epoch, .. } | S::Draining { epoch, .. }, E::ReopenLogs) => {
                (self.state, vec![F::Signal(epoch, Sig::ReopenLogs)])
            }

            // Late news of an Envoy we let go, a timer nobody awaits any more, one signal too many.
            (
                S::Starting { .. }
                | S::Running { .. }
                | S::BackingOff
                | S::Draining { .. }
                | S::Stopping { .. }
                | S::Exited,
                _,
            ) => (self.state, vec![]),
        };
        self.state = next;
        effects
    }

    /// What the rest of the agent may know.
    pub fn phase(&self) -> Phase {
        let (stage, epoch) = match self.state {
            State::Starting { epoch, .. } => (Stage::Starting, Some(epoch)),
            State::Running { epoch, admin: Admin::Answers, .. } => (Stage::Running, Some(epoch)),
            State::Running { epoch, admin: Admin::Silent, .. } => (Stage::Silent, Some(epoch)),
            State::BackingOff => (Stage::BackingOff, None),
            State::Draining { epoch, .. } => (Stage::Draining, Some(epoch)),
            State::Stopping { epoch, .. } => (Stage::Stopping, Some(epoch)),
            State::Exited => (Stage::Exited, None),
        };
        Phase { launch: self.launch, epoch, stage, offer: self.offer }
    }

    /// Nobody is alive to take over from, so every start is a first one.
    fn start(&mut self) -> (State, Vec<Effect>) {
        self.launch = self.launch.saturating_add(1);
        let epoch = Epoch::FIRST;
        (State::Starting { epoch, admin: Admin::Answers }, vec![Effect::Spawn(epoch)])
    }

    fn live(&mut self, epoch: Epoch, now: Instant) -> (State, Vec<Effect>) {
        self.proven = Proven::Yes;
        let effects = match self.offer {
            Offer::Offered => vec![],
            Offer::Withdrawn { .. } => vec![Effect::Drain(self.policy.withdraw)],
        };
        (State::Running { epoch, since: now, admin: Admin::Answers }, effects)
    }

    fn crashed(&mut self, status: Status, lived: Duration) -> (State, Vec<Effect>) {
        match (status, self.proven) {
            // Somebody asked Envoy itself to leave (`POST /quitquitquit` on its admin is how jobs end
            // their sidecar): then we have nothing left to do either.
            (Status::Exited(0), _) => exit(0),
            // Configuration it refuses, an address in use: what it cannot read now it cannot read later.
            (Status::Exited(code), Proven::NotYet) => exit(code),
            _ => self.back_off(status.code(), lived),
        }
    }

    fn unstartable(&mut self, why: SpawnFailure) -> (State, Vec<Effect>) {
        match (why, self.proven) {
            (SpawnFailure::NotFound | SpawnFailure::NotExecutable, Proven::NotYet) => exit(why.code()),
            // A binary that has run before is being replaced.
            _ => self.back_off(why.code(), Duration::ZERO),
        }
    }

    fn back_off(&mut self, code: u8, lived: Duration) -> (State, Vec<Effect>) {
        match self.budget.spend(lived) {
            Respawn::Now => self.start(),
            Respawn::After(delay) => (State::BackingOff, vec![Effect::Arm(Timer::Respawn, delay)]),
            Respawn::Never => exit(code),
        }
    }

    fn drain(&self, epoch: Epoch, now: Instant) -> (State, Vec<Effect>) {
        let since = match self.offer {
            Offer::Offered => now,
            Offer::Withdrawn { since } => since,
        };
        let deadline = Effect::Arm(Timer::DrainDeadline, self.policy.drain.deadline);
        let state = State::Draining { epoch, drain: Drain::new(since) };
        (state, vec![Effect::Drain(DrainScope::All), deadline])
    }

    /// Nobody is asked twice: `None` when already withdrawn.
    fn withdraw(&mut self, now: Instant) -> Option<Effect> {
        match self.offer {
            Offer::Withdrawn { .. } => None,
            Offer::Offered => {
                self.offer = Offer::Withdrawn { since: now };
                Some(Effect::Drain(self.policy.withdraw))
            }
        }
    }

    fn stop(&self, epoch: Epoch) -> (State, Vec<Effect>) {
        let sent = EnvoySignal::Terminate;
        let grace = Effect::Arm(Timer::KillDue, self.policy.kill_grace);
        (State::Stopping { epoch, sent }, vec![Effect::Signal(epoch, sent), grace])
    }

    fn kill(&self, epoch: Epoch) -> (State, Vec<Effect>) {
        let sent = EnvoySignal::Kill;
        let grace = Effect::Arm(Timer::ReapDue, self.policy.reap_grace);
        (State::Stopping { epoch, sent }, vec![Effect::Signal(epoch, sent), grace])
    }

    fn hung(&self) -> Effect {
        Effect::Arm(Timer::Hung, self.policy.hung_after)
    }
}

fn exit(code: u8) -> (State, Vec<Effect>) {
    (State::Exited, vec![Effect::Exit(code)])
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            drain: DrainPolicy::default(),
            withdraw: DrainScope::Inbound,
            restart: RestartPolicy::default(),
            kill_grace: Duration::from_secs(2),
            reap_grace: Duration::from_secs(1),
            hung_after: Duration::from_secs(30),
        }
    }
}
