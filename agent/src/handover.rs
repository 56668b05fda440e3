//! Hot-restart backends: the coupling of two Envoys in a hand-over, and what each Envoy needs for it.
//!
//! ```text
//!   native     Envoy ◀── requests ── Envoy                   one base id, epochs 0, 1, 2, ...
//!   mediated   Envoy ◀─ requests ─ agent ◀─ requests ─ Envoy   a base id each, always epoch 1; the agent retains the sockets
//! ```
//!
//! The first Envoy is the same for both: it has no parent. Its hot-restart version is read from its admin while it runs,
//! which does not delay the start. Mediated supports the one protocol version that was tested
//! ([`HotRestartVersion::is_supported`]), native any two Envoys of the same version. Two Envoys of different versions
//! are started side by side, on listening sockets with `SO_REUSEPORT`.
//!
//! | | native | mediated |
//! | --- | --- | --- |
//! | a new Envoy that dies, hangs or gets SIGTERM | marks the segment, closes the old admin, may end the old Envoy | no effect |
//! | an old Envoy that dies | blocks or aborts the new one, unless the agent emulates it | no effect |
//! | the admin of an old Envoy | closed | open |
//! | an old Envoy ends | after a fixed time, or with its parent emulated | when it is idle |
//! | after a crash | connections are refused until the next Envoy listens | connections wait |
//! | UDP and QUIC | the new Envoy forwards datagrams of old sessions | sessions are lost |
//! | versions 1.36 to 1.40, TLS, IPv6, Unix sockets, `enable_reuse_port: false` | no loss | no loss |
//!
//! So `auto` is mediated, except for an Envoy that listens on UDP. Sockets of listeners from LDS are fetched when the
//! listeners arrive, before LIVE. A listener that is added later is bound by Envoy, and retained from the next look on.
//! The supervisor decides which Envoy is started, killed or signalled.

mod envoy_lease;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::timeout};
use tracing::{debug, info, warn};

use self::envoy_lease::EnvoyLease;
use crate::{
    cli::HotRestartMode,
    hot_restart::{
        ChildClient, FetchRefusal, HotRestartVersion, ListenAddress, PeerError, RepairOutcome, RestartEpoch,
        RetainedListeners, RuntimeDir, RuntimeDirError, SHARED_MEMORY, ShmError, answer_stats,
    },
    logs::ErrorChain,
    supervisor::{Coupling, Generation, Launch, Revision, StartMode},
};

/// Limit for one request to an Envoy. It answers within milliseconds, and signals and deadlines wait meanwhile.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(200);

/// Number of versions that are kept for revisions not in use. Only that of the desired revision is needed.
const UNUSED_VERSIONS: usize = 8;

/// State of hot restart.
#[derive(Debug)]
pub(crate) struct HotRestartBackend {
    mode: HotRestartMode,
    /// `None`: Envoy runs with `--disable-hot-restart`.
    runtime_dir: Option<RuntimeDir>,
    leases: BTreeMap<Launch, EnvoyLease>,
    retained: watch::Sender<RetainedListeners>,
    versions: BTreeMap<Revision, HotRestartVersion>,
    parent_shutdown: Duration,
    /// Start of the agent; reported to Envoys as the start of the first Envoy.
    since: SystemTime,
}

/// Origin of an Envoy's listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandoverMode {
    /// Bound by itself; it has no parent.
    First,
    /// Passed by its predecessor.
    Native,
    /// Passed by the agent.
    Mediated,
    /// Bound by itself, beside those of its predecessor.
    Beside,
    /// Bound by itself; hot restart is off.
    Off,
}

/// Hot-restart arguments of Envoy's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HotRestartArgs {
    /// `--disable-hot-restart`
    Off,
    /// Hot restart is on.
    On {
        /// `--base-id`
        base_id: u32,
        /// `--socket-path`
        socket_path: PathBuf,
        /// `--restart-epoch`
        epoch: u32,
        /// `--parent-shutdown-time-s`
        parent_shutdown: Duration,
    },
}

/// Outcome of a request to drain over the hot-restart protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainRequest {
    /// The request was sent.
    Sent,
    /// The Envoy does not take part, or speaks an unsupported version.
    Unsupported,
}

