//! Objects and their keys. Only the fields that are used are decoded.
//!
//! Unknown fields are ignored: newer API servers add fields. A known field of the wrong type is an error. `validate` checks
//! values, `kubernetes::convert` translates them.
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

use std::fmt;
use std::sync::Arc;

use pilot_core::model::{ConfigKind, ConfigMeta, ConfigObject};
use serde::Deserialize;

use super::endpoints::{EndpointSlice, Endpoints};
use super::metadata::{Metadata, NamespacedName};
use super::pod::Pod;
use super::schema::SCHEMAS;
use super::service::Service;

/// Supported kinds; a kind precedes those that refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ObjectKind {
    /// `v1 Namespace`
    Namespace,
    /// `v1 Node`
    Node,
    /// `v1 Pod`
    Pod,
    /// `v1 Service`
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice,
    /// `v1 Endpoints`
    Endpoints,
    /// Istio configuration; its schema has the API group.
    Config(ConfigKind),
}

/// Kind, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    /// Kind.
    pub(crate) kind: ObjectKind,
    /// Namespace and name.
    pub(crate) name: NamespacedName,
}

/// Object of a supported kind. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// Namespace.
    Namespace(Arc<Namespace>),
    /// Node.
    Node(Arc<Node>),
    /// Pod.
    Pod(Arc<Pod>),
    /// Service.
    Service(Arc<Service>),
    /// Part of the endpoints of a service.
    EndpointSlice(Arc<EndpointSlice>),
    /// All endpoints of a service (the older API).
    Endpoints(Arc<Endpoints>),
    /// Istio configuration; `pilot-core` interprets it.
    Config(Arc<ConfigObject>),
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    /// Metadata.
    pub(crate) metadata: Metadata,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    /// Metadata.
    pub(crate) metadata: Metadata,
}

// === impl ObjectKind ===

impl ObjectKind {
    /// Kinds of Kubernetes.
    pub(super) const OWN: [Self; 6] =
        [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice, Self::Endpoints];

    /// Returns every kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(SCHEMAS.iter().map(|schema| Self::Config(schema.kind)))
    }

    /// Returns the name, as in manifests.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Config(kind) => kind.as_str(),
        }
    }

    /// Returns true if objects of this kind have no namespace.
    pub(crate) const fn is_cluster_scoped(self) -> bool {
        matches!(self, Self::Namespace | Self::Node)
    }
}

// === impl ObjectKey ===

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

// === impl Object ===

impl Object {
    /// Returns the key.
    pub(crate) fn key(&self) -> ObjectKey {
        let (kind, metadata) = match self {
            Self::Namespace(object) => (ObjectKind::Namespace, &object.metadata),
            Self::Node(object) => (ObjectKind::Node, &object.metadata),
            Self::Pod(object) => (ObjectKind::Pod, &object.metadata),
            Self::Service(object) => (ObjectKind::Service, &object.metadata),
            Self::EndpointSlice(object) => (ObjectKind::EndpointSlice, &object.metadata),
            Self::Endpoints(object) => (ObjectKind::Endpoints, &object.metadata),
            Self::Config(object) => {
                let ConfigMeta { namespace, name, .. } = &object.meta;
                let name = NamespacedName { namespace: namespace.as_str().into(), name: name.clone() };
                return ObjectKey { kind: ObjectKind::Config(object.spec.kind()), name };
            }
        };
        ObjectKey { kind, name: metadata.id() }
    }
}
