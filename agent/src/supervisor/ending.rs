//! The way down: every Envoy that is still there, and how far the end is.

use std::time::Instant;

use super::{
    Activity, Bond, DrainScope, Effect, EnvoySignal, Event, Generation, Launch, Policy, Status, Timer,
    drain::{Drain, Traffic},
    hand_over::{Leave, Old},
};

/// Envoys that are to end, and then the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The one that serves, if any does.
    pub(super) owner: Option<Generation>,
    /// The one that had handed over to it.
    pub(super) old: Option<Old>,
    /// One that will not be needed, and has been killed.
    pub(super) doomed: Option<Generation>,
    pub(super) step: Step,
    /// Since when load balancers can know: earlier than the end began, if `/drain` came before it.
    pub(super) since: Instant,
    pub(super) began: Instant,
    /// What the agent will end with.
    pub(super) code: u8,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Readiness is off, and nothing else has changed.
    HeadStart,
    /// Clients are told to leave.
    Draining { drain: Drain, told: DrainScope, owner: Owner },
    /// Envoy is.
    Stopping(EnvoySignal),
}

/// Whether the one that serves still has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Busy,
    Done,
}

/// Whether the end has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    NotYet(Ending),
    Now(u8),
}

type Next = (End, Vec<Effect>);

// === impl Ending ===

impl Ending {
    pub(super) fn new(owner: Option<Generation>, old: Option<Old>, since: Instant) -> Self {
        Self { owner, old, doomed: None, step: Step::HeadStart, since, began: since, code: 0 }
    }

    /// With one that is not LIVE, and so has nobody to drain.
    pub(super) fn with_doomed(self, doomed: Generation) -> Self {
        Self { doomed: Some(doomed), ..self }
    }

    /// With a code that is certain already.
    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// What is to be done now that this happened.
    pub(super) fn on_event(self, event: Event, policy: &Policy, now: Instant) -> Next {
        use {EnvoySignal as Sig, Event as E};
        let is_owner = |launch| self.owner.is_some_and(|owner| owner.launch == launch);
        match (self.step, event) {
            (Step::HeadStart, E::Due(Timer::PreDrain)) => self.drain(policy, now),
            (Step::Draining { .. }, E::Due(Timer::DrainAll)) => self.drain_all(),
            (Step::Draining { .. }, E::Activity(of, activity)) if is_owner(of) => {
                self.observe(activity, policy, now)
            }
            (
                Step::HeadStart | Step::Draining { .. },
                E::Due(Timer::DrainDeadline) | E::Terminate | E::Quit,
            ) => self.stop(policy),
            (Step::HeadStart | Step::Draining { .. }, E::Vacant(vacant))
                if self.old.is_some_and(|old| old.generation.launch == vacant) =>
            {
                self.vacant(policy)
            }
            (Step::Stopping(Sig::Terminate), E::Due(Timer::KillDue) | E::Terminate) => self.kill(policy),
            // Not even SIGKILL has ended them: they sleep in the kernel, and end when it lets them.
            (Step::Stopping(Sig::Kill), E::Due(Timer::ReapDue)) => (End::Now(Status::KILLED.code()), vec![]),
            (_, E::Died(died, status)) => self.died(died, status, policy),
            (_, E::SpawnFailed(failed, _)) => self.died(failed, Status::Exited(0), policy),
            (Step::HeadStart | Step::Draining { .. }, E::ReopenLogs) => {
                let owner = self.owner.map(|owner| Effect::Signal(owner.launch, Sig::ReopenLogs));
                (End::NotYet(self), owner.into_iter().collect())
            }
            _ => (End::NotYet(self), vec![]),
        }
    }

    /// The first step: the head start, if there is one.
    pub(super) fn begin(mut self, policy: &Policy, now: Instant) -> Next {
        let head_start = policy.drain.head_start.min(policy.drain.deadline);
        let mut effects = vec![Effect::Arm(Timer::DrainDeadline, policy.drain.deadline)];
        if head_start.is_zero() || self.owner.is_none() {
            let (end, more) = self.drain(policy, now);
            effects.extend(more);
            return (end, effects);
        }
        self.step = Step::HeadStart;
        effects.push(Effect::Arm(Timer::PreDrain, head_start));
        (End::NotYet(self), effects)
    }

