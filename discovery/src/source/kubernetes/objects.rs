//! Kubernetes objects, trimmed to the fields that decide something here.
//!
//! Unknown fields are ignored, as the API server's newer versions add them all the time; a known field of the
//! wrong type is an error. What a value means is decided in `convert`, whether it is allowed in `validate`.
//! <https://kubernetes.io/docs/reference/kubernetes-api/>

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pilot_core::model::{ConfigKind, ConfigMeta, ConfigObject, Labels};
use serde::Deserialize;

pub(crate) use self::endpoints::{AddressType, EndpointConditions, EndpointSlice, Endpoints, TargetRef};
pub(crate) use self::pod::{Pod, PodPhase};
pub(crate) use self::service::{
    InternalTrafficPolicy, Service, ServicePort, ServiceSpec, ServiceType, Transport,
};
pub(crate) use self::values::{IntOrString, Timestamp};

mod endpoints;
mod pod;
mod service;
mod values;

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

/// Namespace (empty for what has none) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespacedName {
    /// The namespace.
    pub(crate) namespace: Arc<str>,
    /// The name.
    pub(crate) name: Arc<str>,
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
#[expect(clippy::large_enum_variant, reason = "objects are boxed wherever they are passed on")]
pub(crate) enum Object {
    /// A namespace.
    Namespace(Namespace),
    /// A machine.
    Node(Node),
    /// A pod.
    Pod(Pod),
    /// A service.
    Service(Service),
    /// Some endpoints of a service.
    EndpointSlice(EndpointSlice),
    /// All endpoints of a service, the older way.
    Endpoints(Endpoints),
    /// An Istio object; `pilot-core` gives it its meaning.
    Config(ConfigObject),
}

/// `metadata`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Unique in the namespace.
    pub(crate) name: Arc<str>,
    /// Empty for what has none.
    pub(crate) namespace: Arc<str>,
    /// Labels.
    pub(crate) labels: Labels,
    /// Annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// When it was made.
    pub(crate) creation_timestamp: Timestamp,
    /// Set as soon as its end has begun.
    pub(crate) deletion_timestamp: Option<Timestamp>,
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
    pub(crate) const OWN: [Self; 6] =
        [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice, Self::Endpoints];

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

// === impl NamespacedName, ObjectKey ===

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

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

// === impl Metadata ===

impl Metadata {
    /// Namespace and name.
    pub(crate) fn id(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// A label, unless it is absent or empty.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
