//! The control plane as pure functions and values.
//!
//! ```text
//! api ◀─ model ◀─ validate ◀─ patch ◀─ world ◀─ push ◀─ scope ◀─ generate ◀─ cache ◀─ simulate
//! ```
//!
//! An arrow points from the module that is used to the one that uses it. Nothing here reads a clock, an environment, a file or a
//! socket: time is an argument, events are values, and the output is data. Only the cache is shared between threads: it locks its
//! shards, and a lookup waits for another one that computes the same result.

pub mod api;
pub mod cache;
pub mod generate;
pub mod model;
pub mod patch;
pub mod push;
pub mod scope;
pub mod simulate;
pub mod validate;
pub mod world;
