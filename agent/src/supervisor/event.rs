//! What the supervisor is told, and what it wants done: its whole vocabulary.

use std::time::Duration;

use super::{Activity, Epoch, SpawnFailure, Status};

/// What the agent sends to an Envoy. Nothing else ever: Envoy eats SIGHUP and dies of SIGQUIT and SIGUSR2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvoySignal {
    /// SIGTERM: Envoy flushes its access logs and leaves at once.
    Terminate,
    /// SIGKILL, to its whole process group.
    Kill,
    /// SIGUSR1: Envoy opens its access logs anew.
    ReopenLogs,
}

/// Which listeners tell their clients to leave. No drain refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainScope {
    /// Those with `traffic_direction: INBOUND`: the application next to us is still at work.
    Inbound,
    /// All of them: a local client's idle connection would otherwise be cut in its next request.
    All,
}

/// A moment the supervisor asks to be woken at. There is one of each: arming it again moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The back-off is over.
    Respawn,
    /// Envoy's admin has been silent for too long.
    Hung,
    /// The drain may take no longer.
    DrainDeadline,
    /// SIGTERM has had its time.
    KillDue,
    /// SIGKILL has had its time.
    ReapDue,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The Envoy of this epoch answers as LIVE, with its own epoch.
    Live(Epoch),
    /// The Envoy of this epoch was reaped.
    Died(Epoch, Status),
    /// The Envoy of this epoch could not be started.
    SpawnFailed(Epoch, SpawnFailure),
    /// Envoy's admin, which has answered before, no longer does.
    AdminSilent,
    /// It does again.
    AdminBack,
    /// SIGTERM or SIGINT. Every further one is a step more forceful.
    Terminate,
    /// Stop now, without a drain: `POST /quitquitquit`.
    Quit,
    /// Leave the service but go on serving: `POST /drain`, the `preStop` hook of a native sidecar.
    Withdraw,
    /// SIGUSR1.
    ReopenLogs,
    /// What Envoy is busy with; `None` when its statistics do not tell.
    Activity(Option<Activity>),
    /// A timer is due.
    Due(Timer),
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start an Envoy.
    Spawn(Epoch),
    /// Ask Envoy to drain, over its admin.
    Drain(DrainScope),
    /// Send a signal.
    Signal(Epoch, EnvoySignal),
    /// Wake the supervisor later.
    Arm(Timer, Duration),
    /// End the agent with this code. The last effect there is.
    Exit(u8),
}
