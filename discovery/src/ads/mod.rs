//! xDS: one task for each Envoy stream.
//!
//! ```text
//!  Envoy ══HTTP/2══ pilot_xds::grpc ══ connection (one task) ──▶ pilot_xds::Stream
//!                                              ▲                         │ types that are due
//!                          hub ── push queue ──┘                         ▼
//!                                                     generation: scope, cache, pool of threads
//! ```

mod client;
mod connection;
mod context;
mod debug_request;
mod generation;
pub(crate) mod history;
mod hub;
mod limits;
mod quarantine;
mod request;
mod services;

pub(crate) use client::{Client, TypeStatus};
pub(crate) use context::Context;
pub(crate) use debug_request::{DebugRequests, DebugResponse};
pub(crate) use generation::Generation;
pub(crate) use hub::{Hub, dispatch};
pub(crate) use quarantine::{Quarantine, Refused};
pub(crate) use services::{names, routes};
