//! Durations and limits of the supervisor.

use std::time::Duration;

use super::{DrainPolicy, DrainScope, HandoverPolicy, RestartPolicy};

/// Durations and limits of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Limits of the drain.
    pub(crate) drain: DrainPolicy,
    /// Listeners that `POST /drain` drains, and that SIGTERM drains first.
    pub(crate) withdraw: DrainScope,
    /// Restarts after a crash.
    pub(crate) restart: RestartPolicy,
    /// Hand-overs.
    pub(crate) handover: HandoverPolicy,
    /// Time between SIGTERM and SIGKILL. Envoy needs 10 ms, and more only if its log pipe is full.
    pub(crate) kill_grace: Duration,
    /// Time between SIGKILL and giving up on a process that sleeps in the kernel.
    pub(crate) reap_grace: Duration,
    /// Time after which an Envoy with a silent admin is killed. Far above the seconds for which a large configuration
    /// occupies Envoy's main thread.
    pub(crate) hung_after: Duration,
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
