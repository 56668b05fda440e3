//! Envoy's life as stories.

use super::{Event as E, *};

const SEGFAULT: ExitStatus = ExitStatus::Signaled(11);
const CLEAN: ExitStatus = ExitStatus::Exited(0);

fn nth(launch: u32) -> Launch {
    Launch::nth(launch)
}

fn live(launch: u32) -> Event {
    E::Live(nth(launch))
}

fn died(launch: u32, status: ExitStatus) -> Event {
    E::Died(nth(launch), status)
}

fn due(timer: Timer) -> Event {
    E::TimerExpired(timer)
}

/// The revision that was wanted so many times after the first.
fn revision(after: u32) -> Revision {
    (0..after).fold(Revision::FIRST, |revision, _| revision.next())
}

fn desired(after: u32) -> Event {
    E::Desired(revision(after))
}

fn usable(after: u32, coupling: Coupling) -> Event {
    E::Validated(revision(after), ValidationResult::Accepted(coupling))
}

fn idle(launch: u32) -> Event {
    E::Activity(nth(launch), Some(Activity { active: 0, begun: 3 }))
}

fn generation(launch: u32, epoch: u32, after: u32) -> Generation {
    let epoch = (0..epoch).fold(Epoch::FIRST, |epoch, _| epoch.next());
    Generation { launch: nth(launch), epoch, revision: revision(after) }
}

/// A start without a predecessor.
fn cold(launch: u32, after: u32) -> Effect {
    Effect::Spawn(generation(launch, 0, after), StartMode::Cold)
}

fn signal(launch: u32, signal: EnvoySignal) -> Effect {
    Effect::Signal(nth(launch), signal)
}

fn term_and_wait(launch: u32) -> [Effect; 3] {
    let grace = Effect::ArmTimer(Timer::KillDue, Policy::default().kill_grace);
    [Effect::ReleaseListeners, signal(launch, EnvoySignal::Terminate), grace]
}

fn kill_and_wait(launch: u32) -> [Effect; 3] {
    let grace = Effect::ArmTimer(Timer::ReapDue, Policy::default().reap_grace);
    [Effect::ReleaseListeners, signal(launch, EnvoySignal::Kill), grace]
}

fn hung() -> Effect {
    Effect::ArmTimer(Timer::Hung, Policy::default().hung_after)
}

/// No minimum, so that silence alone ends a drain.
fn policy() -> Policy {
    let default = Policy::default();
    Policy { drain: DrainPolicy { minimum: Minimum::Fixed(Duration::ZERO), ..default.drain }, ..default }
}

/// Plays the events a millisecond apart; the supervisor after all of them and the last one's effects.
fn play(policy: &Policy, events: &[Event]) -> (Supervisor, Vec<Effect>) {
    let start = Instant::now();
    let (mut supervisor, mut effects) = Supervisor::boot(policy);
    for (event, millis) in events.iter().zip(1..) {
        effects = supervisor.on_event(*event, start + Duration::from_millis(millis));
    }
    (supervisor, effects)
}

fn check(events: &[Event], stage: Stage, effects: &[Effect]) {
    let (supervisor, seen) = play(&policy(), events);
    assert_eq!((supervisor.phase().stage, seen.as_slice()), (stage, effects), "after {events:?}");
}

// === Start and crash ===

#[test]
fn envoy_is_started_at_once_and_runs_when_live_with_its_own_epoch() {
    check(&[], Stage::Starting, &[cold(1, 0)]);
    check(&[live(2)], Stage::Starting, &[]);
    check(&[live(1)], Stage::Running, &[]);
}

#[test]
fn a_crash_is_answered_at_once_and_the_next_after_a_delay() {
    check(&[live(1), died(1, SEGFAULT)], Stage::Starting, &[cold(2, 0)]);
    let again = Effect::ArmTimer(Timer::Respawn, Duration::from_millis(200));
    check(&[live(1), died(1, SEGFAULT), died(2, SEGFAULT)], Stage::BackingOff, &[again]);
    let events = [live(1), died(1, SEGFAULT), died(2, SEGFAULT), due(Timer::Respawn)];
    check(&events, Stage::Starting, &[cold(3, 0)]);
}

#[test]
fn a_spent_budget_ends_the_agent_with_envoys_own_status() {
    let mut events = vec![live(1)];
    for launch in 1..=10 {
        events.extend([died(launch, SEGFAULT), due(Timer::Respawn)]);
    }
    assert_eq!(play(&policy(), &events).0.phase().stage, Stage::Starting);
    assert_eq!(play(&policy(), &events).0.phase().restarts_left, 0);
    events.push(died(11, SEGFAULT));
    check(&events, Stage::Exited, &[Effect::Exit(139)]);
}

