//! What holds for every mesh: whatever is declared, whatever happens to it, in whatever order.

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

/// What proxies are told, in the order in which one names the other.
const KINDS: [ResourceType; 4] = [Cluster, Endpoint, Listener, Route];
