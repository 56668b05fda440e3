//! Envoy's life as stories, and what holds for any order of events.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const E0: Epoch = Epoch::FIRST;
const LIVE: Event = Event::Live(E0);
const SEGFAULT: Status = Status::Signaled(11);

/// Plays the events a millisecond apart; the supervisor after all of them and the last one's effects.
fn play(events: &[Event]) -> (Supervisor, Vec<Effect>) {
    let start = Instant::now();
    let (mut supervisor, mut effects) = Supervisor::boot(Policy::default());
    for (event, millis) in events.iter().zip(1..) {
        effects = supervisor.on_event(*event, start + Duration::from_millis(millis));
    }
    (supervisor, effects)
}

fn check(events: &[Event], stage: Stage, effects: &[Effect]) {
    let (supervisor, seen) = play(events);
    assert_eq!((supervisor.phase().stage, seen.as_slice()), (stage, effects), "after {events:?}");
}

fn died(status: Status) -> Event {
    Event::Died(E0, status)
}

fn term_and_wait() -> [Effect; 2] {
    [Effect::Signal(E0, EnvoySignal::Terminate), Effect::Arm(Timer::KillDue, Policy::default().kill_grace)]
}

fn kill_and_wait() -> [Effect; 2] {
    [Effect::Signal(E0, EnvoySignal::Kill), Effect::Arm(Timer::ReapDue, Policy::default().reap_grace)]
}

fn idle() -> Event {
    Event::Activity(Some(Activity { active: 0, begun: 3 }))
}

#[test]
fn envoy_is_started_at_once_and_runs_when_live_with_its_own_epoch() {
    check(&[], Stage::Starting, &[Effect::Spawn(E0)]);
    check(&[Event::Live(Epoch::SECOND)], Stage::Starting, &[]);
    check(&[LIVE], Stage::Running, &[]);
}

#[test]
fn a_crash_is_answered_at_once_and_the_next_after_a_delay() {
    check(&[LIVE, died(SEGFAULT)], Stage::Starting, &[Effect::Spawn(E0)]);
    let again = Effect::Arm(Timer::Respawn, Duration::from_millis(200));
    check(&[LIVE, died(SEGFAULT), died(SEGFAULT)], Stage::BackingOff, &[again]);
    let due = [LIVE, died(SEGFAULT), died(SEGFAULT), Event::Due(Timer::Respawn)];
    check(&due, Stage::Starting, &[Effect::Spawn(E0)]);
    assert_eq!(play(&due).0.phase().launch, 3);
}

#[test]
fn a_spent_budget_ends_the_agent_with_envoys_own_status() {
    let mut events = vec![LIVE];
    for _ in 0..10 {
        events.extend([died(SEGFAULT), Event::Due(Timer::Respawn)]);
    }
    assert_eq!(play(&events).0.phase().stage, Stage::Starting);
    events.push(died(SEGFAULT));
    check(&events, Stage::Exited, &[Effect::Exit(139)]);
}

#[test]
fn an_envoy_that_refuses_its_bootstrap_is_not_asked_twice() {
    check(&[died(Status::Exited(1))], Stage::Exited, &[Effect::Exit(1)]);
    // Out of memory is no verdict about the bootstrap.
    check(&[died(Status::Signaled(9))], Stage::Starting, &[Effect::Spawn(E0)]);
    // And one that has read it before will read it again.
    check(
        &[LIVE, died(SEGFAULT), died(Status::Exited(1))],
        Stage::BackingOff,
        &play(&[LIVE, died(SEGFAULT), died(SEGFAULT)]).1,
    );
}

#[test]
fn an_envoy_asked_to_leave_by_others_takes_the_agent_along() {
    check(&[LIVE, died(Status::Exited(0))], Stage::Exited, &[Effect::Exit(0)]);
}

#[test]
fn a_missing_binary_is_final_and_a_busy_system_is_not() {
    let failed = |why| Event::SpawnFailed(E0, why);
    check(&[failed(SpawnFailure::NotFound)], Stage::Exited, &[Effect::Exit(127)]);
    check(&[failed(SpawnFailure::NotExecutable)], Stage::Exited, &[Effect::Exit(126)]);
    check(&[failed(SpawnFailure::Transient)], Stage::Starting, &[Effect::Spawn(E0)]);
    // While the binary is being replaced there is none.
    check(
        &[LIVE, died(SEGFAULT), failed(SpawnFailure::NotFound)],
        Stage::BackingOff,
        &[Effect::Arm(Timer::Respawn, Duration::from_millis(200))],
    );
}

#[test]
fn sigterm_drains_and_leaves_once_traffic_has_ceased() {
    let deadline = Effect::Arm(Timer::DrainDeadline, Policy::default().drain.deadline);
    check(&[LIVE, Event::Terminate], Stage::Draining, &[Effect::Drain(DrainScope::All), deadline]);

    let (mut supervisor, _) = play(&[LIVE, Event::Terminate, idle()]);
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(supervisor.on_event(idle(), later), term_and_wait());
    assert_eq!(supervisor.on_event(died(Status::Exited(0)), later), [Effect::Exit(0)]);
}

