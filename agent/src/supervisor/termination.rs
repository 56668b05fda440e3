//! Termination of the agent: the Envoys that still run, and the step reached.

use std::time::Instant;

use super::{
    Activity, Coupling, DrainScope, Effect, EnvoySignal, Event, ExitStatus, Generation, Launch, Policy,
    Timer,
    drain::{DrainTracker, TrafficState},
    handover::{Departure, Predecessor},
};

/// Envoys that end before the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Termination {
    /// The Envoy that serves.
    pub(super) owner: Option<Generation>,
    /// Its predecessor.
    pub(super) predecessor: Option<Predecessor>,
    /// An Envoy that was not LIVE and has been killed.
    pub(super) aborted: Option<Generation>,
    pub(super) step: TerminationStep,
    /// Time since which load balancers can react; before `began` if `/drain` came first.
    pub(super) since: Instant,
    pub(super) began: Instant,
    /// Exit code of the agent.
    pub(super) code: u8,
}

/// Step of the termination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TerminationStep {
    /// Readiness is off; everything else goes on.
    PreDrain,
    /// Listeners are drained.
    Draining { drain: DrainTracker, told: DrainScope, owner: OwnerState },
    /// Envoys are signalled.
    Stopping(EnvoySignal),
}

/// Activity of the Envoy that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    Busy,
    Drained,
}

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Continue(Termination),
    Exit(u8),
}

type Next = (Outcome, Vec<Effect>);

// === impl Termination ===

impl Termination {
    pub(super) fn new(owner: Option<Generation>, predecessor: Option<Predecessor>, since: Instant) -> Self {
        Self {
            owner,
            predecessor,
            aborted: None,
            step: TerminationStep::PreDrain,
            since,
            began: since,
            code: 0,
        }
    }

    /// Adds an Envoy that is not LIVE and has nothing to drain.
    pub(super) fn with_aborted(self, aborted: Generation) -> Self {
        Self { aborted: Some(aborted), ..self }
    }

    /// Sets the exit code.
    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Handles an event.
    pub(super) fn on_event(self, event: Event, policy: &Policy, now: Instant) -> Next {
        use {EnvoySignal as Sig, Event as E};
        let is_owner = |launch| self.owner.is_some_and(|owner| owner.launch == launch);
        match (self.step, event) {
            (TerminationStep::PreDrain, E::TimerExpired(Timer::PreDrain)) => self.drain(policy, now),
            (TerminationStep::Draining { .. }, E::TimerExpired(Timer::DrainAll)) => self.drain_all(),
            (TerminationStep::Draining { .. }, E::Activity(of, activity)) if is_owner(of) => {
                self.observe(activity, policy, now)
            }
            (
                TerminationStep::PreDrain | TerminationStep::Draining { .. },
                E::TimerExpired(Timer::DrainDeadline) | E::Terminate | E::Quit,
            ) => self.stop(policy),
            (TerminationStep::PreDrain | TerminationStep::Draining { .. }, E::Idle(idle))
                if self.predecessor.is_some_and(|predecessor| predecessor.generation.launch == idle) =>
            {
                self.predecessor_idle(policy)
            }
            (TerminationStep::Stopping(Sig::Terminate), E::TimerExpired(Timer::KillDue) | E::Terminate) => {
                self.kill(policy)
            }
            // SIGKILL had no effect: they sleep in the kernel.
            (TerminationStep::Stopping(Sig::Kill), E::TimerExpired(Timer::ReapDue)) => {
                (Outcome::Exit(ExitStatus::KILLED.code()), vec![])
            }
            (_, E::Died(died, status)) => self.died(died, status, policy),
            (_, E::SpawnFailed(failed, _)) => self.died(failed, ExitStatus::Exited(0), policy),
            (TerminationStep::PreDrain | TerminationStep::Draining { .. }, E::ReopenLogs) => {
                let owner = self.owner.map(|owner| Effect::Signal(owner.launch, Sig::ReopenLogs));
                (Outcome::Continue(self), owner.into_iter().collect())
            }
            _ => (Outcome::Continue(self), vec![]),
        }
    }

    /// Begins with the head start, if there is one.
    pub(super) fn begin(mut self, policy: &Policy, now: Instant) -> Next {
        let head_start = policy.drain.head_start.min(policy.drain.deadline);
        let mut effects = vec![Effect::ArmTimer(Timer::DrainDeadline, policy.drain.deadline)];
        if head_start.is_zero() || self.owner.is_none() {
            let (end, more) = self.drain(policy, now);
            effects.extend(more);
            return (end, effects);
        }
        self.step = TerminationStep::PreDrain;
        effects.push(Effect::ArmTimer(Timer::PreDrain, head_start));
        (Outcome::Continue(self), effects)
    }

