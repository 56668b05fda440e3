//! Values that several kinds have in common.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

/// A `double`, with the total order of IEEE 754, so that it can be part of a key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Double(pub f64);

/// Percentage, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// The percentage.
    pub value: Double,
}

/// Selector of a port by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u32,
}

/// Match of a text: Istio's `oneof match_type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Not set: any value, if present.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Equal to this.
    Exact(String),
    /// Begins with this.
    Prefix(String),
    /// Matches this RE2 expression as a whole.
    Regex(String),
}

/// Map from text to text.
pub type Map = BTreeMap<String, String>;

pub(super) use pilot_proto::duration::maybe as duration;

// === impl Double ===

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Double {}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Names of gRPC status codes by number. <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Returns the number of a gRPC status code, such as 14 for `UNAVAILABLE`; `None` if there is none of this name.
pub fn grpc_status_code(name: &str) -> Option<u32> {
    (0..).zip(GRPC_STATUS).find_map(|(code, known)| (known == name).then_some(code))
}
