//! What both ends of a wire must spell alike.
//!
//! - [`envoy`], [`xds`], [`google`], [`opentelemetry`]: Envoy's API, generated at build time (see `build.rs`);
//! - [`istio`]: the messages that are Istio's own, derived by hand;
//! - [`type_url`]: the resource types of xDS, in push order;
//! - [`node`]: node ids and node metadata;
//! - [`identity`]: SPIFFE ids;
//! - [`duration`]: durations as configuration writes them;
//! - [`mesh`]: `MeshConfig` and `ProxyConfig` with Istio's names, defaults and merge rules;
//! - [`networking`]: messages that the mesh's configuration shares with Istio's objects;
//! - [`json`]: protobuf's JSON mapping of every message of Envoy's API;
//! - [`merge`]: one of these messages merged into others;
//! - [`read`], [`mod@write`]: the mapping of `json` for the plain types that hold Istio's.
//!
//! Nothing here opens a socket, reads a file or asks the clock.

#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    clippy::indexing_slicing,
    rustdoc::all
)]
mod api {
    include!(concat!(env!("OUT_DIR"), "/api.rs"));
}

pub mod duration;
pub mod identity;
pub mod istio;
pub mod json;
pub mod merge;
pub mod mesh;
pub mod networking;
pub mod node;
pub mod read;
pub mod type_url;
pub mod write;

pub use api::{envoy, google, opentelemetry, xds};
pub use type_url::ResourceType;

use prost::{Message, Name};

/// Wraps a message the way xDS and Envoy's `typed_config` want it: type URL and encoded bytes.
pub fn any<M: Message + Name>(message: &M) -> google::protobuf::Any {
    google::protobuf::Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}
