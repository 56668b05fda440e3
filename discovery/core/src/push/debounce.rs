//! Debounce of changes: a push starts after a quiet period, at the latest after a limit, and one at a time.
//!
//! Endpoints and configuration are debounced apart: a rollout that keeps changing endpoints does not delay a route, and a burst
//! of configuration does not delay endpoints, which are cheap to push. When configuration is due, pending endpoints are pushed
//! with it.
//!
//! ```text
//!   changes      x x  x x             x                !  (urgent)
//!                        |-- after --|→ push           → push at once
//!                x x x x x x x x x x x x x x x x
//!                |------------ max ------------|→ push
//! ```
//!
//! Pure: instants come in as arguments, and the caller sleeps until [`Debounce::due`].

use std::time::{Duration, Instant};

use super::PushRequest;

/// Debounce periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Quiet period. `PILOT_DEBOUNCE_AFTER`.
    pub after: Duration,
    /// Maximum delay of a change. `PILOT_DEBOUNCE_MAX`.
    pub max: Duration,
}

/// Urgency of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The change waits for others.
    Normal,
    /// An endpoint is removed, and proxies send requests to it until they are told. The first urgent change starts a push at
    /// once; later ones within the quiet period wait for each other.
    Urgent,
}

/// Debounced changes.
#[derive(Debug)]
pub struct Debounce {
    params: Params,
    endpoints: Lane,
    configuration: Lane,
    build: Build,
}

/// Pending changes of one class.
#[derive(Debug, Default)]
struct Lane {
    waiting: Option<Waiting>,
    /// Start of the last push.
    last_push: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    request: PushRequest,
    first: Instant,
    last: Instant,
    /// First urgent change.
    urgent: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Idle,
    Running,
}

// === impl Params ===

impl Default for Params {
    fn default() -> Self {
        Self { after: Duration::from_millis(100), max: Duration::from_secs(10) }
    }
}

// === impl Debounce ===

impl Debounce {
    /// Creates a debounce without pending changes.
    pub fn new(params: Params) -> Self {
        Self { params, endpoints: Lane::default(), configuration: Lane::default(), build: Build::Idle }
    }

    /// Adds a change. An empty request is ignored.
    pub fn on_change(&mut self, now: Instant, mut request: PushRequest, urgency: Urgency) {
        if request.is_empty() {
            return;
        }
        request.start.get_or_insert(now);
        let lane = if request.is_endpoints_only() { &mut self.endpoints } else { &mut self.configuration };
        lane.add(now, request, (urgency == Urgency::Urgent).then_some(now));
    }

    /// Returns the time at which [`Debounce::take`] returns a request; `None` if nothing is pending or a push is being built.
    pub fn due(&self) -> Option<Instant> {
        if self.build == Build::Running {
            return None;
        }
        [&self.endpoints, &self.configuration].into_iter().filter_map(|lane| lane.due(self.params)).min()
    }

    /// Returns the request that is due, and its urgency. The build of the push begins; the next one waits for [`Debounce::done`].
    pub fn take(&mut self, now: Instant) -> Option<(PushRequest, Urgency)> {
        self.due().filter(|due| *due <= now)?;
        self.build = Build::Running;
        let configuration = self.configuration.due(self.params).is_some_and(|due| due <= now);
        let taken = if configuration { self.configuration.take(now) } else { None };
        let taken = [taken, self.endpoints.take(now)].into_iter().flatten();
        taken.reduce(|(mut request, urgency), (more, its_urgency)| {
            request.merge(&more);
            (request, urgency.max(its_urgency))
        })
    }

    /// Discards pending changes: a client that connects later gets the current state.
    pub fn clear(&mut self) {
        *self = Self::new(self.params);
    }

    /// Ends the build that began with the last [`Debounce::take`].
    pub fn done(&mut self) {
        self.build = Build::Idle;
    }
}

// === impl Lane ===

impl Lane {
    fn add(&mut self, now: Instant, request: PushRequest, urgent: Option<Instant>) {
        match &mut self.waiting {
            None => self.waiting = Some(Waiting { request, first: now, last: now, urgent }),
            Some(waiting) => {
                waiting.request.merge(&request);
                waiting.last = now;
                waiting.urgent = waiting.urgent.or(urgent);
            }
        }
    }

    fn due(&self, Params { after, max }: Params) -> Option<Instant> {
        let waiting = self.waiting.as_ref()?;
        let quiet = (waiting.last + after).min(waiting.first + max);
        let rested = |urgent: Instant| self.last_push.map_or(urgent, |last| urgent.max(last + after));
        Some(waiting.urgent.map(rested).map_or(quiet, |urgent| urgent.min(quiet)))
    }

