//! `metadata` of Kubernetes objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use pilot_core::model::Labels;
use serde::Deserialize;

use super::values::Timestamp;

/// Name of an object in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespacedName {
    /// Namespace; empty for cluster-scoped objects.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
}

/// `metadata`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// Name, unique in the namespace.
    pub(crate) name: Arc<str>,
    /// Namespace; empty for cluster-scoped objects.
    pub(crate) namespace: Arc<str>,
    /// Labels.
    pub(crate) labels: Labels,
    /// Annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Time of creation.
    pub(crate) creation_timestamp: Timestamp,
    /// Time of the deletion request.
    pub(crate) deletion_timestamp: Option<Timestamp>,
}

// === impl NamespacedName ===

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

// === impl Metadata ===

impl Metadata {
    /// Returns namespace and name.
    pub(crate) fn id(&self) -> NamespacedName {
        NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// Returns a label. `None` if it is absent or empty.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