#[test]
fn a_policy_of_never_ends_with_the_first_crash() {
    let never = Policy { restart: RestartPolicy::NEVER, ..policy() };
    assert_eq!(play(&never, &[live(1), died(1, ExitStatus::KILLED)]).1, [Effect::Exit(137)]);
    // A successor on its way is not waited for.
    let during = [live(1), desired(1), usable(1, Coupling::Independent), died(1, SEGFAULT)];
    let (supervisor, effects) = play(&never, &during);
    assert_eq!((supervisor.phase().stage, effects.as_slice()), (Stage::Stopping, &kill_and_wait(2)[..]));
    let gone = [during.as_slice(), &[died(2, ExitStatus::KILLED)]].concat();
    assert_eq!(play(&never, &gone).1, [Effect::Exit(139)]);
}

#[test]
fn an_envoy_that_refuses_its_bootstrap_is_not_asked_twice() {
    check(&[died(1, ExitStatus::Exited(1))], Stage::Exited, &[Effect::Exit(1)]);
    // Out of memory is no verdict about the bootstrap.
    check(&[died(1, ExitStatus::Signaled(9))], Stage::Starting, &[cold(2, 0)]);
    // And one that has read it before will read it again.
    let again = Effect::ArmTimer(Timer::Respawn, Duration::from_millis(200));
    check(&[live(1), died(1, SEGFAULT), died(2, ExitStatus::Exited(1))], Stage::BackingOff, &[again]);
}

#[test]
fn an_envoy_asked_to_leave_by_others_takes_the_agent_along() {
    check(&[live(1), died(1, CLEAN)], Stage::Exited, &[Effect::Exit(0)]);
}

#[test]
fn a_missing_binary_is_final_and_a_busy_system_is_not() {
    let failed = |launch, why| E::SpawnFailed(nth(launch), why);
    check(&[failed(1, SpawnFailure::NotFound)], Stage::Exited, &[Effect::Exit(127)]);
    check(&[failed(1, SpawnFailure::NotExecutable)], Stage::Exited, &[Effect::Exit(126)]);
    check(&[failed(1, SpawnFailure::Transient)], Stage::Starting, &[cold(2, 0)]);
    // While the binary is being replaced there is none.
    let again = Effect::ArmTimer(Timer::Respawn, Duration::from_millis(200));
    let events = [live(1), died(1, SEGFAULT), failed(2, SpawnFailure::NotFound)];
    check(&events, Stage::BackingOff, &[again]);
}

#[test]
fn a_silent_envoy_is_killed_in_the_end_unless_it_comes_back() {
    let (silent, back) = (E::AdminUnresponsive(nth(1)), E::AdminRecovered(nth(1)));
    let kill = signal(1, EnvoySignal::Kill);
    check(&[live(1), silent], Stage::Silent, &[hung()]);
    check(&[live(1), silent, due(Timer::Hung)], Stage::Silent, &[kill, hung()]);
    check(&[live(1), silent, back], Stage::Running, &[]);
    check(&[live(1), silent, back, due(Timer::Hung)], Stage::Running, &[]);
    check(&[silent, due(Timer::Hung)], Stage::Starting, &[kill, hung()]);
}

#[test]
fn logs_are_reopened_only_by_an_envoy_that_has_the_handler() {
    let reopen = [signal(1, EnvoySignal::ReopenLogs)];
    check(&[E::ReopenLogs], Stage::Starting, &[]);
    check(&[live(1), E::ReopenLogs], Stage::Running, &reopen);
    check(&[live(1), E::Terminate, E::ReopenLogs], Stage::Draining, &reopen);
    check(&[live(1), E::Quit, E::ReopenLogs], Stage::Stopping, &[]);
}

// === Hand-over ===

/// Up to the moment the second Envoy has been started above the first.
fn successor(coupling: Coupling) -> Vec<Event> {
    vec![live(1), desired(1), usable(1, coupling)]
}

/// And up to the moment it serves.
fn handed_over(coupling: Coupling) -> Vec<Event> {
    [successor(coupling), vec![live(2)]].concat()
}

fn then(events: &[Event], more: &[Event]) -> Vec<Event> {
    [events, more].concat()
}

