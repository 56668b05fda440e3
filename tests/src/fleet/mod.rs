//! A thousand xDS clients in one process, cheap enough to measure a server, and a generated mesh.
//!
//! ```text
//! Fleet ── a line of JSON for each order ──▶ runner  ── clients on one thread, each
//!   ▲                                           │          subscriber     requests, ACKs, held resources
//!   └────────────── and for each answer ────────┘            ▲ requests ▼      resource · names · request
//!                                                          scan           responses, parsed incrementally
//! generated_mesh   a mesh as files, and its changes        http2          one stream of a connection
//! discovery        pilot-discovery on such a mesh          connection     its socket
//! usage            CPU time and memory of a server
//! ```
//!
//! The clients run in a process of their own, so that their CPU time is not the server's and the process can be stopped as a
//! whole.

mod connection;
mod discovery;
mod generated_mesh;
mod http2;
mod names;
mod orders;
mod process;
mod request;
mod resource;
mod runner;
mod scan;
mod state;
mod subscriber;
mod usage;

pub use self::discovery::{DiscoveryOptions, DiscoveryProcess, LoggedPush};
pub use self::generated_mesh::{ENDPOINTS, GeneratedMesh, Visibility};
pub use self::orders::{
    ClientRange, Codec, FleetConfig, Goal, GoalTimes, HeldResources, Kind, Order, ResumeState, Totals, now,
};
pub use self::process::Fleet;
pub use self::runner::run;
pub use self::usage::{ResourceUsage, UsageMeter};
