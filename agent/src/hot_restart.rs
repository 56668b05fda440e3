//! Envoy's hot-restart protocol, both sides, so that the agent can be the peer of any Envoy.
//!
//! A hand-over between two Envoys uses a shared memory segment with the INITIALIZING bit, a pair of datagram sockets for
//! each, and file descriptors sent over these.
//!
//! ```text
//!   running Envoy, epoch n          its successor, epoch n+1
//!   ──────────────────────          ────────────────────────
//!   <path>_parent_<n % 3>  ◀ request ─  <path>_child_<(n+1) % 3>
//!          │                                 ▲
//!          └────────── replies ──────────────┘
//!
//!   ChildClient        requests a running Envoy's sockets, as its successor would; does not affect Envoy
//!   RetainedListeners  the sockets received
//!   ParentEmulator     answers a starting Envoy with them, as its predecessor would
//! ```
//!
//! Sockets have paths (`--socket-path`) in a private folder instead of Envoy's abstract names, so other users of the pod
//! cannot reach them: one datagram to an abstract socket aborts Envoy.
//!
//! This module knows no process and no policy. It has been tested with one version of the protocol; see
//! [`HotRestartVersion::is_supported`].

mod address;
mod base_id;
mod child_client;
mod endpoint;
mod parent_emulator;
mod retained_listeners;
mod runtime_dir;
mod shm;
mod version;
mod wire;

pub(crate) use self::{
    address::ListenAddress,
    base_id::{BaseIdLease, RestartEpoch},
    child_client::{ChildClient, FetchRefusal, PeerError},
    parent_emulator::{ParentEmulator, ParentEvent, SocketAnswer, answer_stats},
    retained_listeners::RetainedListeners,
    runtime_dir::{RuntimeDir, RuntimeDirError, SHARED_MEMORY},
    shm::{RepairOutcome, ShmError},
    version::HotRestartVersion,
};
