//! What a supervisor is told once: how long, how often, and whom.

use std::time::Duration;

use super::{DrainPolicy, DrainScope, HandOverPolicy, RestartPolicy};

/// Every duration that is a matter of taste.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long Envoy may drain.
    pub drain: DrainPolicy,
    /// Whom `POST /drain` tells to leave, and SIGTERM first.
    pub withdraw: DrainScope,
    /// How often and how fast Envoy is started again after a crash.
    pub restart: RestartPolicy,
    /// How a new Envoy takes over from a running one.
    pub hand_over: HandOverPolicy,
    /// Between SIGTERM and SIGKILL. Envoy needs 10 ms, and longer only when its log pipe is stuck.
    pub kill_grace: Duration,
    /// Between SIGKILL and giving up on a process that sleeps in the kernel.
    pub reap_grace: Duration,
    /// An Envoy whose admin is silent for this long is killed. Far above the seconds that a large
    /// configuration occupies Envoy's main thread.
    pub hung_after: Duration,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            drain: DrainPolicy::default(),
            withdraw: DrainScope::Inbound,
            restart: RestartPolicy::default(),
            hand_over: HandOverPolicy::default(),
            kill_grace: Duration::from_secs(2),
            reap_grace: Duration::from_secs(1),
            hung_after: Duration::from_secs(30),
        }
    }
}
