//! Properties over random traces: thousands of short lives of a stream each. `cargo test` checks the same ones in every run
//! (`PROPTEST_RNG_SEED` in `.cargo/config.toml`); `.ci/explore` checks others.
//!
//! Only `server` drives a [`Stream`].

mod client;
mod demands;
mod model;
mod requests;
mod server;
mod settled;

use super::*;
use crate::testing::{Dice, TraceResult, check};

/// The types that rules differ for: with a wildcard or without, and the two that depend on another.
const KINDS: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];

/// Names of resources.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Version of each resource; [`NONE`] if it does not exist.
type Versions = [u8; NAMES.len()];

/// Version of a resource that does not exist.
const NONE: u8 = 0;
