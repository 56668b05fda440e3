//! The sidecar's life as others see it: the nouns of `GET /lifecycle`, and the feed they travel on.
//!
//! Plain values. The driver fills and publishes them, the status server renders them, `pilot-agent status`
//! reads them back. Deliberately decides nothing: what a phase means is the supervisor's.

mod feed;
mod timestamp;

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    feed::{Feed, Publisher, channel},
    timestamp::Timestamp,
};

/// Everything there is to know, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lifecycle {
    /// Phase of the sidecar, as in logs and metrics.
    pub(crate) phase: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Result of `/healthz/ready`. The status server fills it in on request.
    pub(crate) readiness: ReadinessStatus,
    /// The agent itself.
    pub(crate) agent: AgentStatus,
    /// The Envoys there are, the oldest first: at most two.
    pub(crate) generations: Vec<EnvoyStatus>,
    /// The Envoys there were, the last one first; as many as the driver cares to remember.
    pub(crate) exits: Vec<EnvoyExit>,
    /// Remaining budget of restarts.
    pub(crate) restarts: RestartBudget,
    /// State of the last hot restart.
    pub(crate) hand_over: HandoverStatus,
    /// The way out, once it has begun.
    pub(crate) shutdown: Option<ShutdownStatus>,
    /// Current and desired configuration.
    pub(crate) config: ConfigStatus,
}

/// Result of the readiness probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ReadinessStatus {
    /// 200 or 503.
    pub(crate) ready: bool,
    /// Reason if it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AgentStatus {
    /// Its process, in its own PID namespace.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// Time of the start.
    pub(crate) started: Timestamp,
}

/// An Envoy that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EnvoyStatus {
    /// Its epoch as users, file names and metrics count: up, in either engine.
    pub(crate) epoch: u32,
    /// The how manieth Envoy it is since the agent began, from 1.
    pub(crate) launch: u32,
    /// Its process.
    pub(crate) pid: u32,
    /// State of the supervisor: `initializing`, `live`, `draining`, ...
    pub(crate) state: String,
    /// Time of the start.
    pub(crate) started: Timestamp,
    /// From its start until it was LIVE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live_after_ms: Option<u64>,
    /// Hash of its configuration; compares with [`ConfigStatus::hash`].
    pub(crate) config_hash: String,
    /// Hot-restart mode: `native`, `mediated`, `off`.
    pub(crate) engine: String,
}

/// An Envoy that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EnvoyExit {
    /// Its epoch.
    pub(crate) epoch: u32,
    /// Process id.
    pub(crate) pid: u32,
    /// Time of reaping.
    pub(crate) at: Timestamp,
    /// Its exit code, if it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<u8>,
    /// The signal that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<u8>,
    /// Classification of the exit.
    pub(crate) reason: ExitReason,
    /// Details: Envoy's last line, a path, the colliding process. May be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
    /// `true` if the cgroup's counters show an OOM kill; `None` without counters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oom: Option<bool>,
}

/// Classification of the exit of an Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitReason {
    /// Stopped on request.
    #[default]
    Stopped,
    /// Its successor had taken over.
    HandedOver,
    /// Exited with code 0 without a request.
    Left,
    /// It ended by itself with another code.
    Failed,
    /// A signal that we had not sent ended it.
    Crashed,
    /// The kernel was short of memory.
    OutOfMemory,
    /// We killed it: it was hung, or late, or would not go.
    Killed,
}

/// Remaining budget of restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RestartBudget {
    /// Restarts left.
    pub(crate) left: u32,
    /// Maximum of the budget.
    pub(crate) of: u32,
    /// Time at which it is full again without further crashes; `None` if it is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refilled_at: Option<Timestamp>,
}

/// State of the last hot restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HandoverStatus {
    /// `idle`, `validating`, `starting`, `draining`, `waiting`, ... in the supervisor's words.
    pub(crate) state: String,
    /// Tries for the configuration that is wanted now.
    pub(crate) attempts: u32,
    /// Reason of the last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<String>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_try_at: Option<Timestamp>,
}

