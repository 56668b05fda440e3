//! Definitions shared by both programs.
//!
//! - [`envoy`], [`xds`], [`google`], [`opentelemetry`]: Envoy's API, generated at build time (see `build.rs`);
//! - [`istio`]: the messages of Istio that Envoy's API does not contain;
//! - [`type_url`]: the resource types of xDS, in push order;
//! - [`node`]: node ids and node metadata;
//! - [`identity`]: SPIFFE ids;
//! - [`duration`]: durations in Go's and protobuf's formats;
//! - [`mesh`]: `MeshConfig` and `ProxyConfig` with Istio's names, defaults and merge rules;
//! - [`networking`]: messages that the mesh's configuration shares with Istio's objects;
//! - [`proto3_json`]: the proto3 JSON mapping of all messages of Envoy's API, and a serde format for plain Rust types;
//! - [`merge`]: one of these messages merged into others.
//!
//! Nothing here opens a socket, reads a file or reads the clock.

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
pub mod merge;
pub mod mesh;
pub mod networking;
pub mod node;
pub mod proto3_json;
pub mod type_url;

pub use api::{envoy, google, opentelemetry, xds};
pub use type_url::ResourceType;

use prost::{Message, Name};

/// Wraps a message the way xDS and Envoy's `typed_config` want it: type URL and encoded bytes.
pub fn any<M: Message + Name>(message: &M) -> google::protobuf::Any {
    google::protobuf::Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}
