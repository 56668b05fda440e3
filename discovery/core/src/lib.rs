//! The control plane as values in, values out.
//!
//! ```text
//! api ◀─ model ◀─ validate ◀─ patch ◀─ world ◀─ push ◀─ scope ◀─ generate ◀─ cache ◀─ simulate     xds (knows none of them)
//! ```
//!
//! An arrow points from the module that is used to the one that uses it. Nothing here asks a clock, an environment, a file or a
//! thread: time comes in as an argument, events come in as values, and what goes out is data.

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
