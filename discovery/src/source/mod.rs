//! Sources of services, endpoints, workloads and configuration. A source translates what it watches into `SourceEvent`s. It
//! does not depend on the world, on pushes or on Envoy.

pub(crate) mod file;
pub(crate) mod kubernetes;
pub(crate) mod objects;
mod problem;
mod registries;
mod sender;
mod status;

pub(crate) use problem::{ManifestLocation, Problem};
pub(crate) use registries::RegistryKind;
pub(crate) use sender::SourceSender;
pub(crate) use status::SourceStatus;