fn after(launch: u32, epoch: u32, rev: u32, parent: u32, coupling: Coupling) -> [Effect; 2] {
    [
        Effect::Spawn(generation(launch, epoch, rev), StartMode::After(nth(parent), coupling)),
        Effect::ArmTimer(Timer::Live, Policy::default().handover.live_within),
    ]
}

#[test]
fn what_is_wanted_is_validated_and_then_takes_over() {
    check(&[live(1), desired(1)], Stage::Running, &[Effect::Validate(revision(1))]);
    check(&successor(Coupling::Independent), Stage::Running, &after(2, 1, 1, 1, Coupling::Independent));
    let departure = Effect::ArmTimer(Timer::Leave, Policy::default().handover.leave_within);
    check(
        &handed_over(Coupling::Independent),
        Stage::Running,
        &[Effect::StopAccepting(nth(1), Coupling::Independent), departure],
    );
    let (supervisor, _) = play(&policy(), &handed_over(Coupling::Independent));
    let phase = supervisor.phase();
    assert_eq!(phase.owner, Some(generation(2, 1, 1)));
    assert_eq!(phase.predecessor, Some((generation(1, 0, 0), Coupling::Independent)));
    assert_eq!(
        (phase.role(nth(1)), phase.role(nth(2))),
        (EnvoyRole::Leaving(Coupling::Independent), EnvoyRole::Serving)
    );
}

#[test]
fn what_envoy_refuses_is_given_up_and_the_next_is_tried() {
    let refused = [live(1), desired(1), E::Validated(revision(1), ValidationResult::Rejected)];
    check(&refused, Stage::Running, &[]);
    assert_eq!(play(&policy(), &refused).0.phase().rollout, RolloutStatus::GivenUp);
    check(&then(&refused, &[desired(2)]), Stage::Running, &[Effect::Validate(revision(2))]);
    // Back to what runs: there is nothing to do.
    check(&then(&refused, &[desired(0)]), Stage::Running, &[]);
    assert_eq!(play(&policy(), &then(&refused, &[desired(0)])).0.phase().rollout, RolloutStatus::Settled);
}

#[test]
fn of_many_changes_the_last_one_counts_and_two_generations_are_the_most() {
    // Wanted while another is on its way: it is validated, and waits.
    let waiting =
        then(&successor(Coupling::Independent), &[desired(2), desired(3), usable(2, Coupling::Independent)]);
    check(&waiting, Stage::Running, &[Effect::Validate(revision(3))]);
    // A configuration that changes faster than it is validated is not delayed without end.
    let restless = [live(1), desired(1), desired(2), usable(1, Coupling::Independent)];
    let validate = Effect::Validate(revision(2));
    let [spawn, arm] = after(2, 1, 1, 1, Coupling::Independent);
    check(&restless, Stage::Running, &[validate, spawn, arm]);
    let known = then(&waiting, &[usable(3, Coupling::Independent), live(2)]);
    assert_eq!(play(&policy(), &known).0.phase().rollout, RolloutStatus::Waiting);
    // The old one has to be gone first.
    check(&then(&known, &[died(1, CLEAN)]), Stage::Running, &after(3, 2, 3, 2, Coupling::Independent));
}

#[test]
fn a_new_envoy_that_dies_changes_nothing_and_its_number_is_used_again() {
    let retry = Effect::ArmTimer(Timer::Retry, Duration::from_millis(200));
    let loose = then(&successor(Coupling::Independent), &[died(2, SEGFAULT)]);
    check(&loose, Stage::Running, &[retry]);
    check(&then(&loose, &[due(Timer::Retry)]), Stage::Running, &after(3, 1, 1, 1, Coupling::Independent));
    // Envoy's own protocol has left a mark.
    let tied = then(&successor(Coupling::Coupled), &[died(2, ExitStatus::Exited(1))]);
    check(&tied, Stage::Running, &[Effect::RepairSegment(generation(2, 1, 1)), retry]);
}

#[test]
fn a_new_envoy_that_is_not_live_in_time_is_killed_and_never_told_to_leave() {
    let late = then(&successor(Coupling::Coupled), &[due(Timer::Live)]);
    check(&late, Stage::Running, &[signal(2, EnvoySignal::Kill)]);
    let retry = Effect::ArmTimer(Timer::Retry, Duration::from_millis(200));
    let repair = Effect::RepairSegment(generation(2, 1, 1));
    check(&then(&late, &[died(2, ExitStatus::KILLED)]), Stage::Running, &[repair, retry]);
}

