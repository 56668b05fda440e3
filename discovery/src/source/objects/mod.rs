//! Kubernetes and Istio objects: types, decoding, validation, and the store that sources keep them in.
//!
//! The source of an object (a file, an API server) is not known here.

mod decode;
mod endpoints;
mod metadata;
mod object;
mod pod;
mod schema;
mod service;
mod store;
mod validate;
mod values;

pub(crate) use decode::{Decoded, Item, decode};
pub(crate) use endpoints::{AddressType, EndpointConditions, EndpointSlice, Endpoints, TargetRef};
pub(crate) use metadata::{Metadata, NamespacedName};
pub(crate) use object::{Node, Object, ObjectKey, ObjectKind};
pub(crate) use pod::{Pod, PodPhase};
pub(crate) use schema::{SCHEMAS, Schema};
pub(crate) use service::{InternalTrafficPolicy, Service, ServicePort, ServiceSpec, ServiceType, Transport};
pub(crate) use store::{ObjectAction, ObjectChange, ObjectStore};
pub(crate) use values::IntOrString;
