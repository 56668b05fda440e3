//! LDS: listeners from the filter chains that `outbound`, `inbound` and `gateway` plan.
//!
//! `model` has the inputs, `listener_filters` selects the listener filters that the chains need, `render` builds Envoy's
//! message.

mod listener_filters;
mod model;
mod render;

pub use model::{
    BindAddress, ChainMatch, DetectedProtocol, FilterChainInputs, ListenerInputs, ListenerRole, RedirectMode,
    TerminalFilter,
};
pub use render::listener;
