//! xDS: one task for each Envoy stream.
//!
//! ```text
//!  Envoy ══HTTP/2══ wire (gRPC frames) ══ connection (one task) ──▶ pilot_core::xds::Stream
//!                                              ▲                         │ what is due
//!                          hub ── push queue ──┘                         ▼
//!                                                     generation: scope, cache, pool of threads
//! ```

mod client;
mod connection;
mod generation;
pub(crate) mod history;
mod hub;
mod limits;
mod messages;
mod quarantine;
mod request;
mod services;
mod wire;

pub(crate) use client::{Client, TypeStatus};
pub(crate) use generation::Generation;
pub(crate) use hub::{Hub, dispatch};
pub(crate) use quarantine::{Quarantine, Refused};
pub(crate) use services::{names, routes};
