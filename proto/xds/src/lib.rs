//! The xDS protocol as pure state machines: one stream, in either variant, on top of shared sets of resources.
//!
//! ```text
//!   DiscoveryRequest ──────▶ sotw ─┐            ┌─▶ RequestOutcome   (for counters and logs of the caller)
//!                                  ├─▶ Stream ──┼─▶ next_due         (the type to generate next, in push order)
//!   DeltaDiscoveryRequest ─▶ delta ┘      │     └─▶ Response         (own head, shared block)
//!                                    StreamCache: sets and differences shared by all streams in the same state
//! ```
//!
//! One stream core, two codecs. The caller's loop is the same for both: pass in a request or mark the types that a push
//! affects; then, while [`Stream::next_due`] returns a type, generate what [`Stream::regenerate`] names, pass the result to
//! [`Stream::respond`], which finds the difference to what this client has, and write the bytes.
//!
//! Modules, from the bottom up; each imports from those before it only:
//!
//! | module | content |
//! | --- | --- |
//! | `name_set`, `resource` | sets of names and resources, compared by fingerprint |
//! | `interner` | one copy of equal sets |
//! | `response` | one response and its bytes |
//! | `subscription` | names that a client subscribes to |
//! | `diff`, `diff_cache` | the difference between what a client has and should have |
//! | `in_flight`, `quarantine`, `stale` | unacknowledged responses, rejected versions, resources to generate again |
//! | `outcome`, `watch` | one type on one stream |
//! | `stream`, `sotw`, `delta` | all types of one stream; the requests of both variants |
//! | `client` | the other side of a stream |
//! | `grpc` (feature) | messages in HTTP/2 bodies |
//!
//! The content of resources is opaque, with one exception that the protocol makes: a cluster that is sent again waits for
//! its endpoints, which have the cluster's name.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol>

pub mod client;
mod delta;
mod diff;
mod diff_cache;
mod in_flight;
mod interner;
mod name_set;
mod outcome;
mod quarantine;
mod resource;
mod response;
mod sotw;
mod stale;
mod stream;
mod subscription;
mod watch;

#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;

pub use diff_cache::StreamCache;
pub use interner::Interner;
pub use name_set::{Fingerprint, NameSet};
pub use outcome::{AckState, RequestOutcome, SendMode, TypeStatus};
pub use quarantine::RejectedVersion;
pub use resource::{Difference, Resource, ResourceSet};
pub use response::{Block, Codec, Nonce, Response};
pub use stale::Regenerate;
pub use stream::Stream;
pub use subscription::RequestedNames;
