//! From changes to pushes: the immutable snapshot, and who is told when.

pub mod context;

pub use context::{PushContext, ServiceTarget};
