//! Translation of Kubernetes and Istio objects to services, endpoints, workloads and configuration.

mod convert;
mod dependencies;
mod options;
mod registry;

pub(crate) use options::{PendingPods, RegistryOptions};
pub(crate) use registry::Registry;