#[test]
fn what_fails_too_often_is_given_up_and_the_old_serves_on() {
    let mut events = successor(Coupling::Independent);
    for launch in 2..=11 {
        events.extend([died(launch, SEGFAULT), due(Timer::Retry)]);
    }
    events.push(died(12, SEGFAULT));
    let (supervisor, effects) = play(&policy(), &events);
    assert_eq!(
        (supervisor.phase().stage, supervisor.phase().rollout),
        (Stage::Running, RolloutStatus::GivenUp)
    );
    assert_eq!(effects, []);
    // A failure of what was wanted before is no reason to wait with what is wanted now.
    let mended = then(
        &successor(Coupling::Independent),
        &[died(2, SEGFAULT), desired(2), usable(2, Coupling::Independent)],
    );
    check(&mended, Stage::Running, &after(3, 1, 2, 1, Coupling::Independent));
}

#[test]
fn a_crash_during_a_hand_over_leaves_it_to_the_new_one_if_that_can_be() {
    // It holds the sockets already.
    let loose = then(&successor(Coupling::Independent), &[died(1, SEGFAULT)]);
    check(&loose, Stage::Starting, &[Effect::ArmTimer(Timer::Live, Duration::from_secs(1))]);
    check(&then(&loose, &[live(2)]), Stage::Running, &[]);
    // It waits for the dead, unless it is LIVE.
    let tied = then(&successor(Coupling::Coupled), &[died(1, SEGFAULT)]);
    let probe = Effect::Probe { launch: nth(2), predecessor: nth(1), after: Duration::ZERO };
    check(&tied, Stage::BackingOff, &[Effect::EmulateParent(generation(1, 0, 0)), probe]);
    check(&then(&tied, &[live(2)]), Stage::Running, &[]);
    let not_live = then(&tied, &[E::NotLive(nth(2), PredecessorAdmin::Closed)]);
    check(&not_live, Stage::BackingOff, &[signal(2, EnvoySignal::Kill)]);
    check(&then(&not_live, &[died(2, ExitStatus::KILLED)]), Stage::Starting, &[cold(3, 0)]);
}

#[test]
fn a_crash_after_a_hand_over_is_answered_with_the_same_number_while_the_old_one_lives() {
    let again = |coupling| [Effect::Spawn(generation(3, 1, 1), StartMode::After(nth(1), coupling))];
    for coupling in [Coupling::Independent, Coupling::Coupled] {
        check(&then(&handed_over(coupling), &[died(2, SEGFAULT)]), Stage::Starting, &again(coupling));
        let gone = then(&handed_over(coupling), &[died(1, CLEAN), died(2, SEGFAULT)]);
        check(&gone, Stage::Starting, &[cold(3, 1)]);
    }
}

#[test]
fn the_old_one_leaves_when_it_is_empty_or_has_had_its_time() {
    let grace = Effect::ArmTimer(Timer::LeaveKill, Policy::default().kill_grace);
    let told = [signal(1, EnvoySignal::Terminate), grace];
    let vacant = then(&handed_over(Coupling::Independent), &[E::Idle(nth(1))]);
    check(&vacant, Stage::Running, &told);
    check(&then(&vacant, &[E::Idle(nth(1))]), Stage::Running, &[]);
    check(&then(&vacant, &[due(Timer::LeaveKill)]), Stage::Running, &[signal(1, EnvoySignal::Kill)]);
    check(&then(&handed_over(Coupling::Independent), &[due(Timer::Leave)]), Stage::Running, &told);
    // A coupled predecessor leaves when its successor requests it; two seconds later it has not.
    let overdue = then(&handed_over(Coupling::Coupled), &[due(Timer::Leave)]);
    let emulate = Effect::EmulateParent(generation(1, 0, 0));
    check(&overdue, Stage::Running, &[emulate, signal(1, EnvoySignal::Kill)]);
}

