//! Observes one Envoy through its admin endpoint and reports to the driver: LIVE, unresponsive, recovered, activity, listeners,
//! empty.
//!
//! The role of the Envoy determines the observations. A running observation is dropped when the role changes.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tracing::debug;

use crate::{
    envoy_admin::{
        ActivityStats, AdminError, EnvoyAdmin, Identity, Listener, ListenerAddress, Liveness, Protocol,
    },
    hot_restart::{HotRestartVersion, ListenAddress},
    sockets,
    status::Expected,
    supervisor::{Activity, Coupling, EnvoyRole, Event, Launch, Phase},
};

/// A start takes 60 to 200 ms, and every one of them costs requests after a crash...
const START_INTERVAL: Duration = Duration::from_millis(10);

/// ...but one that waits for its control plane may take for ever.
const EAGER_FOR: Duration = Duration::from_secs(2);
const PATIENT_INTERVAL: Duration = Duration::from_millis(100);

/// While all is well.
const RUN_INTERVAL: Duration = Duration::from_secs(1);

/// With a second's patience per question, silence is noticed within five seconds.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
const SILENT_AFTER: Duration = Duration::from_millis(3500);

/// A single lost response does not count, however long ago the last one was: the agent itself may have been stopped.
const SILENT_QUESTIONS: u32 = 2;

/// While draining: often, but never more than a twentieth of Envoy's main thread.
const DRAIN_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const DRAIN_SHARE: u32 = 20;

/// An old Envoy of a hand-over: nothing else waits for it.
const LEAVE_INTERVAL: Duration = Duration::from_millis(100);

/// An idle connection may get its next request in the very moment it is closed: half a millisecond is lost at each
/// hand-over. Without a request for this long there is hardly one to come (0 of 70,266 lost in ten hand-overs).
const LEAVE_AFTER: Duration = Duration::from_millis(500);

/// Something seen of an Envoy.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    pub(super) launch: Launch,
    pub(super) kind: ObservationKind,
}

/// Content of an observation.
#[derive(Clone, Debug)]
pub(super) enum ObservationKind {
    /// Something for the supervisor.
    Event(Event),
    /// Hot-restart protocol version of the Envoy.
    HotRestartVersion(HotRestartVersion),
    /// Changed listeners.
    Listeners(Vec<ListenAddress>),
    /// The request to drain failed.
    DrainFailed,
    /// Activity during a drain.
    Activity(ActivityStats, Vec<Listener>),
}

/// Looks at one Envoy until it is gone.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) launch: Launch,
    pub(super) pid: Pid,
    pub(super) admin: EnvoyAdmin,
    pub(super) bootstrap: PathBuf,
    /// `--restart-epoch` on its command line.
    pub(super) restart_epoch: u32,
    /// Resources that it must have before it takes over.
    pub(super) expected: Expected,
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) observations: mpsc::Sender<Observation>,
}

/// Last observed state.
#[derive(Debug)]
struct ObserverState {
    since: Instant,
    admin: Admin,
    pause: Duration,
    version: VersionQuery,
    listens: Vec<ListenAddress>,
    /// Requests and connections begun by the last look, and since when no more have.
    calm: Option<(u64, Instant)>,
}

/// State of the query of the protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VersionQuery {
    Unknown,
    DrainRequest,
}

/// State of the admin endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Never,
    Answers { last: Instant, missed: u32 },
    Silent,
}

// === impl Observer ===

impl Observer {
    /// Observes until the Envoy or the receiver is gone.
    pub(super) async fn run(mut self) {
        let mut state = ObserverState::new(Instant::now());
        loop {
            let role = self.phases.borrow_and_update().role(self.launch);
            if role == EnvoyRole::Gone {
                return;
            }
            let mut phases = self.phases.clone();
            let kind = tokio::select! {
                kind = self.look(role, &mut state) => kind,
                () = another_role(&mut phases, self.launch, role) => continue,
            };
            if self.observations.send(Observation { launch: self.launch, kind }).await.is_err() {
                return;
            }
        }
    }

    /// The next thing worth telling of an Envoy in this role.
    async fn look(&self, role: EnvoyRole, state: &mut ObserverState) -> ObservationKind {
        match role {
            EnvoyRole::Starting => self.starting(state).await,
            EnvoyRole::Serving => self.serving(state).await,
            EnvoyRole::Draining => self.draining(state).await,
            EnvoyRole::Leaving(Coupling::Independent) => self.leaving(state).await,
            EnvoyRole::Leaving(Coupling::Coupled) => self.leaving_without_admin(state).await,
            EnvoyRole::Gone => match nothing().await {},
        }
    }

