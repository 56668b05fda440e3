//! Test harness: whole programs on real sockets with a real Envoy.
//!
//! ```text
//! demo · tests/*.rs
//!     mesh            pilot-discovery and pilot-agent on a folder of YAML, each with ports of its own
//!       programs · envoy · python      the binaries: built by cargo, found or fetched
//!       process · net · wait           a child process, a free port, a deadline
//!     two_services    two services, their endpoints, load on both
//!     solo            an agent with a static bootstrap and no control plane; a bare Envoy for comparison
//!     manifest        YAML manifests: Service, EndpointSlice, ServiceEntry
//!     upstream        echo servers (endpoints);  load    clients that count every failure
//!     workload        a server that records its requests;  http_request    one HTTP request
//!     pod_network     network namespaces for pods, with the netfilter rules of a sidecar
//!     statistics      medians, ratios, slopes
//!     ads             a scripted xDS client;  fleet    a thousand xDS clients in one process, and a generated mesh
//!     tidy            the rules of the house
//! ```
//!
//! A missing component fails a test with one line that says how to get it. No test is skipped silently.

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