/// The way out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ShutdownStatus {
    /// `announced`, `draining`, `stopping`, ... in the supervisor's words.
    pub(crate) phase: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Deadline of the drain, whatever is still open.
    pub(crate) deadline: Timestamp,
    /// HTTP requests in progress; nothing, if Envoy does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
    /// Connections open, idle ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u64>,
    /// Busy listeners, the busiest first.
    pub(crate) listeners: Vec<ListenerActivity>,
}

/// Activity of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ListenerActivity {
    /// The listener's name; for HTTP behind a shared port, its `stat_prefix`.
    pub(crate) name: String,
    /// HTTP requests in progress.
    pub(crate) requests: u64,
    /// Connections open, idle ones included.
    pub(crate) connections: u64,
}

/// Current and desired configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigStatus {
    /// Counts what has been wanted so far, from 1.
    pub(crate) revision: u64,
    /// Hash of bootstrap, binary and flags.
    pub(crate) hash: String,
    /// Rejected configurations, the last one first, each with its reason.
    pub(crate) refused: Vec<RejectedConfig>,
}

/// A configuration that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RejectedConfig {
    /// Hash of the configuration.
    pub(crate) hash: String,
    /// Time of the rejection.
    pub(crate) at: Timestamp,
    /// Reason of the rejection.
    pub(crate) reason: String,
}

/// The sidecar has gone from one phase to another, or something worth telling has happened within one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Transition {
    /// Counts up from 1; a gap is news the reader has missed.
    pub(crate) id: u64,
    /// Time of the transition.
    pub(crate) at: Timestamp,
    /// Event of the supervisor.
    pub(crate) event: String,
    /// The phase before.
    pub(crate) from: String,
    /// The phase after.
    pub(crate) to: String,
    /// Epoch of the Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u32>,
}

// === impl Lifecycle ===

impl Lifecycle {
    /// Creates the state of this process in its first phase.
    pub(crate) fn begin(phase: &str) -> Self {
        let started = Timestamp::now();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            phase: phase.to_owned(),
            since: started,
            agent: AgentStatus { pid: std::process::id(), version, started },
            ..Self::default()
        }
    }
}

// === impl ExitReason ===

impl ExitReason {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Stopped,
        Self::HandedOver,
        Self::Left,
        Self::Failed,
        Self::Crashed,
        Self::OutOfMemory,
        Self::Killed,
    ];

    /// The word for JSON and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::HandedOver => "handed_over",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::OutOfMemory => "out_of_memory",
            Self::Killed => "killed",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_not_happened_is_left_out_and_comes_back_as_such() {
        let lifecycle = Lifecycle {
            phase: "running".into(),
            generations: vec![EnvoyStatus { epoch: 1, pid: 7, ..EnvoyStatus::default() }],
            exits: vec![EnvoyExit {
                signal: Some(9),
                reason: ExitReason::OutOfMemory,
                ..EnvoyExit::default()
            }],
            ..Lifecycle::default()
        };
        let json = serde_json::to_value(&lifecycle).unwrap();
        assert_eq!(json["since"], "1970-01-01T00:00:00Z");
        assert_eq!(json["generations"][0].get("live_after_ms"), None);
        let exit = json!({
            "epoch": 0, "pid": 0, "at": "1970-01-01T00:00:00Z", "signal": 9, "reason": "out_of_memory"
        });
        assert_eq!(json["exits"], json!([exit]));
        assert_eq!(json["shutdown"], json!(null));
        assert_eq!(serde_json::from_value::<Lifecycle>(json).unwrap(), lifecycle);
    }

    #[test]
    fn an_agent_of_another_version_is_understood_as_far_as_it_goes() {
        let read: Lifecycle = serde_json::from_value(json!({"phase": "new", "moon": "full"})).unwrap();
        assert_eq!(read, Lifecycle { phase: "new".into(), ..Lifecycle::default() });
    }

    #[test]
    fn metrics_and_json_use_the_same_words() {
        for reason in ExitReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
