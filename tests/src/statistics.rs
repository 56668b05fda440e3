//! Numbers made of many: durations of one kind, and what grows over time. It knows nothing of what was measured.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

// === impl Durations ===

impl Durations {
    /// One more.
    pub fn push(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// The middle one, or the later of the two in the middle; `None` without any.
    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied()
    }

    /// How often the other's median fits into this one's.
    pub fn ratio(&self, to: &Self) -> Option<f64> {
        let floor = to.median()?.as_secs_f64();
        (floor > 0.0).then_some(())?;
        Some(round(self.median()?.as_secs_f64() / floor))
    }

    /// `{n, min, p50, max}` in milliseconds; `null` without any.
    pub fn summary(&self) -> Value {
        let (Some(p50), Some(min), Some(max)) = (self.median(), self.0.iter().min(), self.0.iter().max())
        else {
            return Value::Null;
        };
        json!({"n": self.0.len(), "min": millis(*min), "p50": millis(p50), "max": millis(*max)})
    }
}

/// In milliseconds, with a tenth.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// With hundredths.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// How steep the straight line is that fits these points best; `None` when they have no width.
#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 points")]
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let along: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let square: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (square > 0.0).then(|| along / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(millis: &[u64]) -> Durations {
        Durations(millis.iter().copied().map(Duration::from_millis).collect())
    }

    #[test]
    fn the_middle_and_both_ends_are_told() {
        let check = |durations: &[u64], expected: Value| assert_eq!(spread(durations).summary(), expected);
        check(&[], Value::Null);
        check(&[7], json!({"n": 1, "min": 7.0, "p50": 7.0, "max": 7.0}));
        check(&[9, 1, 5], json!({"n": 3, "min": 1.0, "p50": 5.0, "max": 9.0}));
        assert_eq!(Value::from(millis(Duration::from_micros(1_260))), json!(1.3));
    }

    #[test]
    fn medians_are_compared_and_nothing_is_compared_with_nothing() {
        assert_eq!(spread(&[120, 1, 500]).ratio(&spread(&[100])), Some(1.2));
        assert_eq!(spread(&[120]).ratio(&spread(&[])), None);
        assert_eq!(spread(&[120]).ratio(&spread(&[0])), None);
    }

    #[test]
    fn growth_is_seen_through_noise() {
        let check = |points: &[(f64, f64)], expected| assert_eq!(slope(points).map(round), expected);
        check(&[(0.0, 10.0), (1.0, 12.0), (2.0, 14.0)], Some(2.0));
        check(&[(0.0, 5.0), (1.0, 6.0), (2.0, 5.0), (3.0, 6.0)], Some(0.2));
        check(&[(0.0, 5.0), (9.0, 5.0)], Some(0.0));
        check(&[(1.0, 5.0)], None);
        check(&[], None);
    }
}
