//! From changes to pushes: the immutable snapshot, and who is told when.

pub mod context;
pub mod debounce;
pub mod impact;
pub mod queue;
pub mod request;

pub use context::{PushContext, Routing, Rule, ServiceTarget};
pub use debounce::{Debounce, Urgency};
pub use queue::PushQueue;
pub use request::{PushRequest, Reason};
