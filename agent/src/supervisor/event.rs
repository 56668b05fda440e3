//! Events and effects of the supervisor.

use std::time::Duration;

use super::{Activity, Coupling, ExitStatus, Generation, Launch, Revision, SpawnFailure};

/// A signal for an Envoy. No other is ever sent: Envoy ignores SIGHUP and dies of SIGQUIT and SIGUSR2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnvoySignal {
    /// SIGTERM: Envoy flushes its access logs and exits at once.
    Terminate,
    /// SIGKILL, to its whole process group.
    Kill,
    /// SIGUSR1: Envoy reopens its access logs.
    ReopenLogs,
}

/// Listeners that are drained. No drain refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainScope {
    /// Those with `traffic_direction: INBOUND`; the application still uses the others.
    Inbound,
    /// All. Idle connections of local clients would otherwise be closed during their next request.
    All,
}

/// A timer. There is one of each; arming it again moves its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// End of the back-off after a crash.
    Respawn,
    /// End of the back-off after a failed hand-over.
    Retry,
    /// Limit for a new Envoy to become LIVE.
    Live,
    /// Limit for a predecessor to finish.
    Leave,
    /// Limit for a predecessor to exit after SIGTERM.
    LeaveKill,
    /// Limit for the silence of Envoy's admin.
    Hung,
    /// End of the head start of load balancers.
    PreDrain,
    /// Limit for the drain of inbound listeners; then all are drained.
    DrainAll,
    /// Limit for the drain.
    DrainDeadline,
    /// Limit for an exit after SIGTERM.
    KillDue,
    /// Limit for an exit after SIGKILL.
    ReapDue,
}

/// Result of `envoy --mode validate` and the comparison of hot-restart versions for a desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValidationResult {
    /// Envoy accepts it; a hand-over to it has this coupling.
    Accepted(Coupling),
    /// Envoy rejects it. Another validation would give the same result.
    Rejected,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// This Envoy answers as LIVE, with its own epoch.
    Live(Launch),
    /// This Envoy was probed and is not LIVE.
    NotLive(Launch, PredecessorAdmin),
    /// This Envoy was reaped.
    Died(Launch, ExitStatus),
    /// This Envoy could not be started.
    SpawnFailed(Launch, SpawnFailure),
    /// The admin of this Envoy, which has answered before, no longer does.
    AdminUnresponsive(Launch),
    /// The admin endpoint of this Envoy responds again.
    AdminRecovered(Launch),
    /// The desired state has changed to this revision.
    Desired(Revision),
    /// A validation has ended.
    Validated(Revision, ValidationResult),
    /// This predecessor has no active requests or connections.
    Idle(Launch),
    /// SIGTERM or SIGINT. Each further one skips a step.
    Terminate,
    /// Stop without a drain: `POST /quitquitquit`.
    Quit,
    /// Withdraw from service and go on serving: `POST /drain`, the `preStop` hook of a native sidecar.
    Withdraw,
    /// SIGUSR1.
    ReopenLogs,
    /// Activity of this Envoy; `None` if its statistics are unavailable.
    Activity(Launch, Option<Activity>),
    /// A timer has expired.
    TimerExpired(Timer),
}

/// State of the admin of an Envoy whose successor was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PredecessorAdmin {
    /// The admin endpoint accepts connections.
    Open,
    /// The successor has closed it: the predecessor can no longer be drained.
    Closed,
}

/// Kind of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartMode {
    /// No other Envoy runs. Listening sockets of the last one may be retained.
    Cold,
    /// Starts as the successor of this running Envoy.
    After(Launch, Coupling),
}

/// An action for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Validate this revision and report [`Event::Validated`].
    Validate(Revision),
    /// Start an Envoy.
    Spawn(Generation, StartMode),
    /// Make this Envoy, whose successor is LIVE, stop accepting connections.
    StopAccepting(Launch, Coupling),
    /// Undo the traces of an Envoy of a coupled hand-over that has died before it was LIVE.
    RepairSegment(Generation),
    /// Take over the hot-restart socket of this predecessor and answer its successor from now on. Comes before
    /// the predecessor is signalled, and again when it has been reaped; a second one changes nothing.
    EmulateParent(Generation),
    /// This predecessor has been reaped. Its successor may wait, without a limit, for requested statistics; send an empty answer.
    AnswerPendingStats(Generation),
    /// Ask this Envoy whether it is LIVE, and if not whether the admin of its predecessor is closed; the answer is
    /// [`Event::Live`] or [`Event::NotLive`].
    Probe {
        /// The Envoy.
        launch: Launch,
        /// Its predecessor.
        predecessor: Launch,
        /// Pause before the question.
        after: Duration,
    },
    /// Ask this Envoy to drain.
    Drain(Launch, DrainScope),
    /// Close the retained listening sockets: no further Envoy will be started.
    ReleaseListeners,
    /// Send a signal.
    Signal(Launch, EnvoySignal),
    /// Arm a timer.
    ArmTimer(Timer, Duration),
    /// End the agent with this code. Always the last effect.
    Exit(u8),
}
