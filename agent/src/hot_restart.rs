//! Envoy's hot-restart protocol, from both of its ends, so that the agent can be the peer of any Envoy.
//!
//! Two Envoys hand over through three things: a shared memory segment that says whether one of them is
//! still starting, a pair of datagram sockets for each, and file descriptors sent over these.
//!
//! ```text
//!   running Envoy, epoch n          its successor, epoch n+1
//!   ──────────────────────          ────────────────────────
//!   <path>_parent_<n % 3>  ◀─ asks ─  <path>_child_<(n+1) % 3>
//!          │                                 ▲
//!          └────────── answers ──────────────┘
//!
//!   Child   asks a running Envoy for its sockets, as its successor would; Envoy notices nothing
//!   Held    is what it got
//!   StandIn answers a starting Envoy from what is held, as its predecessor would
//! ```
//!
//! With a path of ours in place of Envoy's abstract names (`--socket-path`, in a folder nobody else may
//! enter) no other user of the pod can reach any of it: one datagram to an abstract socket aborts Envoy.
//!
//! Deliberately knows no process and no policy: who runs, who is asked and what is held for how long is the
//! driver's business. Everything here has been tried with exactly one version of the protocol; see
//! [`Version::is_known`].

mod address;
mod child;
mod endpoint;
mod held;
mod lineage;
mod place;
mod shm;
mod stand_in;
mod version;
mod wire;

pub use self::{
    address::{Address, Mismatch, UnknownAddress},
    child::{Child, Fetched, ParentStats, PeerError, Refused},
    held::{Held, Sockets},
    lineage::{Lineage, RestartEpoch, Role},
    place::{Place, PlaceError, SHARED_MEMORY},
    shm::{Initializing, Layout, Repair, ShmError},
    stand_in::{Answer, Happened, StandIn, answer_stats},
    version::{UnreadableVersion, Version},
    wire::Garbled,
};
