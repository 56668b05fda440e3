//! An Envoy serves: hand-overs, silence, crashes and the begin of the end. A hand-over that fails changes nothing.

use std::time::{Duration, Instant};

use super::{
    Budget, Coupling, Departure, Effect, EnvoySignal, Event, ExitStatus, Generation, Next, Predecessor,
    PredecessorAdmin, Respawn, State, Successor, Supervisor, Termination, Timer, Wait, exit_or_continue,
    handover::Handover, orphaned,
};

/// Limit for a new Envoy to become LIVE while none serves; then the last revision that was LIVE is started.
const ORPHAN_LIVE_WITHIN: Duration = Duration::from_secs(1);

/// Time after the agreed end of a predecessor at which it has ignored the request of its successor.
const OVERDUE: Duration = Duration::from_secs(2);

/// A silent Envoy may wait for its coupled predecessor, which is therefore killed first, after one part in this many of
/// the time that an Envoy may be silent.
const PREDECESSOR_SHARE: u32 = 3;

/// Limit for a new Envoy that has closed its predecessor's admin to become LIVE when the agent is to end. It takes some
/// 20 ms.
const FINAL_PROBES: Duration = Duration::from_millis(500);

/// Pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// The Envoy that serves and at most one other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) owner: Generation,
    pub(super) admin: AdminState,
    pub(super) handover: Handover,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) since: Instant,
    pub(super) last_attempt: LastAttempt,
}

/// State of the admin of an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminState {
    Answers,
    /// The admin endpoint has not responded for seconds.
    Silent,
    /// Closed at the request of a successor that failed, as in Envoy's own protocol. Silence is no sign of a fault then, and
    /// only a further successor has an admin again.
    Lost,
    /// The Envoy was sent SIGKILL; earlier answers are ignored.
    Killed,
}

/// Outcome of the last coupled hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastAttempt {
    Clean,
    /// The successor failed. It may have closed the admin of the Envoy that serves, and may have requested its end.
    Tampered,
}

// === impl Running ===

