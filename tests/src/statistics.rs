//! Statistics of many measurements: durations of one kind, and growth over time.

use std::time::Duration;

use serde_json::{Value, json};

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

// === impl Durations ===

impl Durations {
    /// Adds a duration.
    pub fn push(&mut self, one: Duration) {
        self.0.push(one);
    }

    /// Returns the median (the later of the two in the middle), or `None` if there are no durations.
    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied()
    }

    /// Returns this median divided by the median of the other.
    pub fn ratio(&self, to: &Self) -> Option<f64> {
        let floor = to.median()?.as_secs_f64();
        (floor > 0.0).then_some(())?;
        Some(round(self.median()?.as_secs_f64() / floor))
    }

    /// Returns `{n, min, p50, max}` in milliseconds, or `null` if there are no durations.
    pub fn summary(&self) -> Value {
        let (Some(p50), Some(min), Some(max)) = (self.median(), self.0.iter().min(), self.0.iter().max())
        else {
            return Value::Null;
        };
        json!({"n": self.0.len(), "min": millis(*min), "p50": millis(p50), "max": millis(*max)})
    }
}

/// Converts to milliseconds, rounded to one decimal.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Rounds to two decimals.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Returns the slope of the least-squares line through these points, or `None` if they all have the same x.
#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 points")]
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
    fn summary_has_count_minimum_median_and_maximum() {
        let check = |durations: &[u64], expected: Value| assert_eq!(spread(durations).summary(), expected);
        check(&[], Value::Null);
        check(&[7], json!({"n": 1, "min": 7.0, "p50": 7.0, "max": 7.0}));
        check(&[9, 1, 5], json!({"n": 3, "min": 1.0, "p50": 5.0, "max": 9.0}));
        assert_eq!(Value::from(millis(Duration::from_micros(1_260))), json!(1.3));
    }

    #[test]
    fn ratio_compares_medians_and_is_none_without_durations() {
        assert_eq!(spread(&[120, 1, 500]).ratio(&spread(&[100])), Some(1.2));
        assert_eq!(spread(&[120]).ratio(&spread(&[])), None);
        assert_eq!(spread(&[120]).ratio(&spread(&[0])), None);
    }

    #[test]
    fn slope_finds_growth_through_noise() {
        let check = |points: &[(f64, f64)], expected| assert_eq!(slope(points).map(round), expected);
        check(&[(0.0, 10.0), (1.0, 12.0), (2.0, 14.0)], Some(2.0));
        check(&[(0.0, 5.0), (1.0, 6.0), (2.0, 5.0), (3.0, 6.0)], Some(0.2));
        check(&[(0.0, 5.0), (9.0, 5.0)], Some(0.0));
        check(&[(1.0, 5.0)], None);
        check(&[], None);
    }
}