    /// Clients are told to leave. Without an owner there are none, but an old Envoy may still have some.
    pub(super) fn drain(mut self, policy: &Policy, now: Instant) -> Next {
        let (told, owner) = (policy.withdraw, self.owner.map_or(Owner::Done, |_| Owner::Busy));
        self.step = Step::Draining { drain: Drain::new(self.since), told, owner };
        let mut effects: Vec<_> = self.owner.iter().map(|owner| Effect::Drain(owner.launch, told)).collect();
        if told == DrainScope::Inbound && self.owner.is_some() {
            // Both halves of the time for the same length of request.
            let left = policy.drain.deadline.saturating_sub(now.saturating_duration_since(self.began));
            effects.push(Effect::Arm(Timer::DrainAll, left / 2));
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    /// The inside is done, or has had its time: now the application's own connections.
    pub(super) fn drain_all(mut self) -> Next {
        let effects = match (&mut self.step, self.owner) {
            (Step::Draining { told: told @ DrainScope::Inbound, .. }, Some(owner)) => {
                *told = DrainScope::All;
                vec![Effect::Drain(owner.launch, DrainScope::All)]
            }
            _ => vec![],
        };
        (End::NotYet(self), effects)
    }

    /// One more look at the owner.
    pub(super) fn observe(mut self, activity: Option<Activity>, policy: &Policy, now: Instant) -> Next {
        let Step::Draining { drain, told, owner } = &mut self.step else {
            return (End::NotYet(self), vec![]);
        };
        match (drain.observe(activity, policy.drain, now), *told) {
            (Traffic::Flows, _) => {
                *owner = Owner::Busy;
                (End::NotYet(self), vec![])
            }
            (Traffic::Ceased, DrainScope::Inbound) => self.drain_all(),
            (Traffic::Ceased, DrainScope::All) => {
                *owner = Owner::Done;
                self.stop_if_done(policy)
            }
        }
    }

    /// The old one has nothing left to do. One that its successor counts on stays to the end.
    pub(super) fn vacant(mut self, policy: &Policy) -> Next {
        let mut effects = vec![];
        if let Some(old) = &mut self.old
            && old.leave == Leave::Busy
        {
            old.leave = Leave::Told;
            if old.bond == Bond::Loose {
                effects.push(Effect::Signal(old.generation.launch, EnvoySignal::Terminate));
            }
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    fn stop_if_done(self, policy: &Policy) -> Next {
        let busy = self.old.is_some_and(|old| old.leave == Leave::Busy);
        match self.step {
            Step::Draining { owner: Owner::Done, .. } if !busy => self.stop(policy),
            _ => (End::NotYet(self), vec![]),
        }
    }

    /// Everybody is to leave now.
    pub(super) fn stop(mut self, policy: &Policy) -> Next {
        self.step = Step::Stopping(EnvoySignal::Terminate);
        self.tell(EnvoySignal::Terminate, (Timer::KillDue, policy.kill_grace))
    }

    /// At once.
    pub(super) fn kill(mut self, policy: &Policy) -> Next {
        self.step = Step::Stopping(EnvoySignal::Kill);
        self.tell(EnvoySignal::Kill, (Timer::ReapDue, policy.reap_grace))
    }

    fn tell(self, signal: EnvoySignal, (timer, grace): (Timer, std::time::Duration)) -> Next {
        if self.is_over() {
            return (End::Now(self.code), vec![]);
        }
        // A tied successor tells its predecessor on its own way out, and waits in vain for one that has gone before.
        let follows =
            |old: &Old| signal == EnvoySignal::Terminate && old.bond == Bond::Tied && self.owner.is_some();
        let old = self.old.filter(|old| !follows(old)).map(|old| old.generation);
        let mut effects = vec![Effect::LetGo];
        effects.extend(old.iter().chain(&self.owner).map(|g| Effect::Signal(g.launch, signal)));
        // Its own way out would lead through its predecessor.
        effects.extend(self.doomed.map(|doomed| Effect::Signal(doomed.launch, EnvoySignal::Kill)));
        effects.push(Effect::Arm(timer, grace));
        (End::NotYet(self), effects)
    }

    /// Somebody is gone.
    pub(super) fn died(mut self, launch: Launch, status: Status, policy: &Policy) -> Next {
        let is = |generation: Option<Generation>| generation.is_some_and(|g| g.launch == launch);
        let mut effects = vec![];
        if is(self.owner) {
            self.owner = None;
            if let Step::Stopping(sent) = self.step {
                self.code = status.code_after(sent);
                // One that was not LIVE yet, or was killed, has told nobody.
                let tied = self.old.filter(|old| old.bond == Bond::Tied && sent == EnvoySignal::Terminate);
                effects.extend(tied.map(|old| Effect::Signal(old.generation.launch, sent)));
            } else {
                // What it served is lost; an old one may still have something to finish.
                self.code = status.code();
                let told = DrainScope::All;
                self.step = Step::Draining { drain: Drain::new(self.since), told, owner: Owner::Done };
            }
        } else if let Some(old) = self.old.filter(|old| old.generation.launch == launch) {
            self.old = None;
            if self.owner.is_some() {
                effects.extend(old.replaced());
            }
        } else if is(self.doomed) {
            self.doomed = None;
        }
        if self.is_over() {
            return (End::Now(self.code), effects);
        }
        let (end, more) = self.stop_if_done(policy);
        effects.extend(more);
        (end, effects)
    }

    fn is_over(&self) -> bool {
        self.owner.is_none() && self.old.is_none() && self.doomed.is_none()
    }
}
