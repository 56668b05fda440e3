//! Random traces for property tests of code that drives a [`Stream`](crate::Stream).
//!
//! A trace is a list of numbers that each model reads as its own steps. A trace that fails is reduced to the shortest list
//! that still fails, and printed.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Number of traces of a property unless `PROPTEST_CASES` is set.
const TRACES: u32 = 10_000;

/// One number of a trace, from which choices are read one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u32);

/// Result of one trace; the error describes the violation.
pub type TraceResult = Result<(), String>;

// === impl Dice ===

impl Dice {
    /// Returns one of `0..sides`.
    pub fn roll(&mut self, sides: u32) -> usize {
        let rolled = self.0 % sides;
        self.0 /= sides;
        rolled as usize
    }

    /// Returns one of the items.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let sides = u32::try_from(from.len()).unwrap_or(u32::MAX);
        let rolled = self.roll(sides);
        from.get(rolled).copied().unwrap_or_else(|| unreachable!("{rolled} of {sides}"))
    }

    /// Returns `true` in one of `sides` cases.
    pub fn chance(&mut self, sides: u32) -> bool {
        self.roll(sides) == 0
    }
}

/// Returns the trace of a seed (`xorshift64*`).
fn trace(seed: u64, length: usize) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    };
    (0..length).map(|_| next()).collect()
}

/// Checks `property` on many traces of up to `max_len` steps.
///
/// # Panics
///
/// If the property does not hold: with the violation and the shortest trace that shows it.
pub fn check(max_len: usize, property: impl Fn(&[u32]) -> TraceResult) {
    let standard = Config::default();
    // The default of proptest, unless `PROPTEST_CASES` is set.
    let cases = if standard.cases == 256 { TRACES } else { standard.cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..standard };
    let outcome = TestRunner::new(config).run(&(any::<u64>(), 1..=max_len), |(seed, length)| {
        let steps = trace(seed, length);
        property(&steps).map_err(|_| TestCaseError::fail(shortest(steps, &property)))
    });
    let failure = outcome.err().map(|failure| failure.to_string());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

/// Removes the steps that do not matter to the violation; returns the violation and the rest.
fn shortest(mut steps: Vec<u32>, property: &impl Fn(&[u32]) -> TraceResult) -> String {
    let mut at = 0;
    while at < steps.len() {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match property(&fewer) {
            Err(_) => (steps, at) = (fewer, 0),
            Ok(()) => at += 1,
        }
    }
    let violation = property(&steps).err().unwrap_or_default();
    format!("{violation}\nafter steps {steps:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_trace_is_reduced_to_the_steps_that_matter() {
        let property = |steps: &[u32]| match steps.iter().filter(|step| **step == 7).count() {
            0 | 1 => Ok(()),
            sevens => Err(format!("{sevens} sevens")),
        };
        assert_eq!(shortest(vec![1, 7, 2, 7, 3, 7], &property), "2 sevens\nafter steps [7, 7]");
    }
}
