//! A screenful about the sidecar's life. Pure: the same values, the same text.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::lifecycle::{
    EnvoyExit, EnvoyStatus, HandoverStatus, Lifecycle, ReadinessStatus, ShutdownStatus, Timestamp,
};

/// Longer lists lose their end: the newest comes first.
const ROWS: usize = 8;

/// The page as it is written: a heading column, and rows under the same heading.
struct StatusPage {
    text: String,
    heading: &'static str,
}

/// Formats the current state of the sidecar.
pub(super) fn render(life: &Lifecycle, now: Timestamp) -> String {
    let mut page = StatusPage { text: String::new(), heading: "" };
    page.section("phase", [format!("{}, for {}", life.phase, age(life.since, now))]);
    page.section("ready", [ready(&life.readiness)]);
    let agent = &life.agent;
    page.section(
        "agent",
        [format!("pid {}, version {}, up {}", agent.pid, agent.version, age(agent.started, now))],
    );
    page.section("envoy", table(life.generations.iter().map(|envoy| generation(envoy, now))));
    let config = &life.config;
    page.section(
        "config",
        (config.revision > 0).then(|| format!("revision {}, {}", config.revision, config.hash)),
    );
    let refused = config.refused.iter().take(ROWS);
    page.section(
        "refused",
        table(
            refused.map(|refused| vec![refused.hash.clone(), ago(refused.at, now), refused.reason.clone()]),
        ),
    );
    let restarts = &life.restarts;
    let refilled = restarts.refilled_at.and_then(|at| now.until(at));
    let refilled = refilled.map(|left| format!(", all again in {}", span(left))).unwrap_or_default();
    page.section(
        "restarts",
        (restarts.of > 0).then(|| format!("{} of {} left{refilled}", restarts.left, restarts.of)),
    );
    page.section("hand-over", hand_over(&life.hand_over, now));
    if let Some(shutdown) = &life.shutdown {
        page.section("shutdown", shutting_down(shutdown, now));
    }
    page.section("exits", table(life.exits.iter().take(ROWS).map(|exit| exited(exit, now))));
    page.text
}

fn ready(readiness: &ReadinessStatus) -> String {
    match &readiness.reason {
        None if readiness.ready => "yes".into(),
        reason => format!("no: {}", reason.as_deref().unwrap_or("not known")),
    }
}

fn generation(envoy: &EnvoyStatus, now: Timestamp) -> Vec<String> {
    let live = envoy.live_after_ms.map(Duration::from_millis);
    vec![
        format!("epoch {}", envoy.epoch),
        format!("pid {}", envoy.pid),
        envoy.state.clone(),
        format!("up {}", age(envoy.started, now)),
        live.map(|after| format!("LIVE after {}", span(after))).unwrap_or_default(),
        envoy.engine.clone(),
        envoy.config_hash.clone(),
    ]
}

fn exited(exit: &EnvoyExit, now: Timestamp) -> Vec<String> {
    let status = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => format!("code {code}"),
        (None, None) => String::new(),
    };
    vec![
        format!("epoch {}", exit.epoch),
        format!("pid {}", exit.pid),
        ago(exit.at, now),
        exit.reason.as_str().replace('_', " "),
        status,
        exit.detail.clone(),
    ]
}

fn hand_over(hand_over: &HandoverStatus, now: Timestamp) -> Vec<String> {
    if hand_over.state.is_empty() {
        return Vec::new();
    }
    let next = hand_over.next_try_at.and_then(|at| now.until(at));
    let next = next.map(|left| format!(", next in {}", span(left))).unwrap_or_default();
    let first = format!("{}, {} tries{next}", hand_over.state, hand_over.attempts);
    std::iter::once(first).chain(hand_over.last_error.clone()).collect()
}

fn shutting_down(shutdown: &ShutdownStatus, now: Timestamp) -> Vec<String> {
    let left =
        now.until(shutdown.deadline).map_or_else(|| "over".into(), |left| format!("{} left", span(left)));
    let first = format!("{}, for {}, {left}", shutdown.phase, age(shutdown.since, now));
    let known = |count: Option<u64>| count.map_or_else(|| "?".into(), |count| count.to_string());
    let head = ["requests", "connections", "listener"].map(String::from).to_vec();
    let all = vec![known(shutdown.requests), known(shutdown.connections), "all".into()];
    let listeners = shutdown.listeners.iter().take(ROWS).map(|listener| {
        vec![listener.requests.to_string(), listener.connections.to_string(), listener.name.clone()]
    });
    std::iter::once(first).chain(table([head, all].into_iter().chain(listeners))).collect()
}