#[test]
fn each_further_sigterm_is_one_step_more_forceful() {
    check(&[LIVE, Event::Terminate, Event::Terminate], Stage::Stopping, &term_and_wait());
    check(&[LIVE, Event::Terminate, Event::Terminate, Event::Terminate], Stage::Stopping, &kill_and_wait());
    check(
        &[LIVE, Event::Terminate, Event::Terminate, Event::Terminate, Event::Terminate],
        Stage::Stopping,
        &[],
    );
}

#[test]
fn the_deadline_ends_a_drain_that_traffic_does_not() {
    let busy = Event::Activity(Some(Activity { active: 1, begun: 1 }));
    check(
        &[LIVE, Event::Terminate, busy, Event::Due(Timer::DrainDeadline)],
        Stage::Stopping,
        &term_and_wait(),
    );
}

#[test]
fn an_envoy_deaf_to_sigterm_is_killed_and_one_deaf_to_that_is_left() {
    let deaf = [LIVE, Event::Quit, Event::Due(Timer::KillDue)];
    check(&deaf, Stage::Stopping, &kill_and_wait());
    check(&[deaf.as_slice(), &[died(Status::Signaled(9))]].concat(), Stage::Exited, &[Effect::Exit(137)]);
    check(&[deaf.as_slice(), &[Event::Due(Timer::ReapDue)]].concat(), Stage::Exited, &[Effect::Exit(137)]);
}

#[test]
fn envoys_death_ends_a_drain_with_its_own_status() {
    check(&[LIVE, Event::Terminate, died(Status::Exited(0))], Stage::Exited, &[Effect::Exit(0)]);
    check(&[LIVE, Event::Terminate, died(SEGFAULT)], Stage::Exited, &[Effect::Exit(139)]);
}

#[test]
fn what_is_not_live_is_stopped_without_a_drain() {
    check(&[Event::Terminate], Stage::Stopping, &term_and_wait());
    check(&[LIVE, Event::Quit], Stage::Stopping, &term_and_wait());
    check(&[LIVE, died(SEGFAULT), died(SEGFAULT), Event::Terminate], Stage::Exited, &[Effect::Exit(0)]);
}

#[test]
fn dying_of_our_own_sigterm_is_clean() {
    check(&[Event::Terminate, died(Status::Signaled(15))], Stage::Exited, &[Effect::Exit(0)]);
    check(&[Event::Terminate, died(SEGFAULT)], Stage::Exited, &[Effect::Exit(139)]);
    // Somebody else's SIGTERM is not ours.
    check(&[LIVE, died(Status::Signaled(15))], Stage::Starting, &[Effect::Spawn(E0)]);
}

#[test]
fn a_withdrawn_envoy_serves_on_and_stays_withdrawn_through_a_crash() {
    let drain = [Effect::Drain(DrainScope::Inbound)];
    check(&[LIVE, Event::Withdraw], Stage::Running, &drain);
    check(&[LIVE, Event::Withdraw, Event::Withdraw], Stage::Running, &[]);
    check(&[Event::Withdraw, LIVE], Stage::Running, &drain);
    check(&[LIVE, Event::Withdraw, died(SEGFAULT), LIVE], Stage::Running, &drain);
}

#[test]
fn the_minimum_drain_counts_from_the_withdrawal() {
    let minimum = Duration::from_secs(5);
    let drain = DrainPolicy { minimum, ..DrainPolicy::default() };
    let (mut supervisor, _) = Supervisor::boot(Policy { drain, ..Policy::default() });
    let start = Instant::now();
    supervisor.on_event(LIVE, start);
    supervisor.on_event(Event::Withdraw, start);
    supervisor.on_event(Event::Terminate, start + minimum);
    supervisor.on_event(idle(), start + minimum);
    assert_eq!(supervisor.on_event(idle(), start + minimum + drain.quiet), term_and_wait());
}

#[test]
fn a_silent_envoy_is_killed_in_the_end_unless_it_comes_back() {
    let hung = Effect::Arm(Timer::Hung, Policy::default().hung_after);
    check(&[LIVE, Event::AdminSilent], Stage::Silent, &[hung]);
    let due = Event::Due(Timer::Hung);
    check(&[LIVE, Event::AdminSilent, due], Stage::Silent, &[Effect::Signal(E0, EnvoySignal::Kill), hung]);
    check(&[LIVE, Event::AdminSilent, Event::AdminBack], Stage::Running, &[]);
    check(&[LIVE, Event::AdminSilent, Event::AdminBack, due], Stage::Running, &[]);
    check(&[Event::AdminSilent, due], Stage::Starting, &[Effect::Signal(E0, EnvoySignal::Kill), hung]);
}

#[test]
fn logs_are_reopened_only_by_an_envoy_that_has_the_handler() {
    let reopen = [Effect::Signal(E0, EnvoySignal::ReopenLogs)];
    check(&[Event::ReopenLogs], Stage::Starting, &[]);
    check(&[LIVE, Event::ReopenLogs], Stage::Running, &reopen);
    check(&[LIVE, Event::Terminate, Event::ReopenLogs], Stage::Draining, &reopen);
    check(&[LIVE, Event::Quit, Event::ReopenLogs], Stage::Stopping, &[]);
}

