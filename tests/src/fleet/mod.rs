//! A thousand clients of xDS in one process, cheap enough to measure a server by; and what to measure it with.
//!
//! ```text
//! Fleet ── a line of JSON for each order ──▶ program ── clients on one thread, each
//!   ▲                                           │          subscriber     what to ask for, to answer, to remember
//!   └────────────── and for each answer ────────┘            ▲ requests ▼      contents · names · request
//!                                                          scan           responses, read as they come
//! world   the mesh as files, and its changes               http2          one stream of a connection
//! pilot   pilot-discovery on such a mesh                    connection     its socket
//! server  what a server costs
//! ```
//!
//! The clients have a process of their own, so that their time is not the server's, and so that it can be stopped as a whole.

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
