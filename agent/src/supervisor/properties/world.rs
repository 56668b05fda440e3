//! Processes, clock and driver, as far as the supervisor can tell. Checks every effect as it performs it.

use std::collections::BTreeMap;

use super::super::*;
use super::act::Act;

#[derive(Clone, Copy, Debug)]
pub(super) struct Envoy {
    pub(super) generation: Generation,
    pub(super) live: bool,
    pub(super) told: Option<EnvoySignal>,
    pub(super) after: StartMode,
    /// Its process has ended and has not been reaped.
    pub(super) ended: Option<ExitStatus>,
    /// It waits for an answer of a predecessor that has ended.
    pub(super) stuck: bool,
}

/// Printed with a failure.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read when printed")]
pub(super) enum Line {
    Told(Event),
    Done(Effect),
}

pub(super) struct World {
    pub(super) supervisor: Supervisor,
    pub(super) now: Instant,
    pub(super) envoys: Vec<Envoy>,
    pub(super) timers: BTreeMap<Timer, Instant>,
    pub(super) validating: Option<Revision>,
    pub(super) refused: Vec<Revision>,
    pub(super) desired: Revision,
    pub(super) latest: Revision,
    pub(super) launches: u32,
    pub(super) exit: Option<u8>,
    /// Predecessors whose sockets the agent has taken over.
    pub(super) emulated: Vec<Launch>,
    /// Envoy with a running probe for LIVE.
    pub(super) probed: Option<Launch>,
    pub(super) log: Vec<Line>,
}

impl Envoy {
    fn can_be_live(&self) -> bool {
        !self.live && !self.stuck && self.ended.is_none()
    }
}

