//! The end of a predecessor: when it is idle, when its time is over, or by itself.
//!
//! ```text
//!   coupled       idle: its place is taken, SIGTERM ── 2 s ──▶ SIGKILL
//!                 successor requests the end after the agreed time; 2 s later: its place is taken, SIGKILL
//!   independent   idle, or its time is over: SIGTERM ── 2 s ──▶ SIGKILL
//!   reaped        coupled: its place is taken, a pending request of its successor is answered
//! ```

use super::{Coupling, Departure, Effect, EnvoySignal, Event, Predecessor, Successor, Supervisor, Timer};

impl Supervisor {
    /// Handles an event that concerns the end of a predecessor.
    pub(super) fn on_predecessor_event(
        &self,
        predecessor: Predecessor,
        event: Event,
        successor: Successor,
    ) -> (Option<Predecessor>, Vec<Effect>) {
        match (event, predecessor.departure, predecessor.coupling) {
            (Event::Died(..), _, _) => {
                (None, if successor == Successor::Live { predecessor.on_death() } else { vec![] })
            }
            // Its successor still requests sockets.
            (Event::Idle(_), Departure::Running, Coupling::Coupled) if successor != Successor::Live => {
                (Some(predecessor), vec![])
            }
            (Event::Idle(_), Departure::Running, _)
            | (Event::TimerExpired(Timer::Leave), Departure::Running, Coupling::Independent) => {
                let (predecessor, mut effects) =
                    Self::end_predecessor(predecessor, EnvoySignal::Terminate, successor);
                effects.push(Effect::ArmTimer(Timer::LeaveKill, self.policy.kill_grace));
                (predecessor, effects)
            }
            (Event::TimerExpired(Timer::Leave), Departure::Running, Coupling::Coupled)
            | (Event::TimerExpired(Timer::LeaveKill), Departure::Signalled, _) => {
                Self::end_predecessor(predecessor, EnvoySignal::Kill, successor)
            }
            _ => (Some(predecessor), vec![]),
        }
    }

    /// Signals a predecessor. One that ends slowly closes its socket long before it can be reaped, so the agent answers its
    /// successor from before the signal on.
    pub(super) fn end_predecessor(
        predecessor: Predecessor,
        signal: EnvoySignal,
        successor: Successor,
    ) -> (Option<Predecessor>, Vec<Effect>) {
        let has_successor = predecessor.is_coupled()
            && successor != Successor::None
            && predecessor.departure == Departure::Running;
        let emulate = has_successor.then_some(Effect::EmulateParent(predecessor.generation));
        let signal = Effect::Signal(predecessor.generation.launch, signal);
        (
            Some(Predecessor { departure: Departure::Signalled, ..predecessor }),
            emulate.into_iter().chain([signal]).collect(),
        )
    }
}