impl Running {
    pub(super) fn new(owner: Generation, predecessor: Option<Predecessor>, since: Instant) -> Self {
        let (admin, handover) = (AdminState::Answers, Handover::Idle);
        Self { owner, admin, handover, predecessor, since, last_attempt: LastAttempt::Clean }
    }
}

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn running(&mut self, running: Running, event: Event, now: Instant) -> Next {
        use Event as E;
        let Running { owner, admin, handover, predecessor, .. } = running;
        let stay = |running, effects| (State::Running(running), effects);
        match (handover, event) {
            // A hand-over.
            (Handover::Starting { new, coupling }, E::Live(live)) if live == new.launch => {
                self.handed_over(running, new, coupling, now)
            }
            (
                Handover::Starting { new, coupling } | Handover::Aborting { new, coupling },
                E::Died(gone, _) | E::SpawnFailed(gone, _),
            ) if gone == new.launch => self.not_handed_over(running, new, coupling),

            // The agent is to end, and the new Envoy may be LIVE already.
            (Handover::Starting { new, coupling }, E::Terminate) => {
                let until = now + FINAL_PROBES;
                let handover = Handover::FinalProbe { new, coupling, until };
                stay(Running { handover, ..running }, vec![probe(new, owner, Duration::ZERO)])
            }
            (Handover::FinalProbe { new, coupling, .. }, E::Live(live)) if live == new.launch => {
                let handed_over = self.handed_over(running, new, coupling, now);
                self.and_then(handed_over, E::Terminate, now)
            }
            (Handover::FinalProbe { new, until, .. }, E::NotLive(probed, PredecessorAdmin::Closed))
                if probed == new.launch && now < until =>
            {
                stay(running, vec![probe(new, owner, PROBE_INTERVAL)])
            }
            (Handover::FinalProbe { new, .. }, E::NotLive(probed, _)) if probed == new.launch => {
                self.end(Termination::new(Some(owner), predecessor, now).with_aborted(new), now)
            }
            (Handover::FinalProbe { new, coupling, .. }, E::Died(gone, _) | E::SpawnFailed(gone, _))
                if gone == new.launch =>
            {
                let not_handed_over = self.not_handed_over(running, new, coupling);
                self.and_then(not_handed_over, E::Terminate, now)
            }
            (Handover::FinalProbe { new, .. }, E::Terminate) => {
                let termination =
                    self.end(Termination::new(Some(owner), predecessor, now).with_aborted(new), now);
                self.and_then(termination, event, now)
            }
            (Handover::FinalProbe { new, .. }, E::Died(died, status)) if died == owner.launch => {
                let termination =
                    Termination::new(None, None, now).with_aborted(new).with_code(status.code());
                exit_or_continue(termination.kill(&self.policy))
            }
            (Handover::Starting { new, coupling }, E::TimerExpired(Timer::Live)) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                stay(Running { handover: Handover::Aborting { new, coupling }, ..running }, vec![kill])
            }
            (Handover::BackingOff, E::TimerExpired(Timer::Retry)) => {
                stay(Running { handover: Handover::Idle, ..running }, vec![])
            }

            // The predecessor.
            (_, event) if predecessor.is_some_and(|predecessor| predecessor.concerns(event)) => {
                let (predecessor, effects) = match predecessor {
                    Some(predecessor) => self.on_predecessor_event(predecessor, event, Successor::Live),
                    None => (None, vec![]),
                };
                stay(Running { predecessor, ..running }, effects)
            }

            // A crash.
            (handover, E::Died(died, status)) if died == owner.launch => {
                let lived = now.saturating_duration_since(running.since);
                let tampered = running.last_attempt == LastAttempt::Tampered;
                match handover {
                    Handover::Starting { new, .. } | Handover::Aborting { new, .. } => {
                        self.crashed_during(status, lived, running, new, now)
                    }
                    // The failed successor may have requested the end.
                    _ if tampered => self.back_off(status.code(), lived, predecessor, now),
                    _ => self.crashed(status, lived, predecessor, now),
                }
            }

            // Silence. An admin closed by a coupled successor is not silent.
            (handover, E::AdminUnresponsive(silent))
                if silent == owner.launch && admin == AdminState::Answers =>
            {
                let closed = matches!(
                    handover,
                    Handover::Starting { coupling: Coupling::Coupled, .. }
                        | Handover::FinalProbe { coupling: Coupling::Coupled, .. }
                        | Handover::Aborting { coupling: Coupling::Coupled, .. }
                );
                if closed || running.last_attempt == LastAttempt::Tampered {
                    stay(Running { admin: AdminState::Lost, ..running }, vec![])
                } else {
                    let hung_after = match predecessor {
                        Some(predecessor) if predecessor.is_coupled() => {
                            self.policy.hung_after / PREDECESSOR_SHARE
                        }
                        _ => self.policy.hung_after,
                    };
                    let running = Running { admin: AdminState::Silent, ..running };
                    stay(running, vec![Effect::ArmTimer(Timer::Hung, hung_after)])
                }
            }
            (_, E::AdminRecovered(back)) if back == owner.launch && admin != AdminState::Killed => stay(
                Running { admin: AdminState::Answers, last_attempt: LastAttempt::Clean, ..running },
                vec![],
            ),
            (_, E::TimerExpired(Timer::Hung)) if matches!(admin, AdminState::Silent | AdminState::Killed) => {
                match predecessor {
                    Some(predecessor)
                        if predecessor.is_coupled() && predecessor.departure == Departure::Running =>
                    {
                        let (predecessor, mut effects) =
                            Self::end_predecessor(predecessor, EnvoySignal::Kill, Successor::Live);
                        effects.push(self.hung());
                        stay(Running { predecessor, ..running }, effects)
                    }
                    _ => {
                        let kill = Effect::Signal(owner.launch, EnvoySignal::Kill);
                        stay(Running { admin: AdminState::Killed, ..running }, vec![kill, self.hung()])
                    }
                }
            }

            // The end.
            (Handover::Aborting { new, .. }, E::Terminate) => {
                self.end(Termination::new(Some(owner), predecessor, now).with_aborted(new), now)
            }
            (Handover::Idle | Handover::BackingOff, E::Terminate) => {
                self.end(Termination::new(Some(owner), predecessor, now), now)
            }
            (
                Handover::Starting { new, .. }
                | Handover::FinalProbe { new, .. }
                | Handover::Aborting { new, .. },
                E::Quit,
            ) => exit_or_continue(
                Termination::new(Some(owner), predecessor, now).with_aborted(new).stop(&self.policy),
            ),
            (Handover::Idle | Handover::BackingOff, E::Quit) => {
                exit_or_continue(Termination::new(Some(owner), predecessor, now).stop(&self.policy))
            }

            // Withdrawal from service.
            (_, E::Withdraw) => {
                let scope = self.withdraw(now);
                stay(running, scope.map(|scope| Effect::Drain(owner.launch, scope)).into_iter().collect())
            }
            // Before it is LIVE, Envoy may have no handler yet, and SIGUSR1 would end it.
            (_, E::ReopenLogs) => {
                let both = [Some(owner.launch), predecessor.map(|predecessor| predecessor.generation.launch)]
                    .into_iter()
                    .flatten();
                stay(running, both.map(|launch| Effect::Signal(launch, EnvoySignal::ReopenLogs)).collect())
            }

            // Late events of former Envoys, and timers that no longer apply.
            _ => stay(running, vec![]),
        }
    }

    /// Applies one more event to the outcome of another.
    fn and_then(&mut self, (state, mut effects): Next, event: Event, now: Instant) -> Next {
        let (state, more) = match state {
            State::Running(running) => self.running(running, event, now),
            State::Termination(termination) => {
                exit_or_continue(termination.on_event(event, &self.policy, now))
            }
            other => (other, vec![]),
        };
        effects.extend(more);
        (state, effects)
    }

    /// The new Envoy is LIVE: it serves, and the old one becomes its predecessor.
    fn handed_over(&mut self, running: Running, new: Generation, coupling: Coupling, now: Instant) -> Next {
        let predecessor = Predecessor { generation: running.owner, coupling, departure: Departure::Running };
        let leave_within = self.policy.handover.leave_within;
        let leaves_after = match coupling {
            Coupling::Coupled => leave_within.saturating_add(OVERDUE),
            Coupling::Independent => leave_within,
        };
        self.attempts = Budget::full(self.policy.handover.retry);
        let mut effects = vec![
            Effect::StopAccepting(running.owner.launch, coupling),
            Effect::ArmTimer(Timer::Leave, leaves_after),
        ];
        let (next, more) = self.live(new, Some(predecessor), now);
        effects.extend(more);
        (next, effects)
    }

    /// The new Envoy has failed before it was LIVE. Its epoch is used again, and the old Envoy goes on serving.
    fn not_handed_over(&mut self, running: Running, new: Generation, coupling: Coupling) -> Next {
        let mut effects = vec![];
        let mut last_attempt = running.last_attempt;
        self.target.failed = Some(new.revision);
        if coupling == Coupling::Coupled {
            effects.push(Effect::RepairSegment(new));
            last_attempt = LastAttempt::Tampered;
        }
        let (handover, delay) = match self.attempts.spend(Duration::ZERO) {
            Respawn::Now => (Handover::Idle, None),
            Respawn::After(delay) => (Handover::BackingOff, Some(delay)),
            // A successor that only restores the admin is tried forever, a desired state is not.
            Respawn::Never if new.revision == running.owner.revision => {
                (Handover::BackingOff, Some(self.policy.handover.retry.cap))
            }
            Respawn::Never => {
                self.target.rejected = Some(new.revision);
                self.attempts = Budget::full(self.policy.handover.retry);
                (Handover::Idle, None)
            }
        };
        effects.extend(delay.map(|delay| Effect::ArmTimer(Timer::Retry, delay)));
        (State::Running(Running { handover, last_attempt, ..running }), effects)
    }

    /// The Envoy that serves has died while its successor starts. An independent successor serves next, if it is LIVE soon. A
    /// coupled one may be LIVE already; if not, it would wait for the dead Envoy, and a cold start is faster.
    fn crashed_during(
        &mut self,
        status: ExitStatus,
        lived: Duration,
        Running { owner, handover, .. }: Running,
        new: Generation,
        now: Instant,
    ) -> Next {
        if self.budget.spend(lived) == Respawn::Never {
            let termination = Termination::new(None, None, now).with_aborted(new).with_code(status.code());
            return exit_or_continue(termination.kill(&self.policy));
        }
        match handover {
            Handover::Starting { coupling: Coupling::Independent, .. } => {
                let deadline =
                    Effect::ArmTimer(Timer::Live, self.policy.handover.live_within.min(ORPHAN_LIVE_WITHIN));
                (State::Starting { new, admin: AdminState::Answers, predecessor: None }, vec![deadline])
            }
            Handover::Starting { coupling: Coupling::Coupled, .. } => orphaned(new, owner),
            _ => (State::BackingOff { wait: Wait::Reaping(new), predecessor: None }, vec![]),
        }
    }
}

/// Returns the effect that probes a new Envoy.
fn probe(new: Generation, owner: Generation, after: Duration) -> Effect {
    Effect::Probe { launch: new.launch, predecessor: owner.launch, after }
}