/// An Envoy cannot take part in hot restart.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandoverError {
    /// There is no base id or no folder.
    #[error("prepare Envoy's hot restart")]
    RuntimeDir(#[from] RuntimeDirError),
    /// The shared memory segment cannot be written.
    #[error(transparent)]
    Segment(#[from] ShmError),
    /// The agent cannot bind the parent's socket.
    #[error("emulate Envoy's hot-restart parent")]
    ParentEmulator(#[source] std::io::Error),
    /// The predecessor is stopped or busy.
    #[error("wait for the predecessor")]
    Predecessor(#[source] PeerError),
    /// The predecessor runs without hot restart.
    #[error("the predecessor takes no part in hot restarts")]
    NoPredecessor,
}

// === impl HotRestartBackend ===

impl HotRestartBackend {
    /// Creates the backend with its sockets in the folder `run`. If hot restart is impossible, logs the reason and
    /// turns it off.
    pub(crate) fn open(mode: HotRestartMode, run: &Path, parent_shutdown: Duration) -> Self {
        let open = || RuntimeDir::open(run, Path::new(SHARED_MEMORY));
        let runtime_dir = match mode {
            HotRestartMode::Off => None,
            _ => open().inspect_err(|error| warn!(error = %ErrorChain(error), "no hot restart")).ok(),
        };
        Self {
            mode,
            runtime_dir,
            leases: BTreeMap::new(),
            retained: watch::channel(RetainedListeners::default()).0,
            versions: BTreeMap::new(),
            parent_shutdown,
            since: SystemTime::now(),
        }
    }

    /// Returns `true` if a running Envoy can be replaced.
    pub(crate) fn is_on(&self) -> bool {
        self.runtime_dir.is_some()
    }

    /// Records the hot-restart version of a revision's Envoy. Of revisions not in use only the last few are kept.
    pub(crate) fn record_version(
        &mut self,
        revision: Revision,
        version: HotRestartVersion,
        in_use: &[Revision],
    ) {
        self.versions.insert(revision, version);
        let oldest = self.versions.keys().rev().skip(UNUSED_VERSIONS).copied();
        let unused: Vec<_> = oldest.filter(|revision| !in_use.contains(revision)).collect();
        for revision in unused {
            self.versions.remove(&revision);
        }
    }

    /// Returns the coupling of a hand-over between Envoys of these revisions.
    pub(crate) fn coupling(&self, from: Revision, to: Revision) -> Coupling {
        let (from, to) = (self.versions.get(&from), self.versions.get(&to));
        let supported = to.is_some_and(|version| version.is_supported()) && from == to;
        match self.mode {
            HotRestartMode::Auto if supported && self.retains_streams_only() => Coupling::Independent,
            HotRestartMode::Mediated if supported => Coupling::Independent,
            HotRestartMode::Auto | HotRestartMode::Native if from.is_some() && from == to => {
                Coupling::Coupled
            }
            _ => Coupling::Independent,
        }
    }

    /// Creates what an Envoy needs that is about to be started, and returns its arguments.
    pub(crate) async fn prepare(
        &mut self,
        new: Generation,
        start: StartMode,
    ) -> Result<HotRestartArgs, HandoverError> {
        let Some(runtime_dir) = &self.runtime_dir else { return Ok(HotRestartArgs::Off) };
        let lease = match start {
            StartMode::Cold if self.retained.borrow().is_empty() || !self.mediates(new.revision) => {
                self.retained.send_replace(RetainedListeners::default());
                EnvoyLease::new(runtime_dir.reserve_base_id()?, RestartEpoch::FRESH, HandoverMode::First)
            }
            StartMode::Cold => self.mediated(runtime_dir)?,
            StartMode::After(predecessor, Coupling::Coupled) => {
                let parent = self.leases.get_mut(&predecessor).ok_or(HandoverError::NoPredecessor)?;
                // Replies come in the order of the requests. After this one there is none left that the new Envoy, which
                // takes over the name of the agent's socket, would take for its own. A stopped Envoy sends no reply.
                if let Some(child) = parent.child.take() {
                    let reply = with_timeout(child.stats()).await;
                    if reply.is_err() {
                        parent.child = Some(child);
                    }
                    reply.map_err(HandoverError::Predecessor)?;
                }
                EnvoyLease::sharing(Arc::clone(&parent.base_id), parent.epoch.next(), HandoverMode::Native)
            }
            StartMode::After(_, Coupling::Independent) if self.mediates(new.revision) => {
                self.mediated(runtime_dir)?
            }
            StartMode::After(_, Coupling::Independent) => {
                EnvoyLease::new(runtime_dir.reserve_base_id()?, RestartEpoch::FRESH, HandoverMode::Beside)
            }
        };
        let arguments = HotRestartArgs::On {
            base_id: lease.base_id.get(),
            socket_path: lease.base_id.socket_path().to_owned(),
            epoch: lease.epoch.0,
            // An emulated parent has nothing to drain.
            parent_shutdown: match lease.mode {
                HandoverMode::Mediated => Duration::ZERO,
                _ => self.parent_shutdown,
            },
        };
        self.leases.insert(new.launch, lease);
        Ok(arguments)
    }

    /// Returns `true` unless a UDP socket is retained. Datagrams of a QUIC connection or a UDP session reach the new
    /// Envoy, and only native Envoys forward them to their predecessor.
    fn retains_streams_only(&self) -> bool {
        !self.retained.borrow().addresses().any(|address| matches!(address, ListenAddress::Udp(_)))
    }

    fn mediates(&self, revision: Revision) -> bool {
        self.mode != HotRestartMode::Native
            && self.versions.get(&revision).is_some_and(|version| version.is_supported())
    }

    fn mediated(&self, runtime_dir: &RuntimeDir) -> Result<EnvoyLease, HandoverError> {
        let base_id = runtime_dir.reserve_base_id()?;
        base_id.write_segment()?;
        let mut lease = EnvoyLease::new(base_id, RestartEpoch::UNDER_AGENT, HandoverMode::Mediated);
        lease
            .emulate_parent(RestartEpoch::FRESH, self.since, self.retained.subscribe())
            .map_err(HandoverError::ParentEmulator)?;
        Ok(lease)
    }

    /// Fetches duplicates of the listening sockets of an Envoy that serves, if its version is supported. They replace the
    /// ones retained before.
    pub(crate) async fn retain_listeners(
        &mut self,
        envoy: Generation,
        addresses: &[ListenAddress],
    ) -> Result<(), PeerError> {
        if !self.mediates(envoy.revision) {
            return Ok(());
        }
        let Some(child) = self.child(envoy.launch)? else { return Ok(()) };
        let fetched = with_timeout(child.listen_sockets(addresses)).await?;
        for (address, refusal) in &fetched.refused {
            if let FetchRefusal::Mismatch(mismatch) = refusal {
                warn!(%address, %mismatch, "a listening socket is not retained");
            }
        }
        let count = fetched.retained.addresses().count();
        debug!(epoch = %envoy.epoch, count, "retaining listening sockets");
        self.retained.send_replace(fetched.retained);
        Ok(())
    }

    /// Makes a predecessor stop accepting. Connections in its listen queues belong to its successor.
    pub(crate) async fn stop_accepting(
        &mut self,
        predecessor: Generation,
    ) -> Result<DrainRequest, PeerError> {
        // An Envoy with a QUIC listener aborts after this request when it forwards its first datagram: it has no child.
        if !self.mediates(predecessor.revision) || !self.retains_streams_only() {
            return Ok(DrainRequest::Unsupported);
        }
        self.drain(predecessor).await
    }

    /// Makes an Envoy without an admin stop accepting and announce the drain to its clients with each response.
    pub(crate) async fn drain(&mut self, envoy: Generation) -> Result<DrainRequest, PeerError> {
        match self.child(envoy.launch)? {
            None => Ok(DrainRequest::Unsupported),
            Some(child) => with_timeout(child.drain_listeners()).await.map(|()| DrainRequest::Sent),
        }
    }

    fn child(&mut self, launch: Launch) -> Result<Option<&ChildClient>, PeerError> {
        let Some(lease) = self.leases.get_mut(&launch) else { return Ok(None) };
        let child = match lease.child.take() {
            Some(child) => child,
            None => ChildClient::bind(&lease.base_id, lease.epoch)?,
        };
        Ok(Some(lease.child.insert(child)))
    }

    /// Undoes the traces of an Envoy of a coupled hand-over that has died before it was LIVE: clears the INITIALIZING
    /// bit, and receives replies that its predecessor may still send, because an Envoy that cannot deliver a reply
    /// aborts after ten seconds.
    pub(crate) fn repair_segment(&mut self, dead: Generation) {
        let Some(lease) = self.leases.get(&dead.launch) else { return };
        let (base_id, epoch) = (Arc::clone(&lease.base_id), lease.epoch);
        match base_id.repair_segment() {
            Ok(RepairOutcome::Repaired) => info!(epoch = %dead.epoch, "cleared the INITIALIZING bit"),
            Ok(RepairOutcome::WasClear) => {}
            Ok(RepairOutcome::UnknownLayout) => warn!("shared memory of an unknown layout; not repaired"),
            Err(error) => warn!(error = %ErrorChain(&error), "cannot clear the INITIALIZING bit"),
        }
        let is_parent =
            |lease: &&mut EnvoyLease| Arc::ptr_eq(&lease.base_id, &base_id) && lease.epoch.next() == epoch;
        if let Some(parent) = self.leases.values_mut().find(is_parent) {
            match ChildClient::bind(&base_id, parent.epoch) {
                Ok(child) => parent.child = Some(child),
                Err(error) => {
                    warn!(error = %ErrorChain(&error), "replies of the predecessor are not received");
                }
            }
        }
    }

    /// Takes over the socket of the predecessor in a coupled hand-over, which may still run, and answers its successor
    /// from now on. Does nothing the second time.
    pub(crate) fn emulate_parent(&mut self, parent: Generation) {
        let since = self.since;
        let Some((epoch, successor)) = self.successor(parent.launch) else { return };
        if successor.has_emulated_parent() {
            return;
        }
        let retained = watch::channel(RetainedListeners::default()).1;
        match successor.emulate_parent(epoch, since, retained) {
            Ok(()) => info!(epoch = %parent.epoch, "answering its successor in its place"),
            Err(error) => warn!(%error, epoch = %parent.epoch, "cannot answer its successor in its place"),
        }
    }

    /// Answers a request for statistics that the successor may have sent to this dead Envoy.
    pub(crate) fn answer_pending_stats(&mut self, dead: Generation) {
        let Some((_, successor)) = self.successor(dead.launch) else { return };
        if let Err(error) = answer_stats(&successor.base_id, successor.epoch) {
            debug!(%error, epoch = %dead.epoch, "answer its successor");
        }
    }

    /// Returns the epoch of this Envoy and the lease of its native successor.
    fn successor(&mut self, launch: Launch) -> Option<(RestartEpoch, &mut EnvoyLease)> {
        let lease = self.leases.get(&launch)?;
        let (base_id, epoch) = (Arc::clone(&lease.base_id), lease.epoch);
        let is_successor =
            |lease: &&mut EnvoyLease| Arc::ptr_eq(&lease.base_id, &base_id) && lease.epoch == epoch.next();
        self.leases.values_mut().find(is_successor).map(|successor| (epoch, successor))
    }

    /// Removes the lease of a dead Envoy. Comes after [`Self::repair_segment`] and [`Self::emulate_parent`].
    pub(crate) fn forget(&mut self, dead: Launch) {
        self.leases.remove(&dead);
    }

    /// Closes the retained sockets: no further Envoy will be started.
    pub(crate) fn release_listeners(&mut self) {
        self.retained.send_replace(RetainedListeners::default());
    }

    /// Returns the origin of this Envoy's listening sockets.
    pub(crate) fn mode(&self, launch: Launch) -> HandoverMode {
        self.leases.get(&launch).map_or(HandoverMode::Off, |lease| lease.mode)
    }
}

async fn with_timeout<T>(reply: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    timeout(REQUEST_TIMEOUT, reply).await.unwrap_or(Err(PeerError::Silent))
}

// === impl HandoverMode ===

impl HandoverMode {
    /// Name in logs and the lifecycle API.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Native => "native",
            Self::Mediated => "mediated",
            Self::Beside => "beside",
            Self::Off => "off",
        }
    }
}

#[cfg(test)]
mod tests;