/// Cells under each other.
fn table(rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let rows: Vec<_> = rows.into_iter().collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        row.iter().zip(&widths).filter(|(_, width)| **width > 0).fold(
            String::new(),
            |mut line, (cell, width)| {
                // Writing to a String cannot fail.
                write!(line, "{cell:width$}  ").unwrap_or_default();
                line
            },
        )
    };
    rows.iter().map(line).collect()
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    then.until(now).map_or_else(|| "just now".into(), |since| format!("{} ago", span(since)))
}

fn age(since: Timestamp, now: Timestamp) -> String {
    span(since.until(now).unwrap_or_default())
}

/// Formats a duration with two units at most.
fn span(duration: Duration) -> String {
    let (secs, millis) = (duration.as_secs(), duration.subsec_millis());
    match (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60, secs % 60) {
        (0, 0, 0, 0) => format!("{millis}ms"),
        (0, 0, 0, secs) => format!("{secs}.{}s", millis / 100),
        (0, 0, mins, secs) => format!("{mins}m{secs:02}s"),
        (0, hours, mins, _) => format!("{hours}h{mins:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

// === impl StatusPage ===

impl StatusPage {
    /// Begins a section; it is left out without rows.
    fn section(&mut self, heading: &'static str, rows: impl IntoIterator<Item = impl Display>) {
        self.heading = heading;
        for row in rows {
            // Control characters in texts of Envoy or in paths must not reach the terminal.
            let row: String =
                row.to_string().trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            writeln!(self.text, "{:<11}{row}", std::mem::take(&mut self.heading)).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{
        AgentStatus, ConfigStatus, ExitReason, ListenerActivity, RejectedConfig, RestartBudget,
    };

    /// Returns the timestamp of so many seconds.
    fn at(secs: u64) -> Timestamp {
        Timestamp::default().after(Duration::from_secs(secs))
    }

    #[test]
    fn everything_at_once_is_a_screenful() {
        let listener =
            |name: &str, requests, connections| ListenerActivity { name: name.into(), requests, connections };
        let life = Lifecycle {
            phase: "draining".into(),
            since: at(95),
            readiness: ReadinessStatus { ready: false, reason: Some("terminating".into()) },
            agent: AgentStatus { pid: 1, version: "0.1.0".into(), started: at(0) },
            generations: vec![EnvoyStatus {
                epoch: 10,
                launch: 12,
                pid: 345,
                state: "live".into(),
                started: at(40),
                live_after_ms: Some(112),
                config_hash: "9f3a".into(),
                engine: "native".into(),
            }],
            exits: vec![
                EnvoyExit {
                    epoch: 9,
                    pid: 300,
                    at: at(70),
                    signal: Some(9),
                    reason: ExitReason::OutOfMemory,
                    detail: "\x1b[31mmemory limit 64 MiB".into(),
                    ..EnvoyExit::default()
                },
                EnvoyExit {
                    epoch: 10,
                    pid: 31,
                    at: at(2),
                    code: Some(1),
                    reason: ExitReason::Failed,
                    ..EnvoyExit::default()
                },
            ],
            restarts: RestartBudget { left: 8, of: 10, refilled_at: Some(at(700)) },
            hand_over: HandoverStatus {
                state: "waiting".into(),
                attempts: 2,
                last_error: Some("not LIVE within 10 s".into()),
                next_try_at: Some(at(103)),
            },
            shutdown: Some(ShutdownStatus {
                phase: "draining".into(),
                since: at(95),
                deadline: at(125),
                requests: Some(12),
                connections: None,
                listeners: vec![listener("virtualInbound", 10, 100), listener("web", 2, 5)],
            }),
            config: ConfigStatus {
                revision: 3,
                hash: "9f3a".into(),
                refused: vec![RejectedConfig {
                    hash: "77".into(),
                    at: at(99),
                    reason: "no such cluster".into(),
                }],
            },
        };
        let expected = "\
phase      draining, for 5.0s
ready      no: terminating
agent      pid 1, version 0.1.0, up 1m40s
envoy      epoch 10  pid 345  live  up 1m00s  LIVE after 112ms  native  9f3a
config     revision 3, 9f3a
refused    77  1.0s ago  no such cluster
restarts   8 of 10 left, all again in 10m00s
hand-over  waiting, 2 tries, next in 3.0s
           not LIVE within 10 s
shutdown   draining, for 5.0s, 25.0s left
           requests  connections  listener
           12        ?            all
           10        100          virtualInbound
           2         5            web
exits      epoch 9   pid 300  30.0s ago  out of memory  signal 9   [31mmemory limit 64 MiB
           epoch 10  pid 31   1m38s ago  failed         code 1
";
        assert_eq!(render(&life, at(100)), expected);
    }

    #[test]
    fn what_there_is_not_takes_no_line() {
        let text = render(&Lifecycle { phase: "running".into(), ..Lifecycle::default() }, at(90_061));
        let headings: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(headings, ["phase", "ready", "agent"], "{text}");
        assert!(text.starts_with("phase      running, for 1d01h\n"), "{text}");
    }
}
