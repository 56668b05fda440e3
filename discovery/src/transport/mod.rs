//! Connections of the gRPC ports: accept, limits, GOAWAY, close.
//!
//! ```text
//!  accept ── TLS? ──▶ serve (HTTP/2, one task a connection) ──▶ routes ──▶ services
//!                       │ Place                     ▲ Stage
//!                       ▼                           │
//!                  Connections ◀── drain, balance ──┘
//! ```
//!
//! Independent of xDS and the mesh. A service finds its [`Peer`] among the extensions of a request.

mod accept;
mod admission;
mod balance;
mod bucket;
mod connections;
mod counted;
mod drain;
mod health;
mod load;
mod metrics;
mod pace;
mod peer;
mod readiness;
mod reflection;
mod serve;
mod tls;

use std::sync::Arc;

use tonic::service::Routes;

pub(crate) use accept::{Server, Transport};
pub(crate) use admission::{Admission, Crowded};
pub(crate) use balance::Balance;
pub(crate) use bucket::{Bucket, Verdict};
pub(crate) use connections::{Connections, TooMany};
pub(crate) use drain::drain;
pub(crate) use health::service as health;
pub(crate) use load::Load;
pub(crate) use metrics::Metrics;
pub(crate) use peer::Peer;
pub(crate) use readiness::{Health, Readiness};
pub(crate) use reflection::services as reflection;
pub(crate) use tls::follow as follow_tls;

use crate::config::{Keepalive, Limits};

/// Creates the server of the gRPC ports for these routes.
pub(crate) fn server(
    routes: Routes,
    keepalive: Keepalive,
    limits: &Limits,
    connections: Arc<Connections>,
    metrics: Metrics,
) -> Server {
    let terms = serve::Terms::new(keepalive, limits.streams_per_connection, routes.prepare());
    Server { connections, metrics, terms: Arc::new(terms) }
}
