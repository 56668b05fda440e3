//! Metrics of Envoy's lifecycle, in Prometheus' text format.
//!
//! Names have the prefix of Istio's agent, so that dashboards find the ones that both have.

use std::{
    fmt::{Display, Write},
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::HeaderValue;

use crate::{
    lifecycle::{ExitReason, Lifecycle},
    supervisor::{ExitStatus, Phase, Stage},
};

pub(super) const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Never, in a gauge of milliseconds or of exit codes.
const NEVER: i64 = -1;

/// Outcome of a hot restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HotRestartOutcome {
    /// The new Envoy is LIVE and has taken over.
    Live,
    /// It never started: the configuration was refused, or the versions do not go together.
    Refused,
    /// The new Envoy died before it was LIVE.
    Died,
    /// The new Envoy was not LIVE in time.
    Late,
    /// Something more important came: a stop, or the death of the old one.
    Abandoned,
}

/// Counted by the driver and the status server, read by scrapes.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    ready_after: AtomicI64,
    drained_for: AtomicI64,
    drains: AtomicU64,
    drained_in_all: AtomicI64,
    restarts: AtomicU64,
    hot_restarts: [AtomicU64; HotRestartOutcome::ALL.len()],
    exits: [AtomicU64; ExitReason::ALL.len()],
    deaths: AtomicU64,
    last_exit_code: AtomicI64,
    orphans: AtomicU64,
    scrapes: AtomicU64,
    scrape_failures: AtomicU64,
}

// === impl Counters ===

impl Counters {
    /// Creates counters that are zero since `started`.
    pub(crate) fn since(started: Instant) -> Self {
        Self {
            started,
            ready_after: AtomicI64::new(NEVER),
            drained_for: AtomicI64::new(NEVER),
            drains: AtomicU64::new(0),
            drained_in_all: AtomicI64::new(0),
            restarts: AtomicU64::new(0),
            hot_restarts: Default::default(),
            exits: Default::default(),
            deaths: AtomicU64::new(0),
            last_exit_code: AtomicI64::new(NEVER),
            orphans: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            scrape_failures: AtomicU64::new(0),
        }
    }

    /// An Envoy has ended.
    pub(crate) fn died(&self, status: ExitStatus) {
        self.deaths.fetch_add(1, Relaxed);
        self.last_exit_code.store(i64::from(status.code()), Relaxed);
    }

    /// Sets the number of reaped orphans.
    pub(crate) fn reaped(&self, orphans: u64) {
        self.orphans.store(orphans, Relaxed);
    }

    /// A drain has ended.
    pub(crate) fn drained(&self, lasted: Duration) {
        self.drained_for.store(millis(lasted), Relaxed);
        self.drained_in_all.fetch_add(millis(lasted), Relaxed);
        self.drains.fetch_add(1, Relaxed);
    }

