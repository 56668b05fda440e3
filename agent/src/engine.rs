//! How one Envoy takes over from another: the two engines, and what they need of each Envoy.
//!
//! ```text
//!   native     Envoy ◀── asks ── Envoy            one lineage, epochs 0, 1, 2, ...
//!   mediated   Envoy ◀─ asks ─ agent ◀─ asks ─ Envoy   a lineage each, always epoch 1, sockets held by the agent
//! ```
//!
//! The first Envoy is the same for both: it has nobody to ask, and what it speaks is found out from it while it
//! runs, which costs its start nothing. Mediated is for the one version of the protocol that was tried
//! ([`Version::is_known`]), native for two Envoys that say they speak the same; two that do not are started
//! beside each other, on listening sockets that the kernel lets both have.
//!
//! | | native | mediated |
//! | --- | --- | --- |
//! | a new Envoy that dies, hangs, or is told to leave | marks the segment, closes the old admin, may end the old one | nothing |
//! | an old Envoy that dies | takes the new one along, unless somebody stands in | nothing |
//! | an old Envoy's admin | closed | open |
//! | an old Envoy leaves | at a time fixed before, or a stand-in is needed | when it is empty |
//! | a crash | refuses connections until the next one listens | lets them wait |
//! | UDP and QUIC | sessions go on: the new one forwards what is not its own | sessions are cut |
//! | versions 1.36 to 1.40, TLS, IPv6, Unix sockets, `enable_reuse_port: false` | nothing lost | nothing lost |
//!
//! So `auto` is mediated, but for an Envoy that listens on UDP. Where listeners come by LDS their sockets are asked for
//! when they arrive, before LIVE; one that is added later is bound by Envoy itself, and held from the next look on.
//!
//! Deliberately does not decide who is started, killed or told to leave: the supervisor does.

mod tie;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::timeout};
use tracing::{debug, info, warn};

use self::tie::Tie;
use crate::{
    cli::HotRestartMode,
    driver::Chain,
    hot_restart::{
        Address, Child, Held, PeerError, Place, PlaceError, Refused, Repair, RestartEpoch, SHARED_MEMORY,
        ShmError, Version, answer_stats,
    },
    supervisor::{Bond, Generation, Launch, Revision, Start},
};

/// Envoy answers within milliseconds, and everything else of ours waits for as long: a signal, a deadline.
const PATIENCE: Duration = Duration::from_millis(200);

/// Versions of revisions that are remembered besides those in use. Only that of the one that is wanted is
/// asked for.
const REMEMBERED: usize = 8;

/// Everything that belongs to hot restart.
#[derive(Debug)]
pub struct Engine {
    mode: HotRestartMode,
    /// `None`: there is none, and Envoy is told so.
    place: Option<Place>,
    ties: BTreeMap<Launch, Tie>,
    held: watch::Sender<Held>,
    versions: BTreeMap<Revision, Version>,
    leave_within: Duration,
    since: SystemTime,
}

/// How an Envoy came by its listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It made them: nobody was there to ask.
    First,
    /// From its predecessor.
    Native,
    /// From the agent.
    Mediated,
    /// It made others beside those of its predecessor.
    Beside,
    /// It made them, and will give them to nobody.
    Off,
}

/// What an Envoy is told of its place in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It has none.
    Off,
    /// For its command line.
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