    /// Drains the policy's listeners. Without an owner only a predecessor may have connections.
    pub(super) fn drain(mut self, policy: &Policy, now: Instant) -> Next {
        let (told, owner) = (policy.withdraw, self.owner.map_or(OwnerState::Drained, |_| OwnerState::Busy));
        self.step = TerminationStep::Draining { drain: DrainTracker::new(self.since), told, owner };
        let mut effects: Vec<_> = self.owner.iter().map(|owner| Effect::Drain(owner.launch, told)).collect();
        if told == DrainScope::Inbound && self.owner.is_some() {
            // Both halves of the time for the same length of request.
            let left = policy.drain.deadline.saturating_sub(now.saturating_duration_since(self.began));
            effects.push(Effect::ArmTimer(Timer::DrainAll, left / 2));
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    /// Drains all listeners, after the inbound ones.
    pub(super) fn drain_all(mut self) -> Next {
        let effects = match (&mut self.step, self.owner) {
            (TerminationStep::Draining { told: told @ DrainScope::Inbound, .. }, Some(owner)) => {
                *told = DrainScope::All;
                vec![Effect::Drain(owner.launch, DrainScope::All)]
            }
            _ => vec![],
        };
        (Outcome::Continue(self), effects)
    }

    /// Records the activity of the owner.
    pub(super) fn observe(mut self, activity: Option<Activity>, policy: &Policy, now: Instant) -> Next {
        let TerminationStep::Draining { drain, told, owner } = &mut self.step else {
            return (Outcome::Continue(self), vec![]);
        };
        match (drain.observe(activity, policy.drain, now), *told) {
            (TrafficState::Active, _) => {
                *owner = OwnerState::Busy;
                (Outcome::Continue(self), vec![])
            }
            (TrafficState::Ceased, DrainScope::Inbound) => self.drain_all(),
            (TrafficState::Ceased, DrainScope::All) => {
                *owner = OwnerState::Drained;
                self.stop_if_done(policy)
            }
        }
    }

    /// The predecessor is idle. A coupled one stays to the end, because its successor sends it requests.
    pub(super) fn predecessor_idle(mut self, policy: &Policy) -> Next {
        let mut effects = vec![];
        if let Some(predecessor) = &mut self.predecessor
            && predecessor.departure == Departure::Running
        {
            predecessor.departure = Departure::Signalled;
            if predecessor.coupling == Coupling::Independent {
                effects.push(Effect::Signal(predecessor.generation.launch, EnvoySignal::Terminate));
            }
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    fn stop_if_done(self, policy: &Policy) -> Next {
        let busy = self.predecessor.is_some_and(|predecessor| predecessor.departure == Departure::Running);
        match self.step {
            TerminationStep::Draining { owner: OwnerState::Drained, .. } if !busy => self.stop(policy),
            _ => (Outcome::Continue(self), vec![]),
        }
    }

    /// Sends SIGTERM.
    pub(super) fn stop(mut self, policy: &Policy) -> Next {
        self.step = TerminationStep::Stopping(EnvoySignal::Terminate);
        self.signal_all(EnvoySignal::Terminate, (Timer::KillDue, policy.kill_grace))
    }

    /// Sends SIGKILL.
    pub(super) fn kill(mut self, policy: &Policy) -> Next {
        self.step = TerminationStep::Stopping(EnvoySignal::Kill);
        self.signal_all(EnvoySignal::Kill, (Timer::ReapDue, policy.reap_grace))
    }

    fn signal_all(self, signal: EnvoySignal, (timer, grace): (Timer, std::time::Duration)) -> Next {
        if self.is_over() {
            return (Outcome::Exit(self.code), vec![]);
        }
        // A coupled successor requests the end of its predecessor when it exits.
        let follows = |predecessor: &Predecessor| {
            signal == EnvoySignal::Terminate
                && predecessor.coupling == Coupling::Coupled
                && self.owner.is_some()
        };
        let predecessor = self
            .predecessor
            .filter(|predecessor| !follows(predecessor))
            .map(|predecessor| predecessor.generation);
        let mut effects = vec![Effect::ReleaseListeners];
        effects.extend(predecessor.iter().chain(&self.owner).map(|g| Effect::Signal(g.launch, signal)));
        // After SIGTERM it would send requests to its predecessor first.
        effects.extend(self.aborted.map(|aborted| Effect::Signal(aborted.launch, EnvoySignal::Kill)));
        effects.push(Effect::ArmTimer(timer, grace));
        (Outcome::Continue(self), effects)
    }

    /// An Envoy has exited.
    pub(super) fn died(mut self, launch: Launch, status: ExitStatus, policy: &Policy) -> Next {
        let is = |generation: Option<Generation>| generation.is_some_and(|g| g.launch == launch);
        let mut effects = vec![];
        if is(self.owner) {
            self.owner = None;
            if let TerminationStep::Stopping(sent) = self.step {
                self.code = status.code_after(sent);
                // An owner that was not LIVE or was killed has not requested the end of its predecessor.
                let tied = self.predecessor.filter(|predecessor| {
                    predecessor.coupling == Coupling::Coupled && sent == EnvoySignal::Terminate
                });
                effects.extend(tied.map(|predecessor| Effect::Signal(predecessor.generation.launch, sent)));
            } else {
                // Its connections are lost; a predecessor may still have some.
                self.code = status.code();
                let told = DrainScope::All;
                self.step = TerminationStep::Draining {
                    drain: DrainTracker::new(self.since),
                    told,
                    owner: OwnerState::Drained,
                };
            }
        } else if let Some(predecessor) =
            self.predecessor.filter(|predecessor| predecessor.generation.launch == launch)
        {
            self.predecessor = None;
            if self.owner.is_some() {
                effects.extend(predecessor.on_death());
            }
        } else if is(self.aborted) {
            self.aborted = None;
        }
        if self.is_over() {
            return (Outcome::Exit(self.code), effects);
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    fn is_over(&self) -> bool {
        self.owner.is_none() && self.predecessor.is_none() && self.aborted.is_none()
    }
}