#[test]
fn a_tied_predecessor_is_emulated_before_its_end_and_when_it_is_reaped() {
    let emulate = Effect::EmulateParent(generation(1, 0, 0));
    let gone = [emulate, Effect::AnswerPendingStats(generation(1, 0, 0))];
    let bonds = |coupling, events: &[Event], expected: &[Effect]| {
        check(&then(&handed_over(coupling), events), Stage::Running, expected);
    };
    bonds(Coupling::Independent, &[died(1, SEGFAULT)], &[]);
    // However it ends, and however late it is reaped.
    for status in [SEGFAULT, CLEAN] {
        bonds(Coupling::Coupled, &[died(1, status)], &gone);
        bonds(Coupling::Coupled, &[E::Idle(nth(1)), died(1, status)], &gone);
        let (mut supervisor, _) = play(&policy(), &handed_over(Coupling::Coupled));
        let late = Instant::now() + Policy::default().handover.leave_within * 2;
        assert_eq!(supervisor.on_event(died(1, status), late), gone);
    }
    // Its successor is answered before the signal, and a change that is wanted at its end begins afterwards.
    let grace = Effect::ArmTimer(Timer::LeaveKill, Policy::default().kill_grace);
    bonds(Coupling::Coupled, &[E::Idle(nth(1))], &[emulate, signal(1, EnvoySignal::Terminate), grace]);
    bonds(Coupling::Coupled, &[due(Timer::Leave)], &[emulate, signal(1, EnvoySignal::Kill)]);
    let waiting = [E::Idle(nth(1)), desired(2), usable(2, Coupling::Coupled), died(1, CLEAN)];
    let next: Vec<_> = gone.into_iter().chain(after(3, 2, 2, 2, Coupling::Coupled)).collect();
    bonds(Coupling::Coupled, &waiting, &next);
    // Also while the agent ends.
    let (_, effects) = play(&policy(), &then(&handed_over(Coupling::Coupled), &[E::Quit, died(1, CLEAN)]));
    assert_eq!(effects, gone);
}

#[test]
fn a_predecessor_that_was_told_to_leave_has_no_further_successor() {
    let crashed = [E::Idle(nth(1)), died(2, SEGFAULT)];
    let beside = [Effect::Spawn(generation(3, 1, 1), StartMode::After(nth(1), Coupling::Independent))];
    check(&then(&handed_over(Coupling::Coupled), &crashed), Stage::Starting, &beside);
}

#[test]
fn an_envoy_that_starts_after_a_predecessor_that_dies_serves_only_if_it_is_live() {
    let again = then(&handed_over(Coupling::Coupled), &[died(2, SEGFAULT), died(1, SEGFAULT)]);
    let probe = Effect::Probe { launch: nth(3), predecessor: nth(1), after: Duration::ZERO };
    check(&again, Stage::BackingOff, &[Effect::EmulateParent(generation(1, 0, 0)), probe]);
    check(&then(&again, &[live(3)]), Stage::Running, &[]);
    let not_live = then(&again, &[E::NotLive(nth(3), PredecessorAdmin::Closed)]);
    check(&not_live, Stage::BackingOff, &[signal(3, EnvoySignal::Kill)]);
    check(&then(&not_live, &[died(3, ExitStatus::KILLED)]), Stage::Starting, &[cold(4, 1)]);
}

#[test]
fn a_silent_successor_loses_its_predecessor_before_it_is_killed_itself() {
    let (kill, hung_after) = (EnvoySignal::Kill, Policy::default().hung_after);
    let silent = then(&handed_over(Coupling::Coupled), &[E::AdminUnresponsive(nth(2))]);
    check(&silent, Stage::Silent, &[Effect::ArmTimer(Timer::Hung, hung_after / 3)]);
    let suspected = then(&silent, &[due(Timer::Hung)]);
    let emulate = Effect::EmulateParent(generation(1, 0, 0));
    check(&suspected, Stage::Silent, &[emulate, signal(1, kill), hung()]);
    check(&then(&suspected, &[due(Timer::Hung)]), Stage::Silent, &[signal(2, kill), hung()]);
    // A loose one does not wait for it.
    let loose = then(&handed_over(Coupling::Independent), &[E::AdminUnresponsive(nth(2))]);
    check(&loose, Stage::Silent, &[hung()]);
    // An unresponsive Envoy is not queried for a successor.
    let wanted = then(&[live(1), E::AdminUnresponsive(nth(1)), desired(1)], &[usable(1, Coupling::Coupled)]);
    check(&wanted, Stage::Silent, &[]);
    check(
        &then(&wanted, &[E::AdminRecovered(nth(1))]),
        Stage::Running,
        &after(2, 1, 1, 1, Coupling::Coupled),
    );
}

#[test]
fn an_admin_closed_by_a_successor_that_failed_is_not_silence() {
    let silent = E::AdminUnresponsive(nth(1));
    check(&then(&successor(Coupling::Coupled), &[silent]), Stage::Running, &[]);
    // It has to be brought back, and only a successor can, though nothing new is wanted.
    let failed = then(&successor(Coupling::Coupled), &[silent, died(2, SEGFAULT), desired(0)]);
    check(&failed, Stage::Running, &after(3, 1, 0, 1, Coupling::Coupled));
    // Of a loose one nothing closes the admin.
    check(&then(&successor(Coupling::Independent), &[silent]), Stage::Silent, &[hung()]);
}