    /// An Envoy was started because the one before it had ended.
    pub(crate) fn restarted(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// A hot restart has come to an end.
    pub(crate) fn hot_restarted(&self, outcome: HotRestartOutcome) {
        bump(&self.hot_restarts, HotRestartOutcome::ALL.iter().position(|known| *known == outcome));
    }

    /// An Envoy has ended, and this was it to us.
    pub(crate) fn exited(&self, reason: ExitReason) {
        bump(&self.exits, ExitReason::ALL.iter().position(|known| *known == reason));
    }

    /// The sidecar is ready; whether for the first time.
    pub(super) fn ready(&self) -> bool {
        let after = millis(self.started.elapsed());
        self.ready_after.compare_exchange(NEVER, after, Relaxed, Relaxed).is_ok()
    }

    /// Counts a scrape.
    pub(super) fn scraped(&self) {
        self.scrapes.fetch_add(1, Relaxed);
    }

    /// And got nothing of Envoy's.
    pub(super) fn scrape_failed(&self) {
        self.scrape_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn render(&self, phase: Phase, lifecycle: &Lifecycle, dropped_lines: u64) -> String {
        let mut page = MetricsPage(String::with_capacity(4096));
        page.counter("envoy_starts_total", "Envoys started.", phase.launches);
        page.counter(
            "envoy_deaths_total",
            "Envoys that ended, for whatever reason.",
            self.deaths.load(Relaxed),
        );
        page.family(
            "envoy_exits_total",
            "Envoys that ended, by what it was to the agent.",
            "reason",
            ExitReason::ALL.map(ExitReason::as_str).iter().zip(&self.exits),
        );
        page.counter(
            "envoy_restarts_total",
            "Envoys started because the one before had ended.",
            self.restarts.load(Relaxed),
        );
        page.family(
            "hot_restarts_total",
            "Hot restarts, by how they went.",
            "outcome",
            HotRestartOutcome::ALL.map(HotRestartOutcome::as_str).iter().zip(&self.hot_restarts),
        );
        page.gauge_of(
            "envoy_last_exit_code",
            "Exit code of the last Envoy that ended, or 128 and its signal.",
            self.last_exit_code.load(Relaxed),
        );
        if let Some(epoch) = phase.owner.map(|owner| owner.epoch) {
            page.gauge("envoy_epoch", "Restart epoch of the Envoy at work.", epoch);
        }
        page.gauge(
            "envoy_generations",
            "Envoys that run: two in a hot restart.",
            lifecycle.generations.len(),
        );
        page.gauge("restart_budget_left", "Crashes that may still come.", lifecycle.restarts.left);
        page.header("envoy_state", "gauge", "Where in its life Envoy is: 1 for one state, 0 for the others.");
        for stage in Stage::ALL {
            page.sample(format_args!("envoy_state{{state=\"{stage}\"}}"), u8::from(stage == phase.stage));
        }
        page.seconds(
            "startup_duration_seconds",
            "From the agent's start until it was ready.",
            self.ready_after.load(Relaxed),
        );
        page.seconds("drain_duration_seconds", "How long the drain took.", self.drained_for.load(Relaxed));
        page.counter("drains_total", "Drains that have ended.", self.drains.load(Relaxed));
        let drained = u64::try_from(self.drained_in_all.load(Relaxed)).unwrap_or_default();
        page.counter(
            "drain_seconds_total",
            "How long they took together.",
            Duration::from_millis(drained).as_secs_f64(),
        );
        if let Some(shutdown) = &lifecycle.shutdown {
            page.gauge_if("drain_requests", "HTTP requests a drain waits for.", shutdown.requests);
            page.gauge_if("drain_connections", "Connections open in a drain.", shutdown.connections);
        }
        page.counter(
            "orphans_reaped_total",
            "Children of others that ended up with us as PID 1.",
            self.orphans.load(Relaxed),
        );
        page.counter(
            "log_lines_dropped_total",
            "Log lines dropped because the output was not read.",
            dropped_lines,
        );
        page.counter("scrapes_total", "Scrapes of these metrics.", self.scrapes.load(Relaxed));
        page.header("scrape_failures_total", "counter", "Scrapes that had to do without a part.");
        page.sample("scrape_failures_total{type=\"envoy\"}", self.scrape_failures.load(Relaxed));
        page.0
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn bump(counters: &[AtomicU64], position: Option<usize>) {
    if let Some(counter) = position.and_then(|position| counters.get(position)) {
        counter.fetch_add(1, Relaxed);
    }
}

// === impl HotRestartOutcome ===

impl HotRestartOutcome {
    const ALL: [Self; 5] = [Self::Live, Self::Refused, Self::Died, Self::Late, Self::Abandoned];

    /// The word for metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Refused => "refused",
            Self::Died => "died",
            Self::Late => "late",
            Self::Abandoned => "abandoned",
        }
    }
}

struct MetricsPage(String);

// === impl MetricsPage ===

impl MetricsPage {
    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, "counter", help);
        self.sample(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, "gauge", help);
        self.sample(name, value);
    }

