//! xDS: one task for each Envoy stream.
//!
//! ```text
//!  Envoy ══HTTP/2══ wire (gRPC frames) ══ connection (one task) ──▶ pilot_core::xds::Stream
//!                                              ▲                         │ what is due
//!                          hub ── push queue ──┘                         ▼
//!                                                     generation: scope, cache, pool of threads
//! ```

mod connection;
mod generation;
mod hub;
mod quarantine;
mod request;
mod services;
mod wire;

pub(crate) use generation::Generation;
pub(crate) use hub::{Client, Hub, dispatch};
pub(crate) use quarantine::Quarantine;
pub(crate) use services::{names, routes};
