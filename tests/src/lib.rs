//! Whole programs on real sockets with a real Envoy.
//!
//! ```text
//! demo · tests/*.rs
//!     mesh        discovery and agent on a folder of YAML, each with ports of its own
//!       programs · envoy · python      what is run, and where it comes from
//!       process · net · wait           how it is run: one child, one port, one deadline
//!     scene       two services, their endpoints, load on both
//!     solo        an agent with a static bootstrap and no control plane; a bare Envoy beside it
//!     manifest    the YAML that users write
//!     upstream    what answers;  load    what asks, and counts every failure
//!     workload    what answers as it is told, and remembers;  ask    one request
//!     network     machines of their own for pods, and what leads their connections to the proxy
//!     figures     numbers made of many
//!     ads         a client of xDS that does as it is told;  fleet    a thousand that do as Envoy does, and a mesh for them
//!     tidy        the rules of the house
//! ```
//!
//! A part that is missing fails a test with one line that says how to get it; nothing is skipped in silence.

pub mod ads;
pub mod envoy;
pub mod fleet;
pub mod http_request;
pub mod load;
pub mod manifest;
pub mod mesh;
pub mod net;
pub mod pod_network;
pub mod process;
pub mod programs;
pub mod python;
pub mod solo;
pub mod statistics;
pub mod tidy;
pub mod two_services;
pub mod upstream;
pub mod wait;
pub mod workload;
