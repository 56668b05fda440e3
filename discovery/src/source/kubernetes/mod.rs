//! Kubernetes' and Istio's objects: how they are read, what makes one unusable, and what services, endpoints
//! and workloads they amount to. Where the objects come from (files, an API server) is not known here.

mod convert;
pub(crate) mod decode;
mod dependencies;
pub(crate) mod objects;
pub(crate) mod registry;
pub(crate) mod schema;
mod validate;

pub(crate) use decode::{Decoded, Item, decode};
pub(crate) use objects::{Object, ObjectKey, ObjectKind};
pub(crate) use registry::{ObjectEvent, PendingPods, Registry, RegistryOptions};