#[test]
fn where_nothing_is_handed_over_nothing_is_validated() {
    let handover = HandoverPolicy { allowed: Allowed::No, ..HandoverPolicy::default() };
    let (supervisor, effects) = play(&Policy { handover, ..policy() }, &[live(1), desired(1)]);
    assert_eq!((supervisor.phase().rollout, effects.as_slice()), (RolloutStatus::Waiting, &[][..]));
}

// === The end ===

fn deadline() -> Effect {
    Effect::ArmTimer(Timer::DrainDeadline, Policy::default().drain.deadline)
}

fn inside_first(launch: u32) -> [Effect; 3] {
    let outside = Effect::ArmTimer(Timer::DrainAll, Policy::default().drain.deadline / 2);
    [deadline(), Effect::Drain(nth(launch), DrainScope::Inbound), outside]
}

#[test]
fn sigterm_drains_the_inside_then_all_and_leaves_once_traffic_has_ceased() {
    check(&[live(1), E::Terminate], Stage::Draining, &inside_first(1));
    let (mut supervisor, _) = play(&policy(), &[live(1), E::Terminate, idle(1)]);
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(supervisor.on_event(idle(1), later), [Effect::Drain(nth(1), DrainScope::All)]);
    assert_eq!(supervisor.on_event(idle(1), later), term_and_wait(1));
    assert_eq!(supervisor.on_event(died(1, CLEAN), later), [Effect::Exit(0)]);
}

#[test]
fn what_keeps_the_inside_busy_does_not_keep_the_application_from_hearing() {
    let told = [live(1), E::Terminate, due(Timer::DrainAll)];
    check(&told, Stage::Draining, &[Effect::Drain(nth(1), DrainScope::All)]);
}

#[test]
fn a_gateway_has_no_inside() {
    let gateway = Policy { withdraw: DrainScope::All, ..policy() };
    let effects = play(&gateway, &[live(1), E::Terminate]).1;
    assert_eq!(effects, [deadline(), Effect::Drain(nth(1), DrainScope::All)]);
}

#[test]
fn load_balancers_get_their_head_start_before_anybody_is_told() {
    let head_start = Duration::from_secs(2);
    let policy = Policy { drain: DrainPolicy { head_start, ..policy().drain }, ..policy() };
    let play = |events: &[Event]| {
        let (supervisor, effects) = play(&policy, events);
        (supervisor.phase().stage, effects)
    };
    let wait = vec![deadline(), Effect::ArmTimer(Timer::PreDrain, head_start)];
    assert_eq!(play(&[live(1), E::Terminate]), (Stage::PreDrain, wait));
    let begun = play(&[live(1), E::Terminate, due(Timer::PreDrain)]);
    assert_eq!((begun.0, begun.1[0]), (Stage::Draining, Effect::Drain(nth(1), DrainScope::Inbound)));
    // A second signal has no patience.
    assert_eq!(play(&[live(1), E::Terminate, E::Terminate]).1, term_and_wait(1));
}

#[test]
fn each_further_sigterm_is_one_step_more_forceful() {
    let t = E::Terminate;
    check(&[live(1), t, t], Stage::Stopping, &term_and_wait(1));
    check(&[live(1), t, t, t], Stage::Stopping, &kill_and_wait(1));
    check(&[live(1), t, t, t, t], Stage::Stopping, &[]);
}

#[test]
fn the_deadline_ends_a_drain_that_traffic_does_not() {
    let busy = E::Activity(nth(1), Some(Activity { active: 1, begun: 1 }));
    check(&[live(1), E::Terminate, busy, due(Timer::DrainDeadline)], Stage::Stopping, &term_and_wait(1));
}

#[test]
fn an_envoy_deaf_to_sigterm_is_killed_and_one_deaf_to_that_is_left() {
    let deaf = vec![live(1), E::Quit, due(Timer::KillDue)];
    check(&deaf, Stage::Stopping, &kill_and_wait(1));
    check(&then(&deaf, &[died(1, ExitStatus::Signaled(9))]), Stage::Exited, &[Effect::Exit(137)]);
    check(&then(&deaf, &[due(Timer::ReapDue)]), Stage::Exited, &[Effect::Exit(137)]);
}