    fn take(&mut self, now: Instant) -> Option<(PushRequest, Urgency)> {
        let waiting = self.waiting.take()?;
        self.last_push = Some(now);
        let urgency = if waiting.urgent.is_some() { Urgency::Urgent } else { Urgency::Normal };
        Some((waiting.request, urgency))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant to count from; there is no other way to make one")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ChangeKind, ConfigKey};
    use crate::push::Reason;

    fn change(name: &str) -> PushRequest {
        let key = ConfigKey { kind: ChangeKind::Endpoints, namespace: "default".into(), name: name.into() };
        PushRequest::of([key], Reason::Endpoint)
    }

    /// Checks the times of pushes, in milliseconds, that follow from changes at these times; a build takes no time.
    fn check(changes: &[(u64, Urgency)], expected: &[u64]) {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut debounce = Debounce::new(Params::default());
        let mut pushes = Vec::new();
        let mut run_until = |debounce: &mut Debounce, until: Instant| {
            while let Some(due) = debounce.due().filter(|due| *due < until) {
                assert!(debounce.take(due).is_some());
                pushes.push(u64::try_from((due - start).as_millis()).unwrap());
                debounce.done();
            }
        };
        for (millis, urgency) in changes {
            run_until(&mut debounce, at(*millis));
            debounce.on_change(at(*millis), change("a"), *urgency);
        }
        run_until(&mut debounce, at(3_600_000));
        assert_eq!(pushes, expected);
    }

    #[test]
    fn a_push_waits_for_quiet() {
        use Urgency::Normal;
        check(&[(0, Normal)], &[100]);
        check(&[(0, Normal), (50, Normal), (140, Normal)], &[240]);
        check(&[(0, Normal), (101, Normal)], &[100, 201]);
    }

    #[test]
    fn without_quiet_a_push_waits_ten_seconds() {
        let storm: Vec<(u64, Urgency)> = (0..240).map(|tick| (tick * 50, Urgency::Normal)).collect();
        check(&storm, &[10_000, 12_050]);
    }

    #[test]
    fn an_urgent_change_does_not_wait_unless_it_follows_another() {
        use Urgency::{Normal, Urgent};
        check(&[(0, Urgent)], &[0]);
        check(&[(0, Normal), (30, Urgent)], &[30]);
        // All endpoints of a service are removed one after the other: the first is pushed at once, the others in steps.
        check(&[(0, Urgent), (10, Urgent), (90, Urgent), (150, Urgent)], &[0, 100, 200]);
        check(&[(0, Urgent), (500, Urgent)], &[0, 500]);
    }

    #[test]
    fn one_build_at_a_time_and_then_at_once() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut debounce = Debounce::new(Params::default());
        assert_eq!((debounce.due(), debounce.take(at(0))), (None, None));
        debounce.on_change(at(0), change("a"), Urgency::Normal);
        assert_eq!(debounce.take(at(99)), None);
        let (first, _) = debounce.take(at(100)).unwrap();
        assert_eq!((first.start, first.updated), (Some(at(0)), change("a").updated));
        debounce.on_change(at(110), change("b"), Urgency::Urgent);
        debounce.on_change(at(120), change("c"), Urgency::Normal);
        assert_eq!((debounce.due(), debounce.take(at(5_000))), (None, None));
        debounce.done();
        let (second, urgency) = debounce.take(at(5_000)).unwrap();
        assert_eq!(urgency, Urgency::Urgent);
        assert_eq!((second.start, second.updated.len()), (Some(at(110)), 2));
    }

    #[test]
    fn endpoints_and_configuration_come_to_rest_each_for_itself() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let service = |name: &str| {
            let key = ConfigKey { kind: ChangeKind::Service, namespace: "default".into(), name: name.into() };
            PushRequest::of([key], Reason::Service)
        };
        let told = |debounce: &mut Debounce, millis| {
            let taken = debounce.take(at(millis));
            debounce.done();
            taken.map(|(request, _)| request.updated.len())
        };
        let mut debounce = Debounce::new(Params::default());
        for tick in 0..4 {
            debounce.on_change(at(tick * 60), service(&tick.to_string()), Urgency::Normal);
        }
        debounce.on_change(at(70), change("a"), Urgency::Normal);
        assert_eq!((debounce.due(), told(&mut debounce, 170)), (Some(at(170)), Some(1)), "endpoints alone");
        debounce.on_change(at(270), change("b"), Urgency::Normal);
        assert_eq!((debounce.due(), told(&mut debounce, 280)), (Some(at(280)), Some(5)), "both");
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn what_is_forgotten_holds_up_nothing() {
        let start = Instant::now();
        let mut debounce = Debounce::new(Params::default());
        debounce.on_change(start, change("a"), Urgency::Urgent);
        debounce.take(start);
        debounce.on_change(start, change("b"), Urgency::Normal);
        debounce.clear();
        assert_eq!(debounce.due(), None);
        debounce.on_change(start, change("c"), Urgency::Urgent);
        assert_eq!(debounce.due(), Some(start));
    }

    #[test]
    fn a_request_that_says_nothing_is_no_change() {
        let mut debounce = Debounce::new(Params::default());
        debounce.on_change(Instant::now(), PushRequest::default(), Urgency::Urgent);
        assert_eq!(debounce.due(), None);
    }

    proptest! {
        #[test]
        fn every_change_is_pushed_once_and_in_time(gaps in prop::collection::vec((0_u64..300, any::<bool>()), 1..60)) {
            let start = Instant::now();
            let mut debounce = Debounce::new(Params::default());
            let mut now = start;
            let mut pushed = Vec::new();
            let mut take_until = |debounce: &mut Debounce, until: Instant| {
                while let Some(due) = debounce.due().filter(|due| *due <= until) {
                    let (request, _) = debounce.take(due).unwrap();
                    assert!(due - request.start.unwrap() <= Params::default().max);
                    pushed.extend(request.updated);
                    debounce.done();
                }
            };
            for (number, (gap, urgent)) in gaps.iter().enumerate() {
                now += Duration::from_millis(*gap);
                take_until(&mut debounce, now);
                let urgency = if *urgent { Urgency::Urgent } else { Urgency::Normal };
                debounce.on_change(now, change(&number.to_string()), urgency);
            }
            take_until(&mut debounce, now + Params::default().after);
            prop_assert_eq!(pushed.len(), gaps.len());
        }
    }
}