/// Why an Envoy cannot be tied to the one before it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No base id, no folder.
    #[error("find a place for Envoy's hot restart")]
    Place(#[from] PlaceError),
    /// The shared memory segment.
    #[error(transparent)]
    Segment(#[from] ShmError),
    /// The agent's end of a socket.
    #[error("stand in for Envoy's predecessor")]
    StandIn(#[source] std::io::Error),
    /// The one before is stopped, or busy.
    #[error("wait for the Envoy before it")]
    Predecessor(#[source] PeerError),
    /// The one before is not one that can be asked.
    #[error("the Envoy before it takes no part in hot restarts")]
    NoPredecessor,
}

// === impl Engine ===

impl Engine {
    /// An engine with its sockets in `run`, a folder of its own. Where there can be no hot restart it says why
    /// and does without.
    pub fn open(mode: HotRestartMode, run: &Path, leave_within: Duration) -> Self {
        let open = || Place::open(run, Path::new(SHARED_MEMORY));
        let place = match mode {
            HotRestartMode::Off => None,
            _ => open().inspect_err(|error| warn!(error = %Chain(error), "no hot restart")).ok(),
        };
        Self {
            mode,
            place,
            ties: BTreeMap::new(),
            held: watch::channel(Held::default()).0,
            versions: BTreeMap::new(),
            leave_within,
            since: SystemTime::now(),
        }
    }

    /// Whether a running Envoy can be replaced at all.
    pub fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// This is what the Envoy of this revision speaks. Of others than those in use only the last few are
    /// remembered.
    pub fn learn(&mut self, revision: Revision, version: Version, in_use: &[Revision]) {
        self.versions.insert(revision, version);
        let oldest = self.versions.keys().rev().skip(REMEMBERED).copied();
        let unused: Vec<_> = oldest.filter(|old| !in_use.contains(old)).collect();
        for old in unused {
            self.versions.remove(&old);
        }
    }

    /// How an Envoy of the one revision could be taken over from by one of the other.
    pub fn bond(&self, from: Revision, to: Revision) -> Bond {
        let (from, to) = (self.versions.get(&from), self.versions.get(&to));
        let known = to.is_some_and(|version| version.is_known()) && from == to;
        match self.mode {
            HotRestartMode::Auto if known && self.held_are_streams() => Bond::Loose,
            HotRestartMode::Mediated if known => Bond::Loose,
            HotRestartMode::Auto | HotRestartMode::Native if from.is_some() && from == to => Bond::Tied,
            _ => Bond::Loose,
        }
    }

    /// Makes the place of an Envoy that is about to be started.
    pub async fn prepare(&mut self, new: Generation, start: Start) -> Result<Link, EngineError> {
        let Some(place) = &self.place else { return Ok(Link::Off) };
        let tie = match start {
            Start::Cold if self.held.borrow().is_empty() || !self.mediates(new.revision) => {
                self.held.send_replace(Held::default());
                Tie::new(place.lineage()?, RestartEpoch::FRESH, Way::First)
            }
            Start::Cold => self.mediated(place)?,
            Start::After(old, Bond::Tied) => {
                let old = self.ties.get_mut(&old).ok_or(EngineError::NoPredecessor)?;
                // Answers are sent in the order of the questions: once ours has come, none is left that the new one,
                // which takes our name, would take for its own. An Envoy that is stopped gives none.
                if let Some(child) = old.child.take() {
                    let answered = hurried(child.stats()).await;
                    if answered.is_err() {
                        old.child = Some(child);
                    }
                    answered.map_err(EngineError::Predecessor)?;
                }
                let epoch = RestartEpoch(old.epoch.0.saturating_add(1));
                Tie::of(Arc::clone(&old.lineage), epoch, Way::Native)
            }
            Start::After(_, Bond::Loose) if self.mediates(new.revision) => self.mediated(place)?,
            Start::After(_, Bond::Loose) => Tie::new(place.lineage()?, RestartEpoch::FRESH, Way::Beside),
        };
        let link = Link::On {
            base_id: tie.lineage.base_id(),
            socket_path: tie.lineage.socket_path().to_owned(),
            epoch: tie.epoch.0,
            // What we stand in for has nothing to drain: over with it as soon as it can be.
            parent_shutdown: if tie.way == Way::Mediated { Duration::ZERO } else { self.leave_within },
        };
        self.ties.insert(new.launch, tie);
        Ok(link)
    }

    /// Datagrams of a QUIC connection or a UDP session go on coming to the new Envoy, and only native Envoys forward
    /// them to each other.
    fn held_are_streams(&self) -> bool {
        !self.held.borrow().addresses().any(|address| matches!(address, Address::Udp(_)))
    }

    fn mediates(&self, revision: Revision) -> bool {
        self.mode != HotRestartMode::Native
            && self.versions.get(&revision).is_some_and(|version| version.is_known())
    }

    fn mediated(&self, place: &Place) -> Result<Tie, EngineError> {
        let lineage = place.lineage()?;
        lineage.write_segment()?;
        let mut tie = Tie::new(lineage, RestartEpoch::UNDER_AGENT, Way::Mediated);
        tie.stand_in(RestartEpoch::FRESH, self.since, self.held.subscribe()).map_err(EngineError::StandIn)?;
        Ok(tie)
    }

    /// Asks an Envoy that serves for duplicates of its listening sockets, if it is one that can be asked. They
    /// replace what was held.
    pub async fn hold(&mut self, one: Generation, addresses: &[Address]) -> Result<(), PeerError> {
        if !self.mediates(one.revision) {
            return Ok(());
        }
        let Some(child) = self.child(one.launch)? else { return Ok(()) };
        let fetched = hurried(child.listen_sockets(addresses)).await?;
        for (address, refused) in &fetched.refused {
            if let Refused::Wrong(mismatch) = refused {
                warn!(%address, %mismatch, "a listening socket is not held");
            }
        }
        let count = fetched.held.addresses().count();
        debug!(epoch = %one.epoch, count, "holding listening sockets");
        self.held.send_replace(fetched.held);
        Ok(())
    }

    /// Makes an Envoy that has handed over stop accepting. Whoever waits in its queues is its successor's.
    pub async fn retire(&mut self, old: Generation) -> Result<Asked, PeerError> {
        // Asked in this way, one with a QUIC listener aborts when it forwards its first datagram to nobody.
        if !self.mediates(old.revision) || !self.held_are_streams() {
            return Ok(Asked::CannotBe);
        }
        self.drain(old).await
    }

    /// The admin of this Envoy is lost: what is left is to stop accepting, and to tell clients with each answer that
    /// they are to leave.
    pub async fn drain(&mut self, one: Generation) -> Result<Asked, PeerError> {
        match self.child(one.launch)? {
            None => Ok(Asked::CannotBe),
            Some(child) => hurried(child.drain_listeners()).await.map(|()| Asked::Yes),
        }
    }

    fn child(&mut self, launch: Launch) -> Result<Option<&Child>, PeerError> {
        let Some(tie) = self.ties.get_mut(&launch) else { return Ok(None) };
        let child = match tie.child.take() {
            Some(child) => child,
            None => Child::bind(&tie.lineage, tie.epoch)?,
        };
        Ok(Some(tie.child.insert(child)))
    }

    /// An Envoy of a tied hand-over has died before it was LIVE: its predecessor is told that nobody starts. What
    /// the dead one has asked may still be answered, and an Envoy that cannot deliver an answer aborts after ten
    /// seconds; so somebody takes it.
    pub fn repair(&mut self, dead: Generation) {
        let Some(tie) = self.ties.get(&dead.launch) else { return };
        let (lineage, epoch) = (Arc::clone(&tie.lineage), tie.epoch.0);
        match lineage.repair_segment() {
            Ok(Repair::Repaired) => info!(epoch = %dead.epoch, "cleared the mark it left in shared memory"),
            Ok(Repair::WasClear) => {}
            Ok(Repair::UnknownLayout) => warn!("shared memory of a layout we do not know is left as it is"),
            Err(error) => warn!(error = %Chain(&error), "cannot clear the mark in shared memory"),
        }
        let is_parent = |tie: &&mut Tie| Arc::ptr_eq(&tie.lineage, &lineage) && tie.epoch.0 + 1 == epoch;
        if let Some(parent) = self.ties.values_mut().find(is_parent) {
            match Child::bind(&lineage, parent.epoch) {
                Ok(child) => parent.child = Some(child),
                Err(error) => warn!(error = %Chain(&error), "nobody takes what its predecessor answers"),
            }
        }
    }

    /// Takes over the socket of the predecessor in a tied hand-over, whether or not it still lives, and answers its
    /// successor from now on. Does nothing the second time.
    pub fn emulate_parent(&mut self, parent: Generation) {
        let since = self.since;
        let Some((epoch, heir)) = self.heir(parent.launch) else { return };
        if heir.is_answered() {
            return;
        }
        let held = watch::channel(Held::default()).1;
        match heir.stand_in(epoch, since, held) {
            Ok(()) => info!(epoch = %parent.epoch, "answering its successor in its place"),
            Err(error) => warn!(%error, epoch = %parent.epoch, "cannot stand in for it"),
        }
    }

    /// Answers what the successor of this dead Envoy may have asked it last.
    pub fn answer_pending_stats(&mut self, dead: Generation) {
        let Some((_, heir)) = self.heir(dead.launch) else { return };
        if let Err(error) = answer_stats(&heir.lineage, heir.epoch) {
            debug!(%error, epoch = %dead.epoch, "answer its successor");
        }
    }

    /// The epoch of this Envoy, and the Envoy that was started as its successor.
    fn heir(&mut self, launch: Launch) -> Option<(RestartEpoch, &mut Tie)> {
        let tie = self.ties.get(&launch)?;
        let (lineage, epoch) = (Arc::clone(&tie.lineage), tie.epoch);
        let next = RestartEpoch(epoch.0.saturating_add(1));
        let is_heir = |tie: &&mut Tie| Arc::ptr_eq(&tie.lineage, &lineage) && tie.epoch == next;
        self.ties.values_mut().find(is_heir).map(|heir| (epoch, heir))
    }

    /// An Envoy is gone, and with it what nobody else uses. Comes after [`Engine::repair`] and
    /// [`Engine::emulate_parent`].
    pub fn forget(&mut self, dead: Launch) {
        self.ties.remove(&dead);
    }

    /// No Envoy will come any more that could take held sockets over.
    pub fn let_go(&mut self) {
        self.held.send_replace(Held::default());
    }

    /// How this Envoy came by its sockets.
    pub fn way(&self, launch: Launch) -> Way {
        self.ties.get(&launch).map_or(Way::Off, |tie| tie.way)
    }
}

/// Whether an Envoy could be asked over the protocol of hot restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was.
    Yes,
    /// It is one that we do not understand.
    CannotBe,
}

async fn hurried<T>(asked: impl Future<Output = Result<T, PeerError>>) -> Result<T, PeerError> {
    timeout(PATIENCE, asked).await.unwrap_or(Err(PeerError::Silent))
}

// === impl Way ===

impl Way {
    /// The word for logs and the lifecycle API.
    pub fn as_str(self) -> &'static str {
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
