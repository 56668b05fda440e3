//! What configuration means: an imagined call is led through everything a proxy was told, decided as Envoy decides.
//!
//! ```text
//! Call ─▶ listener ─▶ filter chain ─▶ tcp_proxy ──────────────────────────────────────────▶ cluster ─▶ endpoints
//!                                └──▶ http_connection_manager ─▶ virtual host ─▶ route ─▶ HTTP filters ─▶ action
//! ```
//!
//! It reads resources and knows nothing of how they were made, so it also proves that. What it cannot imagine (a Lua script, a
//! custom cluster) it names in the trace and passes by, or ends at with [`Verdict::Unknown`].

mod action;
mod by_name;
mod call;
mod caller;
mod chain;
mod dns;
mod domains;
mod filters;
mod http;
mod line;
mod listener;
mod matching;
mod network;
mod normal;
mod origin;
mod policy;
mod redirect;
mod request;
mod rewrite;
mod route;
mod secured;
mod settings;
mod told;
mod trace;
mod upstream;

pub use call::{Call, Certificate, Destination, NotAnAddress, Request, Says, Tls, Version, Way};
pub use caller::{Caller, proxy_of};
pub use dns::{Meaning, resolve};
pub use line::{Line, NotALine};
pub use told::{Told, ToldError};
pub use trace::{Answer, Closed, Share, Stage, Step, Trace, Verdict};
pub use upstream::{Endpoint, Fitness, Security, Upstream};

#[cfg(test)]
mod tests;
