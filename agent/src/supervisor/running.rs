//! While somebody serves: what is wanted is handed over to, and a hand-over that fails changes nothing.

use std::time::{Duration, Instant};

use super::{
    Allowed, Bond, Budget, Effect, Ending, EnvoySignal, Event, Generation, Heir, Leave, Next, Old,
    PredecessorAdmin, Respawn, Revision, Start, State, Status, Supervisor, Timer, Verdict, Wait, ended,
    hand_over::Change, orphaned,
};

/// While nobody serves, a new Envoy that is not LIVE by then gives way to one that is known to become it.
const HURRY: Duration = Duration::from_secs(1);

/// An old Envoy is asked to go by its successor at the agreed time; this much later it has not heard it.
const OVERDUE: Duration = Duration::from_secs(2);

/// An Envoy that does not answer may wait for its predecessor, which is ended first: after this part of the time
/// that an Envoy may be silent.
const SUSPECT_FIRST: u32 = 3;

/// Time that a new Envoy whose predecessor has lost its admin has to become LIVE when the agent is to end; usually it
/// takes some 20 ms.
const LAST_PROBES: Duration = Duration::from_millis(500);

/// Between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);

/// One that serves, and at most one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) one: Generation,
    pub(super) admin: Admin,
    pub(super) change: Change,
    pub(super) old: Option<Old>,
    pub(super) since: Instant,
    pub(super) last_try: LastTry,
}

/// What the admin of the one that serves is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    Answers,
    Silent,
    /// Closed at the request of a successor that failed, as Envoy's own protocol has it. Silence means
    /// nothing then, and only a successor brings an admin back.
    Lost,
    /// It was sent SIGKILL; what it answered before counts no more.
    Killed,
}

/// How the last tied hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastTry {
    Clean,
    /// The successor may have closed the admin, and may have told the one that serves to leave.
    Tampered,
}

// === impl Running ===