impl World {
    pub(super) fn boot(policy: &Policy) -> Self {
        let (supervisor, effects) = Supervisor::boot(policy);
        let mut world = Self {
            supervisor,
            now: Instant::now(),
            envoys: Vec::new(),
            timers: BTreeMap::new(),
            validating: None,
            refused: Vec::new(),
            desired: Revision::FIRST,
            latest: Revision::FIRST,
            launches: 0,
            exit: None,
            emulated: Vec::new(),
            probed: None,
            log: Vec::new(),
        };
        world.perform(effects);
        world
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.log.push(Line::Told(event));
        let effects = self.supervisor.on_event(event, self.now);
        assert!(self.exit.is_none() || effects.is_empty(), "effects after the exit: {effects:?}");
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(self.exit.is_none(), "{effect:?} after the exit");
            self.log.push(Line::Done(effect));
            match effect {
                Effect::Spawn(generation, after) => self.spawn(generation, after),
                Effect::Validate(revision) => {
                    assert_eq!(self.validating, None, "two validations at once");
                    self.validating = Some(revision);
                }
                Effect::Signal(launch, signal) => self.signal(launch, signal),
                Effect::ArmTimer(timer, after) => drop(self.timers.insert(timer, self.now + after)),
                Effect::StopAccepting(launch, _) => {
                    assert!(
                        self.find(launch).is_some_and(|envoy| envoy.live),
                        "stops the listeners of an Envoy that never served"
                    );
                }
                Effect::RepairSegment(dead) => {
                    assert!(self.find(dead.launch).is_none(), "repairs while the Envoy runs");
                }
                Effect::EmulateParent(parent) => self.emulated.push(parent.launch),
                Effect::AnswerPendingStats(parent) => {
                    assert!(self.find(parent.launch).is_none(), "answers in place of a running Envoy");
                    assert!(self.emulated.contains(&parent.launch), "answers once and never again");
                }
                Effect::Probe { launch, .. } => self.probed = Some(launch),
                Effect::Drain(launch, _) => {
                    assert!(
                        self.find(launch).is_some_and(|envoy| envoy.live),
                        "drains an Envoy that does not serve"
                    );
                }
                Effect::ReleaseListeners => {}
                Effect::Exit(code) => self.exit = Some(code),
            }
        }
        assert!(self.envoys.len() <= 2, "three generations: {:?}", self.envoys);
        if self.exit.is_none() {
            self.check_successors();
        }
    }

    /// An Envoy that sends to a predecessor whose socket is closed aborts after ten seconds. So the predecessor is emulated
    /// before it is signalled, and when it is reaped at the latest, however late that is.
    fn check_successors(&self) {
        for successor in &self.envoys {
            let StartMode::After(parent, Coupling::Coupled) = successor.after else { continue };
            if successor.ended.is_some() || successor.told == Some(EnvoySignal::Kill) {
                continue;
            }
            let leaves = self.find(parent).is_none_or(|parent| parent.told.is_some());
            if successor.live {
                assert!(
                    !leaves || self.emulated.contains(&parent),
                    "not answered: {successor:?}\n{:#?}",
                    self.log
                );
            } else {
                let asked = self.probed == Some(successor.generation.launch);
                let waits = self.find(parent).is_none() && !asked && successor.told.is_none();
                assert!(!waits, "waits for the dead: {successor:?}\n{:#?}", self.log);
            }
        }
    }

    /// An epoch is started above a LIVE one only, and the first one when no Envoy lives.
    fn spawn(&mut self, generation: Generation, after: StartMode) {
        self.launches += 1;
        assert_eq!(generation.launch.get(), self.launches, "a start number twice, or none");
        match after {
            StartMode::Cold => {
                assert!(self.envoys.is_empty(), "a first Envoy beside {:?}", self.envoys);
                assert_eq!(generation.epoch, Epoch::FIRST);
            }
            StartMode::After(parent, coupling) => {
                let parent = self.find(parent).expect("successor of a dead Envoy");
                assert!(parent.live, "successor of an Envoy that never was LIVE");
                let leaves = coupling == Coupling::Coupled && parent.told.is_some();
                assert!(!leaves, "successor of a signalled Envoy\n{:#?}", self.log);
                assert_eq!(generation.epoch, parent.generation.epoch.next());
            }
        }
        let stuck = matches!(after, StartMode::After(parent, Coupling::Coupled)
            if self.find(parent).is_some_and(|parent| parent.ended.is_some()));
        self.envoys.push(Envoy { generation, live: false, told: None, after, ended: None, stuck });
    }

    /// An Envoy that is terminated before it is LIVE terminates its living predecessor too.
    fn signal(&mut self, launch: Launch, signal: EnvoySignal) {
        let Some(envoy) = self.find(launch) else { return };
        if let (StartMode::After(parent, Coupling::Coupled), false, EnvoySignal::Terminate) =
            (envoy.after, envoy.live, signal)
            && self.find(parent).is_some_and(|parent| parent.told.is_none())
        {
            panic!("SIGTERM to an Envoy that would end its predecessor");
        }
        if signal == EnvoySignal::ReopenLogs {
            assert!(envoy.live, "SIGUSR1 to an Envoy without a handler");
            return;
        }
        for envoy in self.envoys.iter_mut().filter(|envoy| envoy.generation.launch == launch) {
            if envoy.told != Some(EnvoySignal::Kill) {
                envoy.told = Some(signal);
            }
        }
    }

    fn find(&self, launch: Launch) -> Option<Envoy> {
        self.envoys.iter().copied().find(|envoy| envoy.generation.launch == launch)
    }

    fn nth(&self, n: usize) -> Option<Envoy> {
        self.envoys.get(n.checked_rem(self.envoys.len())?).copied()
    }

    /// One that starts waits for its answer in half of the cases.
    fn end(&mut self, envoy: Envoy, status: ExitStatus) {
        let launch = envoy.generation.launch;
        for other in &mut self.envoys {
            if other.generation.launch == launch {
                other.ended.get_or_insert(status);
            }
            if matches!(other.after, StartMode::After(parent, Coupling::Coupled) if parent == launch)
                && !other.live
            {
                other.stuck |= other.generation.launch.get().is_multiple_of(2);
            }
        }
    }

    /// One that can be LIVE is, if its predecessor's admin is closed.
    pub(super) fn answer_probe(&mut self, admin: PredecessorAdmin) -> bool {
        let Some(launch) = self.probed.take() else { return false };
        match self.find(launch) {
            Some(envoy) if envoy.can_be_live() && admin == PredecessorAdmin::Closed => {
                self.become_live(envoy);
            }
            _ => self.tell(Event::NotLive(launch, admin)),
        }
        true
    }

    pub(super) fn reap(&mut self) -> bool {
        let ended = self.envoys.iter().copied().find_map(|envoy| Some((envoy, envoy.ended?)));
        let Some((envoy, status)) = ended else { return false };
        self.die(envoy, status);
        true
    }

    pub(super) fn die(&mut self, envoy: Envoy, status: ExitStatus) {
        self.end(envoy, status);
        self.envoys.retain(|other| other.generation.launch != envoy.generation.launch);
        self.tell(Event::Died(envoy.generation.launch, status));
    }

    fn become_live(&mut self, envoy: Envoy) {
        for other in self.envoys.iter_mut().filter(|o| o.generation.launch == envoy.generation.launch) {
            other.live = true;
        }
        self.tell(Event::Live(envoy.generation.launch));
    }

    fn judge(&mut self, verdict: ValidationResult) {
        if let Some(revision) = self.validating.take() {
            if verdict == ValidationResult::Rejected {
                self.refused.push(revision);
            }
            self.tell(Event::Validated(revision, verdict));
        }
    }

    /// The next timer, at its time; whether there was one.
    pub(super) fn next_timer(&mut self) -> bool {
        let Some((&timer, &at)) = self.timers.iter().min_by_key(|&(_, at)| at) else { return false };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.tell(Event::TimerExpired(timer));
        true
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Live(n) => {
                if let Some(envoy) = self.nth(n).filter(Envoy::can_be_live) {
                    self.become_live(envoy);
                }
            }
            Act::Die(n, status) => {
                if let Some(envoy) = self.nth(n) {
                    self.die(envoy, envoy.ended.unwrap_or(status));
                }
            }
            Act::Outcome(n, status) => {
                if let Some(envoy) = self.nth(n) {
                    self.end(envoy, status);
                }
            }
            Act::Reap => drop(self.reap()),
            Act::Probed(admin) => drop(self.answer_probe(admin)),
            // A start fails within its own turn, if it does.
            Act::FailToStart => {
                if let Some(envoy) = self.envoys.last().copied().filter(Envoy::can_be_live) {
                    self.envoys.pop();
                    self.tell(Event::SpawnFailed(envoy.generation.launch, SpawnFailure::Transient));
                }
            }
            Act::Silent(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::AdminUnresponsive(envoy.generation.launch));
                }
            }
            Act::Back(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::AdminRecovered(envoy.generation.launch));
                }
            }
            Act::Vacant(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::Idle(envoy.generation.launch));
                }
            }
            Act::Desire => {
                self.latest = self.latest.next();
                self.desired = self.latest;
                self.tell(Event::Desired(self.desired));
            }
            Act::DesireAgain(n) => {
                let revisions =
                    std::iter::successors(Some(Revision::FIRST), |revision| Some(revision.next()));
                self.desired = revisions
                    .take_while(|r| *r <= self.latest)
                    .nth(n as usize % self.latest.get() as usize)
                    .unwrap();
                self.tell(Event::Desired(self.desired));
            }
            Act::Judge(verdict) => self.judge(verdict),
            Act::Busy(active, begun) => self.look(Some(Activity { active, begun })),
            Act::Untold => self.look(None),
            Act::Withdraw => self.tell(Event::Withdraw),
            Act::Reopen => self.tell(Event::ReopenLogs),
            Act::NextTimer => drop(self.next_timer()),
            // Time does not pass a timer by.
            Act::Pass(millis) => {
                let until = self.now + Duration::from_millis(millis);
                while self.timers.values().any(|at| *at <= until) {
                    self.next_timer();
                }
                self.now = until;
            }
            Act::Stranger(event) => self.tell(event),
            Act::Terminate => self.tell(Event::Terminate),
            Act::Quit => self.tell(Event::Quit),
        }
    }

    fn look(&mut self, activity: Option<Activity>) {
        if let Some(owner) = self.supervisor.phase().owner {
            self.tell(Event::Activity(owner.launch, activity));
        }
    }

    /// From here on Envoys obey signals, become LIVE, and run out of work.
    pub(super) fn settle(&mut self) {
        for _ in 0..400 {
            if self.exit.is_some() {
                return;
            }
            if self.reap() || self.answer_probe(PredecessorAdmin::Open) {
                continue;
            }
            if let Some(told) = self.envoys.iter().copied().find(|envoy| envoy.told.is_some()) {
                let killed = told.told == Some(EnvoySignal::Kill);
                self.die(told, if killed { ExitStatus::KILLED } else { ExitStatus::Exited(0) });
            } else if let Some(successor) = self.envoys.iter().copied().find(Envoy::can_be_live) {
                self.become_live(successor);
            } else if self.validating.is_some() {
                self.judge(ValidationResult::Accepted(Coupling::Independent));
            } else if let Some((predecessor, _)) = self.supervisor.phase().predecessor {
                self.tell(Event::Idle(predecessor.launch));
                if self.find(predecessor.launch).is_some_and(|predecessor| predecessor.told.is_none())
                    && !self.next_timer()
                {
                    return;
                }
            } else if self.is_at_rest() || !self.next_timer() {
                return;
            }
        }
        panic!("never comes to rest: {:#?}", self.log);
    }

    fn is_at_rest(&self) -> bool {
        let phase = self.supervisor.phase();
        phase.stage == Stage::Running
            && matches!(phase.rollout, RolloutStatus::Settled | RolloutStatus::GivenUp)
            && phase.predecessor.is_none()
            && !self.timers.contains_key(&Timer::Retry)
    }
}