    async fn starting(&self, state: &mut ObserverState) -> ObservationKind {
        loop {
            sleep(state.start_interval()).await;
            let ready = self.admin.ready().await;
            let noted = state.note(self.launch, &ready, Instant::now());
            if matches!(ready, Ok(Liveness::Live)) && self.may_serve().await {
                return ObservationKind::Event(Event::Live(self.launch));
            }
            if let Some(event) = noted {
                return ObservationKind::Event(event);
            }
        }
    }

    /// Returns `true` if the admin endpoint that reports LIVE belongs to this Envoy. A successor must also have its resources:
    /// after `initial_fetch_timeout` an Envoy is LIVE without a single listener.
    async fn may_serve(&self) -> bool {
        match self.admin.identify(self.restart_epoch, &self.bootstrap).await {
            Ok(Identity::Live) => {}
            // Before ours has taken the port, or because it never will.
            other => {
                debug!(?other, launch = %self.launch, "LIVE, but not ours");
                return false;
            }
        }
        let takes_over = self.phases.borrow().owner.is_some_and(|owner| owner.launch != self.launch);
        if !takes_over || self.expected == Expected::Nothing {
            return true;
        }
        self.admin.config_updates().await.is_ok_and(|updates| self.expected.is_met(updates))
    }

    /// The list of listeners is as cheap as `/ready`, at any size of configuration.
    async fn serving(&self, state: &mut ObserverState) -> ObservationKind {
        // Before all that depends on it: sockets are requested in the Envoy's own protocol version.
        if state.version == VersionQuery::Unknown
            && let Ok(version) = self.admin.hot_restart_version().await
        {
            state.version = VersionQuery::DrainRequest;
            if let Ok(version) = version.parse() {
                return ObservationKind::HotRestartVersion(version);
            }
        }
        loop {
            let listeners = self.admin.listeners().await;
            if let Some(event) = state.note(self.launch, &listeners, Instant::now()) {
                return ObservationKind::Event(event);
            }
            if let Ok(listeners) = listeners {
                let listens = addresses(&listeners);
                if listens != state.listens {
                    state.listens.clone_from(&listens);
                    return ObservationKind::Listeners(listens);
                }
            }
            sleep(state.run_interval()).await;
        }
    }

    async fn draining(&self, state: &mut ObserverState) -> ObservationKind {
        sleep(state.pause).await;
        let asked = Instant::now();
        let (activity_stats, listeners) = (self.admin.activity().await, self.admin.listeners().await);
        state.pause = drain_interval(asked.elapsed());
        match activity_stats {
            Ok(activity_stats) => ObservationKind::Activity(activity_stats, listeners.unwrap_or_default()),
            Err(error) => {
                debug!(%error, "cannot read the activity of Envoy");
                let without_admin = match error {
                    // Closed for a successor that failed: the kernel still has the connections.
                    AdminError::Connect(_) => self.connections(state).await.ok(),
                    _ => None,
                };
                let activity = without_admin.map(|active| Activity { active, begun: 0 });
                ObservationKind::Event(Event::Activity(self.launch, activity))
            }
        }
    }

    async fn leaving(&self, state: &mut ObserverState) -> ObservationKind {
        loop {
            let asked = Instant::now();
            let activity_stats = self.admin.activity().await;
            if activity_stats.is_ok_and(|activity_stats| {
                state.is_empty(activity_stats.activity, activity_stats.connections, Instant::now())
            }) {
                state.calm = None;
                return ObservationKind::Event(Event::Idle(self.launch));
            }
            sleep(drain_interval(asked.elapsed()).max(LEAVE_INTERVAL)).await;
        }
    }

    /// Its successor has closed its admin; its connections are still in the kernel's tables.
    async fn leaving_without_admin(&self, state: &mut ObserverState) -> ObservationKind {
        loop {
            sleep(LEAVE_INTERVAL).await;
            match self.connections(state).await {
                Ok(0) => return ObservationKind::Event(Event::Idle(self.launch)),
                Ok(_) => {}
                Err(error) => debug!(%error, "connections of an old Envoy"),
            }
            // The length of the tables that an observation reads is unbounded.
            sleep(LEAVE_INTERVAL).await;
        }
    }

