//! Properties for any order of events, with Envoys that die, hang, become LIVE or never do.

mod act;
mod world;

use proptest::prelude::*;

use self::act::Act;
use self::world::World;
use super::*;

/// Sequences tried for each property.
const CASES: u32 = 120_000;

/// A number as an act. Numbers are made, and made smaller, a hundred times faster than a tree of strategies.
fn decode(number: u32) -> Act {
    let (kind, rest) = (number % 64, number / 64);
    let n = rest as usize % 2;
    match kind {
        0..12 | 62.. => Act::Live(n),
        12..15 => Act::Die(n, status(rest / 2)),
        15 | 16 => Act::Outcome(n, status(rest / 2)),
        17 if rest % 2 == 0 => Act::Reap,
        17 => Act::Probed(admin(rest / 2)),
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
        55 => Act::Probed(admin(rest)),
        56 | 57 => Act::Pass(u64::from(rest % 700_000)),
        58 => Act::Stranger(stranger(rest)),
        59 | 60 => Act::Terminate,
        _ => Act::Quit,
    }
}

fn status(number: u32) -> ExitStatus {
    match number % 8 {
        0..3 => ExitStatus::Signaled(11),
        3 | 4 => ExitStatus::KILLED,
        5 | 6 => ExitStatus::Exited(1),
        _ => ExitStatus::Exited(0),
    }
}

fn admin(number: u32) -> PredecessorAdmin {
    if number.is_multiple_of(2) { PredecessorAdmin::Open } else { PredecessorAdmin::Closed }
}

fn verdict(number: u32) -> ValidationResult {
    match number % 9 {
        0..4 => ValidationResult::Accepted(Coupling::Independent),
        4..8 => ValidationResult::Accepted(Coupling::Coupled),
        _ => ValidationResult::Rejected,
    }
}

/// Events of any Envoy, and timers that are not armed.
fn stranger(number: u32) -> Event {
    let launch = Launch::nth(number / 10 % 40);
    match number % 11 {
        0 => Event::Idle(launch),
        1 => Event::AdminUnresponsive(launch),
        2 => Event::AdminRecovered(launch),
        3 => Event::Activity(launch, None),
        4 => Event::TimerExpired(Timer::Live),
        5 => Event::TimerExpired(Timer::Leave),
        6 => Event::TimerExpired(Timer::LeaveKill),
        7 => Event::TimerExpired(Timer::Retry),
        8 => Event::TimerExpired(Timer::Respawn),
        9 => Event::NotLive(launch, admin(number / 11)),
        _ => Event::TimerExpired(Timer::Hung),
    }
}

fn acts() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 0..50)
}

/// Events of an agent that gets no signal.
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
            handover: HandoverPolicy { allowed, ..default.handover },
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
            if world.reap() || world.answer_probe(PredecessorAdmin::Open) {
                continue;
            }
            let killed = world.envoys.iter().copied().find(|envoy| envoy.told == Some(EnvoySignal::Kill));
            match killed {
                Some(envoy) => world.die(envoy, ExitStatus::KILLED),
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
            prop_assert_eq!(phase.rollout, RolloutStatus::Settled);
            prop_assert_eq!(world.envoys.len(), 1);
        }
    }
}
