//! Selectors of workloads and references to targets.

use serde::{Deserialize, Serialize};

use super::values::Map;

/// `networking.istio.io WorkloadSelector`, with the field `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Required labels.
    pub labels: Map,
}

/// `type.istio.io WorkloadSelector`, with the field `matchLabels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchLabels {
    /// Required labels.
    pub match_labels: Map,
}

/// Reference to the target of a policy: a Kubernetes `Gateway`, a `Service`, a `ServiceEntry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyTargetReference {
    /// API group; empty: Kubernetes' core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; only the object's own is allowed.
    pub namespace: String,
}