impl Running {
    pub(super) fn new(one: Generation, old: Option<Old>, since: Instant) -> Self {
        let (admin, change) = (Admin::Answers, Change::Settled);
        Self { one, admin, change, old, since, last_try: LastTry::Clean }
    }
}

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn running(&mut self, running: Running, event: Event, now: Instant) -> Next {
        use {Change as C, Event as E};
        let Running { one, admin, change, old, .. } = running;
        let stay = |running, effects| (State::Running(running), effects);
        match (change, event) {
            // A hand-over.
            (C::Rising { new, bond }, E::Live(live)) if live == new.launch => {
                self.handed_over(running, new, bond, now)
            }
            (
                C::Rising { new, bond } | C::Aborting { new, bond },
                E::Died(gone, _) | E::SpawnFailed(gone, _),
            ) if gone == new.launch => self.not_handed_over(running, new, bond),

            // The agent is to end, and the new Envoy may be LIVE already.
            (C::Rising { new, bond }, E::Terminate) => {
                let until = now + LAST_PROBES;
                let change = C::LastProbe { new, bond, until };
                stay(Running { change, ..running }, vec![probe(new, one, Duration::ZERO)])
            }
            (C::LastProbe { new, bond, .. }, E::Live(live)) if live == new.launch => {
                let handed_over = self.handed_over(running, new, bond, now);
                self.and_then(handed_over, E::Terminate, now)
            }
            (C::LastProbe { new, until, .. }, E::NotLive(probed, PredecessorAdmin::Closed))
                if probed == new.launch && now < until =>
            {
                stay(running, vec![probe(new, one, PROBE_INTERVAL)])
            }
            (C::LastProbe { new, .. }, E::NotLive(probed, _)) if probed == new.launch => {
                self.end(Ending::new(Some(one), old, now).with_doomed(new), now)
            }
            (C::LastProbe { new, bond, .. }, E::Died(gone, _) | E::SpawnFailed(gone, _))
                if gone == new.launch =>
            {
                let not_handed_over = self.not_handed_over(running, new, bond);
                self.and_then(not_handed_over, E::Terminate, now)
            }
            (C::LastProbe { new, .. }, E::Terminate) => {
                let ending = self.end(Ending::new(Some(one), old, now).with_doomed(new), now);
                self.and_then(ending, event, now)
            }
            (C::LastProbe { new, .. }, E::Died(died, status)) if died == one.launch => {
                let ending = Ending::new(None, None, now).with_doomed(new).with_code(status.code());
                ended(ending.kill(&self.policy))
            }
            (C::Rising { new, bond }, E::Due(Timer::Live)) => {
                let kill = Effect::Signal(new.launch, EnvoySignal::Kill);
                stay(Running { change: C::Aborting { new, bond }, ..running }, vec![kill])
            }
            (C::Waiting, E::Due(Timer::Retry)) => stay(Running { change: C::Settled, ..running }, vec![]),

            // The one before it finishes what it has.
            (_, event) if old.is_some_and(|old| old.concerns(event)) => {
                let (old, effects) = match old {
                    Some(old) => self.leaving(old, event, Heir::Live),
                    None => (None, vec![]),
                };
                stay(Running { old, ..running }, effects)
            }

            // It ends without being asked to.
            (change, E::Died(died, status)) if died == one.launch => {
                let lived = now.saturating_duration_since(running.since);
                let tampered = running.last_try == LastTry::Tampered;
                match change {
                    C::Rising { new, .. } | C::Aborting { new, .. } => {
                        self.crashed_during(status, lived, running, new, now)
                    }
                    // Told to leave by a successor that has failed: nobody asked us.
                    _ if tampered => self.back_off(status.code(), lived, old, now),
                    _ => self.crashed(status, lived, old, now),
                }
            }

            // It answers nobody. That of a tied successor has closed its admin is no silence.
            (change, E::AdminSilent(silent)) if silent == one.launch && admin == Admin::Answers => {
                let closed = matches!(
                    change,
                    C::Rising { bond: Bond::Tied, .. }
                        | C::LastProbe { bond: Bond::Tied, .. }
                        | C::Aborting { bond: Bond::Tied, .. }
                );
                if closed || running.last_try == LastTry::Tampered {
                    stay(Running { admin: Admin::Lost, ..running }, vec![])
                } else {
                    let hung_after = match old {
                        Some(old) if old.is_tied() => self.policy.hung_after / SUSPECT_FIRST,
                        _ => self.policy.hung_after,
                    };
                    let running = Running { admin: Admin::Silent, ..running };
                    stay(running, vec![Effect::Arm(Timer::Hung, hung_after)])
                }
            }
            (_, E::AdminBack(back)) if back == one.launch && admin != Admin::Killed => {
                stay(Running { admin: Admin::Answers, last_try: LastTry::Clean, ..running }, vec![])
            }
            (_, E::Due(Timer::Hung)) if matches!(admin, Admin::Silent | Admin::Killed) => match old {
                Some(old) if old.is_tied() && old.leave == Leave::Busy => {
                    let (old, mut effects) = Self::tell(old, EnvoySignal::Kill, Heir::Live);
                    effects.push(self.hung());
                    stay(Running { old, ..running }, effects)
                }
                _ => {
                    let kill = Effect::Signal(one.launch, EnvoySignal::Kill);
                    stay(Running { admin: Admin::Killed, ..running }, vec![kill, self.hung()])
                }
            },

            // The way down. A successor that is not LIVE is not waited for.
            (C::Aborting { new, .. }, E::Terminate) => {
                self.end(Ending::new(Some(one), old, now).with_doomed(new), now)
            }
            (C::Settled | C::Waiting, E::Terminate) => self.end(Ending::new(Some(one), old, now), now),
            (C::Rising { new, .. } | C::LastProbe { new, .. } | C::Aborting { new, .. }, E::Quit) => {
                ended(Ending::new(Some(one), old, now).with_doomed(new).stop(&self.policy))
            }
            (C::Settled | C::Waiting, E::Quit) => ended(Ending::new(Some(one), old, now).stop(&self.policy)),

            // Out of service, still serving.
            (_, E::Withdraw) => {
                let scope = self.withdraw(now);
                stay(running, scope.map(|scope| Effect::Drain(one.launch, scope)).into_iter().collect())
            }
            // Before it is LIVE, Envoy may have no handler yet, and SIGUSR1 would end it.
            (_, E::ReopenLogs) => {
                let both = [Some(one.launch), old.map(|old| old.generation.launch)].into_iter().flatten();
                stay(running, both.map(|launch| Effect::Signal(launch, EnvoySignal::ReopenLogs)).collect())
            }

            // Late news of an Envoy we let go, a timer nobody awaits any more.
            _ => stay(running, vec![]),
        }
    }

    /// What one more event does to the outcome of another.
    fn and_then(&mut self, (state, mut effects): Next, event: Event, now: Instant) -> Next {
        let (state, more) = match state {
            State::Running(running) => self.running(running, event, now),
            State::Ending(ending) => ended(ending.on_event(event, &self.policy, now)),
            other => (other, vec![]),
        };
        effects.extend(more);
        (state, effects)
    }

    /// The new one is LIVE by its own word: it serves now, and the one before leaves.
    fn handed_over(&mut self, running: Running, new: Generation, bond: Bond, now: Instant) -> Next {
        let old = Old { generation: running.one, bond, leave: Leave::Busy };
        let leave_within = self.policy.hand_over.leave_within;
        let leaves_after = match bond {
            Bond::Tied => leave_within.saturating_add(OVERDUE),
            Bond::Loose => leave_within,
        };
        self.attempts = Budget::full(self.policy.hand_over.retry);
        let mut effects =
            vec![Effect::Retire(running.one.launch, bond), Effect::Arm(Timer::Leave, leaves_after)];
        let (next, more) = self.live(new, Some(old), now);
        effects.extend(more);
        (next, effects)
    }

    /// The new one never was LIVE. Its number is still free, and what serves goes on serving.
    fn not_handed_over(&mut self, running: Running, new: Generation, bond: Bond) -> Next {
        let mut effects = vec![];
        let mut last_try = running.last_try;
        self.wish.failed = Some(new.revision);
        if bond == Bond::Tied {
            effects.push(Effect::Repair(new));
            last_try = LastTry::Tampered;
        }
        let (change, delay) = match self.attempts.spend(Duration::ZERO) {
            Respawn::Now => (Change::Settled, None),
            Respawn::After(delay) => (Change::Waiting, Some(delay)),
            // What was only to bring the admin back is tried for ever; a state that is wanted is not.
            Respawn::Never if new.revision == running.one.revision => {
                (Change::Waiting, Some(self.policy.hand_over.retry.cap))
            }
            Respawn::Never => {
                self.wish.refused = Some(new.revision);
                self.attempts = Budget::full(self.policy.hand_over.retry);
                (Change::Settled, None)
            }
        };
        effects.extend(delay.map(|delay| Effect::Arm(Timer::Retry, delay)));
        (State::Running(Running { change, last_try, ..running }), effects)
    }

    /// The one that serves has died while another is on its way. A loose one becomes the next at once, if it is
    /// quick. A tied one may be LIVE already; if it is not it would wait for the dead, and a fresh start is sooner
    /// LIVE than it.
    fn crashed_during(
        &mut self,
        status: Status,
        lived: Duration,
        Running { one, change, .. }: Running,
        new: Generation,
        now: Instant,
    ) -> Next {
        if self.budget.spend(lived) == Respawn::Never {
            let ending = Ending::new(None, None, now).with_doomed(new).with_code(status.code());
            return ended(ending.kill(&self.policy));
        }
        match change {
            Change::Rising { bond: Bond::Loose, .. } => {
                let hurry = Effect::Arm(Timer::Live, self.policy.hand_over.live_within.min(HURRY));
                (State::Starting { new, admin: Admin::Answers, old: None }, vec![hurry])
            }
            Change::Rising { bond: Bond::Tied, .. } => orphaned(new, one),
            _ => (State::BackingOff { wait: Wait::Reaping(new), old: None }, vec![]),
        }
    }

    /// The next step of one that leaves.
    pub(super) fn leaving(&self, old: Old, event: Event, heir: Heir) -> (Option<Old>, Vec<Effect>) {
        match (event, old.leave, old.bond) {
            (Event::Died(..), _, _) => (None, if heir == Heir::Live { old.replaced() } else { vec![] }),
            // Its successor still asks it for sockets.
            (Event::Vacant(_), Leave::Busy, Bond::Tied) if heir != Heir::Live => (Some(old), vec![]),
            (Event::Vacant(_), Leave::Busy, _) | (Event::Due(Timer::Leave), Leave::Busy, Bond::Loose) => {
                let (old, mut effects) = Self::tell(old, EnvoySignal::Terminate, heir);
                effects.push(Effect::Arm(Timer::LeaveKill, self.policy.kill_grace));
                (old, effects)
            }
            (Event::Due(Timer::Leave), Leave::Busy, Bond::Tied)
            | (Event::Due(Timer::LeaveKill), Leave::Told, _) => Self::tell(old, EnvoySignal::Kill, heir),
            _ => (Some(old), vec![]),
        }
    }

    /// Ends an old Envoy. It closes its socket long before it can be reaped if it ends slowly, so somebody answers its
    /// successor from before the signal on.
    fn tell(old: Old, signal: EnvoySignal, heir: Heir) -> (Option<Old>, Vec<Effect>) {
        let answered = old.is_tied() && heir != Heir::None && old.leave == Leave::Busy;
        let emulate = answered.then_some(Effect::EmulateParent(old.generation));
        let signal = Effect::Signal(old.generation.launch, signal);
        (Some(Old { leave: Leave::Told, ..old }), emulate.into_iter().chain([signal]).collect())
    }

    pub(super) fn validated(&mut self, revision: Revision, verdict: Verdict) {
        if self.wish.under_validation != Some(revision) {
            return;
        }
        self.wish.under_validation = None;
        match verdict {
            Verdict::Usable(bond) => self.wish.usable = Some((revision, bond)),
            Verdict::Refused => self.wish.refused = Some(revision),
        }
    }

    /// One step towards what is wanted, if there is one to be taken now.
    pub(super) fn pursue(&mut self, effects: &mut Vec<Effect>) {
        if self.policy.hand_over.allowed == Allowed::No {
            return;
        }
        let desired = self.wish.desired;
        let in_use = match self.state {
            State::Ending(_) | State::Exited => return,
            State::Starting { new, .. } => Some(new.revision),
            State::Running(_) | State::BackingOff { .. } => self.proven,
        };
        if in_use != Some(desired)
            && self.wish.bond().is_none()
            && !self.wish.is_refused()
            && self.wish.under_validation.is_none()
        {
            self.wish.under_validation = Some(desired);
            effects.push(Effect::Validate(desired));
        }
        let State::Running(running @ Running { one, change: Change::Settled, old: None, .. }) = self.state
        else {
            return;
        };
        let Some((revision, bond)) = self.successor(&running) else { return };
        if bond == Bond::Tied && matches!(running.admin, Admin::Silent | Admin::Killed) {
            // It would answer no successor.
            return;
        }
        self.launch = self.launch.next();
        let new = Generation { launch: self.launch, epoch: one.epoch.next(), revision };
        self.state = State::Running(Running { change: Change::Rising { new, bond }, ..running });
        effects.push(Effect::Spawn(new, Start::After(one.launch, bond)));
        effects.push(Effect::Arm(Timer::Live, self.policy.hand_over.live_within));
    }

    fn successor(&self, running: &Running) -> Option<(Revision, Bond)> {
        let desired = self.wish.desired;
        if desired != running.one.revision && !self.wish.is_refused() {
            // What changes faster than it is validated would wait for ever: the last that is known will do.
            let newest = self.wish.usable.filter(|&(usable, _)| usable > running.one.revision);
            let bad = [self.wish.refused, self.wish.failed];
            return newest.filter(|&(usable, _)| usable == desired || !bad.contains(&Some(usable)));
        }
        (running.admin == Admin::Lost).then_some((running.one.revision, Bond::Tied))
    }
}

fn probe(new: Generation, one: Generation, after: Duration) -> Effect {
    Effect::Probe { launch: new.launch, predecessor: one.launch, after }
}