    /// The kernel's tables have a row for every socket of the machine's network namespace. A thread of its own reads
    /// them, so that nothing else waits.
    async fn connections(&self, state: &ObserverState) -> io::Result<u64> {
        let ports: BTreeSet<u16> = state.listens.iter().filter_map(ListenAddress::port).collect();
        let pid = self.pid;
        let count = spawn_blocking(move || sockets::connections(pid, &ports)).await??;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

/// Ends when the Envoy has another role.
async fn another_role(phases: &mut watch::Receiver<Phase>, launch: Launch, role: EnvoyRole) {
    // A closed channel is the driver's end, which ends the observer.
    let changed = phases.wait_for(|phase| phase.role(launch) != role).await;
    drop(changed);
}

/// Returns the addresses in the protocol's format. Envoy does not report which sockets are for datagrams only, so both are
/// requested.
pub(super) fn addresses(listeners: &[Listener]) -> Vec<ListenAddress> {
    let of = |address: &ListenerAddress| match address {
        ListenerAddress::Socket { protocol: Protocol::Tcp, address } => {
            vec![ListenAddress::Tcp(*address), ListenAddress::Udp(*address)]
        }
        ListenerAddress::Socket { protocol: Protocol::Udp, address } => vec![ListenAddress::Udp(*address)],
        ListenerAddress::Pipe(path) => {
            path.to_str().map(|path| ListenAddress::Unix(path.into())).into_iter().collect()
        }
        ListenerAddress::Internal(_) | ListenerAddress::Unknown(_) => vec![],
    };
    let mut addresses: Vec<_> =
        listeners.iter().flat_map(|listener| listener.addresses.iter().flat_map(of)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn drain_interval(cost: Duration) -> Duration {
    cost.saturating_mul(DRAIN_SHARE).clamp(DRAIN_INTERVALS.0, DRAIN_INTERVALS.1)
}

async fn nothing() -> Infallible {
    std::future::pending().await
}

// === impl Memory ===

impl ObserverState {
    fn new(since: Instant) -> Self {
        let (admin, pause, version) = (Admin::Never, Duration::ZERO, VersionQuery::Unknown);
        Self { since, admin, pause, version, listens: vec![], calm: None }
    }

    /// One more answer, or none; what of it is update.
    fn note<T, E>(&mut self, launch: Launch, answer: &Result<T, E>, now: Instant) -> Option<Event> {
        let (admin, lifecycle_publisher) = match (answer, self.admin) {
            (Ok(_), Admin::Silent) => {
                (Admin::Answers { last: now, missed: 0 }, Some(Event::AdminRecovered(launch)))
            }
            (Ok(_), Admin::Never | Admin::Answers { .. }) => (Admin::Answers { last: now, missed: 0 }, None),
            (Err(_), Admin::Answers { last, missed }) => {
                let missed = missed.saturating_add(1);
                let silent =
                    missed >= SILENT_QUESTIONS && now.saturating_duration_since(last) >= SILENT_AFTER;
                if silent {
                    (Admin::Silent, Some(Event::AdminUnresponsive(launch)))
                } else {
                    (Admin::Answers { last, missed }, None)
                }
            }
            (Err(_), Admin::Never | Admin::Silent) => (self.admin, None),
        };
        self.admin = admin;
        lifecycle_publisher
    }

    /// Returns `true` if nothing is left to do. Idle connections do not count once they have been idle for a while.
    fn is_empty(&mut self, activity: Option<Activity>, connections: u64, now: Instant) -> bool {
        let Some(Activity { active, begun }) = activity else { return false };
        if active > 0 {
            self.calm = None;
            return false;
        }
        match self.calm {
            _ if connections == 0 => true,
            Some((before, since)) if before == begun => now.saturating_duration_since(since) >= LEAVE_AFTER,
            _ => {
                self.calm = Some((begun, now));
                false
            }
        }
    }

    fn start_interval(&self) -> Duration {
        if self.since.elapsed() < EAGER_FOR { START_INTERVAL } else { PATIENT_INTERVAL }
    }

    fn run_interval(&self) -> Duration {
        match self.admin {
            Admin::Never | Admin::Answers { missed: 0, .. } => RUN_INTERVAL,
            Admin::Answers { .. } | Admin::Silent => RETRY_INTERVAL,
        }
    }
}

#[cfg(test)]
mod tests;
