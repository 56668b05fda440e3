//! A token bucket: a burst, then a rate per second. Time is an argument.

use std::time::{Duration, Instant};

/// Tokens, and the time of the last update.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Tokens per second; greater than zero.
    rate: f64,
    /// Maximum number of tokens.
    burst: f64,
    /// Negative: tokens that waiting callers have reserved.
    tokens: f64,
    seen: Instant,
}

/// Result of taking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A token was available.
    Now,
    /// A token is reserved, and available after this time.
    After(Duration),
    /// The wait would be too long; no token is taken.
    Never,
}

// === impl Bucket ===

impl Bucket {
    /// Creates a full bucket. An invalid rate gives tokens for the burst only.
    pub(crate) fn new(rate: f64, burst: f64, now: Instant) -> Self {
        let rate = if rate.is_finite() && rate > 0.0 { rate } else { f64::MIN_POSITIVE };
        Self { rate, burst, tokens: burst, seen: now }
    }

    /// Takes one token, reserved for at most `patience` ahead. Later callers wait longer.
    pub(crate) fn take(&mut self, now: Instant, patience: Duration) -> Verdict {
        let gained = now.saturating_duration_since(self.seen).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.seen = self.seen.max(now);
        let left = self.tokens - 1.0;
        if left >= 0.0 {
            self.tokens = left;
            return Verdict::Now;
        }
        match Duration::try_from_secs_f64(-left / self.rate) {
            Ok(wait) if wait <= patience => {
                self.tokens = left;
                Verdict::After(wait)
            }
            _ => Verdict::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Checks the results of taking at these moments (ms), at 10 a second with a burst of 2, waiting 250 ms at most.
    fn check(moments: &[u64], expected: &[Verdict]) {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 2.0, start);
        let verdicts: Vec<Verdict> =
            moments.iter().map(|moment| bucket.take(start + MS(*moment), MS(250))).collect();
        let rounded = |verdict: &Verdict| match verdict {
            Verdict::After(wait) => {
                Verdict::After(wait.saturating_add(MS(1) / 2).as_millis().try_into().map_or(*wait, MS))
            }
            other => *other,
        };
        assert_eq!(verdicts.iter().map(rounded).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_burst_goes_through_the_next_wait_in_line_and_the_rest_are_refused() {
        use Verdict::{After, Never, Now};
        check(&[0; 6], &[Now, Now, After(MS(100)), After(MS(200)), Never, Never]);
        // Refused callers take no token: the reservations stay as they are.
        check(&[0, 0, 0, 0, 0, 100], &[Now, Now, After(MS(100)), After(MS(200)), Never, After(MS(200))]);
        // The bucket holds at most the burst.
        check(&[0, 0, 10_000, 10_000, 10_000], &[Now, Now, Now, Now, After(MS(100))]);
    }

    #[test]
    fn a_rate_that_is_none_gives_the_burst_and_no_more() {
        let now = Instant::now();
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut bucket = Bucket::new(rate, 1.0, now);
            assert_eq!(bucket.take(now, MS(0)), Verdict::Now);
            assert_eq!(bucket.take(now + Duration::from_hours(1), Duration::MAX), Verdict::Never, "{rate}");
        }
    }
}
