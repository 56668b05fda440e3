//! The names by which Envoys that take over from each other find each other.
//!
//! Deliberately does not choose: a [`Place`](super::Place) does, and what it gives out is reserved and goes
//! away with the value.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The stem of our sockets; Envoy appends role, base id and epoch.
pub(super) const STEM: &str = "hr";

/// At most three Envoys are alive at once, so Envoy reuses the names of the one before the one before.
const SLOTS: u32 = 3;

/// Envoy's number on its command line, `--restart-epoch`. Where the agent plays the predecessor this is
/// always [`RestartEpoch::UNDER_AGENT`], however many generations there have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartEpoch(pub u32);

/// Which end of the protocol a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Where a running Envoy is asked.
    Parent,
    /// Where a running Envoy is sent answers to.
    Child,
    /// Bound by a parent beside its own, and used by nobody.
    UdpParent,
    /// Where a parent sends datagrams that are its successor's.
    UdpChild,
}

/// One base id of Envoy's, ours alone, and everything in the file system that goes by it. Dropping it removes
/// all of that, so it must outlive every Envoy that was started with it.
#[derive(Debug)]
pub struct Lineage {
    base_id: u32,
    socket_path: PathBuf,
    segment: PathBuf,
    reservation: PathBuf,
    /// Held open: the lock on it is what says that we are alive.
    _lock: File,
}

// === impl RestartEpoch ===

impl RestartEpoch {
    /// One without a predecessor: it makes a new segment.
    pub const FRESH: Self = Self(0);

    /// One whose predecessor is the agent.
    pub const UNDER_AGENT: Self = Self(1);

    pub(super) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

// === impl Role ===

impl Role {
    const ALL: [Self; 4] = [Self::Parent, Self::Child, Self::UdpParent, Self::UdpChild];

    fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Child => "child",
            Self::UdpParent => "udp_parent",
            Self::UdpChild => "udp_child",
        }
    }
}

// === impl Lineage ===

impl Lineage {
    pub(super) fn reserved(base_id: u32, run: &Path, shared_memory: &Path, lock: File) -> Self {
        let segment = shared_memory.join(segment_name(base_id));
        let reservation = shared_memory.join(reservation_name(base_id));
        Self { base_id, socket_path: run.join(STEM), segment, reservation, _lock: lock }
    }

    /// For `--base-id`.
    pub fn base_id(&self) -> u32 {
        self.base_id
    }

    /// For `--socket-path`, together with `--socket-mode 600`.
    pub fn socket_path(&self) -> &Path {
        &self.socket_path
    }

    /// The file of the shared memory segment.
    pub fn segment(&self) -> &Path {
        &self.segment
    }

    /// Where the Envoy of this epoch binds its socket for this role.
    pub fn socket(&self, role: Role, epoch: RestartEpoch) -> PathBuf {
        let id = u64::from(self.base_id) * 10 + u64::from(epoch.0 % SLOTS);
        let mut name = self.socket_path.clone().into_os_string();
        name.push(format!("_{}_{id}", role.name()));
        name.into()
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        let slots = (0..SLOTS).map(RestartEpoch);
        let sockets = slots.flat_map(|slot| Role::ALL.map(|role| self.socket(role, slot)));
        // The reservation goes last: as long as it is there, the rest is known to be ours. What cannot be
        // removed now is removed by the next agent that starts here.
        for path in sockets.chain([self.segment.clone(), self.reservation.clone()]) {
            drop(fs::remove_file(path));
        }
    }
}

/// What Envoy calls the segment in `/dev/shm`.
pub(super) fn segment_name(base_id: u32) -> String {
    format!("envoy_shared_memory_{}", u64::from(base_id) * 10)
}

/// The file beside it whose lock says that an agent is alive.
pub(super) fn reservation_name(base_id: u32) -> String {
    format!("pilot_agent_{base_id}.lock")
}

/// The base id of a reservation, if the file is one.
pub(super) fn reserved_base_id(file_name: &str) -> Option<u32> {
    let base_id = file_name.strip_prefix("pilot_agent_")?.strip_suffix(".lock")?.parse().ok()?;
    (reservation_name(base_id) == file_name).then_some(base_id)
}

/// Whether a file in our folder is a socket of some lineage.
pub(super) fn is_socket_name(file_name: &str) -> bool {
    let file_name = file_name.strip_suffix(super::endpoint::UNNAMED).unwrap_or(file_name);
    let rest = file_name.strip_prefix(STEM).and_then(|rest| rest.strip_prefix('_'));
    let Some((role, id)) = rest.and_then(|rest| rest.rsplit_once('_')) else { return false };
    Role::ALL.iter().any(|known| known.name() == role) && id.parse::<u64>().is_ok()
}

/// Whether the name of a socket, as `/proc/net/unix` has it, is that of an Envoy with this base id.
pub(super) fn is_of(base_id: u32, socket: &str) -> bool {
    // The padding of an abstract name is shown as more of these.
    let Some((stem, id)) = socket.trim_end_matches('@').rsplit_once('_') else { return false };
    let ours = id.parse::<u64>().is_ok_and(|id| id / 10 == u64::from(base_id));
    ours && (stem.ends_with("_parent") || stem.ends_with("_child"))
}