    fn gauge_if(&mut self, name: &str, help: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.gauge(name, help, value);
        }
    }

    fn family<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl Iterator<Item = (&'a &'static str, &'a AtomicU64)>,
    ) {
        self.header(name, "counter", help);
        for (value, count) in samples {
            self.sample(format_args!("{name}{{{label}=\"{value}\"}}"), count.load(Relaxed));
        }
    }

    /// A gauge that exists once there is something to say.
    fn gauge_of(&mut self, name: &str, help: &str, value: i64) {
        if value != NEVER {
            self.gauge(name, help, value);
        }
    }

    fn seconds(&mut self, name: &str, help: &str, millis: i64) {
        if let Ok(millis) = u64::try_from(millis) {
            self.gauge(name, help, Duration::from_millis(millis).as_secs_f64());
        }
    }

    fn header(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP istio_agent_{name} {help}\n# TYPE istio_agent_{name} {kind}"));
    }

    fn sample(&mut self, name: impl Display, value: impl Display) {
        self.line(format_args!("istio_agent_{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        writeln!(self.0, "{line}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{EnvoyStatus, RestartBudget, ShutdownStatus};
    use crate::supervisor::ServiceState;

    fn check(counters: &Counters, stage: Stage, lifecycle: &Lifecycle, present: &[&str], absent: &[&str]) {
        let phase = Phase { launches: 2, ..Phase::of(stage, ServiceState::InService) };
        let page = counters.render(phase, lifecycle, 7);
        for line in present {
            assert!(page.lines().any(|seen| seen == *line), "no {line} in\n{page}");
        }
        for name in absent {
            assert!(!page.contains(name), "{name} in\n{page}");
        }
    }

    #[test]
    fn what_has_not_happened_is_not_zero_but_absent() {
        let counters = Counters::since(Instant::now());
        check(
            &counters,
            Stage::Running,
            &Lifecycle::default(),
            &[
                "istio_agent_envoy_starts_total 2",
                "istio_agent_envoy_deaths_total 0",
                "istio_agent_envoy_epoch 0",
                "istio_agent_envoy_state{state=\"running\"} 1",
                "istio_agent_envoy_state{state=\"draining\"} 0",
                "istio_agent_log_lines_dropped_total 7",
                "istio_agent_scrape_failures_total{type=\"envoy\"} 0",
                "istio_agent_hot_restarts_total{outcome=\"live\"} 0",
                "istio_agent_envoy_exits_total{reason=\"crashed\"} 0",
            ],
            &["last_exit_code", "startup_duration", "drain_duration", "drain_requests", "drain_connections"],
        );

        counters.died(ExitStatus::Signaled(9));
        counters.exited(ExitReason::Crashed);
        counters.restarted();
        counters.hot_restarted(HotRestartOutcome::Died);
        counters.hot_restarted(HotRestartOutcome::Live);
        counters.hot_restarted(HotRestartOutcome::Live);
        counters.drained(Duration::from_secs(2));
        counters.drained(Duration::from_millis(1500));
        counters.reaped(3);
        counters.scraped();
        counters.scrape_failed();
        assert!(counters.ready());
        assert!(!counters.ready(), "the first time comes once");
        let lifecycle = Lifecycle {
            generations: vec![EnvoyStatus::default(), EnvoyStatus::default()],
            restarts: RestartBudget { left: 9, of: 10, refilled_at: None },
            shutdown: Some(ShutdownStatus { requests: Some(3), ..ShutdownStatus::default() }),
            ..Lifecycle::default()
        };
        check(
            &counters,
            Stage::Draining,
            &lifecycle,
            &[
                "istio_agent_envoy_exits_total{reason=\"crashed\"} 1",
                "istio_agent_envoy_exits_total{reason=\"stopped\"} 0",
                "istio_agent_envoy_restarts_total 1",
                "istio_agent_hot_restarts_total{outcome=\"live\"} 2",
                "istio_agent_hot_restarts_total{outcome=\"died\"} 1",
                "istio_agent_envoy_generations 2",
                "istio_agent_restart_budget_left 9",
                "istio_agent_drains_total 2",
                "istio_agent_drain_seconds_total 3.5",
                "istio_agent_drain_requests 3",
                "istio_agent_envoy_deaths_total 1",
                "istio_agent_envoy_last_exit_code 137",
                "istio_agent_drain_duration_seconds 1.5",
                "istio_agent_orphans_reaped_total 3",
                "istio_agent_scrapes_total 1",
                "istio_agent_scrape_failures_total{type=\"envoy\"} 1",
                "istio_agent_envoy_state{state=\"draining\"} 1",
            ],
            &["drain_connections"],
        );
    }
}
