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
mod contents;
mod http2;
mod names;
mod orders;
mod pilot;
mod program;
mod remote;
mod request;
mod scan;
mod server;
mod subscriber;
mod world;

pub use self::orders::{Codec, Goal, Holdings, Kind, Memory, Order, Reached, Setup, Totals, Which, now};
pub use self::pilot::{Pilot, Pushed, Tuning};
pub use self::program::run;
pub use self::remote::Fleet;
pub use self::server::{Cost, Meter};
pub use self::world::{ENDPOINTS, Mesh, Visibility};
