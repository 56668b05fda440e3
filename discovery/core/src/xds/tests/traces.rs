//! Properties over random traces: thousands of short lives of a stream each. `cargo test` tries the same ones in every run
//! (`PROPTEST_RNG_SEED` in `.cargo/config.toml`); `.ci/explore` tries many more with a seed of its own.
//!
//! A trace is a list of numbers that each model reads as its own steps. What fails is cut down to the shortest list that
//! still fails, and told in the model's words. Only `server` knows how a [`Stream`] is driven.

mod client;
mod demands;
mod engine;
mod model;
mod requests;
mod server;
mod settled;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// The types that rules differ for: with a wildcard or without, and the two that follow another.
const KINDS: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];

/// Names of resources.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// As many kinds as there are values for each: there is none, and versions.
type Versions = [u8; NAMES.len()];

/// There is no such resource.
const NONE: u8 = 0;

/// How often a property is tried unless `PROPTEST_CASES` says so.
const TRACES: u32 = 10_000;

/// A step is read from one number: each choice takes its part of it.
#[derive(Clone, Copy, Debug)]
struct Dice(u32);

/// Whether a property holds, and if not, why not.
type Held = Result<(), String>;

// === impl Dice ===

impl Dice {
    /// One of `0..sides`.
    fn roll(&mut self, sides: u32) -> usize {
        let rolled = self.0 % sides;
        self.0 /= sides;
        rolled as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(u32::try_from(from.len()).unwrap())]
    }

    /// With a chance of one in `sides`.
    fn chance(&mut self, sides: u32) -> bool {
        self.roll(sides) == 0
    }
}

/// `xorshift64*`; a trace is made from one number because a number is cheap to draw.
fn trace(seed: u64, length: usize) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        u32::try_from(state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

/// Holds `property` against many traces of up to `longest` steps.
fn check(longest: usize, property: impl Fn(&[u32]) -> Held) {
    let standard = Config::default();
    let told = standard.cases != 256;
    let cases = if told { standard.cases } else { TRACES };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..standard };
    let outcome = TestRunner::new(config).run(&(any::<u64>(), 1..=longest), |(seed, length)| {
        let steps = trace(seed, length);
        property(&steps).map_err(|_| TestCaseError::fail(shortest(steps, &property)))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Leaves out what does not matter to the failure.
fn shortest(mut steps: Vec<u32>, property: &impl Fn(&[u32]) -> Held) -> String {
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match property(&fewer) {
            Err(_) => (steps, at) = (fewer, 0),
            Ok(()) => at += 1,
        }
    }
    let fault = property(&steps).err().unwrap_or_default();
    format!("{fault}\nafter steps {steps:?}")
}

#[test]
fn a_failure_is_cut_down_to_what_it_takes() {
    let property = |steps: &[u32]| match steps.iter().filter(|step| **step == 7).count() {
        0 | 1 => Ok(()),
        sevens => Err(format!("{sevens} sevens")),
    };
    assert_eq!(shortest(vec![1, 7, 2, 7, 3, 7], &property), "2 sevens\nafter steps [7, 7]");
}
