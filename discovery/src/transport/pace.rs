//! Spreads the end of connections over time, so that clients that came together do not come back together. Pure arithmetic and
//! random numbers.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Maximum gap between two streams with GOAWAY: few streams are closed quickly, many are spread over the whole window.
const WIDEST_GAP: Duration = Duration::from_millis(20);

/// Returns a random number from 0 to 1; not for secrets.
pub(crate) fn dice() -> f64 {
    // Keys differ with every `RandomState`; the first of a thread come from the system.
    let drawn = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(drawn) / f64::from(u32::MAX)
}

/// Returns the lifetime of a connection: its maximum age with a jitter of a tenth, as in gRPC.
pub(crate) fn jittered(age: Duration, dice: f64) -> Duration {
    age.mul_f64(0.9 + 0.2 * dice.clamp(0.0, 1.0))
}

/// Returns the delay of GOAWAY for each of these connections: in the given order, spread over `window` in proportion to their
/// streams, and no slower than necessary. A connection without streams goes with the one before it.
pub(crate) fn spread(streams: &[usize], window: Duration) -> Vec<Duration> {
    let total: usize = streams.iter().sum();
    let count = u32::try_from(total.max(1)).unwrap_or(u32::MAX);
    let gap = (window / count).min(WIDEST_GAP);
    let mut before = 0_u32;
    let moments = streams.iter().map(|streams| {
        let moment = gap.saturating_mul(before);
        before = before.saturating_add(u32::try_from(*streams).unwrap_or(u32::MAX));
        moment
    });
    moments.collect()
}

/// Returns a random permutation of the numbers below `count`.
pub(crate) fn shuffled(count: usize) -> Vec<usize> {
    let state = RandomState::new();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|number| state.hash_one(number));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_its_age_within_a_tenth() {
        let age = Duration::from_mins(30);
        assert_eq!(jittered(age, 0.0), Duration::from_mins(27));
        assert_eq!(jittered(age, 0.5), age);
        assert_eq!(jittered(age, 1.0), Duration::from_mins(33));
        let lives: Vec<Duration> = (0..1000).map(|_| jittered(age, dice())).collect();
        let below = lives.iter().filter(|life| **life < age).count();
        assert!((400..600).contains(&below), "{below} of 1000 live shorter");
    }

    #[test]
    fn many_leave_evenly_and_few_leave_soon() {
        let ms = Duration::from_millis;
        for (streams, window, expected) in [
            (vec![], ms(1000), vec![]),
            (vec![1, 1, 1], ms(1000), vec![0, 20, 40]),
            (vec![1; 4], ms(40), vec![0, 10, 20, 30]),
            // A connection with many streams takes their share of time.
            (vec![3, 0, 1], ms(40), vec![0, 30, 30]),
            (vec![0, 0], ms(40), vec![0, 0]),
        ] {
            assert_eq!(
                spread(&streams, window),
                expected.into_iter().map(ms).collect::<Vec<_>>(),
                "{streams:?}"
            );
        }
        let five_thousand = spread(&vec![1; 5000], Duration::from_secs(7));
        assert!(five_thousand.last().is_some_and(|last| *last < Duration::from_secs(7) && *last > ms(6900)));
    }

    #[test]
    fn a_shuffle_loses_nobody_and_changes() {
        let mut order = shuffled(100);
        assert_ne!(order, shuffled(100), "the same order twice");
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
