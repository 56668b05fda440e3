//! What holds for any order of events, with Envoys that die, hang, become LIVE or never do, as they please.
//!
//! The world below stands for driver, processes and clock. It checks every effect as it performs it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Sequences tried for each property.
const CASES: u32 = 120_000;

#[derive(Clone, Copy, Debug)]
enum Act {
    Live(usize),
    Die(usize, Status),
    FailToStart,
    Silent(usize),
    Back(usize),
    Vacant(usize),
    Desire,
    DesireAgain(u32),
    Judge(Verdict),
    Busy(u64, u64),
    Untold,
    Withdraw,
    Reopen,
    NextTimer,
    Pass(u64),
    Stranger(Event),
    Terminate,
    Quit,
}

#[derive(Clone, Copy, Debug)]
struct Envoy {
    generation: Generation,
    live: bool,
    told: Option<EnvoySignal>,
    after: Start,
}

/// For the reader of a failure.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read when printed")]
enum Line {
    Told(Event),
    Done(Effect),
}

struct World {
    supervisor: Supervisor,
    now: Instant,
    envoys: Vec<Envoy>,
    timers: BTreeMap<Timer, Instant>,
    validating: Option<Revision>,
    refused: Vec<Revision>,
    desired: Revision,
    latest: Revision,
    launches: u32,
    exit: Option<u8>,
    log: Vec<Line>,
}

