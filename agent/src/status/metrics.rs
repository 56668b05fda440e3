//! What the agent counts about Envoy's life, in Prometheus' text format.
//!
//! Names begin as Istio's agent's do, so that dashboards find the ones both have.

use std::{
    fmt::{Display, Write},
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::HeaderValue;

use crate::supervisor::{Phase, Stage, Status};

pub(super) const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Never, in a gauge of milliseconds or of exit codes.
const NEVER: i64 = -1;

/// Counted by the driver and the status server, read by scrapes.
#[derive(Debug)]
pub struct Counters {
    started: Instant,
    ready_after: AtomicI64,
    drained_for: AtomicI64,
    deaths: AtomicU64,
    last_exit_code: AtomicI64,
    orphans: AtomicU64,
    scrapes: AtomicU64,
    scrape_failures: AtomicU64,
}

// === impl Counters ===

impl Counters {
    /// Nothing has happened since `started`.
    pub fn since(started: Instant) -> Self {
        Self {
            started,
            ready_after: AtomicI64::new(NEVER),
            drained_for: AtomicI64::new(NEVER),
            deaths: AtomicU64::new(0),
            last_exit_code: AtomicI64::new(NEVER),
            orphans: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            scrape_failures: AtomicU64::new(0),
        }
    }

    /// An Envoy has ended.
    pub fn died(&self, status: Status) {
        self.deaths.fetch_add(1, Relaxed);
        self.last_exit_code.store(i64::from(status.code()), Relaxed);
    }

    /// So many orphans have been reaped by now.
    pub fn reaped(&self, orphans: u64) {
        self.orphans.store(orphans, Relaxed);
    }

    /// A drain has ended.
    pub fn drained(&self, lasted: Duration) {
        self.drained_for.store(millis(lasted), Relaxed);
    }

    /// The sidecar is ready; whether for the first time.
    pub(super) fn ready(&self) -> bool {
        let after = millis(self.started.elapsed());
        self.ready_after.compare_exchange(NEVER, after, Relaxed, Relaxed).is_ok()
    }

    /// Somebody scraped.
    pub(super) fn scraped(&self) {
        self.scrapes.fetch_add(1, Relaxed);
    }

    /// And got nothing of Envoy's.
    pub(super) fn scrape_failed(&self) {
        self.scrape_failures.fetch_add(1, Relaxed);
    }

    pub(super) fn render(&self, phase: Phase, dropped_lines: u64) -> String {
        let mut page = Page(String::with_capacity(2048));
        page.counter("envoy_starts_total", "Envoys started.", phase.launch);
        page.counter(
            "envoy_deaths_total",
            "Envoys that ended, for whatever reason.",
            self.deaths.load(Relaxed),
        );
        page.gauge_of(
            "envoy_last_exit_code",
            "Exit code of the last Envoy that ended, or 128 and its signal.",
            self.last_exit_code.load(Relaxed),
        );
        if let Some(epoch) = phase.epoch {
            page.gauge("envoy_epoch", "Restart epoch of the Envoy at work.", epoch);
        }
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
        page.counter(
            "orphans_reaped_total",
            "Children of others that ended up with us as PID 1.",
            self.orphans.load(Relaxed),
        );
        page.counter("log_lines_dropped_total", "Lines lost because nobody read them.", dropped_lines);
        page.counter("scrapes_total", "Scrapes of these metrics.", self.scrapes.load(Relaxed));
        page.header("scrape_failures_total", "counter", "Scrapes that had to do without a part.");
        page.sample("scrape_failures_total{type=\"envoy\"}", self.scrape_failures.load(Relaxed));
        page.0
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

struct Page(String);

// === impl Page ===

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, "counter", help);
        self.sample(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.header(name, "gauge", help);
        self.sample(name, value);
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
    use crate::supervisor::{Epoch, Offer};

    fn check(counters: &Counters, stage: Stage, present: &[&str], absent: &[&str]) {
        let phase = Phase { launch: 2, epoch: Some(Epoch::FIRST), stage, offer: Offer::Offered };
        let page = counters.render(phase, 7);
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
            &[
                "istio_agent_envoy_starts_total 2",
                "istio_agent_envoy_deaths_total 0",
                "istio_agent_envoy_epoch 0",
                "istio_agent_envoy_state{state=\"running\"} 1",
                "istio_agent_envoy_state{state=\"draining\"} 0",
                "istio_agent_log_lines_dropped_total 7",
                "istio_agent_scrape_failures_total{type=\"envoy\"} 0",
            ],
            &["last_exit_code", "startup_duration", "drain_duration"],
        );

        counters.died(Status::Signaled(9));
        counters.drained(Duration::from_millis(1500));
        counters.reaped(3);
        counters.scraped();
        counters.scrape_failed();
        assert!(counters.ready());
        assert!(!counters.ready(), "the first time comes once");
        check(
            &counters,
            Stage::Draining,
            &[
                "istio_agent_envoy_deaths_total 1",
                "istio_agent_envoy_last_exit_code 137",
                "istio_agent_drain_duration_seconds 1.5",
                "istio_agent_orphans_reaped_total 3",
                "istio_agent_scrapes_total 1",
                "istio_agent_scrape_failures_total{type=\"envoy\"} 1",
                "istio_agent_envoy_state{state=\"draining\"} 1",
            ],
            &[],
        );
    }
}