/// The world outside: which Envoys live, which of them are LIVE, and which timers are armed.
#[derive(Default)]
struct World {
    alive: BTreeSet<Epoch>,
    live: BTreeSet<Epoch>,
    armed: BTreeSet<Timer>,
    exits: u32,
}

impl World {
    fn perform(&mut self, effects: &[Effect]) {
        for (position, effect) in effects.iter().enumerate() {
            assert_eq!(self.exits, 0, "{effect:?} after the end");
            match *effect {
                Effect::Spawn(epoch) => {
                    assert!(self.alive.insert(epoch), "two Envoys of epoch {epoch}");
                    let precedes = |old: &Epoch| old.get() + 1 == epoch.get();
                    assert!(epoch == E0 || self.live.iter().any(precedes), "{epoch} skips");
                }
                Effect::Signal(epoch, signal) => {
                    assert!(self.alive.contains(&epoch), "{signal:?} to the dead");
                    let initializing = !self.live.contains(&epoch);
                    if initializing && signal == EnvoySignal::Terminate {
                        assert_eq!(self.alive.len(), 1, "its SIGTERM would end its parent too");
                    }
                    assert!(!(initializing && signal == EnvoySignal::ReopenLogs), "SIGUSR1 would end it");
                }
                Effect::Drain(_) => assert!(!self.live.is_empty(), "nobody to drain"),
                Effect::Arm(timer, _) => {
                    self.armed.insert(timer);
                }
                Effect::Exit(_) => {
                    self.exits += 1;
                    assert_eq!(position + 1, effects.len(), "Exit is the last effect");
                }
            }
        }
    }

    /// Whether the driver could see this event now, and what of the world it changes.
    fn admits(&mut self, event: Event) -> bool {
        match event {
            Event::Live(epoch) => self.alive.contains(&epoch) && self.live.insert(epoch),
            Event::Died(epoch, _) => {
                self.live.remove(&epoch);
                self.alive.remove(&epoch)
            }
            // A failure to start is reported before anything else of that Envoy.
            Event::SpawnFailed(epoch, _) => !self.live.contains(&epoch) && self.alive.remove(&epoch),
            Event::Due(timer) => self.armed.remove(&timer),
            _ => true,
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let status =
        prop_oneof![Just(Status::Exited(0)), Just(Status::Exited(1)), Just(SEGFAULT), Just(Status::KILLED)];
    let failure = prop_oneof![Just(SpawnFailure::NotFound), Just(SpawnFailure::Transient)];
    let timer = prop_oneof![
        Just(Timer::Respawn),
        Just(Timer::Hung),
        Just(Timer::DrainDeadline),
        Just(Timer::KillDue),
        Just(Timer::ReapDue)
    ];
    let activity = (0_u64..2, 0_u64..3).prop_map(|(active, begun)| Activity { active, begun });
    prop_oneof![
        4 => Just(LIVE),
        3 => status.prop_map(died),
        1 => failure.prop_map(|why| Event::SpawnFailed(E0, why)),
        1 => Just(Event::AdminSilent),
        1 => Just(Event::AdminBack),
        1 => Just(Event::Terminate),
        1 => Just(Event::Quit),
        1 => Just(Event::Withdraw),
        1 => Just(Event::ReopenLogs),
        2 => proptest::option::of(activity).prop_map(Event::Activity),
        4 => timer.prop_map(Event::Due),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_contract_holds(events in proptest::collection::vec((any_event(), 0_u64..400), 0..120)) {
        let mut now = Instant::now();
        let (mut supervisor, effects) = Supervisor::boot(Policy::default());
        let mut world = World::default();
        world.perform(&effects);
        for (event, millis) in events {
            now += Duration::from_millis(millis);
            if world.admits(event) {
                world.perform(&supervisor.on_event(event, now));
            }
            let exited = supervisor.phase().stage == Stage::Exited;
            prop_assert_eq!(exited, world.exits == 1);
        }

        // From wherever that led: SIGTERM, then nothing but timers, ends the agent.
        world.perform(&supervisor.on_event(Event::Terminate, now));
        for _ in 0..4 {
            let Some(timer) = armed_for(&supervisor) else { break };
            prop_assert!(world.admits(Event::Due(timer)), "{:?} waits for a timer nobody armed", supervisor.phase());
            world.perform(&supervisor.on_event(Event::Due(timer), now));
        }
        prop_assert_eq!(supervisor.phase().stage, Stage::Exited);
        prop_assert_eq!(world.exits, 1);
    }
}

/// The timer that a stopping supervisor waits for.
fn armed_for(supervisor: &Supervisor) -> Option<Timer> {
    match supervisor.state {
        State::Draining { .. } => Some(Timer::DrainDeadline),
        State::Stopping { sent: EnvoySignal::Kill, .. } => Some(Timer::ReapDue),
        State::Stopping { .. } => Some(Timer::KillDue),
        _ => None,
    }
}