#[test]
fn envoys_death_ends_a_drain_with_its_own_status() {
    check(&[live(1), E::Terminate, died(1, CLEAN)], Stage::Exited, &[Effect::Exit(0)]);
    check(&[live(1), E::Terminate, died(1, SEGFAULT)], Stage::Exited, &[Effect::Exit(139)]);
}

#[test]
fn what_is_not_live_is_stopped_without_a_drain() {
    check(&[E::Terminate], Stage::Stopping, &term_and_wait(1));
    check(&[live(1), E::Quit], Stage::Stopping, &term_and_wait(1));
    let backing_off = [live(1), died(1, SEGFAULT), died(2, SEGFAULT), E::Terminate];
    check(&backing_off, Stage::Exited, &[deadline(), Effect::Exit(0)]);
}

#[test]
fn dying_of_our_own_sigterm_is_clean() {
    check(&[E::Terminate, died(1, ExitStatus::Signaled(15))], Stage::Exited, &[Effect::Exit(0)]);
    check(&[E::Terminate, died(1, SEGFAULT)], Stage::Exited, &[Effect::Exit(139)]);
    // A SIGTERM of another sender counts as a crash.
    check(&[live(1), died(1, ExitStatus::Signaled(15))], Stage::Starting, &[cold(2, 0)]);
}

#[test]
fn sigterm_during_a_hand_over_kills_the_new_one_and_drains_the_one_that_serves() {
    let (open, closed) = (PredecessorAdmin::Open, PredecessorAdmin::Closed);
    let probe = |after| Effect::Probe { launch: nth(2), predecessor: nth(1), after };
    let asked = then(&successor(Coupling::Coupled), &[E::Terminate]);
    check(&asked, Stage::Running, &[probe(Duration::ZERO)]);
    let ended = then(&asked, &[E::NotLive(nth(2), open)]);
    let effects: Vec<_> = [signal(2, EnvoySignal::Kill)].into_iter().chain(inside_first(1)).collect();
    check(&ended, Stage::Draining, &effects);
    check(&then(&ended, &[died(2, ExitStatus::KILLED)]), Stage::Draining, &[]);
    // A successor that has closed the admin endpoint of its predecessor is waited for briefly: no other Envoy can be drained.
    let again = then(&asked, &[E::NotLive(nth(2), closed)]);
    check(&again, Stage::Running, &[probe(Duration::from_millis(5))]);
    let (mut supervisor, _) = play(&policy(), &again);
    let late = Instant::now() + Duration::from_secs(1);
    assert_eq!(supervisor.on_event(E::NotLive(nth(2), closed), late), effects);
    // LIVE it is the one to be drained.
    let (supervisor, effects) = play(&policy(), &then(&asked, &[live(2)]));
    assert_eq!(supervisor.phase().owner, Some(generation(2, 1, 1)));
    assert_eq!((supervisor.phase().stage, &effects[2..]), (Stage::Draining, &inside_first(2)[..]));
    // A second signal waits for nothing.
    let twice = play(&policy(), &then(&asked, &[E::Terminate])).1;
    assert_eq!(twice.last(), Some(&Effect::ArmTimer(Timer::KillDue, Policy::default().kill_grace)));
}

#[test]
fn a_death_while_sigterm_waits_for_a_probe_ends_the_hand_over() {
    let asked = then(&successor(Coupling::Coupled), &[E::Terminate]);
    let (supervisor, effects) = play(&policy(), &then(&asked, &[died(2, SEGFAULT)]));
    assert_eq!(supervisor.phase().owner, Some(generation(1, 0, 0)));
    assert_eq!(
        (supervisor.phase().stage, effects[0]),
        (Stage::Draining, Effect::RepairSegment(generation(2, 1, 1)))
    );
    let alone = then(&asked, &[died(1, SEGFAULT), died(2, ExitStatus::KILLED)]);
    assert_eq!(play(&policy(), &alone).1, [Effect::Exit(139)]);
}

#[test]
fn sigterm_after_a_hand_over_waits_for_the_old_one_too() {
    let (mut supervisor, _) =
        play(&policy(), &then(&handed_over(Coupling::Independent), &[E::Terminate, idle(2)]));
    let later = Instant::now() + Duration::from_secs(1);
    assert_eq!(supervisor.on_event(idle(2), later), [Effect::Drain(nth(2), DrainScope::All)]);
    assert_eq!(supervisor.on_event(idle(2), later), []);
    let vacant = supervisor.on_event(E::Idle(nth(1)), later);
    assert_eq!(vacant[0], signal(1, EnvoySignal::Terminate));
    assert!(vacant.contains(&signal(2, EnvoySignal::Terminate)));
    assert_eq!(supervisor.on_event(died(2, CLEAN), later), []);
    assert_eq!(supervisor.on_event(died(1, CLEAN), later), [Effect::Exit(0)]);
}

