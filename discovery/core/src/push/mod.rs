//! Changes to pushes: the immutable snapshot, debounce, and the queue of proxies.

pub mod context;
pub mod debounce;
pub mod impact;
pub mod queue;
pub mod request;

pub use context::{PushContext, Routing, Rule, ServiceTarget};
pub use debounce::{Debounce, Urgency};
pub use queue::PushQueue;
pub use request::{PushRequest, Reason};
