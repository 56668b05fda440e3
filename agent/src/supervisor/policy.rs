//! Durations and limits of the supervisor.

use std::time::Duration;

use super::{DrainPolicy, DrainScope, HandoverPolicy, RestartPolicy};

/// Durations and limits of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Limits of the drain.
    pub drain: DrainPolicy,
    /// Listeners that `POST /drain` drains, and that SIGTERM drains first.
    pub withdraw: DrainScope,
    /// Restarts after a crash.
    pub restart: RestartPolicy,
    /// Hand-overs.
    pub handover: HandoverPolicy,
    /// Time between SIGTERM and SIGKILL. Envoy needs 10 ms, and more only if its log pipe is full.
    pub kill_grace: Duration,
    /// Time between SIGKILL and giving up on a process that sleeps in the kernel.
    pub reap_grace: Duration,
    /// Time after which an Envoy with a silent admin is killed. Far above the seconds for which a large configuration
    /// occupies Envoy's main thread.
    pub hung_after: Duration,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            drain: DrainPolicy::default(),
            withdraw: DrainScope::Inbound,
            restart: RestartPolicy::default(),
            handover: HandoverPolicy::default(),
            kill_grace: Duration::from_secs(2),
            reap_grace: Duration::from_secs(1),
            hung_after: Duration::from_secs(30),
        }
    }
}
