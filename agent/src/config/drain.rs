//! One budget for the end: how long Envoy may drain, and how long it may then take to leave.
//!
//! Istio has three settings that do not know of each other; here is what each of them means in one
//! deadline. A drain always ends as soon as there is no more traffic; these are its bounds.

use std::time::Duration;

/// Istio's, and that of its templates.
const TERMINATION: Duration = Duration::from_secs(5);

/// Istio's default of `MINIMUM_DRAIN_DURATION`.
const MINIMUM: Duration = Duration::from_secs(5);

/// Kubernetes' default of `terminationGracePeriodSeconds`.
const GRACE: Duration = Duration::from_secs(30);

/// Part of the grace period after the drain: two thirds of it for SIGTERM, the rest for SIGKILL and the end of the agent. At most
/// a quarter of the period.
const MARGIN: Duration = Duration::from_secs(3);

/// Limits of Envoy's drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Minimum duration, if it is set: the time that load balancers need to notice.
    pub(crate) minimum: Option<Duration>,
    /// Minimum duration without any traffic, if none is set.
    pub(crate) evident: Duration,
    /// No longer than this.
    pub(crate) deadline: Duration,
    /// Between SIGTERM and SIGKILL.
    pub(crate) kill_grace: Duration,
}

/// Drain settings of the user; `None` if unset.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainSettings {
    /// `--terminationGracePeriod`: a promise about the platform, so it outranks the others.
    pub(super) grace: Option<Duration>,
    /// `terminationDrainDuration`.
    pub(super) termination: Option<Duration>,
    /// `MINIMUM_DRAIN_DURATION`.
    pub(super) minimum: Option<Duration>,
    /// `EXIT_ON_ZERO_ACTIVE_CONNECTIONS`.
    pub(super) mode: DrainMode,
}

/// Drain mode of Istio: wait for zero connections, with or without a limit before the kubelet's SIGKILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainMode {
    FixedTime,
    ZeroConnections,
}

// === impl Drain ===

impl Drain {
    pub(super) fn of(wanted: DrainSettings) -> Self {
        let grace = match (wanted.grace, wanted.mode) {
            (Some(grace), _) => Some(grace),
            (None, DrainMode::ZeroConnections) => Some(GRACE),
            (None, DrainMode::FixedTime) => None,
        };
        let margin = grace.map_or(MARGIN, |grace| MARGIN.min(grace / 4));
        let deadline = match grace {
            Some(grace) => grace.saturating_sub(margin),
            None => wanted.termination.unwrap_or(TERMINATION),
        };
        let minimum = match wanted.mode {
            DrainMode::FixedTime => wanted.minimum,
            DrainMode::ZeroConnections => Some(wanted.minimum.unwrap_or(MINIMUM)),
        };
        let minimum = minimum.map(|minimum| minimum.min(deadline));
        Self { minimum, evident: MINIMUM.min(deadline), deadline, kill_grace: margin * 2 / 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An unset minimum is -1.
    fn check(wanted: DrainSettings, (minimum, deadline, kill_grace): (i64, u64, u64)) {
        let minimum = u64::try_from(minimum).ok().map(Duration::from_millis);
        let [deadline, kill_grace] = [deadline, kill_grace].map(Duration::from_millis);
        let evident = MINIMUM.min(deadline);
        assert_eq!(Drain::of(wanted), Drain { minimum, evident, deadline, kill_grace }, "{wanted:?}");
    }

    const NOTHING: DrainSettings =
        DrainSettings { grace: None, termination: None, minimum: None, mode: DrainMode::FixedTime };
    const ZERO: DrainSettings = DrainSettings { mode: DrainMode::ZeroConnections, ..NOTHING };

    #[test]
    fn the_deadline_is_istios_drain_time_unless_the_grace_period_is_known() {
        check(NOTHING, (-1, 5_000, 2_000));
        check(DrainSettings { termination: Some(Duration::from_mins(1)), ..NOTHING }, (-1, 60_000, 2_000));
        let grace = Some(Duration::from_mins(1));
        check(
            DrainSettings { grace, termination: Some(Duration::from_secs(5)), ..NOTHING },
            (-1, 57_000, 2_000),
        );
    }

    #[test]
    fn waiting_for_zero_connections_ends_before_the_kubelet_ends_it() {
        check(ZERO, (5_000, 27_000, 2_000));
        check(DrainSettings { grace: Some(Duration::from_mins(1)), ..ZERO }, (5_000, 57_000, 2_000));
        check(DrainSettings { minimum: Some(Duration::from_secs(10)), ..ZERO }, (10_000, 27_000, 2_000));
    }

    #[test]
    fn a_minimum_of_the_users_own_counts_either_way_but_never_beyond_the_deadline() {
        let minimum = Some(Duration::from_secs(2));
        check(DrainSettings { minimum, ..NOTHING }, (2_000, 5_000, 2_000));
        check(DrainSettings { minimum: Some(Duration::from_mins(1)), ..NOTHING }, (5_000, 5_000, 2_000));
    }

    #[test]
    fn a_short_grace_period_is_shared_out() {
        check(DrainSettings { grace: Some(Duration::from_secs(6)), ..NOTHING }, (-1, 4_500, 1_000));
        check(DrainSettings { grace: Some(Duration::ZERO), ..NOTHING }, (-1, 0, 0));
    }
}
