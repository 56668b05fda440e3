//! Back-off and budget of restarts.
//!
//! The first restart is immediate: every request fails until Envoy is back, and most crashes are single. The delay of
//! further ones doubles. When the budget is spent the agent ends, because the platform reports and counts restarts of
//! the container.

use std::time::Duration;

/// Number and delay of restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// Number of restarts in a series of crashes.
    pub(crate) budget: u32,
    /// First delay; doubles with each crash.
    pub(crate) base: Duration,
    /// Longest delay.
    pub(crate) cap: Duration,
    /// LIVE time after which the budget is full again.
    pub(crate) stable_after: Duration,
    /// Delay of the first attempt after a failure.
    pub(crate) first: FirstAttempt,
}

/// Delay of the first attempt after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstAttempt {
    /// None: requests fail meanwhile, and most failures are single.
    Immediate,
    /// The first delay: the old state serves meanwhile.
    Delayed,
}

#[derive(Clone, Debug)]
pub(super) struct Budget {
    policy: RestartPolicy,
    spent: u32,
}

/// Decision about a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Respawn {
    Now,
    After(Duration),
    Never,
}

// === impl RestartPolicy ===

impl Default for RestartPolicy {
    /// Istio 1.3's numbers, with a cap and a refill, which it lacked.
    fn default() -> Self {
        Self {
            budget: 10,
            base: Duration::from_millis(200),
            cap: Duration::from_secs(30),
            stable_after: Duration::from_mins(10),
            first: FirstAttempt::Immediate,
        }
    }
}

impl RestartPolicy {
    /// No restart: the agent ends with Envoy, as in Istio since 1.4.
    pub(crate) const NEVER: Self = Self {
        budget: 0,
        base: Duration::ZERO,
        cap: Duration::ZERO,
        stable_after: Duration::MAX,
        first: FirstAttempt::Immediate,
    };
}

// === impl Budget ===

impl Budget {
    pub(super) fn full(policy: RestartPolicy) -> Self {
        Self { policy, spent: 0 }
    }

    /// Number of attempts made.
    pub(super) fn spent(&self) -> u32 {
        self.spent
    }

    /// Number of attempts left.
    pub(super) fn left(&self) -> u32 {
        self.policy.budget.saturating_sub(self.spent)
    }

    /// Records a crash of an Envoy that was LIVE for `lived`.
    pub(super) fn spend(&mut self, lived: Duration) -> Respawn {
        if lived >= self.policy.stable_after {
            self.spent = 0;
        }
        if self.spent >= self.policy.budget {
            return Respawn::Never;
        }
        let doublings = match self.policy.first {
            FirstAttempt::Immediate => self.spent.checked_sub(1),
            FirstAttempt::Delayed => Some(self.spent),
        };
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
    fn a_first_try_that_may_wait_does() {
        let policy = RestartPolicy { first: FirstAttempt::Delayed, budget: 2, ..RestartPolicy::default() };
        let mut budget = Budget::full(policy);
        assert_eq!(budget.spend(Duration::ZERO), Respawn::After(Duration::from_millis(200)));
        assert_eq!(budget.spend(Duration::ZERO), Respawn::After(Duration::from_millis(400)));
        assert_eq!((budget.left(), budget.spend(Duration::ZERO)), (0, Respawn::Never));
    }

    #[test]
    fn a_policy_of_never_is_spent_from_the_start() {
        assert_eq!(Budget::full(RestartPolicy::NEVER).spend(Duration::ZERO), Respawn::Never);
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
