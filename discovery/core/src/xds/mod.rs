//! The xDS protocol as a pure state machine: what one Envoy asked for, was told, and said to it.
//!
//! ```text
//!   DiscoveryRequest ──────▶ sotw ─┐            ┌─▶ Verdict      (counts and logs are the caller's)
//!                                  ├─▶ Stream ──┼─▶ next_due     (what to generate, in push order)
//!   DeltaDiscoveryRequest ─▶ delta ┘      │     └─▶ Response     (head of its own, shared block)
//!                                       Pool: what streams share; one step for all that stand at the same point
//! ```
//!
//! One stream core, two codecs. The caller's loop is the same for both: hand in a request or mark the kinds that a
//! push touches, then, while [`Stream::next_due`] names a kind, generate what is [`Stream::wanted`] of it, let
//! [`Stream::respond`] find what is news to this client, and write the bytes.
//!
//! Nothing here knows what a resource means, with one exception that the protocol makes: a cluster that is sent anew
//! waits for its endpoints, which have the cluster's name.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>

mod delta;
mod pool;
mod quarantine;
mod receipts;
mod response;
mod sotw;
mod stale;
mod step;
mod stream;
mod subscription;
mod verdict;
mod watch;

#[cfg(test)]
mod tests;

pub use pool::Pool;
pub use quarantine::Refusal;
pub use response::{Block, Codec, Nonce, Response};
pub use stale::Regenerate;
pub use stream::Stream;
pub use verdict::{Status, Verdict, Wanted, Why};
pub use watch::Delivery;
