//! Kubernetes objects, trimmed to the fields that decide something here.
//!
//! Unknown fields are ignored, as the API server's newer versions add them all the time; a known field of the
//! wrong type is an error. What a value means is decided in `convert`, whether it is allowed in `validate`.
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

/// The kinds that are read, those that others refer to first.
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
    /// Configuration; its schema tells the API group.
    Config(ConfigKind),
}

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    /// What it is.
    pub(crate) kind: ObjectKind,
    /// Which one.
    pub(crate) name: NamespacedName,
}

/// One object of the kinds that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A machine.
    Node(Arc<Node>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A service.
    Service(Arc<Service>),
    /// Some endpoints of a service.
    EndpointSlice(Arc<EndpointSlice>),
    /// All endpoints of a service, the older way.
    Endpoints(Arc<Endpoints>),
    /// An Istio object; `pilot-core` gives it its meaning.
    Config(Arc<ConfigObject>),
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    /// Who.
    pub(crate) metadata: Metadata,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    /// Who.
    pub(crate) metadata: Metadata,
}

// === impl ObjectKind ===

impl ObjectKind {
    /// Kubernetes' own.
    pub(super) const OWN: [Self; 6] =
        [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice, Self::Endpoints];

    /// Returns every kind.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(SCHEMAS.iter().map(|schema| Self::Config(schema.kind)))
    }

    /// As manifests spell it.
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

    /// Whether objects of this kind live outside namespaces.
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
    /// Who it is.
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