#[test]
fn a_tied_old_one_hears_of_the_end_from_its_successor_and_from_us_only_when_that_is_gone() {
    let (mut supervisor, _) = play(&policy(), &then(&handed_over(Coupling::Coupled), &[E::Quit]));
    assert_eq!(play(&policy(), &then(&handed_over(Coupling::Coupled), &[E::Quit])).1, term_and_wait(2));
    let now = Instant::now();
    assert_eq!(supervisor.on_event(died(2, CLEAN), now), [signal(1, EnvoySignal::Terminate)]);
    assert_eq!(supervisor.on_event(died(1, CLEAN), now), [Effect::Exit(0)]);
}

#[test]
fn a_withdrawn_envoy_serves_on_and_stays_withdrawn_through_a_crash_and_a_hand_over() {
    let drain = |launch| [Effect::Drain(nth(launch), DrainScope::Inbound)];
    check(&[live(1), E::Withdraw], Stage::Running, &drain(1));
    check(&[live(1), E::Withdraw, E::Withdraw], Stage::Running, &[]);
    check(&[E::Withdraw, live(1)], Stage::Running, &drain(1));
    check(&[live(1), E::Withdraw, died(1, SEGFAULT), live(2)], Stage::Running, &drain(2));
    let over = play(&policy(), &then(&successor(Coupling::Independent), &[E::Withdraw, live(2)])).1;
    assert_eq!(over.last(), drain(2).first());
}

#[test]
fn the_minimum_drain_counts_from_the_withdrawal() {
    let five = Duration::from_secs(5);
    let drain = DrainPolicy { minimum: Minimum::Fixed(five), ..DrainPolicy::default() };
    let (mut supervisor, _) = Supervisor::boot(&Policy { drain, withdraw: DrainScope::All, ..policy() });
    let start = Instant::now();
    supervisor.on_event(live(1), start);
    supervisor.on_event(E::Withdraw, start);
    supervisor.on_event(E::Terminate, start + five);
    supervisor.on_event(idle(1), start + five);
    assert_eq!(supervisor.on_event(idle(1), start + five + drain.quiet), term_and_wait(1));
}

// === Emergencies ===

#[test]
fn after_a_crash_what_has_failed_already_is_not_tried_before_what_was_good() {
    // Its hand-over has failed once; then the one that serves dies.
    let crashed = then(&successor(Coupling::Independent), &[died(2, SEGFAULT), died(1, SEGFAULT)]);
    check(&crashed, Stage::Starting, &[cold(3, 0)]);
    // A new configuration may end repeated crashes.
    let twice =
        [live(1), desired(1), usable(1, Coupling::Coupled), E::SpawnFailed(nth(2), SpawnFailure::Transient)];
    let twice = then(
        &twice,
        &[desired(2), usable(2, Coupling::Coupled), died(1, SEGFAULT), died(3, ExitStatus::KILLED)],
    );
    check(&twice, Stage::Starting, &[cold(4, 0)]);
    let again = then(&twice, &[died(4, SEGFAULT), due(Timer::Respawn)]);
    let deadline = Effect::ArmTimer(Timer::Live, Policy::default().handover.live_within);
    check(&again, Stage::Starting, &[cold(5, 2), deadline]);
    // A rejected configuration stays desired and is not started.
    let refused =
        [live(1), desired(1), E::Validated(revision(1), ValidationResult::Rejected), died(1, SEGFAULT)];
    check(&refused, Stage::Starting, &[cold(2, 0)]);
}

#[test]
fn what_never_was_live_has_its_time_and_then_what_was_good_serves_again() {
    let alone = then(&successor(Coupling::Independent), &[died(1, SEGFAULT), due(Timer::Live)]);
    check(&alone, Stage::Starting, &[signal(2, EnvoySignal::Kill)]);
    let again = then(&alone, &[died(2, ExitStatus::KILLED), due(Timer::Respawn)]);
    check(&again, Stage::Starting, &[cold(3, 0)]);
    // The first of all may wait for its control plane as long as it takes.
    check(&[due(Timer::Live)], Stage::Starting, &[]);
}
