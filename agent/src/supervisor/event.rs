//! What the supervisor is told, and what it wants done: its whole vocabulary.

use std::time::Duration;

use super::{Activity, Bond, Generation, Launch, Revision, SpawnFailure, Status};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The back-off after a crash is over.
    Respawn,
    /// The back-off after a failed hand-over is over.
    Retry,
    /// The new Envoy of a hand-over has had its time to become LIVE.
    Live,
    /// The old Envoy of a hand-over has had its time to finish.
    Leave,
    /// And its SIGTERM has had its.
    LeaveKill,
    /// Envoy's admin has been silent for too long.
    Hung,
    /// Load balancers have had their head start.
    PreDrain,
    /// What still keeps the drain of the inside waiting has waited long enough for a word of ours.
    DrainAll,
    /// The drain may take no longer.
    DrainDeadline,
    /// SIGTERM has had its time.
    KillDue,
    /// SIGKILL has had its time.
    ReapDue,
}

/// What `envoy --mode validate` and a comparison of hot-restart versions say of a desired state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be started, and taken over to in this way.
    Usable(Bond),
    /// Envoy refuses it. Asking again would give the same answer.
    Refused,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This Envoy answers as LIVE, with its own epoch.
    Live(Launch),
    /// This Envoy was probed and is not LIVE.
    NotLive(Launch, PredecessorAdmin),
    /// This Envoy was reaped.
    Died(Launch, Status),
    /// This Envoy could not be started.
    SpawnFailed(Launch, SpawnFailure),
    /// The admin of this Envoy, which has answered before, no longer does.
    AdminSilent(Launch),
    /// It does again.
    AdminBack(Launch),
    /// This is what Envoy is to be from now on.
    Desired(Revision),
    /// What became of a validation.
    Validated(Revision, Verdict),
    /// This old Envoy of a hand-over has nothing left to do.
    Vacant(Launch),
    /// SIGTERM or SIGINT. Every further one is a step more forceful.
    Terminate,
    /// Stop now, without a drain: `POST /quitquitquit`.
    Quit,
    /// Leave the service but go on serving: `POST /drain`, the `preStop` hook of a native sidecar.
    Withdraw,
    /// SIGUSR1.
    ReopenLogs,
    /// What this Envoy is busy with; `None` when its statistics do not tell.
    Activity(Launch, Option<Activity>),
    /// A timer is due.
    Due(Timer),
}

/// State of the admin of an Envoy whose successor was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PredecessorAdmin {
    /// It accepts connections.
    Open,
    /// The successor has closed it: the predecessor can no longer be told to drain.
    Closed,
}

/// Whether a new Envoy takes over from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nobody is alive to take over from. Listening sockets of the last one may still be held.
    Cold,
    /// From this one, which lives.
    After(Launch, Bond),
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Find out whether Envoy would take this, and answer with [`Event::Validated`].
    Validate(Revision),
    /// Start an Envoy.
    Spawn(Generation, Start),
    /// The new one is LIVE: this old one is to finish what it has and take nothing new.
    Retire(Launch, Bond),
    /// An Envoy of a tied hand-over has died before it was LIVE: undo what it did to its predecessor.
    Repair(Generation),
    /// Take over the hot-restart socket of this predecessor and answer its successor from now on. Comes before
    /// the predecessor is signalled, and again when it has been reaped; a second one changes nothing.
    EmulateParent(Generation),
    /// This predecessor has been reaped. Its successor may wait, without a limit, for statistics that the
    /// predecessor was asked for; send an empty answer.
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
    /// No Envoy will come after this: let go of every listening socket that is held for one.
    LetGo,
    /// Send a signal.
    Signal(Launch, EnvoySignal),
    /// Wake the supervisor later.
    Arm(Timer, Duration),
    /// End the agent with this code. The last effect there is.
    Exit(u8),
}
