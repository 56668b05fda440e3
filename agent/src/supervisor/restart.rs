//! Decides how soon Envoy is started again after it died, and when to stop trying.
//!
//! The first time at once: a crash costs every request until Envoy is back, and most crashes come alone.
//! From the second on a delay that doubles, and after a number of them never: then the container's own
//! restart, which the platform shows and counts, is the better answer.

use std::time::Duration;

/// How often, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts that a run of crashes may cost.
    pub budget: u32,
    /// The first delay; it doubles with every further crash.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
    /// An Envoy LIVE for this long has earned the whole budget again.
    pub stable_after: Duration,
}

#[derive(Clone, Debug)]
pub(super) struct Budget {
    policy: RestartPolicy,
    spent: u32,
}

/// What the budget grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Respawn {
    Now,
    After(Duration),
    Never,
}

// === impl RestartPolicy ===

impl Default for RestartPolicy {
    /// Istio 1.3's numbers, with a cap and a way to earn the budget back, which it lacked.
    fn default() -> Self {
        Self {
            budget: 10,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(30),
            stable_after: Duration::from_mins(10),
        }
    }
}

// === impl Budget ===

impl Budget {
    pub(super) fn full(policy: RestartPolicy) -> Self {
        Self { policy, spent: 0 }
    }

    /// One more crash, of an Envoy that had been LIVE for `lived`.
    pub(super) fn spend(&mut self, lived: Duration) -> Respawn {
        if lived >= self.policy.stable_after {
            self.spent = 0;
        }
        if self.spent >= self.policy.budget {
            return Respawn::Never;
        }
        let doublings = self.spent.checked_sub(1);
        self.spent += 1;
        match doublings {
            None => Respawn::Now,
            Some(n) => Respawn::After(
                2_u32
                    .checked_pow(n)
                    .and_then(|factor| self.policy.base.checked_mul(factor))
                    .map_or(self.policy.cap, |delay| delay.min(self.policy.cap)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_until_the_budget_is_spent() {
        let mut budget = Budget::full(RestartPolicy::default());
        let granted: Vec<_> = (0..12).map(|_| budget.spend(Duration::from_secs(599))).collect();
        let after = |millis| Respawn::After(Duration::from_millis(millis));
        assert_eq!(
            granted,
            [
                Respawn::Now,
                after(200),
                after(400),
                after(800),
                after(1_600),
                after(3_200),
                after(6_400),
                after(12_800),
                after(25_600),
                after(30_000),
                Respawn::Never,
                Respawn::Never,
            ]
        );
    }

    #[test]
    fn ten_stable_minutes_refill_the_budget() {
        let mut budget = Budget::full(RestartPolicy { budget: 1, ..RestartPolicy::default() });
        assert_eq!(budget.spend(Duration::ZERO), Respawn::Now);
        assert_eq!(budget.spend(Duration::from_mins(10)), Respawn::Now);
        assert_eq!(budget.spend(Duration::ZERO), Respawn::Never);
    }

    #[test]
    fn a_budget_of_thousands_does_not_overflow() {
        let mut budget = Budget::full(RestartPolicy { budget: 5_000, ..RestartPolicy::default() });
        let last = (0..5_000).map(|_| budget.spend(Duration::ZERO)).last();
        assert_eq!(last, Some(Respawn::After(Duration::from_secs(30))));
    }
}
