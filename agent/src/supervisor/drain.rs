//! Decides when a draining Envoy may leave.
//!
//! Idle keep-alive connections never leave by themselves and lose nothing when Envoy goes, so waiting for
//! zero connections is waiting for the deadline. What counts is that no request is active, no raw TCP
//! connection is open, and for a short while nothing new has begun.

use std::time::{Duration, Instant};

/// How long a drain takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// No shorter than this: the time a load balancer needs to hear that we are gone.
    pub minimum: Duration,
    /// Nothing active and nothing new for this long means done.
    pub quiet: Duration,
    /// No longer than this, whatever is still active. Shorter than the pod's grace period by the time
    /// that stopping takes, or the kubelet wins.
    pub deadline: Duration,
}

/// What Envoy is busy with on behalf of others: its admin, health checks and scrapes do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// HTTP requests in progress and raw TCP connections open.
    pub active: u64,
    /// Requests and connections ever begun. Only ever compared for equality.
    pub begun: u64,
}

/// A drain in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drain {
    since: Instant,
    quiet: Option<Quiet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quiet {
    since: Instant,
    begun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Flows,
    Ceased,
}

// === impl DrainPolicy ===

impl Default for DrainPolicy {
    /// 250 ms of silence lost no request in 36 measured stops, 50 ms did not either; the deadline is
    /// Istio's `terminationDrainDuration`.
    fn default() -> Self {
        Self { minimum: Duration::ZERO, quiet: Duration::from_millis(250), deadline: Duration::from_secs(5) }
    }
}

// === impl Drain ===

impl Drain {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, quiet: None }
    }

    /// One more look at Envoy. An Envoy that does not tell is taken to be busy until the deadline.
    pub(super) fn observe(
        &mut self,
        activity: Option<Activity>,
        policy: DrainPolicy,
        now: Instant,
    ) -> Traffic {
        self.quiet = match (activity, self.quiet) {
            (Some(Activity { active: 0, begun }), Some(quiet)) if quiet.begun == begun => Some(quiet),
            (Some(Activity { active: 0, begun }), _) => Some(Quiet { since: now, begun }),
            (Some(_) | None, _) => None,
        };
        let quiet =
            self.quiet.is_some_and(|quiet| now.saturating_duration_since(quiet.since) >= policy.quiet);
        if quiet && now.saturating_duration_since(self.since) >= policy.minimum {
            Traffic::Ceased
        } else {
            Traffic::Flows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the given milliseconds; the drain's verdict at the last of them.
    fn check(minimum: u64, looks: &[(u64, Option<(u64, u64)>)], expected: Traffic) {
        let policy = DrainPolicy { minimum: Duration::from_millis(minimum), ..DrainPolicy::default() };
        let start = Instant::now();
        let mut drain = Drain::new(start);
        let mut verdict = Traffic::Flows;
        for (position, (millis, activity)) in looks.iter().enumerate() {
            assert_eq!(verdict, Traffic::Flows, "ceased before look {position} of {looks:?}");
            let activity = activity.map(|(active, begun)| Activity { active, begun });
            verdict = drain.observe(activity, policy, start + Duration::from_millis(*millis));
        }
        assert_eq!(verdict, expected, "{looks:?}");
    }

    #[test]
    fn traffic_has_ceased_when_nothing_is_active_and_nothing_began_for_a_while() {
        check(0, &[(0, Some((0, 7)))], Traffic::Flows);
        check(0, &[(0, Some((0, 7))), (249, Some((0, 7)))], Traffic::Flows);
        check(0, &[(0, Some((0, 7))), (250, Some((0, 7)))], Traffic::Ceased);
    }

    #[test]
    fn a_request_that_came_and_went_between_two_looks_starts_the_wait_anew() {
        check(0, &[(0, Some((0, 7))), (200, Some((0, 8))), (300, Some((0, 8)))], Traffic::Flows);
        check(0, &[(0, Some((0, 7))), (200, Some((0, 8))), (450, Some((0, 8)))], Traffic::Ceased);
    }

    #[test]
    fn a_request_in_progress_and_an_envoy_that_does_not_tell_are_busy() {
        check(0, &[(0, Some((1, 7))), (900, Some((1, 7)))], Traffic::Flows);
        check(0, &[(0, Some((0, 7))), (100, None), (260, Some((0, 7)))], Traffic::Flows);
        check(0, &[(0, None), (9_000, None)], Traffic::Flows);
    }

    #[test]
    fn silence_before_the_minimum_is_not_yet_the_end() {
        check(5_000, &[(0, Some((0, 7))), (4_999, Some((0, 7)))], Traffic::Flows);
        check(5_000, &[(0, Some((0, 7))), (5_000, Some((0, 7)))], Traffic::Ceased);
    }
}
