//! A reserved base id and the names derived from it: sockets and the shared memory segment.
//!
//! [`RuntimeDir`](super::RuntimeDir) chooses and reserves base ids.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Stem of socket names; Envoy appends role, base id and epoch.
pub(super) const STEM: &str = "hr";

/// Envoy reuses socket names after this many epochs: at most three Envoys of a base id run at once.
const SLOTS: u32 = 3;

/// `--restart-epoch`. In mediated mode always [`RestartEpoch::UNDER_AGENT`], however many Envoys have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartEpoch(pub(crate) u32);

/// Role of a socket in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketRole {
    /// Receives requests of the child.
    Parent,
    /// Receives replies of the parent.
    Child,
    /// Bound by a parent, unused.
    UdpParent,
    /// Receives UDP datagrams that the parent forwards.
    UdpChild,
}

/// A reserved base id and its files. Dropping it removes them, so it must outlive every Envoy that uses it.
#[derive(Debug)]
pub(crate) struct BaseIdLease {
    base_id: u32,
    socket_path: PathBuf,
    segment: PathBuf,
    reservation: PathBuf,
    /// Kept open: its lock shows that the agent runs.
    _lock: File,
}

// === impl RestartEpoch ===

impl RestartEpoch {
    /// An Envoy without a parent; it creates the segment.
    pub(crate) const FRESH: Self = Self(0);

    /// An Envoy whose parent is the agent.
    pub(crate) const UNDER_AGENT: Self = Self(1);

    /// The epoch of its successor.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

// === impl SocketRole ===

impl SocketRole {
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

// === impl BaseIdLease ===

impl BaseIdLease {
    pub(super) fn reserved(base_id: u32, run: &Path, shared_memory: &Path, lock: File) -> Self {
        let segment = shared_memory.join(segment_name(base_id));
        let reservation = shared_memory.join(reservation_name(base_id));
        Self { base_id, socket_path: run.join(STEM), segment, reservation, _lock: lock }
    }

    /// The number, for `--base-id`.
    pub(crate) fn get(&self) -> u32 {
        self.base_id
    }

    /// `--socket-path`, used with `--socket-mode 600`.
    pub(crate) fn socket_path(&self) -> &Path {
        &self.socket_path
    }

    /// Path of the shared memory segment.
    pub(crate) fn segment(&self) -> &Path {
        &self.segment
    }

    /// Path of the socket of this role that the Envoy of this epoch binds.
    pub(crate) fn socket(&self, role: SocketRole, epoch: RestartEpoch) -> PathBuf {
        let id = u64::from(self.base_id) * 10 + u64::from(epoch.0 % SLOTS);
        let mut name = self.socket_path.clone().into_os_string();
        name.push(format!("_{}_{id}", role.name()));
        name.into()
    }
}

impl Drop for BaseIdLease {
    fn drop(&mut self) {
        let slots = (0..SLOTS).map(RestartEpoch);
        let sockets = slots.flat_map(|slot| SocketRole::ALL.map(|role| self.socket(role, slot)));
        // The reservation is removed last: it marks the other files as the agent's. Files that cannot be removed now are
        // removed by the next agent.
        for path in sockets.chain([self.segment.clone(), self.reservation.clone()]) {
            drop(fs::remove_file(path));
        }
    }
}

/// Name of the segment in `/dev/shm`.
pub(super) fn segment_name(base_id: u32) -> String {
    format!("envoy_shared_memory_{}", u64::from(base_id) * 10)
}

/// Name of the file beside it whose lock shows that an agent runs.
pub(super) fn reservation_name(base_id: u32) -> String {
    format!("pilot_agent_{base_id}.lock")
}

/// Returns the base id of a reservation file.
pub(super) fn reserved_base_id(file_name: &str) -> Option<u32> {
    let base_id = file_name.strip_prefix("pilot_agent_")?.strip_suffix(".lock")?.parse().ok()?;
    (reservation_name(base_id) == file_name).then_some(base_id)
}

/// Returns `true` if a file name is that of a hot-restart socket.
pub(super) fn is_socket_name(file_name: &str) -> bool {
    let file_name = file_name.strip_suffix(super::endpoint::TEMPORARY_SUFFIX).unwrap_or(file_name);
    let rest = file_name.strip_prefix(STEM).and_then(|rest| rest.strip_prefix('_'));
    let Some((role, id)) = rest.and_then(|rest| rest.rsplit_once('_')) else { return false };
    SocketRole::ALL.iter().any(|known| known.name() == role) && id.parse::<u64>().is_ok()
}

/// Returns `true` if a socket name of `/proc/net/unix` belongs to an Envoy with this base id.
pub(super) fn is_of(base_id: u32, socket: &str) -> bool {
    // Padding of an abstract name is shown as `@`.
    let Some((stem, id)) = socket.trim_end_matches('@').rsplit_once('_') else { return false };
    let matches = id.parse::<u64>().is_ok_and(|id| id / 10 == u64::from(base_id));
    matches && (stem.ends_with("_parent") || stem.ends_with("_child"))
}