impl World {
    fn boot(policy: &Policy) -> Self {
        let (supervisor, effects) = Supervisor::boot(*policy);
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
            log: Vec::new(),
        };
        world.perform(effects);
        world
    }

    fn tell(&mut self, event: Event) {
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
                Effect::Arm(timer, after) => drop(self.timers.insert(timer, self.now + after)),
                Effect::Retire(launch, _) => {
                    assert!(
                        self.find(launch).is_some_and(|envoy| envoy.live),
                        "retires one that never served"
                    );
                }
                Effect::Repair(dead) => {
                    assert!(self.find(dead.launch).is_none(), "repairs under a living one");
                }
                Effect::StandIn(dead) => {
                    assert!(self.find(dead.launch).is_none(), "stands in for a living one");
                }
                Effect::Drain(launch, _) => {
                    assert!(
                        self.find(launch).is_some_and(|envoy| envoy.live),
                        "drains one that does not serve"
                    );
                }
                Effect::LetGo => {}
                Effect::Exit(code) => self.exit = Some(code),
            }
        }
        assert!(self.envoys.len() <= 2, "three generations: {:?}", self.envoys);
    }

    /// A number is used above a LIVE one only, and the first is for when nobody lives.
    fn spawn(&mut self, generation: Generation, after: Start) {
        self.launches += 1;
        assert_eq!(generation.launch.get(), self.launches, "a start number twice, or none");
        match after {
            Start::Cold => {
                assert!(self.envoys.is_empty(), "a first one beside {:?}", self.envoys);
                assert_eq!(generation.epoch, Epoch::FIRST);
            }
            Start::After(parent, _) => {
                let parent = self.find(parent).expect("after one that is dead");
                assert!(parent.live, "after one that never was LIVE");
                assert_eq!(generation.epoch, parent.generation.epoch.next());
            }
        }
        self.envoys.push(Envoy { generation, live: false, told: None, after });
    }

    /// Told to leave before it is LIVE, an Envoy tells its living predecessor to leave too.
    fn signal(&mut self, launch: Launch, signal: EnvoySignal) {
        let Some(envoy) = self.find(launch) else { return };
        if let (Start::After(parent, Bond::Tied), false, EnvoySignal::Terminate) =
            (envoy.after, envoy.live, signal)
            && self.find(parent).is_some_and(|parent| parent.told.is_none())
        {
            panic!("SIGTERM to one that takes its predecessor along");
        }
        if signal == EnvoySignal::ReopenLogs {
            assert!(envoy.live, "SIGUSR1 to one without a handler");
            return;
        }
        for envoy in self.envoys.iter_mut().filter(|envoy| envoy.generation.launch == launch) {
            envoy.told = Some(signal);
        }
    }

    fn find(&self, launch: Launch) -> Option<Envoy> {
        self.envoys.iter().copied().find(|envoy| envoy.generation.launch == launch)
    }

    fn nth(&self, n: usize) -> Option<Envoy> {
        self.envoys.get(n.checked_rem(self.envoys.len())?).copied()
    }

    fn die(&mut self, envoy: Envoy, status: Status) {
        self.envoys.retain(|other| other.generation.launch != envoy.generation.launch);
        self.tell(Event::Died(envoy.generation.launch, status));
    }

    fn become_live(&mut self, envoy: Envoy) {
        for other in self.envoys.iter_mut().filter(|o| o.generation.launch == envoy.generation.launch) {
            other.live = true;
        }
        self.tell(Event::Live(envoy.generation.launch));
    }

    fn judge(&mut self, verdict: Verdict) {
        if let Some(revision) = self.validating.take() {
            if verdict == Verdict::Refused {
                self.refused.push(revision);
            }
            self.tell(Event::Validated(revision, verdict));
        }
    }

    /// The next timer, at its time; whether there was one.
    fn next_timer(&mut self) -> bool {
        let Some((&timer, &at)) = self.timers.iter().min_by_key(|&(_, at)| at) else { return false };
        self.timers.remove(&timer);
        self.now = self.now.max(at);
        self.tell(Event::Due(timer));
        true
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Live(n) => {
                if let Some(envoy) = self.nth(n).filter(|envoy| !envoy.live) {
                    self.become_live(envoy);
                }
            }
            Act::Die(n, status) => {
                if let Some(envoy) = self.nth(n) {
                    self.die(envoy, status);
                }
            }
            // A start fails within its own turn, if it does.
            Act::FailToStart => {
                if let Some(envoy) = self.envoys.last().copied().filter(|envoy| !envoy.live) {
                    self.envoys.pop();
                    self.tell(Event::SpawnFailed(envoy.generation.launch, SpawnFailure::Transient));
                }
            }
            Act::Silent(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::AdminSilent(envoy.generation.launch));
                }
            }
            Act::Back(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::AdminBack(envoy.generation.launch));
                }
            }
            Act::Vacant(n) => {
                if let Some(envoy) = self.nth(n) {
                    self.tell(Event::Vacant(envoy.generation.launch));
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

    /// From here on Envoys do as they are told, become LIVE, and run out of work.
    fn settle(&mut self) {
        for _ in 0..400 {
            if self.exit.is_some() {
                return;
            }
            if let Some(told) = self.envoys.iter().copied().find(|envoy| envoy.told.is_some()) {
                let killed = told.told == Some(EnvoySignal::Kill);
                self.die(told, if killed { Status::KILLED } else { Status::Exited(0) });
            } else if let Some(rising) = self.envoys.iter().copied().find(|envoy| !envoy.live) {
                self.become_live(rising);
            } else if self.validating.is_some() {
                self.judge(Verdict::Usable(Bond::Loose));
            } else if let Some((old, _)) = self.supervisor.phase().leaving {
                self.tell(Event::Vacant(old.launch));
                if self.find(old.launch).is_some_and(|old| old.told.is_none()) && !self.next_timer() {
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
            && matches!(phase.pursuit, Pursuit::Settled | Pursuit::GivenUp)
            && phase.leaving.is_none()
            && !self.timers.contains_key(&Timer::Retry)
    }
}

/// A number as an act. Numbers are made, and made smaller, a hundred times faster than a tree of strategies.
fn decode(number: u32) -> Act {
    let (kind, rest) = (number % 64, number / 64);
    let n = rest as usize % 2;
    match kind {
        0..12 | 62.. => Act::Live(n),
        12..18 => Act::Die(n, status(rest / 2)),
        18 => Act::FailToStart,
        19 => Act::Silent(n),
        20 => Act::Back(n),
        21..24 => Act::Vacant(n),
        24..31 => Act::Desire,
        31 => Act::DesireAgain(rest),
        32..42 => Act::Judge(verdict(rest)),
        42..45 => Act::Busy(u64::from(rest % 3), u64::from(rest / 3 % 5)),
        45 => Act::Untold,
        46 => Act::Withdraw,
        47 => Act::Reopen,
        48..55 => Act::NextTimer,
        55..58 => Act::Pass(u64::from(rest % 700_000)),
        58 => Act::Stranger(stranger(rest)),
        59 | 60 => Act::Terminate,
        _ => Act::Quit,
    }
}

fn status(number: u32) -> Status {
    match number % 8 {
        0..3 => Status::Signaled(11),
        3 | 4 => Status::KILLED,
        5 | 6 => Status::Exited(1),
        _ => Status::Exited(0),
    }
}

fn verdict(number: u32) -> Verdict {
    match number % 9 {
        0..4 => Verdict::Usable(Bond::Loose),
        4..8 => Verdict::Usable(Bond::Tied),
        _ => Verdict::Refused,
    }
}

/// News of any Envoy, and timers nobody armed.
fn stranger(number: u32) -> Event {
    let launch = Launch::nth(number / 10 % 40);
    match number % 10 {
        0 => Event::Vacant(launch),
        1 => Event::AdminSilent(launch),
        2 => Event::AdminBack(launch),
        3 => Event::Activity(launch, None),
        4 => Event::Due(Timer::Live),
        5 => Event::Due(Timer::Leave),
        6 => Event::Due(Timer::LeaveKill),
        7 => Event::Due(Timer::Retry),
        8 => Event::Due(Timer::Respawn),
        _ => Event::Due(Timer::Hung),
    }
}

fn acts() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 0..50)
}

/// What may happen to an agent that nobody tells to end.
fn trouble(acts: Vec<u32>) -> impl Iterator<Item = Act> {
    acts.into_iter().map(decode).filter(|act| !matches!(act, Act::Terminate | Act::Quit))
}

fn policy() -> impl Strategy<Value = Policy> {
    let head_start =
        prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(2)), Just(Duration::from_mins(1))];
    let withdraw = prop_oneof![Just(DrainScope::Inbound), Just(DrainScope::All)];
    let allowed = prop_oneof![9 => Just(Allowed::Yes), 1 => Just(Allowed::No)];
    let restart = prop_oneof![9 => Just(RestartPolicy::default()), 1 => Just(RestartPolicy::NEVER)];
    (head_start, withdraw, allowed, restart).prop_map(|(head_start, withdraw, allowed, restart)| {
        let default = Policy::default();
        Policy {
            drain: DrainPolicy { head_start, ..default.drain },
            withdraw,
            restart,
            hand_over: HandOverPolicy { allowed, ..default.hand_over },
            ..default
        }
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        max_global_rejects: CASES * 4,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn epochs_rise_above_live_ones_two_live_at_most_and_the_exit_is_the_last_effect(
        policy in policy(),
        acts in acts(),
    ) {
        let mut world = World::boot(&policy);
        for act in acts.into_iter().map(decode) {
            world.act(act);
        }
        if world.exit.is_some() {
            prop_assert_eq!(world.supervisor.phase().stage, Stage::Exited);
        }
    }

    /// However deaf Envoys are: they die only when killed.
    #[test]
    fn after_sigterm_it_ends_by_the_deadline(
        policy in policy(),
        acts in acts(),
        busy in any::<bool>(),
    ) {
        let mut world = World::boot(&policy);
        for act in trouble(acts) {
            world.act(act);
        }
        let asked = world.now;
        prop_assume!(world.exit.is_none());
        world.tell(Event::Terminate);
        for _ in 0..100 {
            if world.exit.is_some() {
                break;
            }
            if busy {
                world.act(Act::Busy(1, 1));
            }
            let killed = world.envoys.iter().copied().find(|envoy| envoy.told == Some(EnvoySignal::Kill));
            match killed {
                Some(envoy) => world.die(envoy, Status::KILLED),
                None => drop(world.next_timer()),
            }
        }
        prop_assert!(world.exit.is_some(), "still there: {:?}\n{:#?}", world.supervisor, world.log);
        let bound = policy.drain.deadline + policy.kill_grace + policy.reap_grace;
        prop_assert!(world.now - asked <= bound, "took {:?}", world.now - asked);
        prop_assert!(world.envoys.is_empty());
    }

    #[test]
    fn what_was_wanted_last_is_what_runs_in_the_end(
        acts in acts(),
    ) {
        let mut world = World::boot(&Policy::default());
        for act in trouble(acts) {
            world.act(act);
        }
        prop_assume!(world.exit.is_none());
        world.act(Act::Desire);
        world.settle();
        if world.exit.is_none() {
            let phase = world.supervisor.phase();
            prop_assert_eq!(phase.stage, Stage::Running, "{:#?}", world.log);
            prop_assert_eq!(phase.owner.map(|owner| owner.revision), Some(world.desired), "{:#?}", world.log);
            prop_assert_eq!(phase.pursuit, Pursuit::Settled);
            prop_assert_eq!(world.envoys.len(), 1);
        }
    }
}
