//! Properties of every mesh, for any declarations, changes and order.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod declarations;
#[path = "../fixture/mod.rs"]
mod fixture;
mod histories;
mod statements;
mod told;

use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};

/// Types in the order of references.
const KINDS: [ResourceType; 4] = [Cluster, Endpoint, Listener, Route];
