//! Properties that hold whenever every message has arrived.

use super::client::{Memory, Run, When};
use super::server::BAD;
use super::*;

/// Something happens to a client, its server or the wires between them.
fn step(run: &mut Run, mut dice: Dice, reconnects: Reconnects) -> TraceResult {
    let roll = dice.roll(16);
    let (kind, name) = (dice.roll(4), dice.roll(4));
    match roll {
        0..=3 => run.client_hears(),
        4..=7 => run.server_hears(),
        8..=10 => run.flush()?,
        11 | 12 => run.toggle(kind, name, dice.pick(&[When::Now, When::WithTheNextAnswer])),
        13 => run.old_nonce(kind),
        14 => run.ack_timed_out(kind),
        _ => match (reconnects, dice.roll(3)) {
            (Reconnects::Never, _) => {}
            (Reconnects::WithMemory, _) | (Reconnects::Anyhow, 0) => run.connect(Memory::Kept),
            (Reconnects::Anyhow, 1) => run.connect(Memory::Lost),
            (Reconnects::Anyhow, _) => run.connect(Memory::Wrong(dice.0)),
        },
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Reconnects {
    Never,
    WithMemory,
    Anyhow,
}

/// Half of the traces speak one variant, half the other.
fn either(steps: &[u32]) -> Codec {
    if steps.first().is_some_and(|first| first >> 31 == 0) { Codec::Delta } else { Codec::Sotw }
}

/// A change of the world: type, name, and its version then.
fn change(dice: &mut Dice) -> (usize, usize, u8) {
    // Twice as likely to be there as not.
    (dice.roll(4), dice.roll(4), dice.pick(&[NONE, 1, 2, 3, BAD, 1, 2]))
}

fn has_bad(run: &Run) -> bool {
    run.source.world.iter().flatten().any(|version| *version == BAD)
}

/// The same changes for a client of each variant: whenever both are idle they have the same resources.
#[test]
fn a_client_of_deltas_has_what_a_client_of_states_has() {
    check(24, |steps| {
        let mut runs = [Run::new(Codec::Sotw), Run::new(Codec::Delta)];
        for number in steps {
            let mut dice = Dice(*number);
            match dice.roll(8) {
                0 | 1 => {
                    let (kind, name, version) = change(&mut dice);
                    for run in &mut runs {
                        run.source.set(kind, name, version);
                    }
                }
                // Both have the same subscription.
                2 => {
                    let (kind, name, when) =
                        (dice.roll(4), dice.roll(4), dice.pick(&[When::Now, When::WithTheNextAnswer]));
                    for run in &mut runs {
                        run.toggle(kind, name, when);
                    }
                }
                3 if dice.chance(3) && !has_bad(&runs[0]) => at_rest(&mut runs)?,
                _ => {
                    let run = &mut runs[dice.roll(2)];
                    let toggles = dice.0 % 16;
                    if toggles != 11 && toggles != 12 {
                        step(run, dice, Reconnects::WithMemory)?;
                    }
                }
            }
        }
        runs.iter_mut().for_each(Run::mend);
        at_rest(&mut runs)
    });
}

fn at_rest(runs: &mut [Run; 2]) -> TraceResult {
    for run in &mut *runs {
        run.settle()?;
        run.is_where_the_world_is()?;
    }
    let [states, deltas] = runs;
    for (kind, resource_type) in KINDS.into_iter().enumerate() {
        if states.has(kind) != deltas.has(kind) {
            let told = (states.has(kind), deltas.has(kind));
            return Err(format!("{resource_type}: state of the world {:?}, delta {:?}", told.0, told.1));
        }
    }
    Ok(())
}

/// A client that comes back at any moment, remembering everything, nothing, or what was never so.
#[test]
fn a_client_that_reconnects_converges_to_the_world() {
    check(24, |steps| {
        let mut run = Run::new(either(steps));
        for number in steps {
            let mut dice = Dice(*number);
            match dice.roll(4) {
                0 => {
                    let (kind, name, version) = change(&mut dice);
                    run.source.set(kind, name, version);
                }
                1 if dice.chance(3) => {
                    let memory = match dice.roll(3) {
                        0 => Memory::Kept,
                        1 => Memory::Lost,
                        _ => Memory::Wrong(dice.0),
                    };
                    run.connect(memory);
                }
                _ => step(&mut run, dice, Reconnects::Anyhow)?,
            }
        }
        run.mend();
        run.settle()?;
        run.is_where_the_world_is()
    });
}

/// [`Run::flush`] holds each response against what is under way; here clients are slow, changes many, and servers impatient.
#[test]
fn one_response_of_a_type_is_under_way_and_the_last_state_arrives() {
    check(24, |steps| {
        let mut run = Run::new(either(steps));
        for number in steps {
            let mut dice = Dice(*number);
            match dice.roll(4) {
                0 | 1 => {
                    let (kind, name, version) = change(&mut dice);
                    run.source.set(kind, name, version);
                    run.flush()?;
                }
                2 if dice.chance(4) => run.ack_timed_out(dice.roll(4)),
                _ => step(&mut run, dice, Reconnects::Never)?,
            }
        }
        run.mend();
        run.settle()?;
        run.is_where_the_world_is()
    });
}
