//! Which workloads an object is for.

use serde::{Deserialize, Serialize};

use super::values::Map;

/// `networking.istio.io WorkloadSelector`, spelt `labels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// All of them must be there.
    pub labels: Map,
}

/// `type.istio.io WorkloadSelector`, spelt `matchLabels`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchLabels {
    /// All of them must be there.
    pub match_labels: Map,
}

/// Names one object that a policy is for: a Kubernetes `Gateway`, a `Service`, a `ServiceEntry`.
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
