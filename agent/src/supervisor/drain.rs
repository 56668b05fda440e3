//! Decides when a draining Envoy may leave.
//!
//! Idle keep-alive connections never leave by themselves and lose nothing when Envoy goes, so waiting for
//! zero connections is waiting for the deadline. What counts is that no request is active, no raw TCP
//! connection is open, and for a short while nothing new has begun.

use std::time::{Duration, Instant};

/// How long a drain takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// Between readiness going off and the first client being told to leave. Nothing changes for anybody
    /// meanwhile but load balancers.
    pub head_start: Duration,
    /// No shorter than this.
    pub minimum: Minimum,
    /// Nothing active and nothing new for this long means done.
    pub quiet: Duration,
    /// No longer than this, whatever is still active, the head start included. Shorter than the pod's grace
    /// period by the time that stopping takes, or the kubelet wins.
    pub deadline: Duration,
}

/// How long a drain lasts at least: what load balancers need to hear that we are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minimum {
    /// Somebody said how long, and it is kept to the letter.
    Fixed(Duration),
    /// Nobody did. Then traffic itself tells: where requests came every millisecond, a quarter of a second
    /// without one means that they go elsewhere now; where there were none, silence says nothing, and only
    /// this much time does.
    Evident(Duration),
}

/// What Envoy is busy with on behalf of others: its admin, health checks and scrapes do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// HTTP requests in progress and raw TCP connections open.
    pub active: u64,
    /// Requests and connections ever begun. Only ever compared for equality.
    pub begun: u64,
}

/// Silence this many times as long as the usual pause between two requests is no chance: of requests that
/// come at random, one pause in 20,000 is that long.
const PAUSES: u32 = 10;

/// A drain in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drain {
    since: Instant,
    seen: Option<Seen>,
    quiet: Option<Quiet>,
}

/// What has begun during the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first: (Instant, u64),
    last: (Instant, u64),
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
    /// 250 ms of silence lost no request in 36 measured stops, 50 ms did not either; five seconds are
    /// Istio's `MINIMUM_DRAIN_DURATION` and `terminationDrainDuration`.
    fn default() -> Self {
        Self {
            head_start: Duration::ZERO,
            minimum: Minimum::Evident(Duration::from_secs(5)),
            quiet: Duration::from_millis(250),
            deadline: Duration::from_secs(5),
        }
    }
}

// === impl Drain ===

impl Drain {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, seen: None, quiet: None }
    }

    /// One more look at Envoy. An Envoy that does not tell is taken to be busy until the deadline.
    pub(super) fn observe(
        &mut self,
        activity: Option<Activity>,
        policy: DrainPolicy,
        now: Instant,
    ) -> Traffic {
        let Some(Activity { active, begun }) = activity else {
            self.quiet = None;
            return Traffic::Flows;
        };
        let seen = self.seen.get_or_insert(Seen { first: (now, begun), last: (now, begun) });
        if seen.last.1 != begun {
            seen.last = (now, begun);
        }
        self.quiet = match self.quiet {
            _ if active > 0 => None,
            Some(quiet) if quiet.begun == begun => Some(quiet),
            _ => Some(Quiet { since: now, begun }),
        };
        let Some(quiet) = self.quiet else { return Traffic::Flows };
        let silence = now.saturating_duration_since(quiet.since);
        let lasted = now.saturating_duration_since(self.since);
        let enough = match policy.minimum {
            Minimum::Fixed(minimum) => silence >= policy.quiet && lasted >= minimum,
            Minimum::Evident(cap) => match self.usual_pause() {
                None => silence >= policy.quiet && lasted >= cap,
                Some(pause) => {
                    let evident = pause.saturating_mul(PAUSES).min(cap).max(policy.quiet);
                    silence >= evident
                }
            },
        };
        if enough { Traffic::Ceased } else { Traffic::Flows }
    }

    /// Between two requests, while there were any; `None`: there were none.
    fn usual_pause(&self) -> Option<Duration> {
        let Seen { first, last } = self.seen?;
        let begun = u32::try_from(last.1.saturating_sub(first.1)).unwrap_or(u32::MAX);
        last.0.saturating_duration_since(first.0).checked_div(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at the given milliseconds; the drain's verdict at the last of them.
    fn check(minimum: Minimum, looks: &[(u64, Option<(u64, u64)>)], expected: Traffic) {
        let policy = DrainPolicy { minimum, ..DrainPolicy::default() };
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

    const NONE: Minimum = Minimum::Fixed(Duration::ZERO);
    const FIVE: Minimum = Minimum::Fixed(Duration::from_secs(5));
    const EVIDENT: Minimum = Minimum::Evident(Duration::from_secs(5));

    #[test]
    fn traffic_has_ceased_when_nothing_is_active_and_nothing_began_for_a_while() {
        check(NONE, &[(0, Some((0, 7)))], Traffic::Flows);
        check(NONE, &[(0, Some((0, 7))), (249, Some((0, 7)))], Traffic::Flows);
        check(NONE, &[(0, Some((0, 7))), (250, Some((0, 7)))], Traffic::Ceased);
    }

    #[test]
    fn a_request_that_came_and_went_between_two_looks_starts_the_wait_anew() {
        check(NONE, &[(0, Some((0, 7))), (200, Some((0, 8))), (300, Some((0, 8)))], Traffic::Flows);
        check(NONE, &[(0, Some((0, 7))), (200, Some((0, 8))), (450, Some((0, 8)))], Traffic::Ceased);
    }

    #[test]
    fn a_request_in_progress_and_an_envoy_that_does_not_tell_are_busy() {
        check(NONE, &[(0, Some((1, 7))), (900, Some((1, 7)))], Traffic::Flows);
        check(NONE, &[(0, Some((0, 7))), (100, None), (260, Some((0, 7)))], Traffic::Flows);
        check(NONE, &[(0, None), (9_000, None)], Traffic::Flows);
    }

    #[test]
    fn silence_before_a_minimum_somebody_set_is_not_yet_the_end() {
        check(FIVE, &[(0, Some((0, 7))), (4_999, Some((0, 7)))], Traffic::Flows);
        check(FIVE, &[(0, Some((0, 7))), (5_000, Some((0, 7)))], Traffic::Ceased);
    }

    #[test]
    fn where_nobody_said_how_long_silence_counts_by_how_unusual_it_is() {
        // Nothing ever came: that nothing comes means nothing.
        check(EVIDENT, &[(0, Some((0, 7))), (4_900, Some((0, 7)))], Traffic::Flows);
        check(EVIDENT, &[(0, Some((0, 7))), (5_000, Some((0, 7)))], Traffic::Ceased);
        // A hundred in a tenth of a second, and then none.
        let busy = [(0, Some((0, 0))), (100, Some((0, 100))), (349, Some((0, 100)))];
        check(EVIDENT, &busy, Traffic::Flows);
        check(EVIDENT, &[busy[0], busy[1], (350, Some((0, 100)))], Traffic::Ceased);
        // Two in half a second: two and a half without one.
        let calm = [(0, Some((0, 0))), (500, Some((0, 2))), (2_999, Some((0, 2)))];
        check(EVIDENT, &calm, Traffic::Flows);
        check(EVIDENT, &[calm[0], calm[1], (3_000, Some((0, 2)))], Traffic::Ceased);
    }
}
